from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from fakes import ALICE, BOB
from sqlite_utils import Database

from safelight.errors import ConfigError, StoreUnavailable
from safelight.policy import Action, Decision, Reason
from safelight.request import GenerationRequest, Principal
from safelight.store import open_store
from safelight.store.migrations import migrations
from safelight.store.sqlite import SQLiteStore
from safelight.verdict import Outcome, Stage, Verdict

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SHA = "ab" * 32


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SQLiteStore]:
    store = SQLiteStore(tmp_path / "s.db")
    yield store
    store.close()


def ask(prompt: str = "tea", principal: Principal = ALICE) -> GenerationRequest:
    return GenerationRequest(prompt, principal)


def decision(request_id: str, stage: Stage = Stage.PROMPT, **changes: Any) -> Decision:
    values: dict[str, Any] = {
        "id": f"dec_{request_id}_{stage}_{changes.get('index')}",
        "request_id": request_id,
        "stage": stage,
        "action": Action.ALLOW,
        "reason": Reason.CLEAR,
        "categories": (),
        "policy": "sha256:1",
        "verdicts": (Verdict("a", stage, {"hate": 0.25}, model="m", ms=1.5),),
        "created": NOW,
    }
    return Decision(**values | changes)


def test_a_decision_comes_back_as_it_was_recorded(store: SQLiteStore) -> None:
    store.reserve("r1", ask(), at=NOW, limit=5)
    recorded = decision("r1", Stage.IMAGE, index=3, image_sha256=SHA, categories=("hate",), action=Action.FLAG)
    store.record(recorded)
    assert store.decisions(image_sha256=SHA) == [recorded]
    assert store.decisions(request_id="other") == []


def test_reserving_returns_the_persons_turns_before_it_with_their_rulings(store: SQLiteStore) -> None:
    for number, action in enumerate((Action.ALLOW, Action.BLOCK, Action.FLAG)):
        store.reserve(f"r{number}", ask(f"prompt {number}"), at=NOW + timedelta(seconds=number), limit=5)
        store.record(decision(f"r{number}", action=action, reason=Reason.CATEGORY))
    store.reserve("pending", ask("pending"), at=NOW, limit=5)
    history = store.reserve("now", ask("now"), at=NOW, limit=3)
    assert [(turn.texts["prompt"], turn.action) for turn in history] == [
        ("prompt 1", Action.BLOCK),
        ("prompt 2", Action.FLAG),
        ("pending", None),
    ]
    assert history[0].at == NOW + timedelta(seconds=1)


def test_histories_are_kept_apart_by_principal_person_and_tenant(store: SQLiteStore) -> None:
    store.reserve("r1", ask(), at=NOW, limit=5)
    for number, other in enumerate((BOB, Principal(ALICE.id, person="x"), Principal(ALICE.id, tenant="other"))):
        assert store.reserve(f"o{number}", ask(principal=other), at=NOW, limit=5) == ()
    assert len(store.reserve("r2", ask(), at=NOW, limit=5)) == 1


def test_a_blocked_picture_settles_its_turn_and_an_allowed_one_does_not_unsettle_it(store: SQLiteStore) -> None:
    store.reserve("r1", ask(), at=NOW, limit=5)
    store.record(decision("r1"))
    blocked = decision("r1", Stage.IMAGE, index=0, action=Action.BLOCK, reason=Reason.CATEGORY, image_sha256=SHA)
    store.record(blocked)
    store.record(decision("r1", Stage.IMAGE, index=1, image_sha256=SHA[::-1]))
    assert store.reserve("r2", ask(), at=NOW, limit=5)[0].action is Action.BLOCK


def test_a_picture_is_releasable_only_with_both_allows_of_one_request_and_policy(store: SQLiteStore) -> None:
    def yes(request_id: str = "r1", sha: str = SHA, policy: str = "sha256:1") -> bool:
        return store.is_releasable(request_id, sha, policy)

    assert not yes()
    store.record(decision("r1", Stage.IMAGE, image_sha256=SHA))
    assert not yes()
    store.record(decision("r1"))
    assert yes()
    assert not yes(request_id="r2")
    assert not yes(sha=SHA[::-1])
    assert not yes(policy="sha256:2")


