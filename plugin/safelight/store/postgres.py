"""The store on PostgreSQL: a small pool, one transaction a call, every commit on disk before it is answered."""

from __future__ import annotations

import hashlib
import json
import random
import secrets
import time
from collections.abc import Callable, Sequence
from datetime import datetime
from typing import Any, TypeVar

from ..errors import ConfigError, MissingExtra, StoreUnavailable
from ..policy import Action, Decision, Reason
from ..request import GenerationRequest, Principal, Turn
from ..verdict import Stage
from . import STALE_AFTER, APIKey, rows

try:
    import psycopg
    from psycopg import sql
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.rows import DictRow, dict_row
    from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout
except ImportError as error:
    raise MissingExtra("psycopg and psycopg_pool", "postgres", needed_by="a store.url of postgresql://") from error

from .postgres_migrations import migrate

TIMEOUT_S = 5.0
"""How long a call waits for a connection, and then for each statement, in seconds."""

CONNECTIONS = 8
"""Most connections of one process. PostgreSQL allows 100 in all unless told otherwise."""

MIGRATION_PATIENCE_S = 60.0
"""How long a start waits for another process that migrates, in seconds."""

RETRIES = 3
"""How often a transaction is tried again where it is certain that nothing of it was done (F48 of the fault matrix)."""

_COLLISIONS = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)

# What a URL may override. A server that vanished without a word is noticed after about eleven seconds, and of several
# hosts only the one that takes writes is used.
_DEFAULTS = {
    "application_name": "safelight",
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 11_000,
    "target_session_attrs": "read-write",
}

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

_T = TypeVar("_T")
_Cursor = psycopg.Cursor[DictRow]


