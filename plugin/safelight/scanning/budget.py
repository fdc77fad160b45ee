"""Why a scan ends, and how much it may spend before that."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from enum import StrEnum


class Stop(StrEnum):
    """Why a scan ended."""

    DONE = "done"
    """Everybody has been gone through."""
    INTERRUPTED = "interrupted"
    BUDGET = "budget"
    """More would cost more than was allowed."""
    SPENDING = "spending"
    """The day's money, which everything shares that calls models, is spent."""
    PROVIDER = "provider"
    """The provider fails again and again."""


_FIRST_CHARS_A_TOKEN = 4


class Budget:
    """What may be spent, for the workers of one event loop.

    Before a call, what it will likely cost is set aside: at first by its length and the price of tokens, later by what
    such estimates have come to. While no price is known, one call is let through at a time. A call that no longer fits
    waits for those on their way, since they may cost less than was set aside.

    Args:
        limit_usd: US dollars for the whole scan, or None.
        spent_usd: What has been spent.
        usd_per_million: US dollars for a million tokens sent, and for a million received, or None if nobody knows.
    """

    def __init__(
        self,
        limit_usd: float | None = None,
        spent_usd: float = 0.0,
        *,
        usd_per_million: Sequence[float] | None = None,
    ) -> None:
        self._limit_usd = limit_usd
        self._spent_usd = spent_usd
        # Without prices a token is one unit, and what a unit costs is learned from the first answer.
        self._weights = tuple(usd_per_million) if usd_per_million else (1e6, 1e6)
        self._usd_a_unit: float | None = 1.0 if usd_per_million else None
        self._is_guess = True
        self._aside: list[float] = []
        self._came = asyncio.Condition()
        self.trouble = ""

    async def take(self, chars: int, max_tokens: int) -> float | None:
        """Set aside what one more call likely costs. Return its size, for ``came``, or None if it does not fit.

        Args:
            chars: Length of the question.
            max_tokens: Longest answer.
        """
        size = (self._weights[0] * chars / _FIRST_CHARS_A_TOKEN + self._weights[1] * max_tokens) / 1e6
        async with self._came:
            while self._limit_usd is not None and not self._fits(size):
                if not self._aside:
                    return None
                await self._came.wait()
            self._aside.append(size)
            return size

    async def came(self, size: float, cost_usd: float | None, *, is_free: bool = False) -> None:
        """Say what a call did cost.

        Args:
            size: What ``take`` returned for it.
            cost_usd: US dollars, or None if nobody said; then it counts as was estimated.
            is_free: Whether it cost nothing if nobody said.
        """
        async with self._came:
            self._aside.remove(size)
            if cost_usd is None:
                self._spent_usd += 0.0 if is_free else size * (self._usd_a_unit or 0.0)
            else:
                self._spent_usd += cost_usd
                self._learn(size, cost_usd)
            self._came.notify_all()

    def _fits(self, size: float) -> bool:
        left = (self._limit_usd or 0.0) - self._spent_usd
        if self._usd_a_unit is None:
            self.trouble = f"${max(left, 0.0):.2g} are left of --budget-usd"
            return left > 0 and not self._aside
        likely = size * self._usd_a_unit
        self.trouble = f"about ${likely:.2g} for one more call, and ${max(left, 0.0):.2g} are left of --budget-usd"
        return left > 0 and likely + sum(self._aside) * self._usd_a_unit <= left

    def _learn(self, size: float, cost_usd: float) -> None:
        # A failure that cost nothing says nothing of what others cost.
        if size <= 0 or cost_usd <= 0:
            return
        found = cost_usd / size
        if self._is_guess or self._usd_a_unit is None:
            self._usd_a_unit, self._is_guess = found, False
        else:
            self._usd_a_unit += (found - self._usd_a_unit) * 0.1
