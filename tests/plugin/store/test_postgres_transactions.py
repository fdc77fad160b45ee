"""What a transaction on PostgreSQL withstands: collisions, lost connections, locks; and how a URL is refused."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
import traceback

import psycopg
import pytest

from postgres_server import PASSWORD, USER, PostgresServer
from safelight.errors import ConfigError, StoreUnavailable
from safelight.store.postgres import PostgresStore
from store_databases import PostgresDatabase
from store_requests import NOW, ask, decision

# Refuses the first rows with an error code. A sequence counts on when a transaction is undone.
FAILING_AT_FIRST = """
CREATE SEQUENCE tries;
CREATE FUNCTION fail() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('tries') <= {times} THEN RAISE EXCEPTION '%', NEW USING ERRCODE = '{code}'; END IF;
    RETURN NEW;
END $$;
CREATE TRIGGER fail BEFORE INSERT ON {table} FOR EACH ROW EXECUTE FUNCTION fail();
"""

# Ends its own connection with the first row: at once, or when the transaction commits.
DYING_AT_FIRST = """
CREATE SEQUENCE tries;
CREATE FUNCTION die() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    IF nextval('tries') = 1 THEN PERFORM pg_terminate_backend(pg_backend_pid()); END IF;
    RETURN NEW;
END $$;
CREATE CONSTRAINT TRIGGER die AFTER INSERT ON decisions {when} FOR EACH ROW EXECUTE FUNCTION die();
"""

# Notes under which settings a decision is written.
NOTING_SETTINGS = """
CREATE TABLE noted (durable TEXT, patience TEXT, idle TEXT, level TEXT, prepared BIGINT);
CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN
    INSERT INTO noted SELECT current_setting('synchronous_commit'), current_setting('statement_timeout'),
        current_setting('idle_in_transaction_session_timeout'), current_setting('transaction_isolation'),
        (SELECT count(*) FROM pg_prepared_statements);
    RETURN NEW;
END $$;
CREATE TRIGGER note BEFORE INSERT ON decisions FOR EACH ROW EXECUTE FUNCTION note();
"""

TRIES = "SELECT last_value FROM tries"


def sessions(database: PostgresDatabase) -> list[int]:
    """Return the process ids of the store's sessions."""
    found = database.rows("SELECT pid FROM pg_stat_activity WHERE application_name = 'safelight'")
    return [pid for (pid,) in found]


def test_decisions_are_durable_and_bounded_in_time_whatever_the_database_has_as_default(
    postgres_server: PostgresServer,
) -> None:
    database = PostgresDatabase(
        postgres_server,
        synchronous_commit="off",
        statement_timeout="0",
        default_transaction_isolation="serializable",
    )
    store = PostgresStore(database.url, timeout_s=7)
    database.rows(NOTING_SETTINGS)
    # Often enough that psycopg would have begun to prepare the statement.
    for number in range(12):
        store.record(decision(f"r{number}"))
    store.close()
    assert set(database.rows("SELECT * FROM noted")) == {("on", "7s", "7s", "read committed", 0)}


def test_times_come_back_whatever_the_database_has_as_date_style_and_zone(postgres_server: PostgresServer) -> None:
    database = PostgresDatabase(postgres_server, DateStyle="SQL,DMY", TimeZone="Asia/Kolkata")
    store = PostgresStore(database.url)
    store.record(decision("r1"))
    created = store.decisions()[0].created
    store.close()
    assert created.isoformat() == NOW.isoformat()


@pytest.mark.parametrize("code", ["40001", "40P01"])
def test_a_transaction_that_collided_is_done_again(store: PostgresStore, database: PostgresDatabase, code: str) -> None:
    database.rows(FAILING_AT_FIRST.format(times=3, code=code, table="decisions"))
    store.record(decision("r1"))
    assert store.decisions() == [decision("r1")]
    assert database.rows(TRIES) == [(4,)]


