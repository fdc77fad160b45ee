"""Attempts at what the policy blocks, and holds: what enforcement counts. It rules nothing; that is enforcement's."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from . import Run, Store, rows

_ADD = """
    INSERT INTO attempts (request_id, tenant, principal, kind, decision_id, at)
    VALUES (:request_id, :tenant, :principal, :kind, :decision_id, :at)
    ON CONFLICT (request_id) DO UPDATE SET
        kind = excluded.kind, decision_id = excluded.decision_id, at = excluded.at, voided = 0
    WHERE excluded.kind = 'grave' AND attempts.kind <> 'grave'
"""
_OF_PRINCIPAL = """
    SELECT * FROM attempts WHERE tenant = :tenant AND principal = :principal AND voided = 0 AND at >= :since
    ORDER BY at DESC, request_id DESC LIMIT :limit
"""
_OF_TENANT = """
    SELECT * FROM attempts WHERE tenant = :tenant AND voided = 0 AND at >= :since
    ORDER BY at DESC, request_id DESC LIMIT :limit
"""
# An appeal may quote any of a request's decisions, for example that of another picture of it.
_VOID = """
    UPDATE attempts SET voided = 1 WHERE voided = 0 AND request_id IN (
        SELECT request_id FROM decisions WHERE id = :decision_id
        UNION SELECT request_id FROM attempts WHERE decision_id = :decision_id
    ) RETURNING request_id
"""
_HOLD = """
    INSERT INTO holds (tenant, principal, since, decision_id) VALUES (:tenant, :principal, :at, :decision_id)
    ON CONFLICT (tenant, principal) DO UPDATE SET
        since = excluded.since, decision_id = excluded.decision_id, released = NULL
    WHERE holds.released IS NOT NULL
"""
_HELD = "SELECT * FROM holds WHERE tenant = :tenant AND principal = :principal AND released IS NULL"
_HOLDS = "SELECT * FROM holds WHERE released IS NULL ORDER BY since, tenant, principal"
_RELEASE = """
    UPDATE holds SET released = :at
    WHERE tenant = :tenant AND principal = :principal AND released IS NULL AND since <= :at RETURNING tenant
"""
_FORGIVE = """
    UPDATE attempts SET voided = 1
    WHERE tenant = :tenant AND principal = :principal AND voided = 0 AND at <= :at RETURNING request_id
"""
# The newest first and the time after: however old the newest are, no more than these are read.
_BLOCKED_TEXTS = """
    SELECT request_id, texts FROM (
        SELECT seq, request_id, texts, created FROM turns
        WHERE tenant = :tenant AND principal = :principal
        AND state = 'block' AND overturned = 0 AND texts <> '{}' ORDER BY seq DESC LIMIT :limit
    ) AS newest WHERE created >= :since ORDER BY seq
