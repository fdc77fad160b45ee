from __future__ import annotations

import math
import threading
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.store import Store
from safelight.store.calls import Call, Calls, CallTotal
from safelight.store.sqlite import SQLiteStore
from store_databases import Database, Opened

MIDNIGHT = datetime(2026, 11, 22, tzinfo=UTC)
NOON = MIDNIGHT + timedelta(hours=12)
DAY = timedelta(days=1)
CALL = Call(NOON, "judge", "m", "ok", "", 100, 10, 0.25, 350.5)


@pytest.fixture
def calls(any_store: Store) -> Calls:
    return Calls(any_store)


def test_a_call_is_kept_with_all_that_is_known_of_it(calls: Calls, any_database: Database) -> None:
    calls.add(replace(CALL, outcome="timeout", reason="deadline", cost_usd=None, request_id="r1", purpose="second"))
    names = "at, screen, model, outcome, reason, tokens_in, tokens_out, cost_usd, ms, request_id, purpose"
    assert any_database.rows(f"SELECT {names} FROM calls") == [
        ("2026-11-22T12:00:00.000000+00:00", "judge", "m", "timeout", "deadline", 100, 10, None, 350.5, "r1", "second")
    ]


def test_spending_is_summed_over_whole_days_and_over_parts_of_days(calls: Calls) -> None:
    for hours, cost in ((-30, 1.0), (-13, 2.0), (0, 4.0), (11, 8.0), (30, 16.0)):
        calls.add(replace(CALL, at=NOON + timedelta(hours=hours), cost_usd=cost))
    assert calls.spent_usd(since=MIDNIGHT) == 28.0
    assert calls.spent_usd(since=MIDNIGHT, until=MIDNIGHT + DAY) == 12.0
    assert calls.spent_usd(since=NOON) == 28.0
    assert calls.spent_usd(since=NOON, until=NOON + timedelta(hours=11)) == 4.0
    assert calls.spent_usd(since=NOON + timedelta(hours=1), until=NOON + timedelta(hours=12)) == 8.0
    assert calls.spent_usd(since=NOON - 2 * DAY, until=NOON + 2 * DAY) == 31.0
    assert calls.spent_usd(since=NOON - DAY) == 30.0
    assert calls.spent_usd(since=NOON + 9 * DAY) == 0.0


def test_a_day_is_that_of_utc_wherever_the_clock_is(calls: Calls) -> None:
    calls.add(replace(CALL, at=datetime.fromisoformat("2026-11-23T05:00:00+05:30")))
    assert calls.spent_usd(since=MIDNIGHT, until=MIDNIGHT + DAY) == 0.25
    assert calls.spent_usd(since=datetime.fromisoformat("2026-11-22T05:30:00+05:30")) == 0.25
    assert calls.spent_usd(since=MIDNIGHT + DAY) == 0.0


def test_totals_are_by_model_and_purpose_and_an_unknown_price_counts_as_nothing(calls: Calls) -> None:
    for model, purpose, cost, at in (
        ("m", "judge", 0.5, NOON),
        ("m", "judge", None, NOON + DAY),
        ("m", "scan", 0.25, NOON),
        ("a", "judge", 1.0, NOON + DAY),
        ("old", "judge", 1.0, NOON - DAY),
    ):
        calls.add(replace(CALL, model=model, purpose=purpose, cost_usd=cost, at=at))
    assert calls.totals(since=MIDNIGHT) == [
        CallTotal("a", "judge", 1, 100, 10, 1.0),
        CallTotal("m", "judge", 2, 200, 20, 0.5),
        CallTotal("m", "scan", 1, 100, 10, 0.25),
    ]
    assert [total.model for total in calls.totals(since=NOON + DAY)] == ["a", "m"]


def test_whole_days_are_read_from_their_counters(calls: Calls, any_database: Database) -> None:
    calls.add(CALL)
    calls.add(CALL)
    any_database.rows("DELETE FROM calls")
    assert calls.spent_usd(since=MIDNIGHT) == 0.5
    assert calls.totals(since=MIDNIGHT) == [CallTotal("m", "judge", 2, 200, 20, 0.5)]
    assert any_database.rows("SELECT COUNT(*) FROM spending_days") == [(1,)]


def test_simultaneous_calls_are_all_counted(opened: Opened) -> None:
    rooms = [Calls(opened()), Calls(opened())]
    threads = [
        threading.Thread(target=lambda room: [room.add(CALL) for _ in range(5)], args=(rooms[n % 2],)) for n in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert rooms[0].totals(since=MIDNIGHT) == [CallTotal("m", "judge", 40, 4000, 400, 10.0)]


def test_a_providers_odd_name_for_its_model_can_be_stored(calls: Calls) -> None:
    calls.add(replace(CALL, model="m\x00\ud800ü"))
    assert [total.model for total in calls.totals(since=MIDNIGHT)] == ["m??ü"]


@pytest.mark.parametrize("name", ["tokens_in", "tokens_out", "cost_usd", "ms"])
@pytest.mark.parametrize("amount", [-1, math.nan, math.inf, 10**13, True])
def test_an_amount_that_would_spoil_the_sum_is_refused(name: str, amount: float) -> None:
    changes: dict[str, Any] = {name: amount}
    with pytest.raises(ValueError, match=name):
        replace(CALL, **changes)


HOURS = st.integers(-60, 60)


@given(st.lists(st.tuples(HOURS, st.integers(0, 8)), max_size=12), HOURS, st.none() | HOURS)
def test_spending_is_the_sum_of_the_calls_between_two_times(
    made: list[tuple[int, int]], since: int, until: int | None
) -> None:
    store = SQLiteStore(":memory:")
    calls = Calls(store)
    for hour, cost in made:
        calls.add(replace(CALL, at=NOON + timedelta(hours=hour), cost_usd=float(cost)))
    end = None if until is None else NOON + timedelta(hours=until)
    spent = calls.spent_usd(since=NOON + timedelta(hours=since), until=end)
    store.close()
    assert spent == sum(cost for hour, cost in made if since <= hour and (until is None or hour < until))
