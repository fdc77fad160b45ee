"""What is PostgreSQL's own about the store; what every store must do is in test_contract.py."""

from __future__ import annotations

import threading
from pathlib import Path

import pytest

from postgres_server import PostgresServer, find_binaries
from safelight.cli import PASSES, main
from safelight.errors import StoreUnavailable
from safelight.store import open_store
from safelight.store.postgres import PostgresStore
from store_databases import PostgresDatabase
from store_requests import NOW, ask, decision


def test_parallel_reservations_see_one_another_where_snapshots_are_fixed_by_default(
    postgres_server: PostgresServer,
) -> None:
    database = PostgresDatabase(postgres_server, default_transaction_isolation="repeatable\\ read")
    store = PostgresStore(database.url)
    sizes: list[int] = []
    threads = [
        threading.Thread(
            target=lambda number: sizes.append(len(store.reserve(f"r{number}", ask(), at=NOW, limit=100))),
            args=(number,),
        )
        for number in range(16)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    store.close()
    assert sorted(sizes) == list(range(16))


def test_acknowledged_decisions_survive_a_crash_and_the_store_recovers_by_itself(
    database: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    store = PostgresStore(database.url, timeout_s=2)
    acknowledged: list[str] = []
    enough = threading.Semaphore(0)
    problems: list[str] = []

    def write(name: str) -> None:
        number = 0
        try:
            while True:
                request_id = f"{name}-{number}"
                store.reserve(request_id, ask(), at=NOW, limit=1)
                store.record(decision(request_id))
                acknowledged.append(request_id)
                enough.release()
                number += 1
        except StoreUnavailable as error:
            problems.append(str(error))

    writers = [threading.Thread(target=write, args=(name,)) for name in "abcd"]
    for writer in writers:
        writer.start()
    for _ in range(40):
        assert enough.acquire(timeout=60)
    postgres_server.stop("immediate")
    try:
        for writer in writers:
            writer.join()
        with pytest.raises(StoreUnavailable):
            store.is_releasable("a-0", "", "")
    finally:
        postgres_server.start()
    recorded = {kept.request_id for kept in store.decisions()}
    assert set(acknowledged) <= recorded
    assert len(problems) == 4
    # The newest, and those that the crash left pending.
    assert len(store.reserve("after", ask(), at=NOW, limit=1)) >= 1
    store.close()


def test_keys_made_on_the_command_line_are_found_by_a_store_on_the_same_url(
    database: PostgresDatabase, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SAFELIGHT_STORE_URL", database.url)
    assert main(["keys", "create", "mine"]) == PASSES
    token = capsys.readouterr().out.strip()
    store = open_store(database.url)
    key = store.find_key(token)
    store.close()
    assert isinstance(store, PostgresStore)
    assert key is not None
    assert key.name == "mine"


def test_a_machine_without_postgresql_fails_these_tests_and_says_what_to_install(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="apt-get install postgresql"):
        find_binaries(tmp_path, path=str(tmp_path))
