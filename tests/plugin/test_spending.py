"""A day's spending limit: what counts, what it stops, and what happens where nobody knows."""

from __future__ import annotations

import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.errors import ConfigError, StoreUnavailable
from safelight.spending import READ_AGAIN_S, UNKNOWN_USD, Spending
from safelight.store.calls import Call, Calls
from safelight.store.sqlite import SQLiteStore

NOON = datetime(2026, 11, 22, 12, tzinfo=UTC)


class Clock:
    """A time that a test moves on."""

    def __init__(self, now: datetime = NOON) -> None:
        self.now = now

    def __call__(self) -> datetime:
        return self.now

    def wait(self, seconds: float) -> None:
        self.now += timedelta(seconds=seconds)


class FakeCalls:
    """Calls in memory, counted as the store counts them. ``broken`` makes it answer no more."""

    def __init__(self) -> None:
        self.kept: list[Call] = []
        self.reads = 0
        self.broken = False

    def add(self, call: Call) -> None:
        if self.broken:
            raise StoreUnavailable("out of order")
        self.kept.append(call)

    def spent_usd(self, *, since: datetime, until: datetime | None = None) -> float:
        if self.broken:
            raise StoreUnavailable("out of order")
        self.reads += 1
        return sum(call.cost_usd or 0.0 for call in self.kept if since <= call.at and (not until or call.at < until))


def a_call(cost: float | None = 0.25, *, at: datetime = NOON, outcome: str = "ok", tokens: int = 400) -> Call:
    return Call(at, "llm_judge", "some-model", outcome, "", tokens, 60 if tokens else 0, cost, 12.0)


def test_the_money_is_spent_when_the_limit_is_reached() -> None:
    spending = Spending(FakeCalls(), usd_per_day=1.0, clock=Clock())
    for _ in range(3):
        spending.note(a_call())
        assert not spending.exhausted()
    spending.note(a_call())
    assert spending.exhausted()
    assert spending.spent_usd() == pytest.approx(1.0)


def test_a_limit_of_nothing_spends_nothing_and_no_limit_is_never_reached() -> None:
    assert Spending(FakeCalls(), usd_per_day=0.0).exhausted()
    spending = Spending(FakeCalls())
    spending.note(a_call(10_000.0, at=datetime.now(UTC)))
    assert not spending.exhausted()


def test_calls_are_kept_as_they_were_noted() -> None:
    calls = FakeCalls()
    spending = Spending(calls, clock=Clock())
    noted = [a_call(), a_call(None), a_call(None, outcome="timeout", tokens=0)]
    for call in noted:
        spending.note(call)
    assert calls.kept == noted


def test_with_a_limit_a_price_that_nobody_knows_is_kept_as_its_estimate() -> None:
    calls = FakeCalls()
    spending = Spending(calls, usd_per_day=1.0, clock=Clock())
    noted = [
        a_call(),
        a_call(0.0),
        a_call(None, outcome="timeout", tokens=0),
        a_call(None, outcome="failed", tokens=0),
    ]
    for call in noted:
        spending.note(call)
    assert calls.kept == [noted[0], noted[1], replace(noted[2], cost_usd=0.25), noted[3]]


def test_a_day_ends_at_midnight_utc() -> None:
    clock = Clock(NOON)
    spending = Spending(FakeCalls(), usd_per_day=1.0, clock=clock)
    spending.note(a_call(2.0))
    spending.note(a_call(None))
    clock.now = datetime(2026, 11, 22, 23, 59, 59, tzinfo=UTC)
    assert spending.exhausted()
    # The same moment of a day later, in a country that is still in the day before.
    clock.now = datetime(2026, 11, 22, 19, 0, 1, tzinfo=timezone(timedelta(hours=-5)))
    assert spending.spent_usd() == 0.0


def test_a_call_that_ends_after_midnight_counts_for_the_day_it_was_made_in() -> None:
    clock = Clock(NOON + timedelta(hours=12, seconds=1))
    calls = FakeCalls()
    spending = Spending(calls, usd_per_day=1.0, clock=clock)
    assert not spending.exhausted()
    spending.note(a_call(2.0, at=NOON))
    spending.note(a_call(None, at=NOON))
    assert spending.spent_usd() == 0.0


def test_what_another_process_spends_is_seen_within_a_second() -> None:
    clock, calls = Clock(), FakeCalls()
    one, other = (Spending(calls, usd_per_day=1.0, clock=clock) for _ in range(2))
    assert not one.exhausted()
    other.note(a_call(2.0))
    clock.wait(READ_AGAIN_S)
    assert one.exhausted()


def test_a_restart_forgets_nothing(tmp_path: Path) -> None:
    for spent in (0.0, 0.75):
        store = SQLiteStore(tmp_path / "store.db")
        spending = Spending(Calls(store), usd_per_day=1.0, clock=Clock())
        assert spending.spent_usd() == pytest.approx(spent)
        spending.note(a_call(0.75))
        store.close()
    assert spending.exhausted()


def test_neither_a_restart_nor_another_process_forgets_what_nobody_knew_the_price_of(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "store.db")
    first = Spending(Calls(store), usd_per_day=1.0, clock=Clock())
    for _ in range(3):
        first.note(a_call(None, outcome="timeout", tokens=0))
    assert first.spent_usd() == pytest.approx(3 * UNKNOWN_USD)
    for again in (Spending(Calls(store), usd_per_day=1.0, clock=Clock()), Spending(Calls(store), clock=Clock())):
        assert again.spent_usd() == pytest.approx(3 * UNKNOWN_USD)
    store.close()


