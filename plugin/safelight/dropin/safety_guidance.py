"""Steers a picture away from the policy's concepts while it is made: their words go in front of every negative prompt.

It costs nothing: classifier-free guidance evaluates its negative half anyway. It makes what the policy forbids less
likely, and proves nothing: every picture is looked at as without it. Where a call leaves guidance no negative half, the
layer could not act, and the call is refused rather than made without it.
"""

from __future__ import annotations

import inspect
import re
from collections.abc import Iterable, Mapping
from typing import Any

from ..errors import ConfigError, InvalidRequest

_NEGATIVE_TEXT = re.compile(r"negative_prompt(_\d)?")
# Embeddings take the place of the texts or, by their length, cut the negative ones.
_EMBEDDING = re.compile(r".*prompt_(embeds|attention_mask).*|(negative_)?attention_mask")

_NOT_BELOW_DEFAULT = ("max_sequence_length", "tokenizer_max_length", "cfg_trunc_ratio", "cfg_truncation")
"""How much of a text is read, and in which part of the steps the negative half is evaluated."""

_WITHOUT = "or leave guidance='safety' out of protect()"


def check_guidance(pipe: Any, cls: type[Any], concepts: str) -> None:
    """Refuse a pipeline that could not be steered.

    Args:
        pipe: A diffusers pipeline.
        cls: Its plain class.
        concepts: The words to steer away from.

    Raises:
        ConfigError: If there are none, or more than a text encoder of the pipeline reads; if the class takes no
            negative prompt or has no guidance scale; if the model is distilled, and so has no negative half.
    """
    parameters = inspect.signature(cls.__call__).parameters
    if not concepts:
        raise ConfigError("guidance.concepts: is empty in the policy; name what to steer away from, " + _WITHOUT)
    if "negative_prompt" not in parameters or not _switches(parameters):
        raise ConfigError(f"guidance: {cls.__name__} takes no negative prompt that it could steer by; leave it out")
    if _is_distilled(pipe):
        raise ConfigError("guidance: this model is distilled to do without a negative prompt; leave it out")
    limits = list(_limits(pipe, parameters))
    if not limits:
        raise ConfigError(f"guidance: {cls.__name__} has no tokenizer to check the concepts by; leave it out")
    for tokenizer, limit in limits:
        tokens = len(tokenizer(concepts).input_ids)
        if tokens > limit:
            raise ConfigError(
                f"guidance.concepts: have {tokens} tokens, and a text encoder of this pipeline reads {limit}; "
                "name fewer in the policy"
            )


def steered(
    arguments: Mapping[str, Any], *, parameters: Mapping[str, inspect.Parameter], concepts: str, count: int | None
) -> dict[str, Any]:
    """Return a call's arguments with the concepts in front of every negative prompt.

    Args:
        arguments: What is passed to the pipeline, by name.
        parameters: Those of the pipeline's plain class.
        concepts: The words to steer away from, checked by :func:`check_guidance`.
        count: How many prompts a batch has, or None where the prompt is a single text.

    Raises:
        InvalidRequest: If the call leaves the concepts no effect.
    """
    _check_call(arguments, parameters)
    result = dict(arguments)
    own = _given(arguments, parameters, "negative_prompt")
    for name in filter(_NEGATIVE_TEXT.fullmatch, parameters):
        # A pipeline reads the first in place of a further one that is not given or empty.
        given = arguments.get(name) or own or ""
        if count is None:
            result[name] = _in_front(concepts, given)
        else:
            texts = [given] * count if isinstance(given, str) else given
            result[name] = [_in_front(concepts, text) for text in texts]
    return result


def check_step(pipe: Any) -> None:
    """Refuse to go on where the pipeline itself says, in the midst of a call, that it guides by no negative prompt.

    Raises:
        InvalidRequest: If a step callback turned guidance off, or the model that was put in is distilled.
    """
    if not getattr(pipe, "do_classifier_free_guidance", True):
        raise InvalidRequest(
            "callback_on_step_end",
            f"guidance was turned off during the call, and safety guidance with it; leave it on, {_WITHOUT}",
        )


def _check_call(arguments: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter]) -> None:
    for name, value in arguments.items():
        if value is not None and _EMBEDDING.fullmatch(name):
            raise InvalidRequest(name, f"embeddings cannot be steered by words; pass the text, {_WITHOUT}")
    for name in _switches(parameters):
        if not _is_at_least(_given(arguments, parameters, name), 1, more=True):
            raise InvalidRequest(name, f"safety guidance has no effect at 1 or less; pass more, {_WITHOUT}")
    if not _is_at_least(arguments.get("image_guidance_scale", 1), 1):
        raise InvalidRequest("image_guidance_scale", f"less than 1 turns safety guidance off; pass more, {_WITHOUT}")
    for name in _NOT_BELOW_DEFAULT:
        least = getattr(parameters.get(name), "default", None)
        if arguments.get(name) is not None and not _is_at_least(arguments[name], least):
            raise InvalidRequest(name, f"below its default it cuts safety guidance short; leave it out, {_WITHOUT}")


def _switches(parameters: Mapping[str, inspect.Parameter]) -> list[str]:
    """Return the names of what turns the negative half on, above 1."""
    # Beside a true scale, the other one is a number that the model is told, and no switch.
    main = "true_cfg_scale" if "true_cfg_scale" in parameters else "guidance_scale"
    return [name for name in (main, "prior_guidance_scale") if name in parameters]


def _given(arguments: Mapping[str, Any], parameters: Mapping[str, inspect.Parameter], name: str) -> Any:
    value = arguments.get(name)
    return parameters[name].default if value is None else value


def _is_at_least(value: Any, least: Any, *, more: bool = False) -> bool:
    """Return whether a value is a number of at least this size, or more than it. What is no number is not."""
    if not isinstance(value, int | float) or not isinstance(least, int | float):
        return False
    return value > least if more else value >= least


def _in_front(concepts: str, text: str) -> str:
    return f"{concepts}, {text}" if text else concepts


def _is_distilled(pipe: Any) -> bool:
    unet = getattr(getattr(pipe, "unet", None), "config", None)
    # A model that is told the scale as a number, such as a latent consistency model, guides itself.
    return getattr(unet, "time_cond_proj_dim", None) is not None or bool(getattr(pipe.config, "is_distilled", False))


def _limits(pipe: Any, parameters: Mapping[str, inspect.Parameter]) -> Iterable[tuple[Any, int]]:
    """Yield the pipeline's tokenizers, each with the number of tokens of a text that are read."""
    length = getattr(parameters.get("max_sequence_length"), "default", None)
    for part in pipe.components.values():
        if callable(part) and hasattr(part, "model_max_length"):
            limit = part.model_max_length
            yield part, min(limit, length) if isinstance(length, int) else limit
