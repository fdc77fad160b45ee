"""Work in one transaction, written once for every database."""

from __future__ import annotations

import threading

import pytest

from safelight.errors import StoreUnavailable
from safelight.store import Run, Store
from store_databases import Database, Opened

ADD = "INSERT INTO scans (id, started, settings) VALUES (:id, :started, :settings)"


def add(run: Run, id: str, settings: str = "{}") -> None:
    run(ADD, {"id": id, "started": "now", "settings": settings})


def ids(store: Store) -> list[str]:
    found = store.transact(lambda run: run("SELECT id FROM scans ORDER BY id", {}), write=False)
    return [row["id"] for row in found]


def test_what_work_returns_comes_back_and_rows_are_named(any_store: Store) -> None:
    any_store.transact(lambda run: add(run, "a"))
    found = any_store.transact(lambda run: run("SELECT id, finished FROM scans", {}))
    assert found == [{"id": "a", "finished": None}]
    assert any_store.transact(lambda run: run("UPDATE scans SET finished = 'x' RETURNING id", {})) == [{"id": "a"}]


@pytest.mark.parametrize("text", ["'; DROP TABLE scans; --", "100 % :id %(id)s %s", '"', "\\", "ü\n🫖", ""])
def test_values_are_never_part_of_the_statement(any_store: Store, text: str) -> None:
    any_store.transact(lambda run: add(run, "a", text))
    where = "SELECT settings FROM scans WHERE settings = :text AND :text = settings"
    assert any_store.transact(lambda run: run(where, {"text": text, "more": 1})) == [{"settings": text}]


def test_quotes_colons_and_percent_signs_in_a_statement_stay_what_they_are(any_store: Store) -> None:
    statement = "SELECT ':id 100% ''%(id)s''' AS \"a:id%\", 7 % 4 AS rest, :id AS given"
    found = any_store.transact(lambda run: run(statement, {"id": "x"}))
    assert found == [{"a:id%": ":id 100% '%(id)s'", "rest": 3, "given": "x"}]


def test_a_value_that_is_missing_is_the_stores_error(any_store: Store) -> None:
    with pytest.raises(StoreUnavailable):
        any_store.transact(lambda run: run("SELECT :missing AS it", {}))
    assert ids(any_store) == []


def test_work_that_fails_leaves_nothing_and_says_why(any_store: Store) -> None:
    def work(run: Run) -> None:
        add(run, "a")
        raise ValueError("of the work's own")

    with pytest.raises(ValueError, match="of the work's own"):
        any_store.transact(work)
    assert ids(any_store) == []


def test_an_error_of_the_database_undoes_all_and_is_the_stores_error(any_store: Store) -> None:
    def work(run: Run) -> None:
        add(run, "b")
        add(run, "b")

    any_store.transact(lambda run: add(run, "a"))
    with pytest.raises(StoreUnavailable):
        any_store.transact(work)
    assert ids(any_store) == ["a"]


def test_work_that_only_reads_cannot_write_and_the_next_one_can(any_store: Store) -> None:
    with pytest.raises(StoreUnavailable):
        any_store.transact(lambda run: add(run, "a"), write=False)
    any_store.transact(lambda run: add(run, "b"))
    assert ids(any_store) == ["b"]


def test_a_value_that_no_database_holds_is_the_stores_error(any_store: Store) -> None:
    with pytest.raises(StoreUnavailable):
        any_store.transact(lambda run: add(run, "a\ud800"))
    assert ids(any_store) == []


def test_what_is_written_is_there_for_another_store_at_once(opened: Opened) -> None:
    first, second = opened(), opened()
    first.transact(lambda run: add(run, "a"))
    assert ids(second) == ["a"]


def test_simultaneous_work_does_not_lose_what_another_wrote(opened: Opened, any_database: Database) -> None:
    stores = [opened(), opened()]
    stores[0].transact(lambda run: add(run, "counter", "0"))
    count = "UPDATE scans SET settings = CAST(CAST(settings AS INTEGER) + :one AS TEXT) WHERE id = :id"

    def work(number: int) -> None:
        for _ in range(5):
            stores[number % 2].transact(lambda run: run(count, {"one": 1, "id": "counter"}))

    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any_database.rows("SELECT settings FROM scans") == [("40",)]


def test_a_closed_store_does_no_work(any_store: Store) -> None:
    any_store.close()
    for write in (True, False):
        with pytest.raises(StoreUnavailable, match="closed"):
            any_store.transact(lambda run: run("SELECT 1 AS one", {}), write=write)
