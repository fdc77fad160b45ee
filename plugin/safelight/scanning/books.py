"""A scan in the books: its calls are noted like all others, and count against the same day's limit."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from ..errors import StoreUnavailable
from ..screens.counted_calls import Budget, CountedCalls
from ..verdict import Outcome


def scan_calls(budget: Budget | None, *, model: str, clock: Callable[[], datetime]) -> CountedCalls:
    """Return what notes a scan's calls.

    Args:
        budget: Where they are noted, such as ``Spending.for_purpose("scan")``; None notes nothing.
        model: LiteLLM's name of the model.
        clock: The time, with time zone.
    """
    return CountedCalls(budget, screen="scan", model=model, purpose="scan", clock=clock)


async def is_exhausted(calls: CountedCalls) -> bool:
    """Return whether the day's money is spent.

    Raises:
        StoreUnavailable: If the store does not say what was spent; then nothing should be bought.
    """
    refusal = await calls.refusal()
    if refusal is not None and refusal[0] is not Outcome.OVER_BUDGET:
        raise StoreUnavailable("the store does not say what was spent today, so nobody else is asked")
    return refusal is not None
