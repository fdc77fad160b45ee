"""From a short name, or anyone's ``package.module:Class``, to an object: only what is named is imported."""

from __future__ import annotations

import importlib
import inspect
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
    except ModuleNotFoundError as error:
        raise ConfigError(f"{key}: cannot import {use!r}: no module named {error.name!r}") from error
    except (ImportError, AttributeError) as error:
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
    settable = [name for name in parameters if name not in collaborators]
    for name in options:
        if name in collaborators or (name not in parameters and not takes_anything):
            raise ConfigError(f"{key}.{name}: unknown key; {cls.__name__} takes {', '.join(settable) or 'no options'}")
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
