"""A guard with everything behind it: attempts, cool-downs, holds, courses and the cascade, on a real store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from fakes import ALICE, BOB, POLICY, FakeGenerator, FakeJudge, MarkerScreen, failed, sentinel_screen
from safelight.config import enforcement_of
from safelight.errors import ContentBlocked, CoolDown, ScreeningUnavailable
from safelight.guard import Guard
from safelight.policy import Action, Decision, Policy, Reason
from safelight.request import GenerationRequest, Principal
from safelight.screens.blocked_before import BlockedBefore
from safelight.store.sqlite import SQLiteStore
from safelight.store.strikes import Strikes
from safelight.verdict import Outcome, Stage, Verdict

START = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)


class House:
    """A guard, its store, its judge, and a clock that a test turns."""

    def __init__(self, policy: Policy | None = None, *, judge: FakeJudge | None = None) -> None:
        self.now = START
        self.policy = policy or Policy.parse(POLICY)
        self.store = SQLiteStore(":memory:")
        self.judge = judge or FakeJudge(answer=self.judge_the_prompt_alone)
        self.events: list[Decision | CoolDown] = []
        enforcement = enforcement_of(self.policy, self.store, clock=lambda: self.now)
        self.guard = Guard(
            self.policy,
            self.store,
            prompt_screens=[BlockedBefore(policy=self.policy, memory=enforcement), sentinel_screen(), self.judge],
            image_screens=[MarkerScreen()],
            clock=lambda: self.now,
            enforcement=enforcement,
            observers=[self],
        )

    def observe(self, event: Decision | CoolDown) -> None:
        self.events.append(event)

    @staticmethod
    def judge_the_prompt_alone(request: GenerationRequest) -> Verdict:
        return Verdict("judge", Stage.PROMPT, {"sentinel": float("zorblax" in request.prompt)}, model="fake")

    async def ask(self, prompt: str, principal: Principal = ALICE, generator: FakeGenerator | None = None) -> None:
        await self.guard.create(GenerationRequest(prompt, principal), generator or FakeGenerator())

    async def be_blocked(self, times: int = 1, principal: Principal = ALICE) -> None:
        for number in range(times):
            with pytest.raises(ContentBlocked):
                await self.ask(f"zorblax {number} {'abcdefghij'[number] * 12}", principal)
            self.now += timedelta(seconds=1)


async def test_an_innocent_prompt_after_three_blocks_waits_out_the_cool_down_passes_and_shows_its_course() -> None:
    house = House()
    await house.be_blocked(3)
    with pytest.raises(CoolDown) as error:
        await house.ask("a cup of tea")
    assert error.value.until is not None
    house.now = error.value.until + timedelta(seconds=1)
    await house.ask("a cup of tea")
    request, history = house.judge.seen[-1]
    assert request.prompt == "a cup of tea"
    assert [turn.action for turn in history] == [Action.BLOCK] * 3
    assert all("zorblax" in turn.texts["prompt"] for turn in history)


async def test_in_a_cool_down_nothing_is_stored_judged_or_made() -> None:
    house = House()
    await house.be_blocked(3)
    asked, stored = len(house.judge.seen), house.store.history(ALICE, limit=5).total
    generator = FakeGenerator()
    with pytest.raises(CoolDown):
        await house.ask("a cup of tea", generator=generator)
    assert (len(house.judge.seen), house.store.history(ALICE, limit=5).total) == (asked, stored)
    assert generator.requests == []


async def test_another_name_under_the_same_principal_changes_nothing_and_another_principal_is_untouched() -> None:
    house = House()
    for number in range(3):
        await house.be_blocked(1, replace(ALICE, person=f"user {number}"))
    with pytest.raises(CoolDown):
        await house.ask("a cup of tea", replace(ALICE, person="yet another"))
    await house.ask("a cup of tea", BOB)


async def test_every_block_says_how_many_are_left() -> None:
    house = House()
    left = []
    for number in range(3):
        with pytest.raises(ContentBlocked) as error:
            await house.ask(f"zorblax {'xyz'[number] * 9}")
        left.append(error.value.left)
    assert left == [2, 1, 0]


@pytest.mark.parametrize("outcome", [Outcome.TIMEOUT, Outcome.UNREACHABLE, Outcome.UNPARSABLE, Outcome.OVER_BUDGET])
async def test_a_fault_of_ours_is_no_attempt(outcome: Outcome) -> None:
    house = House(judge=FakeJudge(answer=lambda request: failed(outcome)))
    for number in range(5):
        with pytest.raises(ScreeningUnavailable):
            await house.ask(f"a cup of tea {number}")
    assert Strikes(house.store).of_principal("default", ALICE.id, since=START - timedelta(days=1), limit=9) == ()


async def test_a_refusal_of_the_provider_blocks_and_is_no_attempt() -> None:
    house = House(judge=FakeJudge(answer=lambda request: failed(Outcome.REFUSED)))
    for number in range(5):
        with pytest.raises(ContentBlocked):
            await house.ask(f"a cup of tea {number}")


async def test_the_gravest_finding_holds_at_once_until_a_person_releases() -> None:
    house = House(judge=FakeJudge(answer=lambda request: failed(Outcome.RESTRICTED)))
    with pytest.raises(ContentBlocked):
        await house.ask("a cup of tea")
    house.now += timedelta(days=20)
    with pytest.raises(CoolDown) as error:
        await house.ask("a cup of tea")
    assert error.value.until is None
    Strikes(house.store).release("default", ALICE.id, at=house.now)
    with pytest.raises(ContentBlocked):
        await house.ask("a cup of tea")


async def test_a_won_appeal_gives_the_attempt_back_and_the_judge_sees_it() -> None:
    house = House()
    await house.be_blocked(3)
    blocks = [event for event in house.events if isinstance(event, Decision) and event.action is Action.BLOCK]
    assert house.guard.enforcement is not None
    assert house.store.overturn(blocks[0].id, at=house.now)
    house.guard.enforcement.overturn(blocks[0].id)
    await house.ask("a cup of tea")
    _, history = house.judge.seen[-1]
    assert [turn.overturned for turn in history] == [True, False, False]


async def test_a_prompt_whose_picture_was_blocked_is_refused_to_others_before_anything_is_made() -> None:
    house = House()
    with pytest.raises(ContentBlocked):
        await house.ask("a teapot, on fire", generator=FakeGenerator(spoil=[0]))
    generator = FakeGenerator()
    with pytest.raises(ContentBlocked) as error:
        await house.ask("A  TEAPOT, on fire", BOB, generator)
    assert error.value.decision.stage is Stage.PROMPT
    assert error.value.decision.verdicts[0].reason == "picture_blocked_before"
    assert generator.requests == []
    house.now += timedelta(hours=25)
    await house.ask("a teapot, on fire", BOB)


async def test_rerolling_until_a_picture_passes_uses_the_budget_up() -> None:
    policy = Policy.parse(POLICY.replace("[categories", "[enforcement]\nremember_hours = 0\n[categories", 1))
    house = House(policy)
    with pytest.raises(ContentBlocked):
        await house.ask("a teapot, on fire", generator=FakeGenerator(spoil=[0]))
    await house.ask("a teapot, on fire")
    generator = FakeGenerator()
    with pytest.raises(CoolDown):
        await house.ask("a teapot, on fire", generator=generator)
    assert generator.requests == []


async def test_observers_hear_of_every_decision_and_of_who_was_turned_away() -> None:
    house = House()
    await house.ask("a cup of tea")
    await house.be_blocked(3)
    with pytest.raises(CoolDown):
        await house.ask("a cup of tea")
    kinds = [event.stage if isinstance(event, Decision) else "turned away" for event in house.events]
    assert kinds == [Stage.PROMPT, Stage.IMAGE, Stage.PROMPT, Stage.PROMPT, Stage.PROMPT, "turned away"]


CASCADE = POLICY.replace("[categories", '[cascade]\nskip = ["judge"]\n[categories', 1)


async def test_a_sure_local_screen_spares_the_judge_where_the_policy_says_so() -> None:
    house = House(Policy.parse(CASCADE))
    await house.ask("a cup of tea")
    assert house.judge.seen == []
    decision = house.events[0]
    assert isinstance(decision, Decision)
    assert [(v.screen, v.outcome) for v in decision.verdicts][-1] == ("judge", Outcome.SKIPPED)
    assert "judge" not in decision.screens


async def test_without_the_policys_word_the_judge_is_always_asked() -> None:
    house = House()
    await house.ask("a cup of tea")
    assert len(house.judge.seen) == 1


async def test_the_judge_is_not_spared_for_a_person_with_a_risky_course() -> None:
    house = House(Policy.parse(CASCADE))
    await house.be_blocked(1)
    await house.ask("a cup of tea")
    assert [request.prompt for request, _ in house.judge.seen] == ["a cup of tea"]


@pytest.mark.parametrize("prompt", ["a cup of t\u200be\u200ba", "a cup of dGVhcG90IG9uIGEgdGFibGU="])
async def test_the_judge_is_not_spared_where_a_text_hides_something(prompt: str) -> None:
    house = House(Policy.parse(CASCADE))
    await house.ask(prompt)
    assert len(house.judge.seen) == 1


async def test_a_course_is_flagged_and_the_request_passes() -> None:
    verdict = Verdict("judge", Stage.PROMPT, {"sentinel": 0.0}, course={"sentinel": 0.9})
    house = House(judge=FakeJudge(answer=lambda request: verdict))
    await house.ask("a cup of tea")
    decision = house.events[0]
    assert isinstance(decision, Decision)
    assert (decision.action, decision.reason, decision.course) == (Action.FLAG, Reason.COURSE, ("sentinel",))
    assert house.store.decisions(request_id=decision.request_id)[0].course == ("sentinel",)


async def test_saying_more_as_the_advice_asks_is_no_attempt() -> None:
    def answer(request: GenerationRequest) -> Verdict:
        return Verdict("judge", Stage.PROMPT, {"sentinel": 0.0 if "museum" in request.prompt else 1.0}, model="fake")

    house = House(judge=FakeJudge(answer=answer))
    house.guard.prompt_screens = (house.guard.prompt_screens[0], house.judge)
    scene = "a teapot of the old regime on a table with its emblem in gold"
    with pytest.raises(ContentBlocked):
        await house.ask(scene)
    for more in ("shown in a museum", "in a museum case", "museum photograph", "for a museum guide"):
        await house.ask(f"{scene}, {more}")


async def test_a_first_refusal_of_the_provider_warns_of_nothing() -> None:
    house = House(judge=FakeJudge(answer=lambda request: failed(Outcome.REFUSED)))
    with pytest.raises(ContentBlocked) as error:
        await house.ask("a cup of tea")
    assert error.value.left is None
