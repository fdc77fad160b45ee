"""A judge that no longer judges is noticed; one that cannot be reached is not taken for that."""

from __future__ import annotations

import asyncio
import logging
import random
from collections.abc import Callable, Sequence
from typing import Any

import pytest

from clocks import Clock
from fakes import ALICE
from safelight.canary import (
    AGAIN_S,
    Canaries,
    CanaryReport,
    Trusted,
    canary_policy,
)
from safelight.canary_prompts import made_up_prompt
from safelight.errors import ConfigError, StoreUnavailable
from safelight.request import GenerationRequest, History, Turn
from safelight.screens import PromptScreen
from safelight.verdict import Outcome, Stage, Verdict

REQUEST = GenerationRequest("a cup of tea", ALICE)


class TeapotJudge:
    """Finds teapots, or does what it is told at the places that ``odd`` names."""

    name = "judge"

    def __init__(self, odd: Callable[[int, bool], Verdict | None] = lambda place, teapot: None) -> None:
        self.odd = odd
        self.seen: list[str] = []
        self.at_once = self.most_at_once = 0

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        self.at_once += 1
        self.most_at_once = max(self.most_at_once, self.at_once)
        await asyncio.sleep(0)
        self.at_once -= 1
        assert not history
        teapot = "teapot" in request.prompt
        self.seen.append(request.prompt)
        return self.odd(len(self.seen) - 1, teapot) or found(teapot)


def found(teapot: bool) -> Verdict:
    return Verdict("judge", Stage.PROMPT, {"teapots": 0.97 if teapot else 0.02})


def failed(outcome: Outcome) -> Verdict:
    return Verdict("judge", Stage.PROMPT, outcome=outcome, reason="http_503")


def wrong_at(count: int) -> TeapotJudge:
    return TeapotJudge(lambda place, teapot: found(not teapot) if place < count else None)


def silent_at(count: int, outcome: Outcome = Outcome.UNREACHABLE) -> TeapotJudge:
    return TeapotJudge(lambda place, teapot: failed(outcome) if place < count else None)


ALLOWS_ALL = TeapotJudge(lambda place, teapot: found(False))
BLOCKS_ALL = TeapotJudge(lambda place, teapot: found(True))


def canaries(judge: PromptScreen, clock: Clock | None = None, **options: Any) -> Canaries:
    clock = clock or Clock()
    return Canaries(judge, clock=clock, sleep=clock.sleep, rng=random.Random(7), **options)


async def test_a_judge_that_judges_passes() -> None:
    judge = TeapotJudge()
    one = canaries(judge)
    assert (one.problems, one.distrusted) == (("canary_pending",), False)
    report = await one.run_once()
    assert report == CanaryReport(asked=50, passed=50, wrong=0, healthy=True)
    assert (one.problems, one.distrusted) == ((), False)
    assert sum("teapot" in prompt for prompt in judge.seen) == 25
    assert judge.most_at_once <= 4


@pytest.mark.parametrize("judge", [ALLOWS_ALL, BLOCKS_ALL])
async def test_a_judge_that_always_says_the_same_fails(judge: TeapotJudge, caplog: pytest.LogCaptureFixture) -> None:
    one = canaries(judge)
    assert await one.run_once() == CanaryReport(asked=50, passed=25, wrong=25, healthy=False)
    assert (one.problems, one.distrusted) == (("canary_failed",), True)
    assert [record.getMessage().split(":")[0] for record in caplog.records if record.levelno == logging.ERROR] == [
        "canary_failed"
    ]


@pytest.mark.parametrize(("wrong", "healthy"), [(0, True), (2, True), (3, False)])
async def test_two_slips_in_fifty_are_forgiven_and_three_are_not(wrong: int, healthy: bool) -> None:
    report = await canaries(wrong_at(wrong)).run_once()
    assert (report.passed, report.wrong, report.healthy) == (50 - wrong, wrong, healthy)


@pytest.mark.parametrize("outcome", [outcome for outcome in Outcome if outcome not in (Outcome.OK, Outcome.SKIPPED)])
async def test_answers_that_are_no_rulings_are_neither_right_nor_wrong(outcome: Outcome) -> None:
    report = await canaries(silent_at(2, outcome)).run_once()
    assert (report.passed, report.wrong, report.unusable, report.healthy) == (48, 0, 2, True)
    report = await canaries(silent_at(3, outcome)).run_once()
    assert (report.passed, report.wrong, report.unusable, report.healthy) == (47, 0, 3, None)


async def test_wrong_answers_are_enough_however_many_others_are_missing() -> None:
    judge = TeapotJudge(lambda place, teapot: found(not teapot) if place < 3 else failed(Outcome.TIMEOUT))
    assert (await canaries(judge).run_once()).healthy is False


async def test_a_provider_that_is_gone_leaves_the_standing_as_it_was_until_that_is_late() -> None:
    clock = Clock()
    judge = TeapotJudge()
    one = canaries(judge, clock)
    await one.run_once()
    judge.odd = lambda place, teapot: failed(Outcome.UNREACHABLE)
    clock.now += 7_200
    await one.run_once()
    assert (one.problems, one.distrusted) == ((), False)
    clock.now += 1
    assert (one.problems, one.distrusted) == (("canary_late",), False)


async def test_a_failed_judge_stays_so_until_a_round_has_passed() -> None:
    judge = wrong_at(50)
    one = canaries(judge)
    await one.run_once()
    judge.odd = lambda place, teapot: failed(Outcome.UNREACHABLE)
    await one.run_once()
    assert one.distrusted
    judge.odd = lambda place, teapot: None
    await one.run_once()
    assert (one.problems, one.distrusted) == ((), False)