def test_a_transaction_that_collides_four_times_is_given_up(store: PostgresStore, database: PostgresDatabase) -> None:
    database.rows(FAILING_AT_FIRST.format(times=4, code="40001", table="decisions"))
    with pytest.raises(StoreUnavailable, match=r"SerializationFailure \(40001\)"):
        store.record(decision("r1"))
    assert store.decisions() == []
    assert database.rows(TRIES) == [(4,)]


def test_an_error_of_the_database_is_not_repeated_and_tells_nothing_of_the_row(
    store: PostgresStore, database: PostgresDatabase, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("DEBUG")
    database.rows(FAILING_AT_FIRST.format(times=1, code="23514", table="turns"))
    request = ask("zorblax")
    with pytest.raises(StoreUnavailable) as caught:
        store.reserve("r1", request, at=NOW, limit=5)
    assert str(caught.value) == "the store failed: CheckViolation (23514)"
    assert caught.value.__cause__ is None
    assert caught.value.__context__ is None
    assert "zorblax" not in "".join(traceback.format_exception(caught.value)) + caplog.text
    assert database.rows(TRIES) == [(1,)]


def test_the_server_logs_no_values_of_a_statement_that_failed(
    store: PostgresStore, database: PostgresDatabase, postgres_server: PostgresServer
) -> None:
    store.reserve("twice", ask(), at=NOW, limit=5)
    with pytest.raises(StoreUnavailable, match="UniqueViolation"):
        store.reserve("twice", ask("zorblaxed prompt"), at=NOW, limit=5)
    # The statement itself is there; its values travelled apart from it.
    assert "INSERT INTO turns" in postgres_server.log
    assert "zorblaxed" not in postgres_server.log


def test_a_text_that_postgres_cannot_hold_is_the_stores_error_and_harms_no_later_call(store: PostgresStore) -> None:
    for name in ("a\x00b", "a\ud800b"):
        with pytest.raises(StoreUnavailable):
            store.create_key(name, at=NOW)
    store.create_key("b", at=NOW)
    assert [key.name for key in store.list_keys()] == ["b"]


def test_a_table_that_somebody_keeps_locked_is_not_waited_for_without_end(database: PostgresDatabase) -> None:
    store = PostgresStore(database.url, timeout_s=1)
    with psycopg.connect(database.url) as other:
        other.execute("LOCK TABLE turns")
        with pytest.raises(StoreUnavailable, match=r"QueryCanceled \(57014\)"):
            store.reserve("r1", ask(), at=NOW, limit=5)
    assert store.reserve("r1", ask(), at=NOW, limit=5).total == 0
    store.close()


def eventually_held(database: PostgresDatabase, most: int) -> int:
    """Return how many sessions there are; one that was given up ends a moment later on the server."""
    for _ in range(50):
        held = len(sessions(database))
        if held <= most:
            break
        time.sleep(0.05)
    return held


def test_a_store_holds_no_more_connections_than_it_may_and_does_not_wait_for_one_without_end(
    database: PostgresDatabase,
) -> None:
    store = PostgresStore(database.url, timeout_s=1, connections=2)
    problems: list[str] = []

    def reserve(number: int) -> None:
        try:
            store.reserve(f"r{number}", ask(), at=NOW, limit=5)
        except StoreUnavailable as error:
            problems.append(str(error))

    threads = [threading.Thread(target=reserve, args=(number,)) for number in range(6)]
    with psycopg.connect(database.url) as other:
        other.execute("LOCK TABLE turns")
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        held = eventually_held(database, 2)
    store.close()
    assert len(problems) == 6
    assert any("no connection within 1 s" in problem for problem in problems)
    assert held <= 2


def test_connections_that_the_server_ended_are_replaced_without_a_failed_call(
    store: PostgresStore, database: PostgresDatabase
) -> None:
    threads = [
        threading.Thread(target=store.reserve, args=(f"r{number}", ask()), kwargs={"at": NOW, "limit": 1})
        for number in range(8)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    database.rows("SELECT pg_terminate_backend(pid, 5000) FROM pg_stat_activity WHERE application_name = 'safelight'")
    assert len(store.reserve("after", ask(), at=NOW, limit=100)) == 8


def test_work_whose_connection_dies_before_the_commit_is_done_once(
    store: PostgresStore, database: PostgresDatabase
) -> None:
    database.rows(DYING_AT_FIRST.format(when=""))
    store.record(decision("r1"))
    assert store.decisions() == [decision("r1")]
    assert database.rows(TRIES) == [(2,)]


def test_work_whose_connection_dies_in_the_commit_is_not_repeated(
    store: PostgresStore, database: PostgresDatabase
) -> None:
    database.rows(DYING_AT_FIRST.format(when="DEFERRABLE INITIALLY DEFERRED"))
    with pytest.raises(StoreUnavailable):
        store.record(decision("r1"))
    assert database.rows(TRIES) == [(1,)]
    store.record(decision("r2"))
    assert store.decisions() == [decision("r2")]


def test_a_session_killed_outright_costs_nothing_that_was_acknowledged(database: PostgresDatabase) -> None:
    # Patient: the server ends every session when one is killed, and how long it then recovers is the disk's affair.
    store = PostgresStore(database.url, timeout_s=60)
    store.record(decision("r1"))
    os.kill(sessions(database)[0], signal.SIGKILL)
    store.record(decision("r2"))
    assert store.decisions() == [decision("r1"), decision("r2")]
    store.close()


def test_a_database_that_cannot_hold_every_prompt_is_refused(postgres_server: PostgresServer) -> None:
    database = postgres_server.make_database("ENCODING 'LATIN1' TEMPLATE template0")
    with pytest.raises(ConfigError, match="encoding is LATIN1"):
        PostgresStore(database)


def test_a_server_that_cannot_be_reached_is_named_without_the_password(postgres_server: PostgresServer) -> None:
    wrong = "wrong-secret"
    port = postgres_server.port
    cases = {
        f"postgresql://{USER}:{wrong}@127.0.0.1:1/app": ("127.0.0.1:1/app", "refused"),
        postgres_server.url("postgres", password=wrong): (f"127.0.0.1:{port}/postgres", "authentication failed"),
        postgres_server.url("nowhere"): (f"127.0.0.1:{port}/nowhere", "does not exist"),
        f"postgresql://127.0.0.1:1/app?user={USER}&password={wrong}": ("127.0.0.1:1/app", "refused"),
    }
    for url, (place, cause) in cases.items():
        with pytest.raises(ConfigError) as caught:
            PostgresStore(url)
        message = str(caught.value)
        assert message.startswith(f"store.url: cannot use {place}: ")
        assert cause in message
        assert "\n" not in message
        assert wrong not in message
        assert PASSWORD not in message
        assert caught.value.__context__ is None


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://safelight:zor@blax@127.0.0.1:1/app",
        "postgresql://safelight:zor/bl@x@127.0.0.1:1/app",
        "postgresql://safelight:zor?bl@x@127.0.0.1:1/app",
        "postgresql://safelight:zor%blax@127.0.0.1:1/app",
        "postgresql://safelight:zor]blax@[127.0.0.1:1/app",
        "postgresql://127.0.0.1:1/app?password=zor&blax",
    ],
)
def test_a_password_that_is_not_escaped_is_explained_and_not_shown(url: str) -> None:
    with pytest.raises(ConfigError, match=r"store\.url: cannot be read .* write %40 for @") as caught:
        PostgresStore(url)
    assert caught.value.__context__ is None
    assert not any(part in str(caught.value) for part in ("zor", "blax", "bl@x"))


def test_without_psycopg_the_start_says_in_one_line_what_to_install() -> None:
    # A process of its own: what is imported here stays imported.
    program = (
        "import sys; sys.modules['psycopg'] = None\n"
        "from safelight.errors import MissingExtra\n"
        "from safelight.store import open_store\n"
        "try: open_store('postgresql://x/y')\n"
        "except MissingExtra as error: print(error)"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "a store.url of postgresql:// needs psycopg and psycopg_pool: pip install 'safelight[postgres]'\n"
    )
