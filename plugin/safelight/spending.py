"""A day's spending limit: what calls to models cost is noted as they are made, and no more are made when it is reached.

What is noted is on disk, so a restart forgets nothing, and every process with the same store counts the same money. A
call whose price nobody knows is counted as dear where there is a limit, which would else be none; then the estimate is
what is kept as its cost. Without a limit it is kept as it is, so that no model of one's own looks as if it cost money.
"""

from __future__ import annotations

import math
import threading
from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, date, datetime, timedelta
from typing import Protocol

from .errors import ConfigError, StoreUnavailable
from .store.calls import Call

UNKNOWN_USD = 0.001
"""What a call counts for whose price is not known, in US dollars, or as much as the dearest known one if that was more.
Some ten times a usual judge call (400 tokens sent and 60 received cost 0.000064 with Gemini 2.5 Flash-Lite)."""

READ_AGAIN_S = 1.0
"""For so many seconds what the store said is relied on; what this process spends meanwhile is added to it at once."""

# The provider did nothing that it could charge for, if it did not report tokens. A call that was given up may well
# have been worked on to its end.
_FREE = frozenset({"unreachable", "failed", "over_budget"})


class CallsProtocol(Protocol):
    """What is needed of :class:`~safelight.store.calls.Calls`."""

    def add(self, call: Call) -> None:
        """Durably keep a call."""
        ...

    def spent_usd(self, *, since: datetime, until: datetime | None = None) -> float:
        """Return what the calls of a time have cost, as far as it is known."""
        ...


class Spending:
    """Notes calls, and says when the day's money is spent. Days are UTC's. Safe for threads; every method may block.

    A limit stops the next call, not those on their way: a day may cost as much more as they do, and, where several
    processes share a store, as the others spend in ``READ_AGAIN_S``.

    Args:
        calls: Where calls are kept.
        usd_per_day: The limit in US dollars; 0 spends nothing, None knows no limit.
        clock: The time, with time zone.

    Raises:
        ConfigError: If the limit is no number from 0.
    """

    def __init__(
        self,
        calls: CallsProtocol,
        *,
        usd_per_day: float | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if usd_per_day is not None and not 0 <= usd_per_day < math.inf:
            raise ConfigError(f"usd_per_day: must be a number from 0, or left out for no limit; not {usd_per_day!r}")
        self._calls = calls
        self._limit = usd_per_day
        self._clock = clock
        self._lock = threading.Lock()
        self._day: date | None = None
        self._read_at: datetime | None = None
        self._stored = 0.0
        # Noted since the store was read; and calls that it would not take.
        self._since = self._unstored = self._dearest = 0.0

    @property
    def limit_usd(self) -> float | None:
        """The limit of a day, or None."""
        return self._limit

    def require_price(self, model: str, *, is_priced: bool) -> None:
        """Refuse a model whose calls could not be counted against the limit.

        Raises:
            ConfigError: If there is a limit, and it is not known what the model costs.
        """
        if self._limit is not None and not is_priced:
            raise ConfigError(
                f"usd_per_day: nobody knows what {model} costs, so its calls cannot be counted; set usd_per_million "
                "= [sent, received] where the model is configured, or take the limit away"
            )

    def exhausted(self) -> bool:
        """Return whether the day's money is spent.

        Raises:
            StoreUnavailable: If the store does not say what was spent; then nobody knows, and nothing should be bought.
        """
        return self._limit is not None and self.spent_usd() >= self._limit

    def spent_usd(self) -> float:
        """Return what today's calls count for so far, in US dollars.

        Raises:
            StoreUnavailable: If the store does not answer.
        """
        with self._lock:
            now = self._turn_to_today()
            if self._read_at is None or not timedelta() <= now - self._read_at < timedelta(seconds=READ_AGAIN_S):
                self._stored = self._calls.spent_usd(since=_start_of(now.date()))
                self._read_at, self._since = now, 0.0
            return self._stored + self._since + self._unstored

    def note(self, call: Call) -> None:
        """Count a call and keep it, with an estimate for a price that nobody knows.

        Raises:
            StoreUnavailable: If the store does not take it. It is counted all the same, as long as the process runs.
        """
        with self._lock:
            self._dearest = max(self._dearest, call.cost_usd or 0.0)
        worth = self._worth(call)
        if worth:
            call = replace(call, cost_usd=worth)
        try:
            # Outside the lock: a slow disk must not keep others from asking. Read meanwhile, it may be counted twice
            # for a second, which errs on the safe side.
            self._calls.add(call)
        except StoreUnavailable:
            self._count(call, unstored=worth)
            raise
        self._count(call, since=worth)

    def for_purpose(self, purpose: str) -> Purse:
        """Return the same money, in whose name calls are noted for another purpose, such as ``canary``."""
        return Purse(self, purpose)

    def _count(self, call: Call, *, since: float = 0.0, unstored: float = 0.0) -> None:
        with self._lock:
            if self._turn_to_today().date() == call.at.astimezone(UTC).date():
                self._since += since
                self._unstored += unstored

    def _worth(self, call: Call) -> float:
        if call.cost_usd is not None:
            return call.cost_usd
        is_free = call.outcome in _FREE and not call.tokens_in and not call.tokens_out
        if is_free or self._limit is None:
            return 0.0
        if call.reason == "cancelled" and self._dearest:
            # Whoever hangs up at once must not use the day up faster than whoever waits.
            return self._dearest
        return max(UNKNOWN_USD, self._dearest)

    def _turn_to_today(self) -> datetime:
        now = self._clock().astimezone(UTC)
        if now.date() != self._day:
            self._day, self._read_at = now.date(), None
            self._stored = self._since = self._unstored = 0.0
        return now


class Purse:
    """A :class:`Spending` whose calls are noted for one purpose, whatever they say themselves."""

    def __init__(self, spending: Spending, purpose: str) -> None:
        self._spending = spending
        self._purpose = purpose

    def exhausted(self) -> bool:
        """Return whether the day's money is spent, by anybody."""
        return self._spending.exhausted()

    def note(self, call: Call) -> None:
        """Count a call and keep it."""
        self._spending.note(replace(call, purpose=self._purpose))


def _start_of(day: date) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=UTC)
