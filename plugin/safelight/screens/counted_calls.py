"""Calls to one model within a budget: none without money, and none uncounted, whoever stops waiting for it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from ..backends.litellm_chat import ChatAnswer
from ..errors import StoreUnavailable
from ..store.calls import Call
from ..verdict import Outcome

CIRCUIT_OPEN = "circuit_open"
"""A chat's reason where nobody was asked, because the provider is left alone for a while."""

CANCELLED = "cancelled"
"""The reason of a call whose answer nobody waited for."""

BROKEN = "error"
"""The reason of a call that ended in an error of the library's or the chat's own."""


class Budget(Protocol):
    """Where calls are noted, and what says that no more may be made today; both may block."""

    def exhausted(self) -> bool:
        """Return whether the day's money is spent."""
        ...

    def note(self, call: Call) -> None:
        """Durably note a call."""
        ...


@dataclass(frozen=True, slots=True)
class Answered:
    """An answer, and when it was asked for.

    Args:
        answer: The answer.
        at: When the call was made.
        ms: What it took, in milliseconds.
    """

    answer: ChatAnswer
    at: datetime
    ms: float


class CountedCalls:
    """Makes and notes the calls to one model.

    Args:
        budget: Where calls are noted, or None to note none.
        screen: Who asks.
        model: LiteLLM's name of the model.
        purpose: What its calls are noted as.
        clock: The time, with time zone.
    """

    def __init__(
        self, budget: Budget | None, *, screen: str, model: str, purpose: str, clock: Callable[[], datetime]
    ) -> None:
        self._budget = budget
        self._screen = screen
        self._model = model
        self._purpose = purpose
        self._clock = clock

    async def refusal(self) -> tuple[Outcome, str] | None:
        """Return why no call may be made now, or None if one may."""
        if self._budget is None:
            return None
        try:
            spent = await asyncio.to_thread(self._budget.exhausted)
        except StoreUnavailable:
            return Outcome.FAILED, "spending_unknown"
        return (Outcome.OVER_BUDGET, "budget_exhausted") if spent else None

    async def make(self, asking: Awaitable[ChatAnswer]) -> Answered:
        """Make a call, whose answer is then to be given to :meth:`note`.

        Whoever goes away meanwhile, or is too late, ends the waiting but not the provider's work, which costs what it
        costs. So the call is noted before the cancellation goes on, and likewise an error.
        """
        started, at = time.perf_counter(), self._clock()
        try:
            answer = await asking
        except (asyncio.CancelledError, Exception) as error:
            reason = CANCELLED if isinstance(error, asyncio.CancelledError) else BROKEN
            # Not "failed", which is taken to have cost nothing.
            given_up = Answered(ChatAnswer(Outcome.TIMEOUT, reason=reason), at, _since(started))
            # A budget counts what its store does not take; and nothing may stand in the way of a cancellation.
            with suppress(StoreUnavailable):
                await self.note(given_up, Outcome.TIMEOUT, reason)
            raise
        return Answered(answer, at, _since(started))

    async def note(self, answered: Answered, outcome: Outcome, reason: str) -> None:
        """Note a call. Once begun it is noted to the end, also where the waiting for it is cancelled.

        Args:
            answered: The call's answer.
            outcome: What was made of it.
            reason: A short code.

        Raises:
            StoreUnavailable: If it could not be noted.
        """
        if self._budget is None or reason == CIRCUIT_OPEN:
            # With the circuit open nobody was called.
            return
        answer = answered.answer
        call = Call(
            at=answered.at,
            screen=self._screen,
            model=answer.model or self._model,
            outcome=str(outcome),
            reason=reason,
            tokens_in=answer.tokens_in,
            tokens_out=answer.tokens_out,
            cost_usd=answer.cost_usd,
            ms=answered.ms,
            purpose=self._purpose,
        )
        # Handed to its thread at once, and no task: not even the end of the event loop takes it back.
        await asyncio.shield(asyncio.get_running_loop().run_in_executor(None, self._budget.note, call))


def _since(started: float) -> float:
    return round((time.perf_counter() - started) * 1000, 3)