"""


class AttemptKind(StrEnum):
    """What was attempted."""

    BLOCKED = "blocked"
    """A prompt that was blocked."""
    PICTURE_BLOCKED = "picture_blocked"
    """A prompt that passed, and whose picture was blocked."""
    NEAR_DUPLICATE = "near_duplicate"
    """A variant of a prompt that was blocked."""
    REROLL = "reroll"
    """The same prompt once more, after its picture was blocked."""
    GRAVE = "grave"
    """The gravest category."""


@dataclass(frozen=True, slots=True)
class Attempt:
    """One request that counts against its principal.

    Args:
        tenant: The principal's tenant.
        principal: The principal's id.
        kind: Why it counts.
        decision_id: The decision that it rests on; quote it to appeal.
        request_id: The request; each counts once.
        at: When, with time zone.
    """

    tenant: str
    principal: str
    kind: AttemptKind
    decision_id: str
    request_id: str
    at: datetime


@dataclass(frozen=True, slots=True)
class Hold:
    """A principal for whom nothing is made until a person has looked.

    Args:
        tenant: The principal's tenant.
        principal: The principal's id.
        since: When it began, with time zone.
        decision_id: The decision that led to it.
    """

    tenant: str
    principal: str
    since: datetime
    decision_id: str


class Strikes:
    """Attempts and holds in a store. Every method is blocking, and raises ``StoreUnavailable`` as the store does.

    Args:
        store: Keeps them.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def add(self, attempt: Attempt) -> None:
        """Count an attempt. A request counts once: a second attempt is ignored, but a grave one takes its place."""
        values = {
            "request_id": attempt.request_id,
            "tenant": attempt.tenant,
            "principal": attempt.principal,
            "kind": str(attempt.kind),
            "decision_id": attempt.decision_id,
            "at": rows.stamp(attempt.at),
        }
        self._store.transact(lambda run: run(_ADD, values))

    def of_principal(self, tenant: str, principal: str, *, since: datetime, limit: int) -> tuple[Attempt, ...]:
        """Return a principal's newest ``limit`` attempts since a time, oldest first, without those that were voided."""
        values = {"tenant": tenant, "principal": principal, "since": rows.stamp(since), "limit": limit}
        return tuple(_attempt(row) for row in reversed(self._read(_OF_PRINCIPAL, values)))

    def of_tenant(self, tenant: str, *, since: datetime, limit: int) -> tuple[Attempt, ...]:
        """Return a tenant's newest ``limit`` attempts since a time, oldest first, without those that were voided."""
        values = {"tenant": tenant, "since": rows.stamp(since), "limit": limit}
        return tuple(_attempt(row) for row in reversed(self._read(_OF_TENANT, values)))

    def void(self, decision_id: str) -> bool:
        """Stop counting what rests on a decision, or on another one of its request: an appeal against it was won.

        Returns:
            Whether anything was counted until now.
        """
        return bool(self._store.transact(lambda run: run(_VOID, {"decision_id": decision_id})))

    def hold(self, tenant: str, principal: str, *, at: datetime, decision_id: str) -> None:
        """Hold a principal until :meth:`release`. Whoever is held already stays held since then."""
        values = {"tenant": tenant, "principal": principal, "at": rows.stamp(at), "decision_id": decision_id}
        self._store.transact(lambda run: run(_HOLD, values))

    def held(self, tenant: str, principal: str) -> Hold | None:
        """Return the hold that a principal is under, if any."""
        found = self._read(_HELD, {"tenant": tenant, "principal": principal})
        return _hold(found[0]) if found else None

    def holds(self) -> tuple[Hold, ...]:
        """Return all holds that a person has yet to look at, oldest first."""
        return tuple(_hold(row) for row in self._read(_HOLDS, {}))

    def release(self, tenant: str, principal: str, *, at: datetime) -> bool:
        """End a principal's hold, since a person has looked at it, and stop counting the attempts up to then.

        A hold that began after ``at`` stays: nobody has looked at that one.

        Returns:
            Whether there was a hold to end, or an attempt that counted.
        """
        values = {"tenant": tenant, "principal": principal, "at": rows.stamp(at)}

        def work(run: Run) -> bool:
            ended = run(_RELEASE, values)
            return bool(run(_FORGIVE, values)) or bool(ended)

        return self._store.transact(work)

    def blocked_texts(
        self, tenant: str, principal: str, *, since: datetime, limit: int
    ) -> tuple[tuple[str, Mapping[str, str]], ...]:
        """Return what a principal's newest ``limit`` blocked requests said, under whatever person, oldest first.

        Won appeals and erased texts are left out, and of the rest those asked before ``since``.

        Returns:
            For each, the request's id and its texts by channel.
        """
        values = {"tenant": tenant, "principal": principal, "since": rows.stamp(since), "limit": limit}
        return tuple((row["request_id"], json.loads(row["texts"])) for row in self._read(_BLOCKED_TEXTS, values))

    def _read(self, statement: str, values: Mapping[str, Any]) -> list[dict[str, Any]]:
        return self._store.transact(lambda run: run(statement, values), write=False)


def _attempt(row: Mapping[str, Any]) -> Attempt:
    return Attempt(
        tenant=row["tenant"],
        principal=row["principal"],
        kind=AttemptKind(row["kind"]),
        decision_id=row["decision_id"],
        request_id=row["request_id"],
        at=rows.moment(row["at"]),
    )


def _hold(row: Mapping[str, Any]) -> Hold:
    return Hold(row["tenant"], row["principal"], rows.moment(row["since"]), row["decision_id"])
