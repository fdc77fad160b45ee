"""``Idempotency-Key``: a request that is sent twice is worked on once, and answered alike."""

from __future__ import annotations

import hashlib
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from .problems import Problem, Reply

KEPT_S = 24 * 60 * 60
MAX_BYTES = 128 * 1024 * 1024
MAX_ENTRIES = 10_000
MAX_KEY_CHARS = 255

# A picture or a ruling is an outcome; a fault of ours is worth another try.
_KEPT_STATUSES = (200, 400)


@dataclass(slots=True)
class _Entry:
    body: bytes
    since: float
    reply: Reply | None = None

    @property
    def size(self) -> int:
        return len(self.reply.body) if self.reply else 0


class Repeats:
    """Remembers answers by principal and key, in memory. To be used on one event loop.

    Args:
        clock: Seconds that only go forward.
        max_bytes: Beyond it the oldest answers are forgotten first.
        kept_s: How long an answer is remembered.
    """

    def __init__(
        self,
        *,
        clock: Callable[[], float] = time.monotonic,
        max_bytes: int = MAX_BYTES,
        kept_s: float = KEPT_S,
    ) -> None:
        self._clock = clock
        self._max_bytes = max_bytes
        self._kept_s = kept_s
        self._entries: OrderedDict[tuple[str, str], _Entry] = OrderedDict()
        self._bytes = 0

    async def once(self, principal_id: str, key: str, body: bytes, answer: Callable[[], Awaitable[Reply]]) -> Reply:
        """Return the answer to a request, working on it only if it was not answered before.

        Args:
            principal_id: Who asks, as authenticated; nobody meets another one's keys.
            key: As the client chose it.
            body: The request's bytes.
            answer: Works on the request.

        Raises:
            Problem: 409 while the first request is still worked on, 422 if the key came with another body,
                400 if the key is too long.
        """
        if not 0 < len(key) <= MAX_KEY_CHARS:
            raise Problem(400, "invalid_value", f"Idempotency-Key: 1 to {MAX_KEY_CHARS} characters")
        self._clear()
        digest = hashlib.sha256(body).digest()
        entry = self._entries.get((principal_id, key))
        if entry is not None:
            return _replay(entry, digest)
        entry = self._entries[principal_id, key] = _Entry(digest, self._clock())
        try:
            reply = await answer()
            if reply.status in _KEPT_STATUSES:
                entry.reply = reply
                self._bytes += entry.size
        finally:
            if entry.reply is None:
                del self._entries[principal_id, key]
        self._clear()
        return reply

    def _clear(self) -> None:
        before = self._clock() - self._kept_s
        for name, entry in list(self._entries.items()):
            full = self._bytes > self._max_bytes or len(self._entries) > MAX_ENTRIES
            if not full and entry.since > before:
                break
            # What is still worked on is no answer yet, and ends by itself.
            if entry.reply is not None:
                del self._entries[name]
                self._bytes -= entry.size


def _replay(entry: _Entry, body: bytes) -> Reply:
    if entry.body != body:
        raise Problem(422, "idempotency_key_reused", "This Idempotency-Key was used with another body.")
    if entry.reply is None:
        raise Problem(
            409,
            "idempotency_key_in_use",
            "A request with this Idempotency-Key is still worked on.",
            headers={"retry-after": "1"},
        )
    headers = dict(entry.reply.headers) | {"idempotent-replayed": "true"}
    return Reply(entry.reply.status, entry.reply.body, entry.reply.media_type, headers)
