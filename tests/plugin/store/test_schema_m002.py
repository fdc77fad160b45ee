"""A database that an older Safelight has filled is brought over, on SQLite and on PostgreSQL."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from datetime import UTC, datetime

import psycopg
import pytest
from sqlite_utils import Database as SQLiteUtilsDatabase

from fakes import ALICE, BOB
from safelight.policy import Action
from safelight.request import Principal
from safelight.store import Store, postgres_migrations
from safelight.store.migrations import migrations
from safelight.store.people import People
from store_databases import Database, Opened, PostgresDatabase

STATES = ("allow", "block", "allow", "fault", "flag", "allow", "pending", "allow", "block", "allow", "allow", "fault")


@pytest.fixture
def old_database(any_database: Database) -> Database:
    """A database of the first schema, with turns of Alice, of one of her persons, and of Bob."""
    if isinstance(any_database, PostgresDatabase):
        with psycopg.connect(any_database.url) as connection:
            cursor = connection.cursor(row_factory=psycopg.rows.dict_row)
            postgres_migrations._applied(cursor)
            postgres_migrations.m001_initial(cursor)
            cursor.execute("INSERT INTO safelight_migrations (name) VALUES ('m001_initial')")
    else:
        with closing(sqlite3.connect(any_database.url.removeprefix("sqlite:///"))) as connection:
            migrations.apply(SQLiteUtilsDatabase(connection), stop_before="m002_people")
    # The years of the future: what is pending is not so old that a start closes it.
    for number, state in enumerate(STATES):
        add_turn(any_database, f"a{number}", ALICE, state, f"2126-11-22T12:00:{number:02}.000250+00:00")
    add_turn(any_database, "p", Principal(ALICE.id, person="x"), "block", "2126-11-22T13:00:00.000000+00:00")
    add_turn(any_database, "b", BOB, "allow", "2126-11-22T14:00:00.000000+00:00")
    any_database.rows(
        "INSERT INTO decisions (id, request_id, stage, action, reason, categories, policy, verdicts, created, hold)"
        " VALUES ('dec_old', 'a8', 'prompt', 'block', 'category', '[\"hate\"]', 'sha256:1', '[]',"
        " '2026-11-22T12:00:08.000000+00:00', '0')"
    )
    return any_database


def add_turn(database: Database, request_id: str, who: Principal, state: str, created: str) -> None:
    database.rows(
        "INSERT INTO turns (request_id, tenant, principal, person, texts, created, state) VALUES ("
        f"'{request_id}', '{who.tenant}', '{who.id}', '{who.person}', '{{\"prompt\": \"{request_id}\"}}', '{created}',"
        f" '{state}')"
    )


@pytest.fixture
def store(old_database: Database, opened: Opened) -> Store:
    return opened()


def test_people_are_counted_from_their_turns(store: Store) -> None:
    alice, x, bob = People(store).page(after=None, limit=5)
    assert (alice.total, alice.blocked, alice.flagged, alice.overturned, alice.clean_run) == (12, 2, 1, 0, 2)
    assert alice.last == datetime(2126, 11, 22, 12, 0, 11, 250, tzinfo=UTC)
    assert (x.person, x.total, x.blocked, x.clean_run) == ("x", 1, 1, 0)
    assert (bob.principal, bob.total, bob.clean_run) == (BOB.id, 1, 1)


def test_turns_that_were_blocked_or_flagged_have_a_risk_and_are_found_by_it(store: Store) -> None:
    history = store.history(ALICE, limit=3)
    assert [(turn.texts["prompt"], turn.risk) for turn in history.riskiest] == [("a1", 1.0), ("a4", 0.5), ("a8", 1.0)]
    # The newest three, and one before them that is still pending.
    assert [turn.risk for turn in history] == [0.0, 0.0, 0.0, 0.0]
    assert [turn.texts["prompt"] for turn in history.kin] == ["p"]


def test_counting_goes_on_from_there(store: Store) -> None:
    store.settle("a6", Action.ALLOW)
    store.settle("a9", None)
    assert store.history(ALICE, limit=1).clean_run == 1
    assert store.overturn("dec_old", at=datetime.now(UTC))
    history = store.history(ALICE, limit=1)
    assert (history.total, history.blocked, history.overturned) == (12, 1, 1)
    store.settle("a10", Action.BLOCK)
    assert (store.history(ALICE, limit=1).blocked, store.history(ALICE, limit=1).clean_run) == (2, 0)


def test_an_old_decision_has_no_course(store: Store) -> None:
    assert [kept.course for kept in store.decisions()] == [()]
