"""Why a scan ends, and how much it may spend before that."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum


class Stop(StrEnum):
    """Why a scan ended."""

    DONE = "done"
    """Everybody has been gone through."""
    INTERRUPTED = "interrupted"
    BUDGET = "budget"
    """More would cost more than was allowed."""
    PROVIDER = "provider"
    """The provider fails again and again."""


@dataclass(slots=True)
class Budget:
    """What may be spent.

    Args:
        limit_usd: US dollars for the whole scan, or None.
        spent_usd: What has been spent.
    """

    limit_usd: float | None = None
    spent_usd: float = 0.0
    _open: int = 0
    _mean_usd: float = 0.0

    def take(self) -> bool:
        """Set aside what one more call usually costs. Return False if that is not within the limit."""
        likely = self.spent_usd + (self._open + 1) * self._mean_usd
        if self.limit_usd is not None and (likely > self.limit_usd or self.spent_usd >= self.limit_usd):
            return False
        self._open += 1
        return True

    def came(self, cost_usd: float | None) -> None:
        """Say what it did cost."""
        self._open -= 1
        cost = cost_usd or 0.0
        self.spent_usd += cost
        self._mean_usd += (cost - self._mean_usd) * 0.1 if self._mean_usd else cost
