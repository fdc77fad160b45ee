"""Strict reading of a TOML table: every key is taken once, with its type, and what is left over is an error."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from difflib import get_close_matches
from enum import StrEnum
from typing import Any, Final, TypeVar, overload

from .errors import ConfigError

_REQUIRED: Final = object()
_T = TypeVar("_T")
_E = TypeVar("_E", bound=StrEnum)

_WORDS = {str: "a string", int: "a whole number", float: "a number", bool: "true or false", dict: "a table"}


class Table:
    """A table whose keys are taken one by one.

    Args:
        data: The table as ``tomllib`` read it.
        prefix: What stands before a key in messages, with its dot.
    """

    def __init__(self, data: Mapping[str, Any], prefix: str) -> None:
        self._data = dict(data)
        self._asked: set[str] = set()
        self.prefix = prefix

    def __contains__(self, key: str) -> bool:
        self._asked.add(key)
        return key in self._data

    def __iter__(self) -> Iterator[str]:
        return iter(self._data)

    @overload
    def take(self, key: str, kind: type[_T]) -> _T: ...
    @overload
    def take(self, key: str, kind: type[_T], default: None) -> _T | None: ...
    @overload
    def take(self, key: str, kind: type[_T], default: _T) -> _T: ...
    def take(self, key: str, kind: type[Any], default: Any = _REQUIRED) -> Any:
        """Remove a key and return its value.

        Raises:
            ConfigError: If it is missing without a default, or of another type.
        """
        self._asked.add(key)
        if key not in self._data:
            if default is _REQUIRED:
                raise ConfigError(f"{self.prefix}{key}: missing")
            return default
        value = self._data.pop(key)
        if kind is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
            raise ConfigError(f"{self.prefix}{key}: must be {_WORDS.get(kind, kind.__name__)}, not {value!r}")
        return value

    def take_enum(self, key: str, kind: type[_E], default: _E | None = None) -> _E:
        """Remove a key and return it as a member of an enumeration."""
        value: str = self.take(key, str) if default is None else self.take(key, str, str(default))
        try:
            return kind(value)
        except ValueError:
            choices = ", ".join(repr(member.value) for member in kind.__members__.values())
            raise ConfigError(f"{self.prefix}{key}: must be one of {choices}, not {value!r}") from None

    def take_threshold(self, key: str) -> float:
        """Remove a key and return it as a score in (0, 1]."""
        value = self.take(key, float)
        # 0 would block everything and hide that it does; NaN would block nothing.
        if not math.isfinite(value) or not 0.0 < value <= 1.0:
            raise ConfigError(f"{self.prefix}{key}: must be above 0 and at most 1, not {value!r}")
        return value

    def rest(self) -> dict[str, Any]:
        """Remove and return all keys that are left, for a part that checks them itself."""
        rest, self._data = self._data, {}
        return rest

    def finish(self) -> None:
        """Raise ConfigError if any key was not taken; the message suggests a near one."""
        for key in self._data:
            near = get_close_matches(key, self._asked, n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise ConfigError(f"{self.prefix}{key}: unknown key{hint}")
