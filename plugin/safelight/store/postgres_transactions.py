"""Transactions on PostgreSQL: a small pool, limits on every wait, and what is tried again. No schema is known here."""

from __future__ import annotations

import random
import re
import time
from collections.abc import Callable, Mapping
from functools import lru_cache
from typing import Any, TypeVar

from ..errors import ConfigError, MissingExtra, StoreUnavailable
from . import Run

try:
    import psycopg
    from psycopg import sql
    from psycopg.conninfo import conninfo_to_dict, make_conninfo
    from psycopg.rows import DictRow, dict_row
    from psycopg_pool import ConnectionPool, PoolClosed, PoolTimeout
except ImportError as error:
    raise MissingExtra("psycopg and psycopg_pool", "postgres", needed_by="a store.url of postgresql://") from error

RETRIES = 3
"""How often a transaction is tried again where it is certain that nothing of it was done (F48 of the fault matrix)."""

Connection = psycopg.Connection[DictRow]
Cursor = psycopg.Cursor[DictRow]

_T = TypeVar("_T")

_COLLISIONS = (psycopg.errors.SerializationFailure, psycopg.errors.DeadlockDetected)

# What a URL may override. A server that vanished without a word is noticed after about eleven seconds, and of several
# hosts only the one that takes writes is used.
_DEFAULTS: dict[str, str | int | None] = {
    "application_name": "safelight",
    "keepalives_idle": 5,
    "keepalives_interval": 2,
    "keepalives_count": 3,
    "tcp_user_timeout": 11_000,
    "target_session_attrs": "read-write",
}

# No statement is prepared: PgBouncer in transaction mode may run the next one on another server connection.
_OPTIONS: dict[str, Any] = {"autocommit": True, "prepare_threshold": None, "row_factory": dict_row}


_READ_ONLY = sql.SQL("SET TRANSACTION READ ONLY; ")

# Texts and names in quotes, which stay as they are, and the names of values.
_TOKENS = re.compile(r"""'[^']*'|"[^"]*"|(?<!:):([A-Za-z_]\w*)|%""")


class _LostBeforeCommit(Exception):
    """The connection was lost before the commit was sent, so the server has undone the transaction."""


class Transactions:
    """Runs work against one database, each in a transaction of its own. Safe to use from any thread.

    Args:
        url: ``postgresql://user:password@host:port/database``, as libpq reads it.
        prepare: Called once with a connection before anything else runs, to make the schema ready. What it raises of
            psycopg's becomes a ``ConfigError``.
        timeout_s: How long to wait for a connection, and then for each statement, in seconds.
        connections: Most connections held at a time.

    Raises:
        ConfigError: If the database cannot be reached or made ready. The message holds no password.
    """

    def __init__(self, url: str, *, prepare: Callable[[Connection], None], timeout_s: float, connections: int) -> None:
        conninfo = _conninfo(url, timeout_s)
        self._timeout_s = timeout_s
        # LOCAL: a pooler between us and the server hands the session to somebody else after the transaction.
        self._limits = sql.SQL(
            "SET LOCAL synchronous_commit = on; SET LOCAL statement_timeout = {ms};"
            " SET LOCAL idle_in_transaction_session_timeout = {ms}"
        ).format(ms=round(timeout_s * 1000))
        _prepare(conninfo, prepare)
        self._pool = ConnectionPool(
            conninfo,
            connection_class=Connection,
            kwargs=_OPTIONS,
            configure=_configure,
            min_size=1,
            max_size=connections,
            timeout=timeout_s,
            # Not the five minutes by default: in their course the pool tries less and less often, and would find
            # a database that is back only long after it came back. Once it gives up, the next call tries at once.
            reconnect_timeout=timeout_s,
            open=True,
        )

    def transact(self, work: Callable[[Run], _T], *, write: bool = True) -> _T:
        """Do some work, as :meth:`run` does, whose statements are written for every database."""
        return self.run(lambda cursor: work(_runner(cursor)), write=write)

    def run(self, work: Callable[[Cursor], _T], *, write: bool = True) -> _T:
        """Do some work in one transaction, durably; again where nothing of it can have been done.

        Args:
            work: Given a cursor; it may be called again.
            write: Whether it may change anything.

        Raises:
            StoreUnavailable: If it failed otherwise, or too often. It names the kind of error and no data.
        """
        for attempt in range(RETRIES + 1):
            if attempt:
                # Two that got into each other's way should not set out together again.
                time.sleep(random.uniform(0.0, 0.02 * 2**attempt))  # noqa: S311  (spreads load, guards nothing)
            try:
                return self._try(work, write)
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

    def _try(self, work: Callable[[Cursor], _T], write: bool) -> _T:
        with self._pool.connection() as connection:
            committing = False
            try:
                with connection.transaction():
                    connection.execute(self._limits if write else _READ_ONLY + self._limits)
                    # Binary: what comes back then does not depend on the date style that a role or database has.
                    result = work(connection.cursor(binary=True))
                    committing = True
                return result
            except psycopg.Error:
                # Once the commit was sent, only the server knows; then the caller hears of a failure.
                if connection.broken and not committing:
                    raise _LostBeforeCommit from None
                raise

    def close(self) -> None:
        """Give every connection back. Calling it twice does no harm."""
        self._pool.close()


