"""A PostgreSQL server for the session, and a database and store on it; other stores' tests bring their own."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from postgres_server import PostgresServer
from safelight.store.postgres import PostgresStore
from store_databases import PostgresDatabase


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
