"""Everybody who has asked, with what is counted of them: for a sweep over people, page by page."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from . import Store, rows

_PAGE = "SELECT * FROM people {where} ORDER BY tenant, principal, person LIMIT :limit"
_FIRST_PAGE = _PAGE.format(where="")
_NEXT_PAGE = _PAGE.format(where="WHERE (tenant, principal, person) > (:tenant, :principal, :person)")


@dataclass(frozen=True, slots=True)
class Person:
    """One person of one principal. What is asked of them is in ``Store.history``.

    Args:
        tenant: The principal's tenant.
        principal: The principal's id.
        person: What the client calls them; empty where it does not divide its requests.
        total: How many turns they have.
        blocked: How many of them were blocked, won appeals not counted.
        flagged: How many were flagged.
        overturned: How many blocks were overturned on appeal.
        clean_run: How many were allowed in a row, of those asked since the last block or flag.
        last: When they last asked, with time zone.
    """

    tenant: str
    principal: str
    person: str
    total: int
    blocked: int
    flagged: int
    overturned: int
    clean_run: int
    last: datetime


class People:
    """The people in a store. Every method is blocking, and raises ``StoreUnavailable`` as the store does.

    Args:
        store: Keeps them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def page(self, *, after: tuple[str, str, str] | None, limit: int) -> tuple[Person, ...]:
        """Return up to ``limit`` people in the order of tenant, principal and person.

        Args:
            after: Tenant, principal and person of the last one of the page before, or None for the first page.
            limit: Most people of the page.
        """
        values: dict[str, Any] = {"limit": limit}
        if after is not None:
            values |= dict(zip(("tenant", "principal", "person"), after, strict=True))
        statement = _FIRST_PAGE if after is None else _NEXT_PAGE
        found = self._store.transact(lambda run: run(statement, values), write=False)
        return tuple(
            Person(
                tenant=row["tenant"],
                principal=row["principal"],
                person=row["person"],
                total=row["total"],
                blocked=row["blocked"],
                flagged=row["flagged"],
                overturned=row["overturned"],
                clean_run=row["clean_run"],
                last=rows.moment(row["last"]),
            )
            for row in found
        )

    def count(self) -> int:
        """Return how many people there are."""
        found = self._store.transact(lambda run: run("SELECT COUNT(*) AS people FROM people", {}), write=False)
        return int(found[0]["people"])
