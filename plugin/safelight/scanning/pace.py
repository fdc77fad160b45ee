"""How fast a scan asks: so many calls and tokens a minute, and slower for everybody while the provider is overloaded.

aiolimiter (MIT) was looked at: it keeps one rate of one thing. Here two rates hold together, what a call really cost
is known only after it, and one 429 must slow down every worker; around a library that would be more than this.
"""

from __future__ import annotations

import asyncio
import contextlib
import random

from ..errors import ConfigError

_LONGEST_ASKED_S = 600.0
"""The longest pause that is kept because a provider asks for it, in seconds."""


class Pace:
    """Spaces calls out evenly, for the workers of one event loop.

    Args:
        rpm: Calls a minute, or None.
        tpm: Tokens a minute, sent and received together, or None. A call is let go when all before it are paid for by
            the time that has passed.
        first_pause_s: The pause after a first overload, in seconds; each further one doubles it.
        longest_pause_s: The longest pause, in seconds.

    Raises:
        ConfigError: If a rate is not above 0.
    """

    def __init__(
        self,
        *,
        rpm: float | None = None,
        tpm: float | None = None,
        first_pause_s: float = 1.0,
        longest_pause_s: float = 60.0,
    ) -> None:
        for name, rate in (("--rpm", rpm), ("--tpm", tpm)):
            if rate is not None and not 0 < rate < float("inf"):
                raise ConfigError(f"{name}: must be above 0, not {rate!r}")
        self._a_call_s = 60.0 / rpm if rpm else 0.0
        self._a_token_s = 60.0 / tpm if tpm else 0.0
        self._first_pause_s = first_pause_s
        self._longest_pause_s = longest_pause_s
        self._call_free = self._token_free = self._closed_until = 0.0
        self._pause_s = 0.0
        self._mean_tokens = 0.0

    async def turn(self, stop: asyncio.Event) -> bool:
        """Wait until the next call may go. Return False, at once, if ``stop`` is set first."""
        clock = asyncio.get_running_loop().time
        while (wait := max(self._call_free, self._token_free, self._closed_until) - clock()) > 0:
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), wait)
            if stop.is_set():
                return False
        now = clock()
        self._call_free = max(self._call_free, now) + self._a_call_s
        # What it will cost is not known yet; what calls usually cost stands in until it is.
        self._token_free = max(self._token_free, now) + self._a_token_s * self._mean_tokens
        return True

    def spent(self, tokens: int) -> None:
        """Say what a call cost in tokens."""
        self._token_free += self._a_token_s * (tokens - self._mean_tokens)
        self._mean_tokens += (tokens - self._mean_tokens) * 0.1 if self._mean_tokens else tokens

    def overloaded(self, retry_after_s: float = 0.0) -> None:
        """Say that the provider could not answer: everybody waits, at least as long as it asks for."""
        now = asyncio.get_running_loop().time()
        if now < self._closed_until:
            # Calls that were already on their way when the pause began say nothing new.
            self._closed_until = max(self._closed_until, now + min(retry_after_s, _LONGEST_ASKED_S))
            return
        self._pause_s = min(max(2 * self._pause_s, self._first_pause_s), self._longest_pause_s)
        # Not everybody who scans at this provider at the same moment again.
        pause = max(self._pause_s * random.uniform(0.75, 1.25), min(retry_after_s, _LONGEST_ASKED_S))  # noqa: S311
        self._closed_until = now + pause

    def answered(self) -> None:
        """Say that the provider answered."""
        self._pause_s = 0.0
