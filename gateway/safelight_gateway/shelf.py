"""Released pictures for clients that want links: kept in memory for an hour, behind addresses that nobody can guess."""

from __future__ import annotations

import hashlib
import hmac
import secrets
import threading
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass

from safelight.encoding import Encoded

from .problems import Problem

KEPT_S = 60 * 60
MAX_BYTES = 256 * 1024 * 1024
PATH = "/v1/images/files/"


@dataclass(frozen=True, slots=True)
class Kept:
    """A picture on the shelf: its bytes, and until when, in seconds since 1970."""

    data: bytes
    media_type: str
    until: int


class Shelf:
    """Keeps pictures that the guard has released, and signs their addresses. Safe from any thread.

    Args:
        secret: Returns the key of the signatures; it may block, and is asked once.
        clock: Seconds since 1970.
        max_bytes: Beyond it the oldest pictures go first.
        kept_s: How long a picture is kept.
    """

    def __init__(
        self,
        secret: Callable[[], bytes],
        *,
        clock: Callable[[], float] = time.time,
        max_bytes: int = MAX_BYTES,
        kept_s: int = KEPT_S,
    ) -> None:
        self._ask_secret = secret
        self._secret: bytes | None = None
        self._clock = clock
        self._max_bytes = max_bytes
        self._kept_s = kept_s
        self._kept: OrderedDict[str, Kept] = OrderedDict()
        self._bytes = 0
        self._lock = threading.Lock()

    def put(self, picture: Encoded) -> str:
        """Keep a released picture, and return its signed address without scheme and host."""
        name = f"{secrets.token_hex(16)}.{picture.media_type.rpartition('/')[2]}"
        until = int(self._clock()) + self._kept_s
        signature = self._sign(name, str(until))
        with self._lock:
            self._kept[name] = Kept(picture.data, picture.media_type, until)
            self._bytes += len(picture.data)
            self._clear()
        return f"{PATH}{name}?exp={until}&sig={signature}"

    def get(self, name: str, *, until: str, signature: str) -> Kept:
        """Return a kept picture.

        Raises:
            Problem: 403 if the signature is wrong or its time is over, 404 if the picture is not here any more.
        """
        # Both sides as bytes: compare_digest refuses text that is not ASCII.
        if not hmac.compare_digest(self._sign(name, until).encode(), signature.encode()):
            raise Problem(403, "invalid_signature", "The signature of this link is wrong.")
        if int(until) <= self._clock():
            raise Problem(403, "link_expired", "This link has expired.")
        with self._lock:
            kept = self._kept.get(name)
        if kept is None:
            raise Problem(404, "not_found", "This picture is not kept any more.")
        return kept

    def _sign(self, name: str, until: str) -> str:
        if self._secret is None:
            self._secret = self._ask_secret()
        return hmac.new(self._secret, f"{name}\n{until}".encode(), hashlib.sha256).hexdigest()

    def _clear(self) -> None:
        now = self._clock()
        while self._kept:
            oldest = next(iter(self._kept.values()))
            if self._bytes <= self._max_bytes and oldest.until > now:
                break
            self._kept.popitem(last=False)
            self._bytes -= len(oldest.data)
