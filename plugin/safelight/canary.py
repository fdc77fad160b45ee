"""Canaries: prompts whose ruling is known, asked now and then, to notice a judge that no longer judges.

A provider may change a model under its name, or answer something for form's sake: each answer looks well, and all of
them are wrong. So the judge is asked by a harmless policy, which forbids teapots: half of the prompts show one and
must be blocked, half do not and must pass. Every round is made up anew, so that no cache and no memory answers it.

What is covered: a judge that allows or blocks whatever comes, answers at random, or no longer reads the rules.
What is not covered: a judge that has grown worse at what the real policy forbids; that needs a labelled set.
"""

from __future__ import annotations

import asyncio
import logging
import random
import secrets
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from importlib import resources

from .asking import ask_screen
from .canary_prompts import made_up_prompt
from .errors import ConfigError
from .policy import Policy, Reason
from .request import GenerationRequest, History, Principal, Turn
from .screens import PromptScreen
from .verdict import Outcome, Stage, Verdict

logger = logging.getLogger("safelight")

CANARY_FAILED = "canary_failed"
"""The problem of a judge that ruled wrongly, and the reason of the verdicts that then stand in for its own."""
CANARY_PENDING = "canary_pending"
"""The problem of a judge that has not yet been found to judge."""
CANARY_LATE = "canary_late"
"""The problem of a judge that was found to judge, but too long ago."""

AGAIN_S = 300.0
"""After a round that failed, or that too few answers came to, the next follows so soon."""

DEADLINE_S = 60.0
"""Seconds after which a judge gave no ruling; judges have shorter deadlines of their own."""

# At a time: enough to be done in seconds, too few to be in the way of people.
_AT_ONCE = 4


class OnFail(StrEnum):
    """What follows from a failed round."""

    BLOCK = "block"
    """Nothing is released on the judge's word until a round has passed, and it is not ready."""
    UNREADY = "unready"
    """It is not ready; what still comes is judged by it."""


@dataclass(frozen=True, slots=True)
class CanaryReport:
    """What came of one round.

    Args:
        asked: How many prompts the judge was asked about.
        passed: How many it ruled on as it should.
        wrong: How many it ruled on otherwise.
        healthy: True if enough passed; False if so many were wrong that no further answer could have mended it;
            None if neither, because too few answers came.
    """

    asked: int
    passed: int
    wrong: int
    healthy: bool | None

    @property
    def unusable(self) -> int:
        """How many it gave no ruling on: a time-out, a refusal, an open circuit, a spent budget."""
        return self.asked - self.passed - self.wrong


def canary_policy() -> Policy:
    """Return the harmless policy that the judge has to be asked by."""
    return Policy.parse((resources.files("safelight") / "policies" / "canary.toml").read_text("utf-8"))


