"""A very long past: what is read, and what comes back, is as much as of a short one."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from contextlib import suppress
from typing import Any

import pytest

from fakes import ALICE
from safelight.errors import StoreUnavailable
from safelight.policy import Action, Decision, Reason
from safelight.request import History, Principal
from safelight.store import Run, Store, turns
from safelight.store.sqlite import SQLiteStore
from safelight.store.strikes import Strikes
from safelight.verdict import Stage
from store_databases import Database, SQLiteDatabase
from store_requests import NOW, ask, decision

MANY = 100_000

Transact = Callable[[Callable[[Run], Any]], Any]

# Every third turn is blocked, every fifth flagged; each principal has one busy person and many that rename themselves.
_TURN = """
    'b' || n, 'default', '{principal}', CASE WHEN n % 10 = 0 THEN 'name' || n ELSE '' END,
    '{{"prompt": "a lighthouse in the evening, number ' || (100000 + n) || '"}}', '2026-11-22T11:00:00.000000+00:00',
    CASE WHEN n % 3 = 0 THEN 'block' WHEN n % 5 = 0 THEN 'flag' ELSE 'allow' END,
    CASE WHEN n % 3 = 0 THEN 1.0 WHEN n % 5 = 0 THEN 0.5 ELSE 0.05 END
"""
_COLUMNS = "request_id, tenant, principal, person, texts, created, state, risk"
_PEOPLE = """
    INSERT INTO people (tenant, principal, person, total, blocked, flagged, last)
    SELECT tenant, principal, person, COUNT(*), SUM(CASE state WHEN 'block' THEN 1 ELSE 0 END),
        SUM(CASE state WHEN 'flag' THEN 1 ELSE 0 END), '2026-11-22T11:00:00.000000+00:00'
    FROM turns GROUP BY tenant, principal, person
"""


def fill(database: Database, count: int) -> None:
    """Give Alice a past, past the store, as fast as the database can."""
    turn = _TURN.format(principal=ALICE.id)
    if isinstance(database, SQLiteDatabase):
        numbers = f"WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c WHERE n < {count})"
        database.rows(f"{numbers} INSERT INTO turns ({_COLUMNS}) SELECT {turn} FROM c")
    else:
        turn = turn.replace("'2026-11-22T11:00:00.000000+00:00'", "TIMESTAMPTZ '2026-11-22T11:00:00Z'")
        database.rows(f"INSERT INTO turns ({_COLUMNS}) SELECT {turn} FROM generate_series(1, {count}) AS n")
    database.rows(_PEOPLE)
    database.rows("ANALYZE")


def size(history: History) -> tuple[int, ...]:
    """Return how many turns there are of each kind, and how much text they hold."""
    parts = (history.turns, history.riskiest, history.kin)
    return *map(len, parts), sum(len(turn.texts["prompt"]) for part in parts for turn in part)


def everything(transact: Transact) -> None:
    """Do whatever a request and an appeal do, for somebody with a past and for a new name."""
    for number, who in enumerate((ALICE, Principal(ALICE.id, person="new"))):
        one_of_each(transact, f"r{number}", who)


def one_of_each(transact: Transact, name: str, who: Principal) -> None:
    def ask_for(id: str) -> None:
        transact(lambda run: turns.reserve(run, id, ask(principal=who), at=NOW, limit=20))

    def rule(ruled: Decision) -> None:
        transact(lambda run: turns.record(run, ruled))

    for step in ("allowed", "blocked", "picture"):
        ask_for(f"{name} {step}")
    transact(lambda run: turns.history(run, who, limit=20))
    rule(decision(f"{name} allowed"))
    rule(decision(f"{name} allowed", Stage.IMAGE, index=0))
    rule(decision(f"{name} blocked", action=Action.BLOCK, reason=Reason.CATEGORY))
    rule(decision(f"{name} picture"))
    rule(decision(f"{name} picture", Stage.IMAGE, index=0, action=Action.BLOCK, reason=Reason.RESTRICTED))
    transact(lambda run: turns.settle(run, f"{name} allowed", None))
    transact(lambda run: turns.overturn(run, decision(f"{name} blocked").id, at=NOW))


def test_a_history_is_as_large_after_a_hundred_thousand_turns_as_after_a_hundred(
    any_database: Database, any_store: Store
) -> None:
    fill(any_database, 100)
    short = any_store.history(ALICE, limit=20)
    any_database.rows("DELETE FROM turns")
    any_database.rows("DELETE FROM people")
    fill(any_database, MANY)
    long = any_store.history(ALICE, limit=20)
    assert size(long) == size(short)
    assert size(long)[:3] == (20, 5, 5)
    assert (short.total, long.total) == (90, 90_000)


def test_every_search_goes_by_an_index_however_long_the_past(any_database: Database, any_store: Store) -> None:
    fill(any_database, MANY)
    sqlite = isinstance(any_store, SQLiteStore)
    plans: dict[str, str] = {}

    def explaining(run: Run) -> Run:
        def explain(statement: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
            found = run(("EXPLAIN QUERY PLAN " if sqlite else "EXPLAIN ") + statement, values)
            plans[statement] = "\n".join(str(row["detail" if sqlite else "QUERY PLAN"]) for row in found)
            return run(statement, values)

        return explain

    everything(lambda work: any_store.transact(lambda run: work(explaining(run))))
    assert len(plans) >= 15
    for statement, plan in plans.items():
        searched = re.findall(r"SCAN (?:turns|people)\b|USE TEMP B-TREE|Seq Scan on (?:turns|people)\b|Sort Key", plan)
        if "AND state = 'pending'" in statement:
            # Only what is being judged at this moment is sorted, by whichever index of pending turns it is found.
            searched = [found for found in searched if found != "Sort Key"]
        assert not searched, f"{statement}\n{plan}"


def test_as_much_is_read_after_a_hundred_thousand_turns_as_after_a_hundred(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    assert steps_of_everything(tmp_path_factory, MANY) <= 1.25 * steps_of_everything(tmp_path_factory, 100)


def steps_of_everything(folders: pytest.TempPathFactory, count: int) -> int:
    """Return how many steps of SQLite's machine all of it takes."""
    folder = folders.mktemp("steps")
    store = SQLiteStore(folder / "s.db")
    fill(SQLiteDatabase(folder), count)
    strikes = Strikes(store)
    steps = 0

    def step() -> int:
        nonlocal steps
        steps += 1
        return 0

    store._db.conn.set_progress_handler(step, 1)
    everything(store.transact)
    for since in (NOW.replace(year=2020), NOW.replace(year=2030)):
        strikes.blocked_texts("default", ALICE.id, since=since, limit=50)
    store.close()
    return steps


def test_blocked_texts_are_the_principals_newest_over_all_its_persons(any_database: Database, any_store: Store) -> None:
    fill(any_database, 100)
    with suppress(StoreUnavailable):
        any_store.record(decision("b96", id="b96", action=Action.BLOCK, reason=Reason.CATEGORY))
    assert any_store.overturn("b96", at=NOW)
    found = Strikes(any_store).blocked_texts("default", ALICE.id, since=NOW.replace(year=2020), limit=3)
    assert [request_id for request_id, _ in found] == ["b90", "b93", "b99"]
    assert found[0][1] == {"prompt": "a lighthouse in the evening, number 100090"}
    assert Strikes(any_store).blocked_texts("default", ALICE.id, since=NOW, limit=3) == ()
    assert Strikes(any_store).blocked_texts("other", ALICE.id, since=NOW.replace(year=2020), limit=3) == ()
