"""Reads a pipeline's call as it was ruled in ``channel_table``: what to judge, what to pass on, what to refuse."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from numbers import Number
from types import MappingProxyType
from typing import Any

from PIL import Image

from ..channel_table import (
    ATTENTION,
    EMBEDDINGS,
    FOR_A_PROMPT,
    LATENTS,
    NUMBERS,
    PICTURES,
    SWITCHED_OFF,
    TEXTS,
    WHOLE_NUMBERS,
    Ruling,
    Treatment,
    paired_pictures,
    repeated_pictures,
    ruling,
)
from ..errors import InvalidRequest, UnjudgedChannel
from .call_texts import read_texts
from .input_pictures import InputPictures, PictureReader, entries, is_sealed, plain_copy, unsealed
from .pipeline_classes import class_names, pictures_of_one, takes_no_prompt, whole

__all__ = ["Call", "Ruling", "Treatment", "read_call", "ruling"]

Texts = Mapping[str, str]

_UNKNOWN = "Safelight does not know this parameter, so nobody judges what it carries; leave it out"
_OUTPUT_TYPES = ("pil", "np", "pt", "latent")


@dataclass(frozen=True, slots=True, repr=False)
class Call:
    """A pipeline call whose every parameter was ruled on.

    Args:
        texts: For each prompt of the batch, channel name to text, without the blank ones: all that is to be judged.
            The texts that sealed latents were made from stand among them, as ``image.prompt`` for example.
        pictures: For each prompt, parameter to its input pictures in RGB, as the pipeline will see them.
        batched: Whether the prompt was given as a list.
        pictures_each: How many pictures come of each: ``num_images_per_prompt``. Where the pipeline takes no prompt
            there is one request, and all that come are its own.
        output_type: ``pil``, ``np``, ``pt`` or ``latent``.
        return_dict: Whether an output object is wanted, rather than a tuple.
        arguments: Everything to pass on, by name, but for the texts, ``output_type``, ``return_dict`` and the callback.
            Sealed tensors are plain here; pictures and tensors are copies, which the caller cannot change any more.
        callback: The step callback, as it was given.
        callback_tensors: The tensors that it is to be handed, by name.
        columns: The texts to pass on: channel name to one text a prompt.
        paired: The picture parameters of which entry k belongs to prompt k.
        repeated: The parameters of which row k of the batch has entry k modulo their number.
    """

    texts: tuple[Texts, ...]
    pictures: tuple[Mapping[str, tuple[Image.Image, ...]], ...]
    batched: bool
    pictures_each: int
    output_type: str
    return_dict: bool
    arguments: Mapping[str, Any]
    callback: Callable[..., Any] | None
    callback_tensors: tuple[str, ...]
    columns: Mapping[str, tuple[str, ...]]
    paired: frozenset[str]
    repeated: frozenset[str]

    def arguments_for(self, places: Sequence[int]) -> dict[str, Any]:
        """Return the arguments for a part of the batch: what belongs to single prompts is picked, all else is whole."""
        chosen: dict[str, Any] = dict(self.arguments)
        for name, column in self.columns.items():
            values = [column[place] for place in places]
            chosen[name] = values if self.batched else values[0]
        count, each = len(self.texts), self.pictures_each
        if list(places) == list(range(count)):
            return chosen
        rows = [place * each + k for place in places for k in range(each)]
        for name in self.paired | EMBEDDINGS | LATENTS | {"generator"}:
            # An adapter's embeddings are one tensor an adapter, whatever the number of prompts.
            if name not in chosen or "ip_adapter" in name:
                continue
            given = entries(name, chosen[name])
            if name in self.repeated:
                picked = [row % given for row in rows] if given > 1 and count * each % given == 0 else None
            else:
                picked = {count: list(places), count * each: rows}.get(given)
            chosen[name] = _picked(chosen[name], picked)
        return chosen


def read_call(arguments: Mapping[str, Any], *, allow: Collection[str] = (), pipe: Any = None) -> Call:
    """Rule on every argument of a pipeline call.

    Args:
        arguments: By name, without ``self``. A value of None counts as not given.
        allow: What may be passed on unread: ``embeddings``, ``latents``. (``callbacks`` concerns who calls them.)
        pipe: The pipeline, where it is at hand. Without it every input picture belongs to every prompt.

    Raises:
        UnjudgedChannel: If one would reach the generator, or leave it, without being judged; it is named.
        InvalidRequest: If the texts are missing or do not fit together, or a picture cannot be read.
    """
    cls: Any = type(pipe)
    given = _rewriting(cls) | {name: value for name, value in arguments.items() if value is not None}
    output_type = given.pop("output_type", "pil")
    if not isinstance(output_type, str) or output_type not in _OUTPUT_TYPES:
        raise UnjudgedChannel("output_type", "would leave in a form that nobody looks at; use 'pil', 'np' or 'pt'")
    return_dict = given.pop("return_dict", True)
    if not isinstance(return_dict, int):
        raise InvalidRequest("return_dict", f"must be True or False, not {type(return_dict).__name__}")
    callback, callback_tensors = _callback(given)
    strings = {name: given.pop(name) for name in TEXTS if name in given}
    promptless = "prompt" not in strings and takes_no_prompt(cls)
    passed, pictures, origins = _passed(given, allow, pipe, promptless)
    embedded = _embedded(passed)
    each = whole("num_images_per_prompt", passed.get("num_images_per_prompt", 1))
    if promptless and embedded is None:
        if output_type == "latent":
            raise InvalidRequest("output_type", f"{cls.__name__} gives its pictures only; use 'pil', 'np' or 'pt'")
        # One request, and all the pictures that come are its own.
        embedded, each = 1, each * pictures_of_one(cls, passed, pictures)
        origins["class_labels"] = tuple(class_names(pipe, passed))
    texts = read_texts(strings, embedded=embedded)
    paired = paired_pictures(pipe)
    return Call(
        texts=texts.judged(origins),
        # The rows of pictures and prompts are repeated in different orders, so with several each belongs to all.
        pictures=_by_prompt(pictures, texts.count, paired if each == 1 else ()),
        batched=texts.batched,
        pictures_each=each,
        output_type=str(output_type),
        return_dict=bool(return_dict),
        arguments=MappingProxyType(passed),
        callback=callback,
        callback_tensors=callback_tensors,
        columns=texts.columns,
        paired=paired,
        repeated=repeated_pictures(pipe),
    )


@cache
def _rewriting(cls: Any) -> dict[str, Any]:
    """Return what a pipeline takes for given, if nothing is, of the switches that have the prompt rewritten."""
    parameters = inspect.signature(cls.__call__).parameters
    return {name: parameters[name].default for name in SWITCHED_OFF & set(parameters)}


def _passed(
    given: Mapping[str, Any], allow: Collection[str], pipe: Any, promptless: bool
) -> tuple[dict[str, Any], dict[str, InputPictures], dict[str, tuple[Texts, ...]]]:
    """Return what is passed on, the pictures among it, and by parameter the texts that sealed latents come from."""
    passed: dict[str, Any] = {}
    pictures: dict[str, InputPictures] = {}
    origins: dict[str, tuple[Texts, ...]] = {}
    channels = getattr(getattr(getattr(pipe, "vae", None), "config", None), "latent_channels", None)
    for name, value in given.items():
        if name in PICTURES:
            reader = PictureReader(
                name, latents="latents" in allow, latent_channels=channels, by_pipeline_alone=promptless
            )
            pictures[name] = reader.read(value)
            passed[name], origins[name] = pictures[name].passed, pictures[name].origins
        elif name in EMBEDDINGS | LATENTS:
            found: list[Texts] = []
            passed[name] = _tensors(name, value, allow, found)
            origins[name] = tuple(found)
        else:
            passed[name] = _checked(name, value)
    return passed, pictures, origins


def _by_prompt(
    pictures: Mapping[str, InputPictures], count: int, paired: Collection[str]
) -> tuple[Mapping[str, tuple[Image.Image, ...]], ...]:
    found: list[dict[str, tuple[Image.Image, ...]]] = [{} for _ in range(count)]
    for name, value in pictures.items():
        one_each = name in paired and len(value.items) == count
        together = tuple(image for item in value.items for image in item)
        for place, of_prompt in enumerate(found):
            images = value.items[place] if one_each else together
            if images:
                of_prompt[name] = images
    return tuple(found)


def _tensors(name: str, value: Any, allow: Collection[str], origins: list[Texts]) -> Any:
    """Return copies of tensors that may be passed on unread; the texts of sealed ones are added to ``origins``."""
    if isinstance(value, list | tuple) and value:
        return [_tensors(name, item, allow, origins) for item in value]
    if is_sealed(value):
        if name not in LATENTS:
            raise UnjudgedChannel(name, "cannot be latents of a guarded pipeline")
        plain, texts = unsealed(value)
        origins += texts
        return plain
    ruled = ruling(name)
    if ruled is None or ruled.allowed_by not in allow:
        raise UnjudgedChannel(name, _UNKNOWN if ruled is None else ruled.note)
    return plain_copy(name, value)


def _embedded(passed: Mapping[str, Any]) -> int | None:
    """Return how many prompts are given as embeddings, or None where none are."""
    value = next((passed[name] for name in FOR_A_PROMPT if name in passed), None)
    if value is None:
        return None
    return len(value) if isinstance(value, list) else int(value.shape[0])


def _picked(value: Any, rows: Sequence[int] | None) -> Any:
    if rows is None:
        return value
    return [value[row] for row in rows] if isinstance(value, list) else value[rows]


def _checked(name: str, value: Any) -> Any:
    """Return a value that carries nothing, in lists that nobody else holds, or raise."""
    if name in NUMBERS:
        return _numbers(name, value)
    if name in WHOLE_NUMBERS:
        if not all(isinstance(item, int) for item in (value if isinstance(value, list | tuple) else [value])):
            raise InvalidRequest(name, "must be a whole number or a list of whole numbers")
        return list(value) if isinstance(value, list | tuple) else value
    if name in ATTENTION:
        if not isinstance(value, dict) or set(value) - {"scale"}:
            raise UnjudgedChannel(name, "only {'scale': number} can be passed through a guarded pipeline")
        return {key: _numbers(name, number) for key, number in value.items()}
    if name in SWITCHED_OFF and value is False:
        return value
    if name == "generator":
        return _generators(value)
    # All that is passed on in another form was taken out before.
    ruled = ruling(name)
    note = _UNKNOWN if ruled is None else ruled.note
    raise UnjudgedChannel(name, f"must be {note}" if ruled and ruled.treatment is Treatment.PASSED else note)


def _numbers(name: str, value: Any) -> Any:
    if isinstance(value, list | tuple):
        numbers = [_numbers(name, item) for item in value]
        return numbers if isinstance(value, list) else tuple(numbers)
    if not isinstance(value, Number):
        raise InvalidRequest(name, f"must be a number or a list of numbers, not {type(value).__name__}")
    return value


def _generators(value: Any) -> Any:
    # Imported here: torch is there whenever a pipeline is, and never for those who have none.
    from torch import Generator

    each = list(value) if isinstance(value, list) else [value]
    # A subclass could answer with chosen noise: latents by another name.
    if not all(type(item) is Generator for item in each):
        raise UnjudgedChannel("generator", "must be a torch.Generator or a list of them")
    return each if isinstance(value, list) else value


def _callback(given: dict[str, Any]) -> tuple[Callable[..., Any] | None, tuple[str, ...]]:
    """Take the step callback out, and return it with the names of the tensors that it asks for."""
    asked = given.pop("callback_on_step_end_tensor_inputs", ["latents"])
    callback = given.pop("callback_on_step_end", None)
    if callback is not None and not callable(callback):
        raise InvalidRequest("callback_on_step_end", "must be a function")
    # diffusers' own callbacks say themselves what they need.
    asked = getattr(callback, "tensor_inputs", asked)
    if not isinstance(asked, list | tuple) or not all(isinstance(name, str) for name in asked):
        raise InvalidRequest("callback_on_step_end_tensor_inputs", "must be a list of names")
    return callback, tuple(asked)