def _runner(cursor: Cursor) -> Run:
    def run(statement: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        cursor.execute(_for_psycopg(statement), values)
        return cursor.fetchall() if cursor.description else []

    return run


@lru_cache(maxsize=256)
def _for_psycopg(statement: str) -> bytes:
    """Return a statement that names its values as ``:name`` with psycopg's ``%(name)s`` in their places."""

    def place(token: re.Match[str]) -> str:
        return f"%({token[1]})s" if token[1] else token[0].replace("%", "%%")

    return _TOKENS.sub(place, statement).encode()


def _configure(connection: Connection) -> None:
    # A stronger level fixes its snapshot before a transaction's first wait for a lock, and would miss what it
    # waited for.
    connection.isolation_level = psycopg.IsolationLevel.READ_COMMITTED


def _conninfo(url: str, timeout_s: float) -> str:
    try:
        given = conninfo_to_dict(url)
    except psycopg.ProgrammingError:
        given = {}
    # libpq takes an unescaped '@' of a password for the end of the password, and what follows for a host.
    if not given or "@" in f"{given.get('host')}{given.get('dbname')}":
        raise ConfigError(
            "store.url: cannot be read as postgresql://user:password@host:port/database;"
            " in a password write %40 for @, %3A for :, %2F for /, %3F for ? and %25 for %"
        )
    # libpq takes less than two seconds for two.
    connect_timeout = max(2, round(timeout_s))
    # Text leaves and comes back as UTF-8, whatever PGCLIENTENCODING says.
    return make_conninfo("", **{"connect_timeout": connect_timeout, **_DEFAULTS, **given, "client_encoding": "UTF8"})


def _prepare(conninfo: str, prepare: Callable[[Connection], None]) -> None:
    try:
        with Connection.connect(conninfo, **_OPTIONS) as connection:
            _configure(connection)
            _check_encoding(connection)
            prepare(connection)
            return
    except psycopg.Error as error:
        # Without a code it is a failure to connect; what libpq says of that holds no rows and no password.
        problem = _kind(error) if error.sqlstate else " ".join(str(error).split())
    raise ConfigError(f"store.url: cannot use {_address(conninfo)}: {problem}")


def _check_encoding(connection: Connection) -> None:
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
    port = f":{parts['port']}" if "port" in parts else ""
    return f"{place}{port}/{parts.get('dbname', '')}"


def _kind(error: Exception) -> str:
    """Return what kind of error it is. Its text may quote a row, so it stays here."""
    state = error.sqlstate if isinstance(error, psycopg.Error) else None
    return f"{type(error).__name__} ({state})" if state else type(error).__name__
