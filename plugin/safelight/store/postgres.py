"""The store on PostgreSQL: one transaction a call, every commit on disk before it is answered."""

from __future__ import annotations

import hashlib
import json
import secrets
from collections.abc import Sequence
from datetime import datetime

from ..policy import Action, Decision, Reason
from ..request import GenerationRequest, Principal, Turn
from ..verdict import Stage
from . import STALE_AFTER, APIKey, rows
from .postgres_migrations import migrate
from .postgres_transactions import Connection, Cursor, Transactions

TIMEOUT_S = 5.0
"""How long a call waits for a connection, and then for each statement, in seconds."""

CONNECTIONS = 8
"""Most connections of one process. PostgreSQL allows 100 in all unless told otherwise."""

MIGRATION_PATIENCE_S = 60.0
"""How long a start waits for another process that migrates, in seconds."""

_INSERT_TURN = """
    INSERT INTO turns (request_id, tenant, principal, person, texts, created, state)
    VALUES (%(request_id)s, %(tenant)s, %(principal)s, %(person)s, %(texts)s, %(created)s, %(state)s)
"""
_INSERT_DECISION = """
    INSERT INTO decisions (id, request_id, stage, action, reason, categories, policy, verdicts, created, picture_index,
        image_sha256, hold)
    VALUES (%(id)s, %(request_id)s, %(stage)s, %(action)s, %(reason)s, %(categories)s, %(policy)s, %(verdicts)s,
        %(created)s, %(picture_index)s, %(image_sha256)s, %(hold)s)
"""
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

    def reserve(self, request_id: str, request: GenerationRequest, *, at: datetime, limit: int) -> tuple[Turn, ...]:
        """Add a pending turn and return what came before it."""
        who = request.principal
        values = {
            "request_id": request_id,
            "tenant": who.tenant,
            "principal": who.id,
            "person": who.person,
            "texts": json.dumps(dict(request.texts), ensure_ascii=False),
            "created": rows.stamp(at),
            "state": rows.PENDING,
        }

        def work(cursor: Cursor) -> tuple[Turn, ...]:
            # One person at a time, until this commits. A statement of its own: the next one then reads a snapshot
            # that was taken after the wait, so it holds what the one before has committed.
            cursor.execute("SELECT pg_advisory_xact_lock(%s)", [_lock_of(who)])
            past = cursor.execute(
                "SELECT texts, created, state FROM turns WHERE tenant = %s AND principal = %s AND person = %s"
                " ORDER BY seq DESC LIMIT %s",
                [who.tenant, who.id, who.person, limit],
            )
            history = tuple(rows.turn_of(row) for row in past)[::-1]
            cursor.execute(_INSERT_TURN, values)
            return history

        return self._transactions.run(work)

    def record(self, decision: Decision) -> None:
        """Add a decision and settle its turn."""
        row = rows.decision_row(decision)

        def work(cursor: Cursor) -> None:
            cursor.execute(_INSERT_DECISION, row)
            # The prompt's ruling settles the turn; a picture's only where it is worse.
            if decision.stage is Stage.PROMPT or not decision.allows:
                _set_state(cursor, decision.request_id, rows.state_after(decision))
            if decision.reason is Reason.RESTRICTED:
                cursor.execute("UPDATE turns SET texts = '{}' WHERE request_id = %s", [decision.request_id])

        self._transactions.run(work)

    def settle(self, request_id: str, action: Action | None) -> None:
        """Set what became of a turn."""
        state = rows.FAULT if action is None else str(action)
        self._transactions.run(lambda cursor: _set_state(cursor, request_id, state))

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


def _lock_of(who: Principal) -> int:
    """Return the number of a person's advisory lock. Persons who share one only wait for each other."""
    name = json.dumps(["safelight", who.tenant, who.id, who.person]).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)


def _set_state(cursor: Cursor, request_id: str, state: str) -> None:
    cursor.execute("UPDATE turns SET state = %s WHERE request_id = %s AND state != 'block'", [state, request_id])


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