def test_a_blocked_prompt_makes_no_picture_releasable(store: SQLiteStore) -> None:
    store.record(decision("r1", action=Action.BLOCK, reason=Reason.CATEGORY))
    store.record(decision("r1", Stage.IMAGE, image_sha256=SHA))
    assert not store.is_releasable("r1", SHA, "sha256:1")


def test_parallel_reservations_of_one_person_see_all_before_them(tmp_path: Path) -> None:
    # Two connections, as two processes would have them.
    stores = [SQLiteStore(tmp_path / "s.db") for _ in range(2)]
    sizes: list[int] = []

    def reserve(number: int) -> None:
        history = stores[number % 2].reserve(f"r{number}", ask(), at=NOW, limit=100)
        sizes.append(len(history))

    threads = [threading.Thread(target=reserve, args=(number,)) for number in range(32)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    for store in stores:
        store.close()
    assert sorted(sizes) == list(range(32))


def test_a_key_is_found_by_its_token_until_it_is_revoked(store: SQLiteStore) -> None:
    key, token = store.create_key("mine", at=NOW)
    assert store.find_key(token) == key
    assert store.find_key(token + "x") is None
    assert store.find_key("") is None
    assert store.find_key("' OR 1=1 --") is None
    assert store.find_key("\ud800") is None
    assert store.revoke_key(key.id, at=NOW)
    assert not store.revoke_key(key.id, at=NOW)
    assert store.find_key(token) is None
    assert [listed.revoked for listed in store.list_keys()] == [NOW]


def test_a_token_is_found_nowhere_on_disk(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    _, token = store.create_key("mine", at=NOW)
    on_disk = b"".join(file.read_bytes() for file in tmp_path.iterdir())
    store.close()
    assert token[8:].encode() not in on_disk


def test_the_file_is_readable_by_its_owner_only(tmp_path: Path) -> None:
    SQLiteStore(tmp_path / "s.db").close()
    assert (tmp_path / "s.db").stat().st_mode & 0o077 == 0


def test_a_secret_stays_the_same_for_a_store_and_differs_between_names(tmp_path: Path) -> None:
    first = SQLiteStore(tmp_path / "s.db")
    secrets = first.secret("a"), first.secret("b")
    first.close()
    again = SQLiteStore(tmp_path / "s.db")
    assert (again.secret("a"), again.secret("b")) == secrets
    assert len(secrets[0]) == 32
    assert secrets[0] != secrets[1]
    again.close()


def test_decisions_are_written_through_to_disk(store: SQLiteStore, tmp_path: Path) -> None:
    pragmas = {name: store._db.execute(f"PRAGMA {name}").fetchone()[0] for name in ("journal_mode", "synchronous")}
    assert pragmas == {"journal_mode": "wal", "synchronous": 2}


def test_a_turn_left_pending_by_a_process_that_died_is_closed_at_the_next_start(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    store.reserve("old", ask("old"), at=datetime.now(UTC) - timedelta(hours=1), limit=5)
    store.reserve("new", ask("new"), at=datetime.now(UTC), limit=5)
    store.close()
    again = SQLiteStore(tmp_path / "s.db")
    states = dict(again._db.execute("SELECT request_id, state FROM turns").fetchall())
    again.close()
    assert states == {"old": "fault", "new": "pending"}


def test_a_store_that_another_process_keeps_locked_says_so_in_time(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db", busy_s=0.1)
    other = sqlite3.connect(tmp_path / "s.db")
    other.execute("BEGIN IMMEDIATE")
    with pytest.raises(StoreUnavailable):
        store.reserve("r1", ask(), at=NOW, limit=5)
    other.rollback()
    other.close()
    store.reserve("r1", ask(), at=NOW, limit=5)
    store.close()


def test_a_closed_store_says_so(tmp_path: Path) -> None:
    store = SQLiteStore(tmp_path / "s.db")
    store.close()
    store.close()
    with pytest.raises(StoreUnavailable, match="closed"):
        store.list_keys()


def test_a_file_that_is_no_database_stops_the_start_and_is_left_alone(tmp_path: Path) -> None:
    (tmp_path / "s.db").write_bytes(b"this is no database, but somebody's letter" * 100)
    with pytest.raises(ConfigError, match="cannot use"):
        SQLiteStore(tmp_path / "s.db")
    assert (tmp_path / "s.db").read_bytes().startswith(b"this is no database")


def test_a_folder_that_is_missing_stops_the_start(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot use"):
        SQLiteStore(tmp_path / "missing" / "s.db")


def test_a_database_of_a_newer_safelight_is_refused(tmp_path: Path) -> None:
    SQLiteStore(tmp_path / "s.db").close()
    raw = sqlite3.connect(tmp_path / "s.db")
    raw.execute(
        "INSERT INTO _sqlite_migrations (migration_set, name, applied_at) VALUES ('safelight', 'm999_future', '')"
    )
    raw.commit()
    raw.close()
    with pytest.raises(ConfigError, match="m999_future"):
        SQLiteStore(tmp_path / "s.db")


def test_migrations_from_nothing_give_the_schema_that_the_code_expects() -> None:
    db = Database(memory=True)
    migrations.apply(db)
    columns = {table.name: [column.name for column in table.columns] for table in db.tables}
    assert columns["turns"] == "seq request_id tenant principal person texts created state".split()
    assert columns["keys"] == "id name prefix digest created revoked".split()
    assert columns["secrets"] == ["name", "value"]
    assert columns["decisions"] == (
        "seq id request_id stage action reason categories policy verdicts created picture_index image_sha256 hold"
    ).split()
    db.close()


@pytest.mark.parametrize("url", ["mysql://x", "safelight.db", ""])
def test_a_url_of_no_known_database_is_refused(url: str) -> None:
    with pytest.raises(ConfigError, match=r"store\.url"):
        open_store(url)


WRITER = """
import sys
from datetime import UTC, datetime
from safelight.request import GenerationRequest, Principal
from safelight.policy import Action, Decision, Reason
from safelight.store.sqlite import SQLiteStore
from safelight.verdict import Stage, Verdict
store = SQLiteStore(sys.argv[1])
number = 0
while True:
    now = datetime.now(UTC)
    store.reserve(f"{sys.argv[2]}-{number}", GenerationRequest("tea", Principal("p")), at=now, limit=1)
    store.record(Decision(f"d{sys.argv[2]}-{number}", f"{sys.argv[2]}-{number}", Stage.PROMPT, Action.ALLOW,
        Reason.CLEAR, (), "p", (Verdict("a", Stage.PROMPT, {"hate": 0.0}),), now))
    print(f"{sys.argv[2]}-{number}", flush=True)
    number += 1
"""


def test_two_processes_killed_while_writing_lose_nothing_that_was_acknowledged(tmp_path: Path) -> None:
    acknowledged: list[str] = []
    for round_ in range(4):
        writers = [
            subprocess.Popen(
                [sys.executable, "-c", WRITER, str(tmp_path / "s.db"), f"{round_}{name}"],
                stdout=subprocess.PIPE,
                text=True,
            )
            for name in "ab"
        ]
        for writer in writers:
            assert writer.stdout is not None
            acknowledged += [writer.stdout.readline().strip() for _ in range(10 + round_)]
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
        for writer in writers:
            assert writer.stdout is not None
            # What stands in the pipe was acknowledged too; a last line that was cut off was not.
            acknowledged += [line.strip() for line in writer.stdout.read().splitlines(keepends=True) if line[-1:] == "\n"]
            writer.wait()
            writer.stdout.close()
    store = SQLiteStore(tmp_path / "s.db")
    recorded = {row[0] for row in store._db.execute("SELECT request_id FROM decisions").fetchall()}
    intact = store._db.execute("PRAGMA integrity_check").fetchone()[0]
    store.close()
    assert set(acknowledged) <= recorded
    assert len(acknowledged) >= 80
    assert intact == "ok"


def test_a_failed_outcome_survives_the_store(store: SQLiteStore) -> None:
    verdict = Verdict("a", Stage.PROMPT, outcome=Outcome.TIMEOUT, reason="deadline")
    store.record(decision("r1", verdicts=(verdict,), action=Action.BLOCK, reason=Reason.SCREENING_UNAVAILABLE))
    assert store.decisions(request_id="r1")[0].verdicts == (verdict,)
