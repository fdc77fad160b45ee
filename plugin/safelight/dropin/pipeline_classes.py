"""What the class of a pipeline tells of itself: whether it can be guarded, and whether it is asked with a text."""

from __future__ import annotations

import inspect
import sys
from collections.abc import Iterator, Mapping
from functools import cache
from typing import Any

from ..errors import ConfigError, InvalidRequest
from .input_pictures import InputPictures

_NEEDED = ("output_type", "return_dict")


def check_class(cls: type[Any]) -> None:
    """Refuse a class whose pictures a guarded call could not get at.

    Args:
        cls: The plain class of a pipeline.

    Raises:
        ConfigError: If it lacks a parameter that every picture pipeline of diffusers has, or makes no pictures, as far
            as that can be told from the output classes that its module knows.
    """
    caller = _caller(cls)
    if caller is None:
        raise ConfigError(f"protect: {cls.__name__} cannot be called: it has no __call__")
    parameters = inspect.signature(cls.__call__).parameters
    missing = [repr(name) for name in _NEEDED if name not in parameters]
    if missing and not _gathers(parameters):
        raise ConfigError(
            f"protect: {cls.__name__}.__call__ has no parameter {' and no '.join(missing)}, which a guarded call needs"
            " to be given the pictures as numbers; add it, as diffusers' own pipelines have it"
        )
    outputs = list(_outputs(caller))
    if outputs and not any("images" in fields for fields in outputs):
        raise ConfigError(f"protect: {cls.__name__} returns no 'images', and nothing else can be guarded")


@cache
def takes_no_prompt(cls: type[Any]) -> bool:
    """Return whether a class is a pipeline that is asked without a text: by a picture, a number, or nothing."""
    from diffusers import DiffusionPipeline

    return issubclass(cls, DiffusionPipeline) and "prompt" not in inspect.signature(cls.__call__).parameters


def pictures_of_one(cls: type[Any], passed: Mapping[str, Any], pictures: Mapping[str, InputPictures]) -> int:
    """Return how many pictures a call without a prompt makes, but for ``num_images_per_prompt``.

    One is made of each input picture or for each class; else as many as ``batch_size`` says.

    Args:
        cls: The pipeline's class.
        passed: What it is called with.
        pictures: The pictures among it.

    Raises:
        InvalidRequest: If ``batch_size`` is no whole number of at least 1.
    """
    for name in ("example_image", "image"):
        if name in pictures:
            return len(pictures[name].items)
    if isinstance(labels := passed.get("class_labels"), list):
        return len(labels)
    parameter = inspect.signature(cls.__call__).parameters.get("batch_size")
    return whole("batch_size", passed.get("batch_size", parameter.default if parameter is not None else 1))


def class_names(pipe: Any, passed: Mapping[str, Any]) -> list[Mapping[str, str]]:
    """Return the names of the classes that a call asks for by number, as texts to be judged; the number where unnamed.

    Args:
        pipe: The pipeline, which may have ``labels``: name to number.
        passed: What it is called with.
    """
    given = passed.get("class_labels")
    if given is None:
        return []
    labels: Mapping[str, int] = getattr(pipe, "labels", None) or {}
    numbers = dict.fromkeys(given if isinstance(given, list | tuple) else [given])
    named = [", ".join(name for name, known in labels.items() if known == number) for number in numbers]
    return [{"names": name or str(number)} for name, number in zip(named, numbers, strict=True)]


def whole(name: str, value: Any) -> int:
    """Return a whole number of at least 1.

    Raises:
        InvalidRequest: If it is none.
    """
    if not isinstance(value, int) or value < 1:
        raise InvalidRequest(name, f"must be a whole number of at least 1, not {value!r}")
    return value


def _caller(cls: type[Any]) -> type[Any] | None:
    """Return the class that brings a class's ``__call__`` along."""
    return next((parent for parent in cls.__mro__ if "__call__" in vars(parent)), None)


def _gathers(parameters: Mapping[str, inspect.Parameter]) -> bool:
    return any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())


def _outputs(cls: type[Any]) -> Iterator[set[str]]:
    """Yield the names of the fields of every output class that a pipeline's module knows."""
    from diffusers.utils import BaseOutput

    for found in vars(sys.modules[cls.__module__]).values():
        if isinstance(found, type) and issubclass(found, BaseOutput) and found.__name__.endswith("Output"):
            fields = set(getattr(found, "__dataclass_fields__", ()))
            if fields:
                yield fields
