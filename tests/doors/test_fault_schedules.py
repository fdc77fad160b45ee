"""A thousand random schedules of faults through a guard: nothing leaves on whose path a fault or a finding lies."""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections import Counter
from dataclasses import dataclass

import pytest

from fakes import sentinel_policy
from fault_schedules import (
    MODEL,
    PATH,
    Chance,
    Path,
    ScriptedChat,
    ScriptedGenerator,
    ScriptedImageScreen,
    ScriptedScreen,
    ShakyStore,
)
from safelight.creation import Creation
from safelight.enforcement import Enforcement
from safelight.errors import SafelightError
from safelight.guard import Guard, GuardSettings
from safelight.request import GenerationRequest, Principal
from safelight.screens import PromptScreen
from safelight.screens.llm_judge import LLMJudge
from safelight.store.blocked_prompts import BlockedPrompts
from safelight.store.strikes import Strikes

SCHEDULES = 1_000
PARTS = 10

POLICY = sentinel_policy()


@dataclass
class Schedule:
    """A guard over parts that fail as one seed says."""

    seed: int

    def __post_init__(self) -> None:
        self.rng = random.Random(self.seed)
        # Some schedules are nearly well, so that much is released; in others nearly everything fails.
        chance = Chance(self.rng.choice([0.0, 0.01, 0.03, 0.1, 0.4]))
        self.second = self.rng.choice(["", "failed", "unsure", "always"])
        self.store = ShakyStore(chance)
        judge = LLMJudge(
            policy=POLICY,
            model=MODEL,
            chat=ScriptedChat("first", chance),
            second_model=MODEL if self.second else None,
            second_chat=ScriptedChat("second", chance) if self.second else None,
            second_when=self.second or "failed",
        )
        local: list[PromptScreen] = [
            ScriptedScreen(f"local{number}", chance) for number in range(self.rng.randrange(3))
        ]
        self.locals = [screen.name for screen in local]
        image = [ScriptedImageScreen(f"image{number}", chance) for number in range(self.rng.randint(1, 2))]
        self.images = [screen.name for screen in image]
        self.generator = ScriptedGenerator(chance)
        self.guard = Guard(
            POLICY,
            self.store,
            prompt_screens=[*local, judge],
            image_screens=image,
            settings=GuardSettings(screen_deadline_s=2.0),
            enforcement=self.rng.choice([None, self._enforcement()]),
        )

    def _enforcement(self) -> Enforcement:
        return Enforcement(POLICY.enforcement, Strikes(self.store), BlockedPrompts(self.store), secret=b"s" * 32)

    async def run(self) -> list[tuple[Path, Creation | None]]:
        """Make a few requests of one person, one after the other or at once."""
        count = self.rng.randint(1, 4)
        if self.rng.random() < 0.5:
            return [await self.request(number) for number in range(count)]
        return list(await asyncio.gather(*(self.request(number) for number in range(count))))

    async def request(self, number: int) -> tuple[Path, Creation | None]:
        path = Path(random.Random(f"{self.seed}/{number}"))
        request = GenerationRequest(f"a cup, number {number}", Principal("key_alice"), n=path.rng.randint(1, 3))
        leaves = path.rng.random() < 0.05

        async def create() -> Creation:
            PATH.set(path)
            return await self.guard.create(request, self.generator)

        task = asyncio.ensure_future(create())
        if leaves:
            path.note("client", "leaves", False)
            for _ in range(path.rng.randrange(40)):
                await asyncio.sleep(0)
            task.cancel()
        try:
            return path, await task
        except SafelightError:
            return path, None
        except asyncio.CancelledError:
            assert leaves
            return path, None

    def may_leave(self, path: Path, place: int) -> bool:
        """Say from what the parts did, and from nothing that the guard says, whether a picture may have left."""
        asked = [*self.locals, *self.images, "generator", "store"]
        return all(path.clean(part) for part in asked) and self._judged_clean(path) and path.shows(place)

    def _judged_clean(self, path: Path) -> bool:
        if not self.second or not any(name == "second" for name, _, _ in path.answers):
            return self.second != "always" and path.clean("first")
        # A second judge stands in for one that failed, never for one that found something.
        first = [what for name, what, _ in path.answers if name == "first"]
        return path.clean("second") and not {*first} & {"block", "steered", "block without a score"}


@pytest.mark.parametrize("part", range(PARTS))
async def test_nothing_leaves_on_whose_path_a_fault_or_a_finding_lies(part: int) -> None:
    tally: Counter[str] = Counter()
    for seed in range(part, SCHEDULES, PARTS):
        schedule = Schedule(seed)
        for path, creation in await schedule.run():
            tally["requests"] += 1
            if creation is None:
                # Nothing may be withheld either where nothing was amiss.
                assert path.dirty or not any(path.shows(place) for place in path.pictures), (seed, path)
                continue
            for place, picture in enumerate(creation.pictures):
                if picture.encoded is not None:
                    tally["released"] += 1
                    assert schedule.may_leave(path, place), (seed, place, path)
                    assert_proven(schedule, creation, picture.encoded.data)
                else:
                    assert not path.shows(place), (seed, place, path)
        schedule.store.close()
    # A guard that releases nothing would pass everything above.
    assert tally["released"] > 50


def assert_proven(schedule: Schedule, creation: Creation, data: bytes) -> None:
    """Both allows are in the store, for these very bytes, under one request and one policy."""
    kept = schedule.store.decisions(request_id=creation.admission.decision.request_id)
    assert [decision.index for decision in kept if decision.allows and decision.image_sha256 is None] == [None]
    digest = hashlib.sha256(data).hexdigest()
    assert any(decision.allows and decision.image_sha256 == digest for decision in kept)
    assert {decision.policy for decision in kept} == {POLICY.hash}
