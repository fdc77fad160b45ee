"""A circuit breaker: after several failures in a short time a provider is left alone for a while.

Libraries were looked at (November 2026). pybreaker 1.4 and purgatory 3.0 count failures in a row without a window and
let everybody through when half open, and pybreaker knows Tornado but not asyncio; aiobreaker rests since 2021;
fluxgate 0.9 has windows, but is a beta, goes by the wall clock, and lets callers wait for a half-open place where
they should be refused. None lets an abandoned probe go. What is needed is this page.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable
from enum import StrEnum
from types import TracebackType

from ..errors import ConfigError


class CircuitState(StrEnum):
    """Whether a provider is asked."""

    CLOSED = "closed"
    """It is."""
    OPEN = "open"
    """It is left alone."""
    HALF_OPEN = "half_open"
    """One call is let through to see whether it is well again."""


class CircuitBreaker:
    """Counts failures of one provider. Safe for threads and event loops; it never waits and never sleeps.

        call = breaker.admit()
        if call is None:
            ...  # refused; ask again in breaker.retry_after_s seconds
        with call:
            ...  # ask the provider, then say one of
            call.succeeded()
            call.failed()

    A success forgives one failure, so that a few failures among many successes open nothing, however busy it is. A
    call that ends without saying anything, because it was cancelled, counts for nothing and gives its place back.

    Args:
        failures: How many open it, 1 or more.
        within_s: Only failures of the last so many seconds count.
        open_s: Seconds for which it then stays open, before one call is let through.
        clock: Seconds that never go backwards.

    Raises:
        ConfigError: If a number is out of range.
    """

    def __init__(
        self,
        *,
        failures: int = 5,
        within_s: float = 30.0,
        open_s: float = 30.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        if failures < 1:
            raise ConfigError(f"failures: must be at least 1, not {failures!r}")
        for name, seconds in (("within_s", within_s), ("open_s", open_s)):
            if not 0 < seconds < float("inf"):
                raise ConfigError(f"{name}: must be above 0, not {seconds!r}")
        self._failures = failures
        self._within_s = within_s
        self._open_s = open_s
        self._clock = clock
        self._lock = threading.Lock()
        self._failed_at: deque[float] = deque(maxlen=failures)
        self._opened_at: float | None = None
        self._probe: Call | None = None
        # Calls of an earlier period say nothing about this one.
        self._period = 0

    @property
    def state(self) -> CircuitState:
        """What it is now."""
        with self._lock:
            return self._state()

    @property
    def retry_after_s(self) -> float:
        """Seconds until a call may be let through; 0 when it is closed."""
        with self._lock:
            if self._opened_at is None:
                return 0.0
            left = self._open_s - (self._clock() - self._opened_at)
            if left > 0:
                return left
            # How the one call on its way ends is known soon.
            return 1.0 if self._is_probed() else 0.0

    def admits(self) -> bool:
        """Return whether a call would be let through now."""
        with self._lock:
            return self._has_room()

    def admit(self) -> Call | None:
        """Let a call through, or refuse it with None. Use what is returned as a context manager."""
        with self._lock:
            if not self._has_room():
                return None
            call = Call(self, self._period, self._clock())
            if self._opened_at is not None:
                self._probe = call
            return call

    def _state(self) -> CircuitState:
        if self._opened_at is None:
            return CircuitState.CLOSED
        waited = self._clock() - self._opened_at
        return CircuitState.HALF_OPEN if waited >= self._open_s else CircuitState.OPEN

    def _has_room(self) -> bool:
        state = self._state()
        return state is CircuitState.CLOSED or (state is CircuitState.HALF_OPEN and not self._is_probed())

    def _is_probed(self) -> bool:
        # One that has not come back after so long never will; others must not wait for it for ever.
        return self._probe is not None and self._clock() - self._probe.began < self._open_s

    def _ended(self, call: Call, succeeded: bool | None, at_once: bool) -> None:
        with self._lock:
            is_probe, is_old = call is self._probe, call.period != self._period
            if is_probe:
                self._probe = None
            if succeeded is None or is_old or (self._opened_at is not None and not is_probe):
                return
            if succeeded:
                self._succeeded()
            else:
                call.opened = self._failed(at_once or is_probe)

    def _succeeded(self) -> None:
        if self._opened_at is not None:
            self._period += 1
            self._opened_at = None
            self._failed_at.clear()
        elif self._failed_at:
            self._failed_at.popleft()

    def _failed(self, at_once: bool) -> bool:
        now = self._clock()
        self._failed_at.append(now)
        while now - self._failed_at[0] > self._within_s:
            self._failed_at.popleft()
        opens = at_once or len(self._failed_at) >= self._failures
        if opens:
            self._period += 1
            self._opened_at = now
            self._failed_at.clear()
        return opens


class Call:
    """One call that was let through. See :class:`CircuitBreaker`.

    Attributes:
        opened: Whether its failure opened the circuit; known when it has ended.
    """

    def __init__(self, breaker: CircuitBreaker, period: int, began: float) -> None:
        self.opened = False
        self.period = period
        self.began = began
        self._breaker = breaker
        self._succeeded: bool | None = None
        self._at_once = False

    def succeeded(self) -> None:
        """Say that the provider answered."""
        self._succeeded = True

    def failed(self, *, at_once: bool = False) -> None:
        """Say that it did not. ``at_once`` opens the circuit whatever was before: waiting will not mend this."""
        self._succeeded, self._at_once = False, at_once

    def __enter__(self) -> Call:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._breaker._ended(self, self._succeeded, self._at_once)