def test_the_store_is_not_read_for_every_question() -> None:
    clock, calls = Clock(), FakeCalls()
    spending = Spending(calls, usd_per_day=1000.0, clock=clock)
    for _ in range(100):
        spending.note(a_call())
        assert not spending.exhausted()
    assert calls.reads == 1
    assert spending.spent_usd() == pytest.approx(25.0)
    clock.wait(READ_AGAIN_S)
    assert spending.spent_usd() == pytest.approx(25.0)
    assert calls.reads == 2


def test_a_clock_that_is_set_back_does_not_stop_the_reading() -> None:
    clock, calls = Clock(), FakeCalls()
    spending = Spending(calls, usd_per_day=1.0, clock=clock)
    assert not spending.exhausted()
    clock.wait(-3600)
    calls.add(a_call(2.0, at=NOON - timedelta(minutes=30)))
    assert spending.exhausted()


@pytest.mark.parametrize(
    ("call", "worth"),
    [
        (a_call(None), UNKNOWN_USD),
        (a_call(None, outcome="timeout", tokens=0), UNKNOWN_USD),
        (a_call(None, outcome="unparsable"), UNKNOWN_USD),
        (a_call(None, outcome="failed"), UNKNOWN_USD),
        (a_call(None, outcome="refused", tokens=0), UNKNOWN_USD),
        (a_call(None, outcome="unreachable", tokens=0), 0.0),
        (a_call(None, outcome="failed", tokens=0), 0.0),
        (a_call(0.0), 0.0),
    ],
)
def test_a_call_of_unknown_price_counts_as_dear_unless_nobody_could_charge_for_it(call: Call, worth: float) -> None:
    spending = Spending(FakeCalls(), usd_per_day=1.0, clock=Clock())
    spending.note(call)
    assert spending.spent_usd() == pytest.approx(worth)


def test_a_call_of_unknown_price_counts_as_much_as_the_dearest_known() -> None:
    clock = Clock()
    spending = Spending(FakeCalls(), usd_per_day=1.0, clock=clock)
    spending.note(a_call(0.3))
    spending.note(a_call(None, outcome="timeout", tokens=0))
    clock.wait(60)
    assert spending.spent_usd() == pytest.approx(0.6)


def test_a_call_that_the_store_does_not_take_is_counted_all_the_same() -> None:
    clock, calls = Clock(), FakeCalls()
    spending = Spending(calls, usd_per_day=1.0, clock=clock)
    calls.broken = True
    with pytest.raises(StoreUnavailable):
        spending.note(a_call(2.0))
    calls.broken = False
    clock.wait(60)
    assert spending.exhausted()


def test_a_store_that_does_not_answer_leaves_the_question_open() -> None:
    calls = FakeCalls()
    calls.broken = True
    with pytest.raises(StoreUnavailable):
        Spending(calls, usd_per_day=1.0).exhausted()


def test_without_a_limit_the_store_is_not_asked() -> None:
    calls = FakeCalls()
    calls.broken = True
    assert not Spending(calls).exhausted()


def test_a_limit_needs_a_price() -> None:
    spending = Spending(FakeCalls(), usd_per_day=1.0)
    with pytest.raises(ConfigError, match="some/model.*usd_per_million"):
        spending.require_price("some/model", is_priced=False)
    spending.require_price("some/model", is_priced=True)
    Spending(FakeCalls()).require_price("some/model", is_priced=False)


def test_a_purse_spends_the_same_money_under_its_own_name() -> None:
    calls = FakeCalls()
    spending = Spending(calls, usd_per_day=1.0, clock=Clock())
    purse = spending.for_purpose("canary")
    purse.note(a_call(0.5))
    spending.note(a_call(0.5))
    assert [call.purpose for call in calls.kept] == ["canary", "judge"]
    assert purse.exhausted() and spending.exhausted()


@pytest.mark.parametrize("limit", [-1.0, float("nan"), float("inf")])
def test_a_limit_that_is_none_is_refused(limit: Any) -> None:
    with pytest.raises(ConfigError, match="usd_per_day"):
        Spending(FakeCalls(), usd_per_day=limit)


def test_threads_that_ask_before_each_call_run_over_by_what_was_on_its_way_and_no_more() -> None:
    calls = FakeCalls()
    spending = Spending(calls, usd_per_day=5.0, clock=Clock())

    def spend() -> None:
        while not spending.exhausted():
            spending.note(a_call(0.125))

    threads = [threading.Thread(target=spend) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert 40 <= len(calls.kept) <= 40 + 7


@given(st.lists(st.tuples(st.floats(0, 3), st.floats(0, 50_000)), max_size=40))
def test_no_call_is_made_on_a_day_whose_money_is_spent(steps: list[tuple[float, float]]) -> None:
    clock, calls = Clock(), FakeCalls()
    spending = Spending(calls, usd_per_day=4.0, clock=clock)
    for cost, pause in steps:
        clock.wait(pause)
        if not spending.exhausted():
            today = clock.now.date()
            assert sum(call.cost_usd or 0 for call in calls.kept if call.at.date() == today) < 4.0
            spending.note(a_call(cost, at=clock.now))
