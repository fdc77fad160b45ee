"""The store on SQLite: one writing connection, WAL, every commit on disk before it is answered."""

from __future__ import annotations

import secrets
import sqlite3
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TypeVar

from filelock import FileLock, Timeout
from sqlite_utils import Database

from ..errors import ConfigError, StoreUnavailable
from ..policy import Action, Decision, Reason
from ..request import GenerationRequest, History, Principal
from . import STALE_AFTER, APIKey, Run, rows, turns
from .migrations import migrate

BUSY_S = 5.0
"""How long to wait for another process's write before giving up, in seconds."""

_T = TypeVar("_T")


class SQLiteStore:
    """A store in one SQLite file, or in memory for ``:memory:``.

    Several processes may use one file. SQLite from 3.7.0 to 3.51.2 can damage a WAL database when two connections
    write or checkpoint at the same instant (fixed in 3.51.3), so writes also take a lock file beside the database.

    Args:
        path: The file; its folder must exist. It is made where it is missing, readable by its owner only.
        busy_s: How long a write waits for other processes, in seconds.

    Raises:
        ConfigError: If the file cannot be opened, is no SQLite database, or belongs to a newer Safelight.
    """

    def __init__(self, path: str | Path, *, busy_s: float = BUSY_S) -> None:
        self._mutex = threading.RLock()
        self._closed = False
        self._path = Path(path)
        self._file: tuple[int, int] | None = None
        in_memory = str(path) == ":memory:"
        self._file_lock = None if in_memory else FileLock(f"{path}.lock", timeout=busy_s, thread_local=False)
        try:
            if not in_memory:
                # Prompts and key digests are inside: nobody else on the machine needs to read them.
                Path(path).touch(mode=0o600)
            connection = sqlite3.connect(path, timeout=busy_s, check_same_thread=False)
            self._db = Database(connection)
            with self._locked():
                self._prepare()
                migrate(self._db)
                self._abort_stale()
            if not in_memory:
                self._file = self._identity()
        except (OSError, ValueError, sqlite3.Error, StoreUnavailable, ConfigError) as error:
            if hasattr(self, "_db"):
                self._db.close()
            if isinstance(error, ConfigError):
                raise
            raise ConfigError(f"store.url: cannot use {path}: {error}") from error

    def _identity(self) -> tuple[int, int]:
        found = self._path.stat()
        return found.st_dev, found.st_ino

    def _still_there(self) -> None:
        # A file that was deleted or replaced keeps answering, and nothing that it answers is on disk any more.
        if self._file is not None and self._identity() != self._file:
            raise StoreUnavailable("the store's file was replaced")

    def _prepare(self) -> None:
        self._db.enable_wal()
        # FULL: a commit is on disk when it returns, even if the power fails next.
        self._db.execute("PRAGMA synchronous = FULL")
        # Erased text is overwritten rather than left in free pages.
        self._db.execute("PRAGMA secure_delete = ON")

    def _abort_stale(self) -> None:
        with self._transaction():
            self._db.execute(
                "UPDATE turns SET state = ? WHERE state = 'pending' AND created < ?",
                [rows.FAULT, rows.stamp(datetime.now(UTC) - STALE_AFTER)],
            )

    def reserve(self, request_id: str, request: GenerationRequest, *, at: datetime, limit: int) -> History:
        """Add a pending turn and return what came before it."""
        with self._write():
            return turns.reserve(self._run, request_id, request, at=at, limit=limit)

    def history(self, principal: Principal, *, limit: int) -> History:
        """Return what is known of a person."""
        with self._reading():
            return turns.history(self._run, principal, limit=limit)

    def record(self, decision: Decision) -> None:
        """Add a decision and settle its turn."""
        with self._write():
            turns.record(self._run, decision)
        if decision.reason is Reason.RESTRICTED:
            with self._write(transaction=False):
                # The erased text also stands in the log of pages to be written; empty that too.
                self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()

    def overturn(self, decision_id: str, *, at: datetime) -> bool:
        """Note that an appeal was won."""
        with self._write():
            return turns.overturn(self._run, decision_id, at=at)

    def settle(self, request_id: str, action: Action | None) -> None:
        """Set what became of a turn."""
        with self._write():
            turns.settle(self._run, request_id, action)

    def is_releasable(self, request_id: str, image_sha256: str, policy: str) -> bool:
        """Look for both allows."""
        passing = "action IN ('allow', 'flag') AND request_id = ? AND policy = ?"
        found = self._read(
            f"SELECT EXISTS (SELECT 1 FROM decisions WHERE stage = 'prompt' AND {passing})"  # noqa: S608
            f" AND EXISTS (SELECT 1 FROM decisions WHERE stage = 'image' AND image_sha256 = ? AND {passing}) AS yes",
            [request_id, policy, image_sha256, request_id, policy],
        )
        return bool(found[0]["yes"])

    def decisions(self, *, request_id: str | None = None, image_sha256: str | None = None) -> Sequence[Decision]:
        """Return decisions of a request or about a picture."""
        found = self._read(
            "SELECT * FROM decisions WHERE (? IS NULL OR request_id = ?) AND (? IS NULL OR image_sha256 = ?)"
            " ORDER BY seq",
            [request_id, request_id, image_sha256, image_sha256],
        )
        return [rows.decision_of(row) for row in found]

    def create_key(self, name: str, *, at: datetime) -> tuple[APIKey, str]:
        """Make a key."""
        key, token, digest = rows.new_key(name, at, self.secret("api-keys"))
        with self._write():
            self._db.table("keys").insert(
                {"id": key.id, "name": name, "prefix": key.prefix, "digest": digest, "created": rows.stamp(at)}
            )
        return key, token

    def find_key(self, token: str) -> APIKey | None:
        """Look a token up by its digest, so that no comparison depends on its bytes."""
        digest = rows.digest(token, self.secret("api-keys"))
        found = self._read("SELECT * FROM keys WHERE digest = ? AND revoked IS NULL", [digest])
        return rows.key_of(found[0]) if found else None

    def list_keys(self) -> Sequence[APIKey]:
        """Return every key."""
        return [rows.key_of(row) for row in self._read("SELECT * FROM keys ORDER BY created, id", [])]

    def revoke_key(self, id: str, *, at: datetime) -> bool:
        """Revoke a key that is not revoked yet."""
        with self._write():
            cursor = self._db.execute(
                "UPDATE keys SET revoked = ? WHERE id = ? AND revoked IS NULL", [rows.stamp(at), id]
            )
            return bool(cursor.rowcount)

    def secret(self, name: str) -> bytes:
        """Return a secret, made on first use."""
        found = self._read("SELECT value FROM secrets WHERE name = ?", [name])
        if not found:
            with self._write():
                # Another process may have been quicker; then its secret stands.
                self._db.execute("INSERT OR IGNORE INTO secrets VALUES (?, ?)", [name, secrets.token_bytes(32)])
            found = self._read("SELECT value FROM secrets WHERE name = ?", [name])
        return bytes(found[0]["value"])

    def transact(self, work: Callable[[Run], _T], *, write: bool = True) -> _T:
        """Do work in one transaction, alone if it writes."""
        with self._write() if write else self._reading():
            return work(self._run)

    def close(self) -> None:
        """Close the connection; the last one to close folds the log into the file."""
        with self._mutex:
            if not self._closed:
                self._closed = True
                with self._locked():
                    self._db.close()

    def _read(self, sql: str, values: Sequence[Any]) -> list[dict[str, Any]]:
        with self._mutex, _translated(self._closed):
            self._still_there()
            return list(self._db.query(sql, values))

    def _run(self, statement: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        cursor = self._db.conn.execute(statement, dict(values))
        names = [column[0] for column in cursor.description or ()]
        return [dict(zip(names, row, strict=True)) for row in cursor]

    @contextmanager
    def _reading(self) -> Iterator[None]:
        with self._mutex, _translated(self._closed):
            self._still_there()
            # It does not hold the lock file, so nothing may be written.
            self._db.conn.execute("PRAGMA query_only = ON")
            try:
                # One snapshot for all that is read.
                self._db.conn.execute("BEGIN")
                yield
            finally:
                self._db.conn.rollback()
                self._db.conn.execute("PRAGMA query_only = OFF")

    @contextmanager
    def _write(self, *, transaction: bool = True) -> Iterator[None]:
        with self._mutex, _translated(self._closed), self._locked():
            self._still_there()
            if not transaction:
                yield
                return
            with self._transaction():
                yield

    @contextmanager
    def _transaction(self) -> Iterator[None]:
        # IMMEDIATE: a deferred transaction that reads first loses the race to write with 'database is locked'.
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.conn.execute("COMMIT")
        except BaseException:
            self._db.rollback()
            raise

    @contextmanager
    def _locked(self) -> Iterator[None]:
        if self._file_lock is None:
            yield
            return
        try:
            self._file_lock.acquire()
        except Timeout as error:
            raise StoreUnavailable("the store is busy: another process holds its lock") from error
        try:
            yield
        finally:
            self._file_lock.release()


@contextmanager
def _translated(closed: bool) -> Iterator[None]:
    """Turn what SQLite raises into the store's own error; its text names no data."""
    if closed:
        raise StoreUnavailable("the store is closed")
    try:
        yield
    except (sqlite3.Error, OSError, UnicodeError, OverflowError) as error:
        raise StoreUnavailable(f"the store failed: {error}") from error
