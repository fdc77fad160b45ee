"""The databases that a store is tested on: each can be opened again and again, and be looked into past the store."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any, Protocol

from postgres_server import PostgresServer
from safelight.store import Store, open_store


class Database(Protocol):
    """One database of its own for one test."""

    url: str

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        """Run SQL that every database understands, and return what it gives."""
        ...


class SQLiteDatabase:
    def __init__(self, folder: Path) -> None:
        self._path = folder / "s.db"
        self.url = f"sqlite:///{self._path}"

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        with closing(sqlite3.connect(self._path)) as connection, connection:
            return connection.execute(statement).fetchall()


class PostgresDatabase:
    def __init__(self, server: PostgresServer, **settings: str) -> None:
        self._server = server
        self.url = server.make_schema(**settings)

    def rows(self, statement: str) -> list[tuple[Any, ...]]:
        return self._server.execute(statement, url=self.url)


class Opened:
    """Opens stores on a database, and closes them all."""

    def __init__(self, database: Database) -> None:
        self._database = database
        self._stores: list[Store] = []

    def __call__(self) -> Store:
        self._stores.append(open_store(self._database.url))
        return self._stores[-1]

    def close(self) -> None:
        for store in self._stores:
            store.close()
