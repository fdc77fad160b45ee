"""Rows of part B1 of the fault matrix that need more than one request, judge or judge's provider."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from typing import Any

import openai
import pytest

from clocks import Clock
from judge_door import KEY, MODEL, Door, chat, judge, judge_door
from safelight.backends.circuit import CircuitBreaker
from safelight.canary import Canaries, Trusted, canary_policy
from safelight.errors import StoreUnavailable
from safelight.policy import Policy, Reason
from safelight.screens.llm_judge import LLMJudge
from safelight.spending import Spending
from safelight.store.calls import Call, Calls
from safelight.verdict import Outcome, Verdict
from safelight.verdict_cache import CachedScreen
from scripted_gemini import (
    DROP,
    HANG,
    Asked,
    Reply,
    ScriptedGemini,
    allow,
    block,
    fails,
    refused,
    served_by,
    stopped,
)

SECOND = "gemini/gemini-3.1-flash-lite"


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with judge_door(tmp_path_factory.mktemp("outages")) as door:
        yield door


@pytest.fixture
def door(serve: Door) -> Door:
    serve.fresh(allow)
    return serve


@pytest.fixture
def other() -> Iterator[ScriptedGemini]:
    """The second judge's provider."""
    with ScriptedGemini(allow) as gemini:
        yield gemini


def with_second(door: Door, other: ScriptedGemini, *, when: str = "failed") -> None:
    door.use(judge(door.gemini, second_model=SECOND, second_api_base=other.url, second_api_key=KEY, second_when=when))


# F02: the gravest.


def test_what_may_be_the_gravest_is_shown_to_no_second_provider_and_its_text_is_not_kept(
    door: Door, other: ScriptedGemini
) -> None:
    door.fresh(refused("PROHIBITED_CONTENT"))
    with_second(door, other, when="always")
    _, decision = door.refused()
    assert decision.reason is Reason.RESTRICTED
    assert (len(door.gemini.asked), other.asked) == (1, [])
    (turn,) = door.served.store.history(door.principal, limit=5)
    assert dict(turn.texts) == {}


# F01, F03, F12, F20: two judges.


@pytest.mark.parametrize(
    "script", [refused("OTHER"), stopped("SPII"), fails(429), fails(503), DROP, stopped("MAX_TOKENS")]
)
def test_where_the_first_judge_fails_the_second_is_asked_once(door: Door, other: ScriptedGemini, script: Reply) -> None:
    door.fresh(script)
    with_second(door, other)
    assert door.ask().data
    assert len(other.asked) == 1


@pytest.mark.parametrize("script", [refused("OTHER"), fails(429), fails(503), DROP, HANG])
def test_where_the_second_judge_fails_too_nothing_is_released_and_neither_is_asked_for_ever(
    door: Door, other: ScriptedGemini, script: Reply
) -> None:
    door.fresh(refused("OTHER"))
    other.script = script
    first = judge(
        door.gemini,
        second_model=SECOND,
        second_chat=chat(other, model=SECOND, max_attempts=1, deadline_s=1.0 if script is HANG else 20.0),
    )
    door.use(first)
    error, decision = door.refused()
    assert (error.status_code, decision.reason) == (503, Reason.SCREENING_UNAVAILABLE)
    assert len(door.gemini.asked) == 1
    # LiteLLM itself sends a dropped one once more.
    assert len(other.asked) == (2 if script is DROP else 1)
    assert door.attempts() == ()


def test_a_second_judges_allow_does_not_overturn_the_first_ones_refusal(door: Door, other: ScriptedGemini) -> None:
    door.fresh(refused("SAFETY"))
    with_second(door, other)
    error, decision = door.refused()
    assert (error.status_code, decision.reason) == (400, Reason.PROVIDER_REFUSED)


def test_a_second_judges_block_stands_against_the_first_ones_allow(door: Door, other: ScriptedGemini) -> None:
    other.script = block()
    with_second(door, other, when="always")
    error, decision = door.refused()
    assert (error.status_code, decision.reason) == (400, Reason.CATEGORY)
    assert (len(door.gemini.asked), len(other.asked)) == (1, 1)


