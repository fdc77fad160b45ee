"""From a short name, or anyone's ``package.module:Class``, to an object: only what is named is imported."""

from __future__ import annotations

import importlib
import inspect
import re
from collections.abc import Mapping
from typing import Any

from .errors import ConfigError


def load_class(use: str, table: Mapping[str, str], *, key: str) -> type[Any]:
    """Return the class that a setting names.

    Args:
        use: A short name from ``table``, or ``package.module:Class``.
        table: Short names to import strings.
        key: The setting, for messages.

    Raises:
        ConfigError: If there is no such name, module or class.
        MissingExtra: If a library that the class needs is not installed.
    """
    target = table.get(use, use)
    module_name, colon, class_name = target.partition(":")
    if not colon or not module_name or not class_name:
        raise ConfigError(f"{key}: {use!r} is none of {', '.join(sorted(table))}, nor of the form package.module:Class")
    try:
        found = getattr(importlib.import_module(module_name), class_name)
        inspect.signature(found)
    except ModuleNotFoundError as error:
        raise ConfigError(f"{key}: cannot import {use!r}: no module named {error.name!r}") from error
    except (ImportError, AttributeError, TypeError, ValueError) as error:
        raise ConfigError(f"{key}: cannot import {use!r}: {error}") from error
    if not isinstance(found, type):
        raise ConfigError(f"{key}: {use!r} is no class")
    return found


def construct(cls: type[Any], options: Mapping[str, Any], *, key: str, collaborators: Mapping[str, Any]) -> Any:
    """Make an object from options, and from the collaborators that its constructor names.

    Args:
        cls: What to make.
        options: Keyword arguments from the configuration.
        key: The setting, for messages.
        collaborators: Objects handed over where the constructor has a parameter of that name, such as ``policy``.

    Raises:
        ConfigError: If an option is unknown, missing, or not accepted by the constructor.
    """
    parameters = inspect.signature(cls).parameters
    takes_anything = any(parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values())
    settable = [name for name, found in parameters.items() if name not in collaborators and _is_plain(found)]
    for name in options:
        if name not in settable and not (takes_anything and name not in parameters):
            raise ConfigError(f"{key}.{name}: unknown key; {cls.__name__} takes {', '.join(settable) or 'no options'}")
        if name in parameters:
            _check_type(f"{key}.{name}", options[name], parameters[name])
    given = dict(options) | {name: value for name, value in collaborators.items() if name in parameters}
    for name, parameter in parameters.items():
        required = parameter.default is parameter.empty and parameter.kind in (
            parameter.KEYWORD_ONLY,
            parameter.POSITIONAL_OR_KEYWORD,
        )
        if required and name not in given:
            raise ConfigError(f"{key}.{name}: missing; {cls.__name__} needs it")
    try:
        return cls(**given)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{key}: {cls.__name__} does not accept its options: {error}") from error


_WORDS = {"str", "int", "float", "bool", "None", "Sequence", "list", "tuple", "Mapping", "dict", "Any"}
_SCALARS: Mapping[str, tuple[type, ...]] = {"str": (str,), "int": (int,), "float": (int, float), "bool": (bool,)}


def _is_plain(parameter: inspect.Parameter) -> bool:
    """Return whether a parameter takes what a file can hold, rather than an object that only code hands over."""
    annotation = parameter.annotation
    named = set(re.findall(r"[A-Za-z_]+", annotation)) if isinstance(annotation, str) else set()
    return named <= _WORDS


def _check_type(key: str, value: Any, parameter: inspect.Parameter) -> None:
    names = parameter.annotation.replace(" ", "").split("|") if isinstance(parameter.annotation, str) else []
    accepted = [_SCALARS[name] for name in names if name in _SCALARS]
    # Only where the annotation is nothing but scalars: what else it may be, the constructor checks.
    if not accepted or not set(names) <= {*_SCALARS, "None"}:
        return
    if not any(isinstance(value, kind) for kind in accepted) or (isinstance(value, bool) and "bool" not in names):
        raise ConfigError(f"{key}: must be of type {parameter.annotation}, not {value!r}")
