"""The body of a request: read with a bound, and as strict JSON."""

from __future__ import annotations

import asyncio
import json
import math
from collections.abc import Iterable
from typing import Any, Never

from starlette.requests import Request

from .problems import Problem

MAX_BYTES = 64 * 1024
"""Longest body in bytes: four texts of the longest length, and room to spare."""

READ_S = 30.0
"""How long a body may take to arrive, in seconds."""

MAX_DEPTH = 16
MAX_DIGITS = 20

# The rest of the body is not wanted, so the connection cannot be used again.
_CLOSE = {"connection": "close"}


async def read_body(request: Request, *, max_bytes: int = MAX_BYTES, read_s: float = READ_S) -> bytes:
    """Return the body.

    Raises:
        Problem: 413 if it is longer than ``max_bytes``, before the rest of it is read; 408 if it takes too long.
        ClientDisconnect: If the client left while sending.
    """
    announced = request.headers.get("content-length", "")
    if announced.isdecimal() and int(announced[:MAX_DIGITS]) > max_bytes:
        raise _too_large(max_bytes)
    read = bytearray()
    try:
        async with asyncio.timeout(read_s):
            async for chunk in request.stream():
                read += chunk
                if len(read) > max_bytes:
                    raise _too_large(max_bytes)
    except TimeoutError:
        raise Problem(408, "request_timeout", "The body took too long to arrive.", headers=_CLOSE) from None
    return bytes(read)


def parse_object(body: bytes) -> dict[str, Any]:
    """Return the JSON object that a body holds, refusing whatever two readers could read in two ways.

    Raises:
        Problem: 400 with what is wrong: no UTF-8, no JSON, no object, a repeated key, a number that is none
            (``NaN``, ``1e400``) or has more than ``MAX_DIGITS`` digits, a NUL, half a surrogate pair, or
            nesting deeper than ``MAX_DEPTH``.
    """
    try:
        found = json.loads(
            body.decode("utf-8"),
            object_pairs_hook=_unique,
            parse_constant=_no_constant,
            parse_float=_finite,
            parse_int=_short,
        )
    except UnicodeDecodeError:
        raise _malformed("The body is not UTF-8.") from None
    except json.JSONDecodeError as error:
        raise _malformed(f"The body is not valid JSON: {error.msg} at character {error.pos}.") from None
    except RecursionError:
        raise _malformed("The body is nested too deeply.") from None
    if not isinstance(found, dict):
        raise _malformed("The body must be a JSON object.")
    _check(found)
    return found


def _check(value: object) -> None:
    # With a stack of its own: nested data must not decide how deep Python recurses.
    waiting = [(value, 1)]
    while waiting:
        item, depth = waiting.pop()
        if depth > MAX_DEPTH:
            raise _malformed("The body is nested too deeply.")
        if isinstance(item, str):
            _check_text(item)
        elif isinstance(item, dict):
            waiting += [(part, depth + 1) for pair in item.items() for part in pair]
        elif isinstance(item, list):
            waiting += [(part, depth + 1) for part in item]


def _check_text(text: str) -> None:
    if "\x00" in text:
        raise _malformed("The body holds a NUL character.")
    if any("\ud800" <= char <= "\udfff" for char in text):
        raise _malformed("The body holds half a surrogate pair.")


def _unique(pairs: Iterable[tuple[str, Any]]) -> dict[str, Any]:
    found: dict[str, Any] = {}
    for key, value in pairs:
        if key in found:
            raise _malformed("The body repeats a key.")
        found[key] = value
    return found


def _no_constant(name: str) -> Never:
    raise _malformed(f"The body holds {name}, which is not JSON.")


def _finite(text: str) -> float:
    number = float(text)
    if not math.isfinite(number):
        raise _malformed("The body holds a number too large to be one.")
    return number


def _short(text: str) -> int:
    if len(text) > MAX_DIGITS:
        raise _malformed(f"The body holds a whole number of more than {MAX_DIGITS} digits.")
    return int(text)


def _malformed(message: str) -> Problem:
    return Problem(400, "invalid_json", message)


def _too_large(max_bytes: int) -> Problem:
    return Problem(413, "request_too_large", f"The body may have at most {max_bytes} bytes.", headers=_CLOSE)