def test_a_block_is_not_put_to_a_second_judge_that_might_allow_it(door: Door, other: ScriptedGemini) -> None:
    door.fresh(block())
    with_second(door, other, when="always")
    assert door.refused()[1].reason is Reason.CATEGORY


# F12, F13, T29: outages.


def test_an_outage_costs_five_calls_however_often_clients_ask(door: Door) -> None:
    door.fresh(fails(503))
    for _ in range(40):
        error, decision = door.refused()
        assert (error.status_code, error.response.headers["retry-after"]) == (503, "30")
    assert decision.verdicts[0].reason == "circuit_open"
    # It heals by itself, so nobody has to take the gateway out of use.
    assert (len(door.gemini.asked), door.attempts(), door.unready()) == (5, (), ())


def test_a_burst_in_an_outage_is_not_amplified(door: Door) -> None:
    door.fresh(fails(503))

    def ask(_: int) -> int:
        with pytest.raises(openai.APIStatusError) as error:
            door.ask()
        return error.value.status_code

    before = len(door.served.requests)
    with ThreadPoolExecutor(12) as threads:
        statuses = set(threads.map(ask, range(48)))
    assert statuses <= {503, 429}
    assert len(door.served.requests) - before == 48
    assert len(door.gemini.asked) <= 1.2 * 48


def test_after_an_outage_one_request_tries_and_all_pass_again(door: Door) -> None:
    clock = Clock()
    door.fresh(fails(503))
    door.use(judge(door.gemini, chat=chat(door.gemini, breaker=CircuitBreaker(clock=clock))))
    for _ in range(4):
        door.refused()
    clock.now += 30
    door.refused()
    assert len(door.gemini.asked) == 6
    door.gemini.script = allow
    door.refused()
    clock.now += 30
    assert [len(door.ask().data) for _ in range(3)] == [1, 1, 1]


@pytest.mark.parametrize("status", [401, 403])
def test_a_key_that_is_not_taken_is_tried_once(door: Door, status: int) -> None:
    door.fresh(fails(status))
    found = [door.refused()[1].verdicts[0].reason for _ in range(3)]
    assert found == [f"http_{status}", "circuit_open", "circuit_open"]
    assert len(door.gemini.asked) == 1


# F16: late.


def test_an_answer_after_the_deadline_releases_nothing_and_the_call_is_noted(door: Door) -> None:
    late, answered = threading.Event(), threading.Event()

    def slow(asked: Asked) -> Reply:
        late.wait(20)
        answered.set()
        return allow(asked)

    calls = Calls(door.served.store)
    door.fresh(slow)
    door.use(judge(door.gemini, chat=chat(door.gemini, deadline_s=1.0), spending=Spending(calls)))
    since = datetime.now(UTC)
    error, decision = door.refused()
    late.set()
    assert answered.wait(20)
    assert (error.status_code, decision.verdicts[0].outcome) == (503, Outcome.TIMEOUT)
    (turn,) = door.served.store.history(door.principal, limit=5)
    assert (turn.action, door.generator.requests) == (None, [])
    (total,) = calls.totals(since=since)
    assert (total.model, total.calls, total.tokens_in) == (MODEL, 1, 0)
    door.gemini.script = allow
    door.use(door.judge)
    assert door.ask().data


# F19: another model.


def test_another_model_is_used_only_where_the_operator_said_so(door: Door) -> None:
    door.fresh(served_by("gemini-3.5-flash-lite"))
    assert door.refused()[1].verdicts[0].reason == "served_model_mismatch"
    door.use(judge(door.gemini, served_models=["gemini-3.5-flash-lite"]))
    assert door.ask().data


# F21: money.