class Canaries:
    """Asks one judge rounds of prompts, and knows whether it is to be trusted.

    A provider that cannot be reached is no failed round: that fault blocks by itself, and says nothing of how it
    would judge. The standing of the last round that said something stays; after two periods without one it is late.

    Args:
        judge: The judge, made with :func:`canary_policy`, the same model, and no cache before it.
        count: Prompts in a round, 2 or more.
        needed: How many of them must be ruled on as they should, 1 to ``count``. More than ``count / 2``, or a judge
            that allows everything would pass.
        every_s: Seconds from one round to the next; see also ``AGAIN_S``.
        on_fail: ``block`` or ``unready``; see :class:`OnFail`.
        deadline_s: Seconds for each prompt; see ``DEADLINE_S``.
        clock: Seconds that never go backwards.
        sleep: Waits so many seconds.
        rng: Makes up the prompts; by default one that nobody can foresee.

    Raises:
        ConfigError: If a setting is out of range.
    """

    def __init__(
        self,
        judge: PromptScreen,
        *,
        count: int = 50,
        needed: int = 48,
        every_s: float = 3600.0,
        on_fail: str = OnFail.BLOCK,
        deadline_s: float = DEADLINE_S,
        clock: Callable[[], float] = time.monotonic,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        rng: random.Random | None = None,
    ) -> None:
        if count < 2:
            raise ConfigError(f"canary.count: must be at least 2, not {count!r}")
        if not count / 2 < needed <= count:
            raise ConfigError(f"canary.needed: must be above half of the {count} asked and at most all, not {needed!r}")
        if not 1 <= every_s < float("inf"):
            raise ConfigError(f"canary.every_s: must be at least 1 second, not {every_s!r}")
        if on_fail not in tuple(OnFail):
            raise ConfigError(f"canary.on_fail: must be one of {', '.join(OnFail)}; not {on_fail!r}")
        self.judge = judge
        self._policy = canary_policy()
        self._count = count
        self._needed = needed
        self._every_s = every_s
        self._on_fail = OnFail(on_fail)
        self._deadline_s = deadline_s
        self._clock = clock
        self._sleep = sleep
        self._rng = rng or secrets.SystemRandom()
        self._healthy: bool | None = None
        self._known_at = 0.0
        self.is_watched = False

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the judge is not to be relied on now: one of the codes above, or nothing."""
        if self._healthy is None:
            return (CANARY_PENDING,)
        if not self._healthy:
            return (CANARY_FAILED,)
        return (CANARY_LATE,) if self._clock() - self._known_at > 2 * self._every_s else ()

    @property
    def distrusted(self) -> bool:
        """Whether nothing may be released on the judge's word: a round failed, and that is to block."""
        return self._healthy is False and self._on_fail is OnFail.BLOCK

    async def run_once(self) -> CanaryReport:
        """Ask one round, and take what it says for the judge's standing."""
        wanted = [place % 2 == 0 for place in range(self._count)]
        self._rng.shuffle(wanted)
        places = asyncio.Semaphore(_AT_ONCE)

        async def ask(blocks: bool) -> bool | None:
            async with places:
                return await self._is_right(made_up_prompt(self._rng, teapot=blocks), blocks)

        answers = await asyncio.gather(*(ask(blocks) for blocks in wanted))
        report = self._report(answers)
        if report.healthy is not None:
            self._healthy, self._known_at = report.healthy, self._clock()
        self._tell(report)
        return report

    async def run_forever(self) -> None:
        """Ask a round now, and then one each period, whatever happens in between. Cancel it to end it."""
        while True:
            healthy: bool | None = None
            try:
                healthy = (await self.run_once()).healthy
            except Exception as error:
                # Nobody waits for this task: if it ended, the last standing would be all that is ever known. The type
                # alone, as in ask_screen.
                logger.error("canary_unknown: a round of %s ended in %s", self.judge.name, type(error).__name__)
            await self._sleep(self._every_s if healthy else min(AGAIN_S, self._every_s))

    async def _is_right(self, prompt: str, blocks: bool) -> bool | None:
        """Return whether the judge rules as it should, or None if it gives no ruling."""
        request = GenerationRequest(prompt, Principal("canary"))

        async def ask() -> Sequence[Verdict]:
            return [await self.judge.screen_prompt(request, History())]

        verdicts = await ask_screen(self.judge.name, Stage.PROMPT, 1, ask, deadline_s=self._deadline_s)
        decision = self._policy.decide(
            verdicts,
            id="",
            request_id="",
            stage=Stage.PROMPT,
            created=datetime.now(UTC),
            expected=[self.judge.name],
        )
        if decision.reason not in (Reason.CLEAR, Reason.CATEGORY):
            return None
        return decision.allows is not blocks

    def _report(self, answers: Sequence[bool | None]) -> CanaryReport:
        passed, wrong = answers.count(True), answers.count(False)
        healthy = None
        if passed >= self._needed:
            healthy = True
        elif wrong > self._count - self._needed:
            healthy = False
        return CanaryReport(self._count, passed, wrong, healthy)

    def _tell(self, report: CanaryReport) -> None:
        # What happened, whatever it means for the standing: an alert hangs on the first word.
        word = {True: "canary_passed", False: CANARY_FAILED, None: "canary_unknown"}[report.healthy]
        level = logging.INFO if report.healthy else logging.WARNING if report.healthy is None else logging.ERROR
        logger.log(
            level,
            "%s: %s ruled rightly on %d of %d canaries, wrongly on %d; needed are %d",
            word,
            self.judge.name,
            report.passed,
            report.asked,
            report.wrong,
            self._needed,
        )


@asynccontextmanager
async def watching(canaries: Sequence[Canaries]) -> AsyncIterator[None]:
    """Run canaries as long as the block lasts, those that nobody runs already."""
    idle = [one for one in canaries if not one.is_watched]
    tasks = [asyncio.create_task(one.run_forever()) for one in idle]
    for one in idle:
        one.is_watched = True
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for one in idle:
            one.is_watched = False


class Trusted:
    """A prompt screen that is asked only while its canaries do not say otherwise.

    Put it around everything else, a cache included: what a judge said before it was found out is not to be used.

    Args:
        screen: The judge that rules on people's requests.
        canaries: Those of the same model.

    Attributes:
        name: The screen's own.
        inner: The screen itself.
        canaries: Its canaries.
    """

    def __init__(self, screen: PromptScreen, canaries: Canaries) -> None:
        self.name = screen.name
        self.inner = screen
        self.canaries = canaries

    @property
    def problems(self) -> tuple[str, ...]:
        """Why the judge is not to be relied on now, by itself or by its canaries."""
        return tuple(sorted({*getattr(self.inner, "problems", ()), *self.canaries.problems}))

    @property
    def warnings(self) -> tuple[str, ...]:
        """What an operator should know about the judge at the start, where it says so."""
        return tuple(getattr(self.inner, "warnings", ()))

    @property
    def retry_after_s(self) -> float:
        """Seconds until the judge may be asked again, where it says so; else 0."""
        return float(getattr(self.inner, "retry_after_s", 0.0))

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        """Ask the judge, or fail with ``canary_failed``."""
        if not self.canaries.distrusted:
            verdict = await self.inner.screen_prompt(request, history)
            # A round may have ended while it was thinking.
            if not self.canaries.distrusted:
                return verdict
        return Verdict(self.name, Stage.PROMPT, outcome=Outcome.FAILED, reason=CANARY_FAILED)
