"""The store on PostgreSQL: one transaction a call, every commit on disk before it is answered."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import TypeVar

from ..policy import Action, Decision
from ..request import GenerationRequest, History, Principal
from . import STALE_AFTER, APIKey, Run, rows, turns
from .postgres_migrations import migrate
from .postgres_transactions import Connection, Cursor, Transactions

TIMEOUT_S = 5.0
"""How long a call waits for a connection, and then for each statement, in seconds."""

CONNECTIONS = 8
"""Most connections of one process. PostgreSQL allows 100 in all unless told otherwise."""

MIGRATION_PATIENCE_S = 60.0
"""How long a start waits for another process that migrates, in seconds."""

_T = TypeVar("_T")

_RELEASABLE = """
    SELECT EXISTS (
        SELECT 1 FROM decisions WHERE stage = 'prompt' AND action IN ('allow', 'flag')
        AND request_id = %(request_id)s AND policy = %(policy)s
    ) AND EXISTS (
        SELECT 1 FROM decisions WHERE stage = 'image' AND action IN ('allow', 'flag')
        AND request_id = %(request_id)s AND policy = %(policy)s AND image_sha256 = %(image_sha256)s
    ) AS yes
"""


class PostgresStore:
    """A store in a PostgreSQL database (version 12 or newer) of its own, shared by any number of processes.

    Everything that a transaction relies on is set inside it and ends with it, and no statement is prepared, so a
    PgBouncer in transaction mode may stand between. Text that is erased is gone from every query at once; its bytes
    leave the server's files, write-ahead log and standbys only as PostgreSQL recycles them. Statements carry their
    values apart from the SQL; an operator who has the server log statements sets ``log_parameter_max_length = 0``.

    Args:
        url: ``postgresql://user:password@host:port/database``, as libpq reads it.
        timeout_s: How long a call waits for a connection, and then for each statement, in seconds.
        connections: Most connections held at a time.

    Raises:
        ConfigError: If the database cannot be reached, used or migrated, or belongs to a newer Safelight.
    """

    def __init__(self, url: str, *, timeout_s: float = TIMEOUT_S, connections: int = CONNECTIONS) -> None:
        self._secrets: dict[str, bytes] = {}
        self._transactions = Transactions(url, prepare=_prepare, timeout_s=timeout_s, connections=connections)

    def reserve(self, request_id: str, request: GenerationRequest, *, at: datetime, limit: int) -> History:
        """Add a pending turn and return what came before it."""
        return self._transactions.transact(lambda run: turns.reserve(run, request_id, request, at=at, limit=limit))

    def history(self, principal: Principal, *, limit: int) -> History:
        """Return what is known of a person."""
        return self._transactions.transact(lambda run: turns.history(run, principal, limit=limit), write=False)

    def record(self, decision: Decision) -> None:
        """Add a decision and settle its turn."""
        self._transactions.transact(lambda run: turns.record(run, decision))

    def overturn(self, decision_id: str, *, at: datetime) -> bool:
        """Note that an appeal was won."""
        return self._transactions.transact(lambda run: turns.overturn(run, decision_id, at=at))

    def settle(self, request_id: str, action: Action | None) -> None:
        """Set what became of a turn."""
        self._transactions.transact(lambda run: turns.settle(run, request_id, action))

    def is_releasable(self, request_id: str, image_sha256: str, policy: str) -> bool:
        """Look for both allows."""
        values = {"request_id": request_id, "image_sha256": image_sha256, "policy": policy}
        return self._transactions.run(lambda cursor: bool(cursor.execute(_RELEASABLE, values).fetchall()[0]["yes"]))

    def decisions(self, *, request_id: str | None = None, image_sha256: str | None = None) -> Sequence[Decision]:
        """Return decisions of a request or about a picture."""
        found = self._transactions.run(
            lambda cursor: cursor.execute(
                "SELECT * FROM decisions WHERE (%(request_id)s::text IS NULL OR request_id = %(request_id)s)"
                " AND (%(sha)s::text IS NULL OR image_sha256 = %(sha)s) ORDER BY seq",
                {"request_id": request_id, "sha": image_sha256},
            ).fetchall()
        )
        return [rows.decision_of(row) for row in found]

    def create_key(self, name: str, *, at: datetime) -> tuple[APIKey, str]:
        """Make a key."""
        key, token, digest = rows.new_key(name, at, self.secret("api-keys"))
        values = [key.id, name, key.prefix, digest, rows.stamp(at)]
        self._transactions.run(
            lambda cursor: cursor.execute(
                "INSERT INTO keys (id, name, prefix, digest, created) VALUES (%s, %s, %s, %s, %s)", values
            )
        )
        return key, token

    def find_key(self, token: str) -> APIKey | None:
        """Look a token up by its digest, so that no comparison depends on its bytes."""
        digest = rows.digest(token, self.secret("api-keys"))
        found = self._transactions.run(
            lambda cursor: cursor.execute(
                "SELECT * FROM keys WHERE digest = %s AND revoked IS NULL", [digest]
            ).fetchone()
        )
        return rows.key_of(found) if found else None

    def list_keys(self) -> Sequence[APIKey]:
        """Return every key."""
        found = self._transactions.run(
            lambda cursor: cursor.execute("SELECT * FROM keys ORDER BY created, id").fetchall()
        )
        return [rows.key_of(row) for row in found]

    def revoke_key(self, id: str, *, at: datetime) -> bool:
        """Revoke a key that is not revoked yet."""
        return self._transactions.run(
            lambda cursor: bool(
                cursor.execute(
                    "UPDATE keys SET revoked = %s WHERE id = %s AND revoked IS NULL", [rows.stamp(at), id]
                ).rowcount
            )
        )

    def secret(self, name: str) -> bytes:
        """Return a secret, made on first use."""
        # It never changes, and every key that is looked up needs one.
        if name not in self._secrets:
            self._secrets[name] = self._transactions.run(lambda cursor: _secret(cursor, name))
        return self._secrets[name]

    def transact(self, work: Callable[[Run], _T], *, write: bool = True) -> _T:
        """Do work in one transaction."""
        return self._transactions.transact(work, write=write)

    def close(self) -> None:
        """Give every connection back."""
        self._transactions.close()


def _prepare(connection: Connection) -> None:
    """Bring the schema up to date, and close what a process that died has left behind."""
    migrate(connection, patience_s=MIGRATION_PATIENCE_S)
    # By the database's clock, which all its processes share.
    connection.execute(
        "UPDATE turns SET state = %s WHERE state = 'pending' AND created < now() - %s", [rows.FAULT, STALE_AFTER]
    )


def _secret(cursor: Cursor, name: str) -> bytes:
    find = "SELECT value FROM secrets WHERE name = %s"
    found = cursor.execute(find, [name]).fetchone()
    if found is None:
        # Another process may be quicker; then its secret stands.
        cursor.execute(
            "INSERT INTO secrets (name, value) VALUES (%s, %s) ON CONFLICT DO NOTHING", [name, secrets.token_bytes(32)]
        )
        found = cursor.execute(find, [name]).fetchall()[0]
    return bytes(found["value"])
