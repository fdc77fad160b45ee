"""A PostgreSQL server for the session, and the databases and stores that these tests run on."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from postgres_server import PostgresServer
from safelight.store import Store
from safelight.store.postgres import PostgresStore
from store_databases import Database, Opened, PostgresDatabase, SQLiteDatabase


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[PostgresServer]:
    with PostgresServer() as server:
        yield server


@pytest.fixture
def database(postgres_server: PostgresServer) -> PostgresDatabase:
    return PostgresDatabase(postgres_server)


@pytest.fixture
def store(database: PostgresDatabase) -> Iterator[PostgresStore]:
    store = PostgresStore(database.url)
    yield store
    store.close()


@pytest.fixture(params=["sqlite", "postgres"])
def any_database(request: pytest.FixtureRequest, tmp_path: Path) -> Database:
    """One database after the other, of every kind that there is."""
    if request.param == "sqlite":
        return SQLiteDatabase(tmp_path)
    return PostgresDatabase(request.getfixturevalue("postgres_server"))


@pytest.fixture
def opened(any_database: Database) -> Iterator[Opened]:
    """Opens the same database as often as it is called."""
    opened = Opened(any_database)
    yield opened
    opened.close()


@pytest.fixture
def any_store(opened: Opened) -> Store:
    return opened()