async def test_a_judge_that_cannot_be_asked_is_no_failed_round() -> None:
    class Broken(TeapotJudge):
        async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
            raise StoreUnavailable("out of order")

    assert (await canaries(Broken()).run_once()).unusable == 50


async def test_rounds_follow_each_other_by_the_period_and_sooner_while_something_is_wrong() -> None:
    clock = Clock()
    rounds = 0

    def odd(place: int, teapot: bool) -> Verdict | None:
        nonlocal rounds
        rounds = place // 50
        return [None, found(False), failed(Outcome.TIMEOUT), None][min(rounds, 3)]

    task = asyncio.ensure_future(canaries(TeapotJudge(odd), clock).run_forever())
    while len(clock.slept) < 5:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.slept[:5] == [3600.0, AGAIN_S, AGAIN_S, 3600.0, 3600.0]


async def test_no_two_rounds_ask_the_same() -> None:
    judge = TeapotJudge()
    one = canaries(judge)
    await one.run_once()
    await one.run_once()
    assert len(set(judge.seen)) == 100


@pytest.mark.parametrize("teapot", [True, False])
def test_prompts_show_a_teapot_only_where_they_should(teapot: bool) -> None:
    rng = random.Random(3)
    prompts = {made_up_prompt(rng, teapot=teapot) for _ in range(1_000)}
    assert len(prompts) > 990
    assert all(("teapot" in prompt) is teapot for prompt in prompts)


async def test_a_distrusted_judge_is_not_asked_and_releases_nothing() -> None:
    judge = wrong_at(50)
    one = canaries(judge)
    people = TeapotJudge()
    screen = Trusted(people, one)
    assert (await screen.screen_prompt(REQUEST, History())).outcome is Outcome.OK
    await one.run_once()
    verdict = await screen.screen_prompt(REQUEST, History())
    assert (verdict.outcome, verdict.reason, verdict.screen) == (Outcome.FAILED, "canary_failed", "judge")
    assert len(people.seen) == 1


async def test_a_verdict_that_was_on_its_way_when_the_judge_was_found_out_is_not_used() -> None:
    one = canaries(wrong_at(50))

    class Slow(TeapotJudge):
        async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
            await one.run_once()
            return found(False)

    assert (await Trusted(Slow(), one).screen_prompt(REQUEST, History())).reason == "canary_failed"


async def test_where_it_is_only_to_be_unready_the_judge_is_still_asked() -> None:
    one = canaries(wrong_at(50), on_fail="unready")
    await one.run_once()
    screen = Trusted(TeapotJudge(), one)
    assert (await screen.screen_prompt(REQUEST, History())).outcome is Outcome.OK
    assert screen.problems == ("canary_failed",)


async def test_problems_of_judge_and_canaries_are_shown_together_with_what_else_it_says() -> None:
    class Odd(TeapotJudge):
        problems = ("judge_auth",)
        warnings = ("its end is near",)
        retry_after_s = 12.0

    one = canaries(TeapotJudge())
    screen = Trusted(Odd(), one)
    before = screen.problems
    assert (screen.warnings, screen.retry_after_s) == (("its end is near",), 12.0)
    await one.run_once()
    assert [before, screen.problems] == [("canary_pending", "judge_auth"), ("judge_auth",)]
    assert Trusted(TeapotJudge(), one).problems == ()


def test_the_policy_of_the_canaries_is_harmless_and_reads() -> None:
    assert list(canary_policy().categories) == ["teapots"]


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"count": 1, "needed": 1}, "count"),
        ({"needed": 51}, "needed"),
        ({"needed": 25}, "needed"),
        ({"every_s": 0.0}, "every_s"),
        ({"every_s": float("nan")}, "every_s"),
        ({"on_fail": "ignore"}, "on_fail"),
    ],
)
def test_a_setting_out_of_range_is_refused(options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=f"canary.{key}"):
        Canaries(TeapotJudge(), **options)


@pytest.mark.parametrize("error", [KeyError("scripted"), RuntimeError("scripted"), asyncio.CancelledError()])
async def test_a_judge_that_raises_whatever_gives_no_ruling(error: BaseException) -> None:
    class Broken(TeapotJudge):
        async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
            raise error

    report = await canaries(Broken()).run_once()
    assert (report.unusable, report.healthy) == (50, None)


async def test_a_judge_that_answers_with_something_else_gives_no_ruling() -> None:
    class Odd(TeapotJudge):
        async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
            return None  # type: ignore[return-value]

    assert (await canaries(Odd()).run_once()).unusable == 50


async def test_a_judge_that_hangs_gives_no_ruling() -> None:
    class Stuck(TeapotJudge):
        async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
            await asyncio.Event().wait()
            raise AssertionError

    assert (await canaries(Stuck(), count=2, needed=2, deadline_s=0.02).run_once()).unusable == 2


async def test_rounds_go_on_after_one_that_broke_and_its_standing_grows_late(caplog: pytest.LogCaptureFixture) -> None:
    class Odd(random.Random):
        """Breaks every round but the first and the fourth."""

        rounds = 0

        def shuffle(self, x: Any) -> None:
            self.rounds += 1
            if self.rounds not in (1, 4):
                raise KeyError("secret")
            super().shuffle(x)

    clock = Clock()
    one = Canaries(TeapotJudge(), clock=clock, sleep=clock.sleep, rng=Odd(7))
    task = asyncio.create_task(one.run_forever())
    while len(clock.slept) < 4:
        await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert clock.slept[:4] == [3600.0, AGAIN_S, AGAIN_S, 3600.0]
    broken = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
    assert broken[:2] == ["canary_unknown: a round of judge ended in KeyError"] * 2
