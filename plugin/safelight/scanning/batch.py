"""A scan through a provider's batch interface. A batch is never sent twice, whenever the scan is killed.

What is on disk, in this order: a new batch's key; who is in it; then it is sent, with the key written on it; then the
provider's id of it. Where the id is missing after a kill, the provider is asked which of its batches carries the key.
"""

from __future__ import annotations

import asyncio
import contextlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Any

from ..backends.litellm_chat import ChatAnswer
from ..errors import ConfigError, ScreeningUnavailable, StoreUnavailable
from ..request import History
from ..screens.counted_calls import Answered, CountedCalls
from ..store.scans import ASKED, Finding, Scan, Scans
from ..verdict import Outcome
from .answers import read
from .books import is_exhausted
from .budget import Stop
from .crowd import Crowd, Member
from .provider_batches import ProviderBatches, batch_provider
from .questions import Design

_MAX_SIZE = 50_000


def check_batch(model: str, *, size: int, poll_s: float) -> None:
    """Raise ConfigError if batches of a model, or of this size, cannot be had."""
    batch_provider(model)
    if not 1 <= size <= _MAX_SIZE:
        raise ConfigError(f"--batch-size: must be from 1 to {_MAX_SIZE}, not {size}")
    if not 0 < poll_s < float("inf"):
        raise ConfigError(f"--poll: must be above 0 seconds, not {poll_s!r}")


class BatchScan:
    """Runs one scan by batches.

    Args:
        scans: Where the scan is kept.
        scan: The scan.
        crowd: Whom to ask about.
        design: The question about one person; it must be readable without knowing the case (``OneToken``).
        batches: The provider's batches.
        served: The names of models whose answers count.
        calls: Notes each answer when it is fetched, and knows whether the day's money is spent.
        size: People a batch.
        poll_s: Seconds between looks.
        clock: The time now.
        progress: Called with how many more people are done.
    """

    def __init__(
        self,
        *,
        scans: Scans,
        scan: Scan,
        crowd: Crowd,
        design: Design,
        batches: ProviderBatches,
        served: frozenset[str],
        calls: CountedCalls,
        size: int = 10_000,
        poll_s: float = 60.0,
        clock: Callable[[], datetime],
        progress: Callable[[int], None] = lambda count: None,
    ) -> None:
        self._scans = scans
        self._scan = scan
        self._crowd = crowd
        self._design = design
        self._batches = batches
        self._served = served
        self._calls = calls
        self._size = size
        self._poll_s = poll_s
        self._clock = clock
        self._progress = progress
        self._stop = asyncio.Event()
        self._noted: list[dict[str, str]] = [dict(one) for one in scan.settings.get("batches", ())]
        self._sent: set[str] = set()
        # Any question of the design reads any answer of the same scan: the codes are dealt by the scan's id.
        self._reader = design.question(History(), now=clock())
        self.trouble = ""

    def stop(self, why: Stop = Stop.INTERRUPTED) -> None:
        """Send no more and wait no longer. Batches that were sent go on at the provider."""
        self._stop.set()

    async def run(self) -> Stop:
        """Send everybody's questions and read the answers; return why it ended."""
        why = Stop.DONE
        try:
            if self._noted and not all(one["id"] for one in self._noted) and await is_exhausted(self._calls):
                return Stop.SPENDING
            await self._find_lost()
            for members in self._chunks():
                if await is_exhausted(self._calls):
                    # What was sent is paid for, and worth waiting for.
                    why = Stop.SPENDING
                    break
                await self._send(members)
                if self._stop.is_set():
                    return Stop.INTERRUPTED
            while self._noted:
                await self._look()
                if self._noted:
                    with contextlib.suppress(TimeoutError):
                        await asyncio.wait_for(self._stop.wait(), self._poll_s)
                if self._stop.is_set():
                    return Stop.INTERRUPTED
        except StoreUnavailable:
            raise
        except ScreeningUnavailable as error:
            self.trouble = str(error)
            return Stop.PROVIDER
        return why

    def _chunks(self) -> Iterator[Sequence[Member]]:
        waiting: list[Member] = []
        for page in self._crowd.pages():
            self._scans.write(self._scan.id, page.local)
            self._progress(page.done + len(page.local))
            waiting += [member for pack in page.packs for member in pack]
            while len(waiting) >= self._size:
                yield waiting[: self._size]
                waiting = waiting[self._size :]
        if waiting:
            yield waiting

    async def _find_lost(self) -> None:
        for one in [one for one in self._noted if not one["id"]]:
            found = await self._batches.find(one["key"])
            if found is not None:
                self._note(one["key"], found)
                continue
            # It was never made, so nobody in it was asked about.
            members = [self._crowd.member(finding.key) for finding in self._members(one["key"]).values()]
            if members:
                await self._submit(one["key"], members)
            else:
                self._forget(one["key"])

    async def _send(self, members: Sequence[Member]) -> None:
        key = secrets.token_hex(8)
        self._note(key, "")
        self._sent.add(key)
        await self._submit(key, members)

    async def _submit(self, key: str, members: Sequence[Member]) -> None:
        named = {str(place): member for place, member in enumerate(members)}
        now = self._clock()
        asked = [member.finding(ASKED, at=now, reason=f"batch:{key}:{id}") for id, member in named.items()]
        self._scans.write(self._scan.id, asked)
        questions = {id: self._design.question(member.history, now=now) for id, member in named.items()}
        self._note(key, await self._batches.submit(questions, key=key))

    async def _look(self) -> None:
        for one in list(self._noted):
            state = await self._batches.state(one["id"])
            if not state.over:
                continue
            answers = await self._batches.answers(state)
            await self._book(answers.values())
            members = self._members(one["key"])
            findings = [self._finding(finding, answers.get(id), state.status) for id, finding in members.items()]
            self._scans.write(self._scan.id, findings)
            self._forget(one["key"])
            # Those of an earlier run were counted as done when their pages were read.
            self._progress(len(findings) if one["key"] in self._sent else 0)

    async def _book(self, answers: Iterable[ChatAnswer]) -> None:
        # Killed before the findings are written, it notes them once more: the books err on the dear side.
        for answer in answers:
            answered = Answered(answer, self._clock(), 0.0)
            await self._calls.note(answered, answer.outcome, answer.reason)

    def _finding(self, asked: Finding, answer: ChatAnswer | None, status: str) -> Finding:
        if answer is None:
            return replace(asked, at=self._clock(), outcome=Outcome.FAILED, reason=f"batch_{status}")
        outcome, found = read(self._reader, answer, served=self._served)
        return replace(
            asked,
            at=self._clock(),
            outcome=outcome,
            scores=found.scores,
            reason=found.reason,
            model=answer.model,
            tokens_in=answer.tokens_in,
            tokens_out=answer.tokens_out,
            cost_usd=answer.cost_usd,
        )

    def _members(self, key: str) -> Mapping[str, Finding]:
        prefix = f"batch:{key}:"
        asked = self._scans.findings(self._scan.id, (ASKED,))
        return {one.reason.removeprefix(prefix): one for one in asked if one.reason.startswith(prefix)}

    def _note(self, key: str, id: str) -> None:
        self._noted = [one for one in self._noted if one["key"] != key] + [{"key": key, "id": id}]
        self._keep()

    def _forget(self, key: str) -> None:
        self._noted = [one for one in self._noted if one["key"] != key]
        self._keep()

    def _keep(self) -> None:
        settings: dict[str, Any] = {**self._scan.settings, "batches": self._noted}
        self._scans.keep(self._scan.id, settings)
