"""A model that is asked by a judge: what is counted, and what follows where counting fails."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from safelight.asking import ask_screen
from safelight.backends.litellm_chat import ChatAnswer
from safelight.errors import StoreUnavailable
from safelight.policy import Decision, Reason
from safelight.request import GenerationRequest, Principal
from safelight.screens.llm_judge import LLMJudge
from safelight.spending import UNKNOWN_USD, Spending
from safelight.store.calls import Call, Calls
from safelight.store.sqlite import SQLiteStore
from safelight.verdict import Outcome, Stage, Verdict
from teapot_policy import teapot_policy

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
POLICY = teapot_policy()
REQUEST = GenerationRequest("a quiet lake", Principal("key-1"))


class FakeChat:
    """Answers as told for 0.002 dollars, and counts how often."""

    def __init__(self, respond: Callable[[str], ChatAnswer], *, is_priced: bool = True) -> None:
        self.asked = 0
        self.is_priced = is_priced
        self._respond = respond

    async def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        schema: Mapping[str, Any] | None = None,
        max_tokens: int,
        top_logprobs: int = 0,
        extra_body: Mapping[str, Any] | None = None,
        flaw: Callable[[str], str] | None = None,
    ) -> ChatAnswer:
        self.asked += 1
        return self._respond(json.loads(messages[-1]["content"])["nonce"])


def scores(score: float = 0.0, model: str = "one") -> Callable[[str], ChatAnswer]:
    """An answer that scores teapots so high."""

    def respond(nonce: str) -> ChatAnswer:
        found = dict.fromkeys(POLICY.categories, 0.0) | {"teapots": score}
        verdict = "block" if score >= 0.5 else "allow"
        prompt = {"verdict": verdict, "scores": found, "reason": "plain" if score else "clear"}
        said = {"nonce": nonce, "prompt": prompt, "course": {"scores": found, "reason": "clear"}}
        return ChatAnswer(Outcome.OK, text=json.dumps(said), model=model, tokens_in=400, tokens_out=60, cost_usd=0.002)

    return respond


def ends(outcome: Outcome, reason: str = "") -> Callable[[str], ChatAnswer]:
    return lambda nonce: ChatAnswer(outcome, reason=reason)


class FakeBudget:
    """Notes calls until it is told to fail, and is exhausted after so many."""

    def __init__(self, *, most: int = 99, failing: str = "") -> None:
        self.calls: list[Call] = []
        self.threads: set[int] = set()
        self._most = most
        self._failing = failing

    def exhausted(self) -> bool:
        self.threads.add(threading.get_ident())
        if self._failing == "exhausted":
            raise StoreUnavailable("scripted")
        return len(self.calls) >= self._most

    def note(self, call: Call) -> None:
        self.threads.add(threading.get_ident())
        if self._failing == "note":
            raise StoreUnavailable("scripted")
        self.calls.append(call)


def judge(first: FakeChat, budget: Any, second: FakeChat | None = None, **options: Any) -> LLMJudge:
    if second is not None:
        options |= {"second_model": "fake/two", "second_chat": second}
    return LLMJudge(policy=POLICY, model="fake/one", chat=first, spending=budget, clock=lambda: NOW, **options)


async def ask(first: FakeChat, budget: Any, second: FakeChat | None = None, **options: Any) -> Verdict:
    return await judge(first, budget, second, **options).screen_prompt(REQUEST, ())


def rule(found: Verdict) -> Decision:
    return POLICY.decide(
        [found], id="dec_0", request_id="req_0", stage=Stage.PROMPT, created=NOW, expected=["llm_judge"]
    )


async def test_a_call_is_noted_with_what_it_took() -> None:
    budget = FakeBudget()
    found = await ask(FakeChat(scores()), budget)
    (call,) = budget.calls
    assert (call.at, call.screen, call.model, call.purpose) == (NOW, "llm_judge", "one", "judge")
    assert (call.outcome, call.reason) == ("ok", "clear")
    assert (call.tokens_in, call.tokens_out, call.cost_usd, call.ms) == (400, 60, 0.002, found.ms)
    assert found.ms > 0


async def test_a_failed_call_is_noted_under_the_model_that_was_asked() -> None:
    budget = FakeBudget()
    await ask(FakeChat(ends(Outcome.TIMEOUT, "deadline")), budget)
    assert [(call.model, call.outcome, call.reason) for call in budget.calls] == [("fake/one", "timeout", "deadline")]


async def test_both_judges_calls_are_noted_apart() -> None:
    budget = FakeBudget()
    await ask(FakeChat(scores()), budget, FakeChat(scores(model="two")), second_when="always")
    assert [(call.purpose, call.model) for call in budget.calls] == [("judge", "one"), ("second", "two")]


async def test_where_the_circuit_is_open_nobody_was_called_and_nothing_is_noted() -> None:
    budget = FakeBudget()
    found = await ask(FakeChat(ends(Outcome.UNREACHABLE, "circuit_open")), budget)
    assert (found.outcome, budget.calls) == (Outcome.UNREACHABLE, [])


async def test_the_budget_is_asked_in_threads_of_their_own() -> None:
    budget = FakeBudget()
    await ask(FakeChat(scores()), budget)
    assert threading.get_ident() not in budget.threads


async def test_without_money_nothing_is_asked_and_nothing_released() -> None:
    first, second = FakeChat(scores()), FakeChat(scores(model="two"))
    for when in ("failed", "always"):
        found = await ask(first, FakeBudget(most=0), second, second_when=when)
        assert (found.outcome, found.reason) == (Outcome.OVER_BUDGET, "budget_exhausted")
        assert rule(found).reason is Reason.SCREENING_UNAVAILABLE
    assert (first.asked, second.asked) == (0, 0)


async def test_a_second_judge_that_is_wanted_but_not_affordable_is_a_fault() -> None:
    second = FakeChat(scores(model="two"))
    found = await ask(FakeChat(scores(0.4)), FakeBudget(most=1), second, second_when="unsure")
    assert (found.outcome, second.asked) == (Outcome.OVER_BUDGET, 0)
    assert not rule(found).allows


async def test_a_budget_that_cannot_be_read_stops_the_asking() -> None:
    chat = FakeChat(scores())
    found = await ask(chat, FakeBudget(failing="exhausted"))
    assert (found.outcome, found.reason, chat.asked) == (Outcome.FAILED, "spending_unknown", 0)


async def test_an_allow_that_could_not_be_counted_is_none() -> None:
    second = FakeChat(scores(model="two"))
    found = await ask(FakeChat(scores()), FakeBudget(failing="note"), second, second_when="always")
    assert (found.outcome, found.reason, second.asked) == (Outcome.FAILED, "calls_not_noted", 0)
    assert rule(found).reason is Reason.SCREENING_UNAVAILABLE


async def test_a_fault_that_could_not_be_counted_is_not_made_up_for() -> None:
    second = FakeChat(scores(model="two"))
    found = await ask(FakeChat(ends(Outcome.TIMEOUT)), FakeBudget(failing="note"), second)
    assert (found.reason, second.asked) == ("calls_not_noted", 0)


async def test_a_block_that_could_not_be_counted_still_blocks() -> None:
    found = await ask(FakeChat(scores(0.9)), FakeBudget(failing="note"))
    assert found.reason == "calls_not_noted"
    assert (rule(found).reason, rule(found).categories) == (Reason.CATEGORY, ("teapots",))


async def test_what_the_provider_refused_stays_refused_where_it_could_not_be_counted() -> None:
    for outcome, reason in (
        (Outcome.RESTRICTED, Reason.RESTRICTED),
        (Outcome.REFUSED, Reason.PROVIDER_REFUSED),
    ):
        assert rule(await ask(FakeChat(ends(outcome)), FakeBudget(failing="note"))).reason is reason


async def test_a_days_money_in_a_real_store_runs_out(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "safelight.db")
    calls = Calls(store)
    chat = FakeChat(scores())
    screen = judge(chat, Spending(calls, usd_per_day=0.005, clock=lambda: NOW))
    outcomes = [(await screen.screen_prompt(REQUEST, ())).outcome for _ in range(5)]
    assert outcomes == [Outcome.OK] * 3 + [Outcome.OVER_BUDGET] * 2
    (total,) = calls.totals(since=NOW.replace(hour=0))
    assert (total.calls, total.tokens_in, total.tokens_out) == (3, 1_200, 180)
    store.close()


def test_models_that_nobody_knows_the_price_of_are_named() -> None:
    screen = judge(FakeChat(scores()), None, FakeChat(scores(), is_priced=False))
    assert screen.unpriced == ("fake/two",)


# Whoever goes away: the provider works on, and charges for it.


class StuckChat(FakeChat):
    """Is asked, and never answers."""

    def __init__(self) -> None:
        super().__init__(ends(Outcome.OK))
        self.reached = asyncio.Event()

    async def ask(self, messages: Sequence[Mapping[str, Any]], **options: Any) -> ChatAnswer:
        self.reached.set()
        await asyncio.Event().wait()
        raise AssertionError("it is never answered")


class SlowBudget(FakeBudget):
    """Notes a call only when it is let."""

    def __init__(self) -> None:
        super().__init__()
        self.begun, self.go, self.done = threading.Event(), threading.Event(), threading.Event()

    def note(self, call: Call) -> None:
        self.begun.set()
        self.go.wait(5)
        super().note(call)
        self.done.set()


async def cancelled(task: asyncio.Task[Verdict]) -> None:
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_call_whose_caller_goes_away_is_noted_before_the_cancellation_goes_on() -> None:
    chat, budget = StuckChat(), FakeBudget()
    task = asyncio.create_task(ask(chat, budget))
    await chat.reached.wait()
    await cancelled(task)
    (call,) = budget.calls
    assert (call.model, call.outcome, call.reason, call.at) == ("fake/one", "timeout", "cancelled", NOW)
    assert (call.tokens_in, call.tokens_out, call.cost_usd, call.purpose) == (0, 0, None, "judge")


async def test_a_screen_that_is_stopped_at_the_guards_deadline_has_its_call_noted() -> None:
    budget = FakeBudget()
    screen = judge(StuckChat(), budget)

    async def asking() -> Sequence[Verdict]:
        return [await screen.screen_prompt(REQUEST, ())]

    (found,) = await ask_screen(screen.name, Stage.PROMPT, 1, asking, deadline_s=0.1)
    assert (found.outcome, found.reason) == (Outcome.TIMEOUT, "deadline")
    assert [call.reason for call in budget.calls] == ["cancelled"]


async def test_callers_that_go_away_use_up_the_days_money(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "safelight.db")
    spending = Spending(Calls(store), usd_per_day=2.5 * UNKNOWN_USD, clock=lambda: NOW)
    for _ in range(3):
        chat = StuckChat()
        task = asyncio.create_task(ask(chat, spending))
        await chat.reached.wait()
        await cancelled(task)
    chat = StuckChat()
    assert (await asyncio.wait_for(ask(chat, spending), 5)).outcome is Outcome.OVER_BUDGET
    assert not chat.reached.is_set()
    store.close()


@pytest.mark.parametrize("answers", [False, True])
async def test_what_is_being_noted_is_noted_to_the_end_however_often_its_task_is_cancelled(answers: bool) -> None:
    chat, budget = FakeChat(scores()) if answers else StuckChat(), SlowBudget()
    task = asyncio.create_task(ask(chat, budget))
    if isinstance(chat, StuckChat):
        await chat.reached.wait()
        task.cancel()
    try:
        assert await asyncio.to_thread(budget.begun.wait, 5)
        await cancelled(task)
    finally:
        budget.go.set()
    assert await asyncio.to_thread(budget.done.wait, 5)
    assert [call.reason for call in budget.calls] == ["clear" if answers else "cancelled"]


async def test_a_store_that_is_down_does_not_hold_up_a_cancellation() -> None:
    chat = StuckChat()
    task = asyncio.create_task(ask(chat, FakeBudget(failing="note")))
    await chat.reached.wait()
    await cancelled(task)


async def test_a_call_that_ends_in_an_error_is_noted_as_one_that_may_have_cost_something() -> None:
    def broken(nonce: str) -> ChatAnswer:
        raise KeyError("scripted")

    budget = FakeBudget()
    with pytest.raises(KeyError):
        await ask(FakeChat(broken), budget)
    assert [(call.outcome, call.reason, call.cost_usd) for call in budget.calls] == [("timeout", "error", None)]


# Who may answer.


@pytest.mark.parametrize("served", ["one", "one-2025-08-07", "one-20250807"])
async def test_a_dated_snapshot_of_the_asked_model_answers_for_it(served: str) -> None:
    screen = judge(FakeChat(scores(model=served)), None)
    found = await screen.screen_prompt(REQUEST, ())
    assert (found.outcome, found.model, screen.problems) == (Outcome.OK, served, ())


@pytest.mark.parametrize("served", ["one-mini-2025-08-07", "one-001", "one-preview", "two-2025-08-07", ""])
async def test_anything_else_is_another_model(served: str) -> None:
    screen = judge(FakeChat(scores(model=served)), None)
    found = await screen.screen_prompt(REQUEST, ())
    assert (found.reason, screen.problems) == ("served_model_mismatch", ("judge_changed",))