def test_when_the_days_money_is_spent_nobody_is_asked_and_nothing_released(door: Door) -> None:
    # A call costs 0.000064 dollars: 400 tokens at 0.10 and 60 at 0.40 a million.
    spending = Spending(Calls(door.served.store), usd_per_day=_spent_so_far(door) + 0.0001)
    door.use(judge(door.gemini, spending=spending))
    assert door.ask().data
    assert door.ask().data
    door.generator.requests.clear()
    error, decision = door.refused()
    (found,) = decision.verdicts
    assert (error.status_code, found.outcome, found.reason) == (503, Outcome.OVER_BUDGET, "budget_exhausted")
    assert error.code == "screening_unavailable"
    assert len(door.gemini.asked) == 2
    assert door.attempts() == ()


def test_a_call_that_cannot_be_noted_releases_nothing(door: Door) -> None:
    class Unwritable(Calls):
        def add(self, call: Call) -> None:
            raise StoreUnavailable("out of order")

    door.use(judge(door.gemini, spending=Spending(Unwritable(door.served.store), usd_per_day=5.0)))
    error, _ = door.refused()
    assert error.status_code == 503


def _spent_so_far(door: Door) -> float:
    now = datetime.now(UTC)
    return Calls(door.served.store).spent_usd(since=now.replace(hour=0, minute=0, second=0, microsecond=0))


# F22: a judge that no longer judges.


def knows_teapots(asked: Asked) -> Reply:
    shown = "".join(asked.case["current"]["channels"].values())
    return block("teapots")(asked) if "teapots" in asked.categories and "teapot" in shown else allow(asked)


def watched(door: Door, **options: Any) -> Canaries:
    """Put the judge under canaries of its own model, and return them."""
    canaries = Canaries(LLMJudge(policy=canary_policy(), model=MODEL, chat=chat(door.gemini)), **options)
    door.use(Trusted(door.judge, canaries))
    return canaries


def test_a_judge_that_allows_everything_is_found_out_and_releases_nothing(door: Door) -> None:
    door.fresh(knows_teapots)
    canaries = watched(door)
    assert asyncio.run(canaries.run_once()).passed == 50
    assert (len(door.ask().data), door.unready()) == (1, ())
    door.fresh(allow)
    door.use(Trusted(door.judge, canaries))
    assert asyncio.run(canaries.run_once()).healthy is False
    door.gemini.asked.clear()
    error, decision = door.refused()
    (found,) = decision.verdicts
    assert (error.status_code, found.outcome, found.reason) == (503, Outcome.FAILED, "canary_failed")
    assert (door.gemini.asked, door.unready(), door.attempts()) == ([], ("canary_failed",), ())
    door.gemini.script = knows_teapots
    assert asyncio.run(canaries.run_once()).healthy is True
    assert (len(door.ask().data), door.unready()) == (1, ())


def test_a_provider_that_cannot_be_reached_is_not_taken_for_a_judge_that_no_longer_judges(door: Door) -> None:
    door.fresh(fails(503))
    canaries = watched(door)
    report = asyncio.run(canaries.run_once())
    assert (report.unusable, report.healthy, canaries.distrusted) == (50, None, False)
    assert door.unready() == ("canary_pending",)
    # Five calls, and then its circuit is open.
    assert len(door.gemini.asked) <= 5 + 3


# F23: the cache.


class BrokenEntries:
    """A cache that is down."""

    def get(self, key: bytes) -> Verdict | None:
        raise ConnectionError("down")

    def put(self, key: bytes, verdict: Verdict) -> None:
        raise ConnectionError("down")


@pytest.mark.parametrize(("entries", "asked"), [(BrokenEntries(), 3), (None, 1)])
def test_a_cache_that_is_down_is_slower_and_still_right(door: Door, entries: BrokenEntries | None, asked: int) -> None:
    door.use(CachedScreen(door.judge, secret=b"s" * 32, policy=Policy.default(), entries=entries))
    for _ in range(3):
        assert door.ask().data
    assert len(door.gemini.asked) == asked
    door.gemini.script = block()
    door.generator.requests.clear()
    with pytest.raises(openai.BadRequestError):
        door.ask("another cup")
    assert door.generator.requests == []


def test_a_failure_is_not_kept(door: Door) -> None:
    door.fresh([fails(400), allow])
    door.use(CachedScreen(door.judge, secret=b"s" * 32, policy=Policy.default()))
    door.refused()
    assert door.ask().data
