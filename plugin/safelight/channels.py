"""Reads a pipeline's call as it was ruled in ``channel_table``: texts to judge, the rest to pass on or to refuse."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from numbers import Number
from typing import Any

from .channel_table import ATTENTION, NUMBERS, TEXTS, Ruling, Treatment, ruling
from .errors import InvalidRequest, UnjudgedChannel

__all__ = ["Call", "Ruling", "Treatment", "read_call", "ruling"]

_UNKNOWN = "Safelight does not know this parameter, so nobody judges what it carries; leave it out"


@dataclass(frozen=True, slots=True)
class Call:
    """A pipeline call whose every parameter was ruled on.

    Args:
        texts: For each prompt of the batch, channel name to text.
        batched: Whether the prompt was given as a list.
        pictures_each: ``num_images_per_prompt``.
        output_type: ``pil``, ``np`` or ``pt``.
        return_dict: Whether an output object is wanted, rather than a tuple.
        arguments: Everything to pass on, by name, but for the texts, ``output_type`` and ``return_dict``.
    """

    texts: tuple[Mapping[str, str], ...]
    batched: bool
    pictures_each: int
    output_type: str
    return_dict: bool
    arguments: Mapping[str, Any]

    def arguments_for(self, places: Sequence[int]) -> dict[str, Any]:
        """Return the arguments for a part of the batch, with texts and generators of those places only."""
        names = dict.fromkeys(name for place in places for name in self.texts[place])
        chosen: dict[str, Any] = dict(self.arguments)
        for name in names:
            values = [self.texts[place].get(name, "") for place in places]
            chosen[name] = values if self.batched else values[0]
        generators = chosen.get("generator")
        if isinstance(generators, list) and len(generators) == len(self.texts) * self.pictures_each:
            each = self.pictures_each
            chosen["generator"] = [generators[place * each + k] for place in places for k in range(each)]
        return chosen


def read_call(arguments: Mapping[str, Any]) -> Call:
    """Rule on every argument of a pipeline call.

    Args:
        arguments: By name, without ``self``. A value of None counts as not given.

    Raises:
        UnjudgedChannel: If one would reach the generator, or leave it, without being judged; it is named.
        InvalidRequest: If the texts are missing or do not fit together.
    """
    given = {name: value for name, value in arguments.items() if value is not None}
    texts, batched = _texts({name: given.pop(name) for name in TEXTS if name in given})
    output_type = given.pop("output_type", "pil")
    if output_type not in ("pil", "np", "pt"):
        raise UnjudgedChannel(
            "output_type", f"{output_type!r} would leave without being looked at; use 'pil', 'np' or 'pt'"
        )
    return_dict = bool(given.pop("return_dict", True))
    callback = _callback(given)
    for name, value in given.items():
        _check(name, value)
    pictures_each = given.get("num_images_per_prompt", 1)
    if not isinstance(pictures_each, int) or pictures_each < 1:
        raise InvalidRequest("num_images_per_prompt", f"must be a whole number of at least 1, not {pictures_each!r}")
    if callback is not None:
        given |= {"callback_on_step_end": callback, "callback_on_step_end_tensor_inputs": []}
    return Call(texts, batched, pictures_each, output_type, return_dict, given)


def _texts(given: Mapping[str, Any]) -> tuple[tuple[Mapping[str, str], ...], bool]:
    prompt = given.get("prompt")
    if prompt is None:
        raise InvalidRequest("prompt", "a guarded pipeline needs the text of the prompt")
    batched = not isinstance(prompt, str)
    if batched and not isinstance(prompt, list | tuple):
        raise InvalidRequest("prompt", f"must be a text or a list of texts, not {type(prompt).__name__}")
    count = len(prompt) if batched else 1
    columns: dict[str, Sequence[str]] = {}
    # Plain strings from here on: a subclass could answer a screen and the model differently.
    given = {name: _plain(value) for name, value in given.items()}
    for name, value in given.items():
        if isinstance(value, str):
            columns[name] = [value] * count
        elif isinstance(value, list | tuple) and all(isinstance(text, str) for text in value):
            if not batched and name != "prompt":
                raise InvalidRequest(name, "is a list, but the prompt is a single text; give both the same form")
            columns[name] = value
        else:
            raise InvalidRequest(name, f"must be a text or a list of texts, not {type(value).__name__}")
        if len(columns[name]) != count:
            raise InvalidRequest(name, f"has {len(columns[name])} texts for {count} prompts")
    if not count:
        raise InvalidRequest("prompt", "is an empty list")
    return tuple({name: column[place] for name, column in columns.items()} for place in range(count)), batched


def _plain(value: Any) -> Any:
    if isinstance(value, str):
        return str.__str__(value)[:]
    return [_plain(item) for item in value] if isinstance(value, list | tuple) else value


def _check(name: str, value: Any) -> None:
    if name in NUMBERS:
        if not _is_numeric(value):
            raise InvalidRequest(name, f"must be a number or a list of numbers, not {type(value).__name__}")
    elif name in ATTENTION:
        if not isinstance(value, dict) or set(value) - {"scale"} or not _is_numeric(list(value.values())):
            raise UnjudgedChannel(name, "only {'scale': number} can be passed through a guarded pipeline")
    elif name == "generator":
        _check_generator(value)
    else:
        # All that is passed on in another form was taken out before.
        ruled = ruling(name)
        raise UnjudgedChannel(name, _UNKNOWN if ruled is None else ruled.note)


def _check_generator(value: Any) -> None:
    # Imported here: torch is there whenever a pipeline is, and never for those who have none.
    from torch import Generator

    each = value if isinstance(value, list) else [value]
    # A subclass could answer with chosen noise: latents by another name.
    if not all(type(item) is Generator for item in each):
        raise UnjudgedChannel("generator", "must be a torch.Generator or a list of them")


def _is_numeric(value: Any) -> bool:
    if isinstance(value, list | tuple):
        return all(_is_numeric(item) for item in value)
    return isinstance(value, Number)


def _callback(given: dict[str, Any]) -> Callable[..., Any] | None:
    """Take the step callback out, and return one that is handed no tensors and can hand none back."""
    asked = given.pop("callback_on_step_end_tensor_inputs", ["latents"])
    callback = given.pop("callback_on_step_end", None)
    if callback is None:
        return None
    if asked or hasattr(callback, "tensor_inputs") or not callable(callback):
        raise UnjudgedChannel(
            "callback_on_step_end_tensor_inputs",
            "tensors of a half-made picture cannot be judged; pass [] and a plain function",
        )

    def without_tensors(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        answer = callback(pipe, step, timestep, {})
        if answer:
            raise UnjudgedChannel("callback_on_step_end", "must return None or {}; it may not change tensors")
        return {}

    return without_tensors
