"""Asks about people, several at a time, and writes what comes back.

Nobody is asked about twice by accident: that a question is on its way is on disk before it is sent, and the answer is
on disk before the worker takes the next. After a kill at most the calls in flight are unknown; a resumed scan lists
those people and asks again only if told to. A person counts as clear only by an answer that says so.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator, Sequence
from datetime import datetime
from functools import partial

from ..backends.litellm_chat import Chat, ChatAnswer
from ..backends.problems import JUDGE_AUTH, JUDGE_RETIRED, problem_of
from ..course import NOTABLE
from ..screens.counted_calls import CountedCalls
from ..store.scans import ASKED, Finding
from ..verdict import Outcome
from .answers import added, flaw, read, shares, with_share
from .books import is_exhausted
from .budget import Budget, Stop
from .codes import Found
from .crowd import SETTLED, Crowd, Member, Page
from .ledger import Ledger
from .pace import Pace
from .questions import Design, Packed, PackedQuestion, Question

_MAY_PASS = (Outcome.UNREACHABLE, Outcome.TIMEOUT)
_HOPELESS_IN_A_ROW = 10


class Runner:
    """Runs one scan.

    Args:
        chat: Asks the model.
        crowd: Whom to ask about.
        ledger: Where findings are written.
        alone: The question about one person.
        packed: The question about many, where people share calls; ``alone`` then confirms what it finds.
        served: The names of models whose answers count.
        concurrency: Calls on their way at a time.
        pace: How fast.
        budget: What this scan may spend.
        calls: Notes each call, and knows whether the day's money is spent.
        tries: Calls about one person until an overloaded provider counts as failed.
        recheck: The share of people found clear among many who are asked about alone as well.
        clock: The time now.
        progress: Called with how many more people are done.
    """

    def __init__(
        self,
        *,
        chat: Chat,
        crowd: Crowd,
        ledger: Ledger,
        alone: Design,
        packed: Packed | None = None,
        served: frozenset[str],
        concurrency: int = 8,
        pace: Pace,
        budget: Budget,
        calls: CountedCalls,
        tries: int = 5,
        recheck: float = 0.02,
        clock: Callable[[], datetime],
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._chat = chat
        self._crowd = crowd
        self._ledger = ledger
        self._alone = alone
        self._packed = packed
        self._served = served
        self._concurrency = concurrency
        self._pace = pace
        self._budget = budget
        self._calls = calls
        self._tries = tries
        self._recheck = recheck
        self._clock = clock
        self._progress = progress
        self._stop = asyncio.Event()
        self._hopeless = 0
        self.why = Stop.DONE
        self.trouble = ""

    def stop(self, why: Stop = Stop.INTERRUPTED) -> None:
        """Send no more questions; those on their way are waited for."""
        if not self._stop.is_set():
            self.why = why
            self._stop.set()

    async def run(self) -> Stop:
        """Go through everybody, and return why it ended.

        Raises:
            StoreUnavailable: If something cannot be read or written.
        """
        queue: asyncio.Queue[Sequence[Member] | None] = asyncio.Queue(self._concurrency)
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._feed(queue))
                for _ in range(self._concurrency):
                    group.create_task(self._work(queue))
        except ExceptionGroup as errors:
            # One is as good as many of the same kind, and callers know single ones.
            raise errors.exceptions[0] from None
        return self.why

    async def _feed(self, queue: asyncio.Queue[Sequence[Member] | None]) -> None:
        pages = self._crowd.pages()
        while not self._stop.is_set() and (page := await asyncio.to_thread(_next, pages)) is not None:
            await self._ledger.write(*page.local)
            self._progress(page.done + len(page.local))
            for pack in page.packs:
                await queue.put(pack)
        for _ in range(self._concurrency):
            await queue.put(None)

    async def _work(self, queue: asyncio.Queue[Sequence[Member] | None]) -> None:
        while (pack := await queue.get()) is not None:
            # What was queued before a stop is let go: nothing about it is written yet.
            if self._stop.is_set():
                continue
            if await (self._ask_alone(pack[0]) if self._packed is None else self._ask_packed(self._packed, pack)):
                self._progress(len(pack))

    async def _take(self, question: Question) -> float | None:
        """Return what is set aside for a call, or None if none may be made."""
        if self._stop.is_set() or not await self._pace.turn(self._stop):
            return None
        if await is_exhausted(self._calls):
            self.stop(Stop.SPENDING)
            return None
        taken = await self._budget.take(len(question.system) + len(question.user), question.max_tokens)
        if taken is not None and self._stop.is_set():
            await self._budget.came(taken, None, is_free=True)
            return None
        if taken is None and not self._stop.is_set():
            self.trouble = self._budget.trouble
            self.stop(Stop.BUDGET)
        return taken

    async def _ask_alone(self, member: Member) -> bool:
        question = self._alone.question(member.history, now=self._clock())
        taken = await self._take(question)
        if taken is None:
            return False
        await self._ledger.write(member.finding(ASKED, at=self._clock()))
        await self._ledger.write(self._finding(member, question, await self._ask(question, taken)))
        return True

    async def _ask_packed(self, packed: Packed, pack: Sequence[Member]) -> bool:
        asked = packed.question([member.history for member in pack], now=self._clock())
        taken = await self._take(asked.question)
        if taken is None:
            return False
        await self._ledger.write(*(member.finding(ASKED, at=self._clock()) for member in pack))
        answer = await self._ask(asked.question, taken)
        await self._settle(asked, pack, answer)
        return True

    async def _settle(self, asked: PackedQuestion, pack: Sequence[Member], answer: ChatAnswer) -> None:
        parts = shares(answer, len(pack))
        if answer.outcome is Outcome.RESTRICTED or answer.outcome in _MAY_PASS:
            # Who it was is not known. Sending the gravest again, to find out, is not done: a person looks at all.
            reason = f"{answer.reason}_in_pack" if answer.outcome is Outcome.RESTRICTED else answer.reason
            self._watch(answer.outcome, reason)
            failed = (member.finding(answer.outcome, at=self._clock(), reason=reason) for member in pack)
            await self._ledger.write(*map(with_share, failed, parts))
            return
        usable = answer.outcome is Outcome.OK and answer.model in self._served
        found: Sequence[Found | None] = asked.read(answer.text) if usable else [None] * len(pack)
        settled, again = [], []
        for member, one, share in zip(pack, found, parts, strict=True):
            is_clear = one is not None and not one.scores and member.risk < NOTABLE
            if is_clear and random.random() >= self._recheck:  # noqa: S311 - a sample, no secret
                settled.append(with_share(member.finding(Outcome.OK, at=self._clock(), reason="clear"), share))
            else:
                settled.append(with_share(member.finding(ASKED, at=self._clock()), share))
                again.append(member)
        await self._ledger.write(*settled)
        for member in again:
            await self._confirm(member)

    async def _confirm(self, member: Member) -> None:
        question = self._alone.question(member.history, now=self._clock())
        taken = await self._take(question)
        if taken is not None:
            await self._ledger.write(self._finding(member, question, await self._ask(question, taken)))
        else:
            # Not clear, and not confirmed: it must not be taken for either.
            await self._ledger.write(member.finding(Outcome.FAILED, at=self._clock(), reason="not_confirmed"))

    async def _ask(self, question: Question, taken: float) -> ChatAnswer:
        spent = ChatAnswer(Outcome.FAILED)
        for attempt in range(1, self._tries + 1):
            answer = await self._call(question, taken)
            self._pace.spent(answer.tokens_in + answer.tokens_out)
            spent = added(spent, answer)
            if answer.outcome not in _MAY_PASS:
                self._pace.answered()
                break
            self._pace.overloaded(answer.retry_after_s)
            if attempt == self._tries or (again := await self._take(question)) is None:
                break
            taken = again
        return spent

    async def _call(self, question: Question, taken: float) -> ChatAnswer:
        asking = self._chat.ask(
            question.messages,
            schema=question.schema,
            max_tokens=question.max_tokens,
            top_logprobs=question.top_logprobs,
            flaw=None if question.top_logprobs else partial(flaw, question),
        )
        answered = await self._calls.make(asking)
        answer = answered.answer
        await self._calls.note(answered, answer.outcome, answer.reason)
        is_free = answer.outcome in (Outcome.UNREACHABLE, Outcome.FAILED)
        await self._budget.came(taken, answer.cost_usd, is_free=is_free)
        return answer

    def _watch(self, outcome: Outcome, reason: str) -> None:
        """Stop where every further question would only fail as well."""
        if outcome in SETTLED:
            self._hopeless = 0
            return
        self._hopeless += 1
        at_once = problem_of(reason) in (JUDGE_AUTH, JUDGE_RETIRED)
        if at_once or self._hopeless >= _HOPELESS_IN_A_ROW:
            self.trouble = self.trouble or reason
            self.stop(Stop.PROVIDER)

    def _finding(self, member: Member, question: Question, answer: ChatAnswer) -> Finding:
        outcome, found = read(question, answer, served=self._served)
        self._watch(outcome, found.reason)
        return Finding(
            *member.key,
            at=self._clock(),
            outcome=outcome,
            scores=found.scores,
            reason=found.reason,
            model=answer.model,
            tokens_in=answer.tokens_in,
            tokens_out=answer.tokens_out,
            cost_usd=answer.cost_usd,
            prompts=member.history.total,
        )


def _next(pages: Iterator[Page]) -> Page | None:
    return next(pages, None)