class _LostBeforeCommit(Exception):
    """The connection was lost before the commit was sent, so the server has undone the transaction."""


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
        conninfo = _conninfo(url, timeout_s)
        self._secrets: dict[str, bytes] = {}
        self._timeout_s = timeout_s
        # LOCAL: a pooler between us and the server hands the session to somebody else after the transaction.
        self._limits = sql.SQL(
            "SET LOCAL synchronous_commit = on; SET LOCAL statement_timeout = {ms};"
            " SET LOCAL idle_in_transaction_session_timeout = {ms}"
        ).format(ms=round(timeout_s * 1000))
        _prepare(conninfo)
        self._pool = ConnectionPool(
            conninfo,
            connection_class=psycopg.Connection[DictRow],
            kwargs=_CONNECTION,
            configure=_configure,
            min_size=1,
            max_size=connections,
            timeout=timeout_s,
            # Not the five minutes by default: in their course the pool tries less and less often, and would find
            # a database that is back only long after it came back. Once it gives up, the next call tries at once.
            reconnect_timeout=timeout_s,
            name="safelight",
            open=True,
        )

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

        def work(cursor: _Cursor) -> tuple[Turn, ...]:
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

        return self._transact(work)

    def record(self, decision: Decision) -> None:
        """Add a decision and settle its turn."""
        row = rows.decision_row(decision)

        def work(cursor: _Cursor) -> None:
            cursor.execute(_INSERT_DECISION, row)
            # The prompt's ruling settles the turn; a picture's only where it is worse.
            if decision.stage is Stage.PROMPT or not decision.allows:
                _set_state(cursor, decision.request_id, rows.state_after(decision))
            if decision.reason is Reason.RESTRICTED:
                cursor.execute("UPDATE turns SET texts = '{}' WHERE request_id = %s", [decision.request_id])

        self._transact(work)

    def settle(self, request_id: str, action: Action | None) -> None:
        """Set what became of a turn."""
        state = rows.FAULT if action is None else str(action)
        self._transact(lambda cursor: _set_state(cursor, request_id, state))

    def is_releasable(self, request_id: str, image_sha256: str, policy: str) -> bool:
        """Look for both allows."""
        values = {"request_id": request_id, "image_sha256": image_sha256, "policy": policy}
        return self._transact(lambda cursor: bool(cursor.execute(_RELEASABLE, values).fetchall()[0]["yes"]))

    def decisions(self, *, request_id: str | None = None, image_sha256: str | None = None) -> Sequence[Decision]:
        """Return decisions of a request or about a picture."""
        found = self._transact(
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
        self._transact(
            lambda cursor: cursor.execute(
                "INSERT INTO keys (id, name, prefix, digest, created) VALUES (%s, %s, %s, %s, %s)", values
            )
        )
        return key, token

    def find_key(self, token: str) -> APIKey | None:
        """Look a token up by its digest, so that no comparison depends on its bytes."""
        digest = rows.digest(token, self.secret("api-keys"))
        found = self._transact(
            lambda cursor: cursor.execute(
                "SELECT * FROM keys WHERE digest = %s AND revoked IS NULL", [digest]
            ).fetchone()
        )
        return rows.key_of(found) if found else None

    def list_keys(self) -> Sequence[APIKey]:
        """Return every key."""
        found = self._transact(lambda cursor: cursor.execute("SELECT * FROM keys ORDER BY created, id").fetchall())
        return [rows.key_of(row) for row in found]

    def revoke_key(self, id: str, *, at: datetime) -> bool:
        """Revoke a key that is not revoked yet."""
        return self._transact(
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
            self._secrets[name] = self._transact(lambda cursor: _secret(cursor, name))
        return self._secrets[name]

    def close(self) -> None:
        """Give every connection back."""
        self._pool.close()

    def _transact(self, work: Callable[[_Cursor], _T]) -> _T:
        """Do some work in one transaction, and again where nothing of it can have been done.

        Raises:
            StoreUnavailable: If it failed otherwise, or too often.
        """
        for attempt in range(RETRIES + 1):
            if attempt:
                # Two that got into each other's way should not set out together again.
                time.sleep(random.uniform(0.0, 0.02 * 2**attempt))  # noqa: S311  (spreads load, guards nothing)
            try:
                return self._try(work)
            except _COLLISIONS as error:
                problem = _kind(error)
            except _LostBeforeCommit:
                problem = "the connection was lost"
                # What one connection met, the idle ones have met too: a restart, or a failover.
                self._pool.drain()
            except PoolClosed:
                problem = "it is closed"
                break
            except PoolTimeout:
                problem = f"no connection within {self._timeout_s:g} s"
                break
            except (psycopg.Error, UnicodeError) as error:
                problem = _kind(error)
                break
        # Raised out here, away from its cause: a message of PostgreSQL may quote the row, and so the prompt.
        raise StoreUnavailable(f"the store failed: {problem}")

    def _try(self, work: Callable[[_Cursor], _T]) -> _T:
        with self._pool.connection() as connection:
            committing = False
            try:
                with connection.transaction():
                    connection.execute(self._limits)
                    # Binary: what comes back then does not depend on the date style that a role or database has.
                    result = work(connection.cursor(binary=True))
                    committing = True
                return result
            except psycopg.OperationalError:
                # Once the commit was sent, only the server knows; then the caller hears of a failure.
                if connection.broken and not committing:
                    raise _LostBeforeCommit from None
                raise


_CONNECTION: dict[str, Any] = {"autocommit": True, "prepare_threshold": None, "row_factory": dict_row}


def _configure(connection: psycopg.Connection[Any]) -> None:
    # Any stronger level fixes its snapshot before the wait for a person's lock, and would miss the turn that it
    # waited for.
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED


def _conninfo(url: str, timeout_s: float) -> str:
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        given = None
    # libpq takes a password's own '@' for the end of the password, and the rest of it for a host.
    if given is None or "@" in f"{given.get('host')}{given.get('dbname')}":
        raise ConfigError(
            "store.url: cannot be read as postgresql://user:password@host:port/database;"
            " in a password write %40 for @, %3A for :, %2F for /, %3F for ? and %25 for %"
        )
    # libpq takes less than two seconds for two.
    connect_timeout = max(2, round(timeout_s))
    # Text leaves and comes back as UTF-8, whatever PGCLIENTENCODING says.
    return make_conninfo("", **{"connect_timeout": connect_timeout, **_DEFAULTS, **given, "client_encoding": "UTF8"})


def _prepare(conninfo: str) -> None:
    """Migrate the database and close what a process that died has left behind."""
    problem = ""
    try:
        with psycopg.Connection[DictRow].connect(conninfo, **_CONNECTION) as connection:
            _configure(connection)
            _check_encoding(connection)
            migrate(connection, patience_s=MIGRATION_PATIENCE_S)
            # By the database's clock, which all its processes share.
            connection.execute(
                "UPDATE turns SET state = %s WHERE state = 'pending' AND created < now() - %s",
                [rows.FAULT, STALE_AFTER],
            )
    except psycopg.errors.ConnectionTimeout:
        problem = "it does not answer in time"
    except psycopg.Error as error:
        # Without a code the failure is one to connect; what libpq says of that holds no rows and no password.
        problem = _kind(error) if error.sqlstate else " ".join(str(error).split())
    if problem:
        raise ConfigError(f"store.url: cannot use {_address(conninfo)}: {problem}")


def _check_encoding(connection: psycopg.Connection[Any]) -> None:
    encoding = connection.info.parameter_status("server_encoding")
    if encoding != "UTF8":
        raise ConfigError(
            f"store.url: the database's encoding is {encoding}, which cannot hold every prompt;"
            " make it with: CREATE DATABASE … ENCODING 'UTF8' TEMPLATE template0"
        )


def _address(conninfo: str) -> str:
    """Return where the database is, for a message: no user, no password, no option."""
    parts = conninfo_to_dict(conninfo)
    place = parts.get("host") or parts.get("hostaddr") or "the local PostgreSQL"
    return f"{place}{':' if 'port' in parts else ''}{parts.get('port', '')}/{parts.get('dbname', '')}"


def _kind(error: Exception) -> str:
    """Return what kind of error it is. Its text may quote a row, so it stays here."""
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return f"{type(error).__name__} ({state})" if state else type(error).__name__


def _lock_of(who: Principal) -> int:
    """Return the number of a person's advisory lock. Persons who share one only wait for each other."""
    name = json.dumps(["safelight", who.tenant, who.id, who.person]).encode()
    return int.from_bytes(hashlib.blake2b(name, digest_size=8).digest(), "big", signed=True)


def _set_state(cursor: _Cursor, request_id: str, state: str) -> None:
    cursor.execute("UPDATE turns SET state = %s WHERE request_id = %s", [state, request_id])


def _secret(cursor: _Cursor, name: str) -> bytes:
    find = "SELECT value FROM secrets WHERE name = %s"
    found = cursor.execute(find, [name]).fetchone()
    if found is None:
        # Another process may be quicker; then its secret stands.
        cursor.execute(
            "INSERT INTO secrets (name, value) VALUES (%s, %s) ON CONFLICT DO NOTHING", [name, secrets.token_bytes(32)]
        )
        found = cursor.execute(find, [name]).fetchall()[0]
    return bytes(found["value"])
