"""What scans have found, kept so that a scan that was killed goes on where it was."""

from __future__ import annotations

import json
import secrets
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from . import Run, Store, rows

ASKED = "asked"
"""The outcome of a person about whom a question may be on its way: set before it is sent, replaced by what came."""

Key = tuple[str, str, str]
"""Tenant, principal and person."""

_PAGE = 500

_UPSERT = """
INSERT INTO scan_people (scan_id, tenant, principal, person, at, outcome, scores, reason, model,
    tokens_in, tokens_out, cost_usd, prompts)
VALUES (:scan_id, :tenant, :principal, :person, :at, :outcome, :scores, :reason, :model,
    :tokens_in, :tokens_out, :cost_usd, :prompts)
ON CONFLICT (scan_id, tenant, principal, person) DO UPDATE SET
    at = excluded.at, outcome = excluded.outcome, scores = excluded.scores, reason = excluded.reason,
    model = excluded.model, prompts = excluded.prompts,
    tokens_in = scan_people.tokens_in + excluded.tokens_in,
    tokens_out = scan_people.tokens_out + excluded.tokens_out,
    cost_usd = CASE WHEN excluded.cost_usd IS NULL THEN scan_people.cost_usd
        ELSE COALESCE(scan_people.cost_usd, 0) + excluded.cost_usd END
"""


@dataclass(frozen=True, slots=True)
class Scan:
    """One sweep.

    Args:
        id: ``scan_`` and 16 hexadecimal digits.
        started: When, with time zone.
        finished: When everybody had been gone through, or None.
        settings: What decides who is asked what; and, where the provider works in batches, which ones there are.
    """

    id: str
    started: datetime
    finished: datetime | None
    settings: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class Finding:
    """What a scan found about one person, or how it failed.

    Args:
        tenant: Of the principal.
        principal: Its id.
        person: The person's name under it.
        at: When, with time zone.
        outcome: ``ASKED``, or a ``verdict.Outcome``; ``skipped`` where the cascade left the person out.
        scores: Category to score, where something was found.
        reason: A short code.
        model: The model that answered, as it named itself.
        tokens_in: Tokens sent, by the provider's own count.
        tokens_out: Tokens received, likewise.
        cost_usd: US dollars, or None where no price is known or nothing was bought.
        prompts: How many requests of the person were stored.
    """

    tenant: str
    principal: str
    person: str
    at: datetime
    outcome: str
    scores: Mapping[str, float] = field(default_factory=dict)
    reason: str = ""
    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None
    prompts: int = 0

    @property
    def key(self) -> Key:
        """Who it is about."""
        return self.tenant, self.principal, self.person


@dataclass(frozen=True, slots=True)
class ScanTotal:
    """How many people ended in one way, and what they cost together. ``cost_usd`` is None where no price was known."""

    outcome: str
    reason: str
    people: int
    tokens_in: int
    tokens_out: int
    cost_usd: float | None


class Scans:
    """The room of scans.

    Args:
        store: Where they are kept.
    """

    def __init__(self, store: Store) -> None:
        self._store = store

    def begin(self, settings: Mapping[str, Any], *, at: datetime) -> Scan:
        """Add a new scan."""
        scan = Scan("scan_" + secrets.token_hex(8), at, None, dict(settings))

        def work(run: Run) -> None:
            run(
                "INSERT INTO scans (id, started, finished, settings) VALUES (:id, :started, NULL, :settings)",
                {"id": scan.id, "started": rows.stamp(at), "settings": _text(settings)},
            )

        self._store.transact(work)
        return scan

    def unfinished(self) -> Scan | None:
        """Return the newest scan if it is not finished, else None."""
        found = self._store.transact(
            lambda run: run("SELECT * FROM scans ORDER BY started DESC, id DESC LIMIT 1", {}), write=False
        )
        scan = _scan_of(found[0]) if found else None
        return scan if scan is not None and scan.finished is None else None

    def newest(self) -> Scan | None:
        """Return the newest scan, finished or not."""
        found = self._store.transact(
            lambda run: run("SELECT * FROM scans ORDER BY started DESC, id DESC LIMIT 1", {}), write=False
        )
        return _scan_of(found[0]) if found else None

    def keep(self, scan_id: str, settings: Mapping[str, Any]) -> None:
        """Replace a scan's settings."""
        values = {"id": scan_id, "settings": _text(settings)}
        self._store.transact(lambda run: run("UPDATE scans SET settings = :settings WHERE id = :id", values))

    def finish(self, scan_id: str, *, at: datetime) -> None:
        """Note that everybody has been gone through."""
        values = {"id": scan_id, "at": rows.stamp(at)}
        self._store.transact(lambda run: run("UPDATE scans SET finished = :at WHERE id = :id", values))

    def write(self, scan_id: str, findings: Sequence[Finding]) -> None:
        """Durably write findings in one transaction. They replace earlier ones about the same people.

        Tokens and dollars are added to those of earlier findings: they were spent as well.
        """
        values = [_row(scan_id, finding) for finding in findings]

        def work(run: Run) -> None:
            for row in values:
                run(_UPSERT, row)

        self._store.transact(work)

    def written(self, scan_id: str, first: Key, last: Key) -> Mapping[Key, str]:
        """Return the outcome of everybody from ``first`` to ``last`` who has one, in the order of ``People.page``."""
        found = self._store.transact(
            lambda run: run(
                "SELECT tenant, principal, person, outcome FROM scan_people WHERE scan_id = :scan_id"
                " AND (tenant, principal, person) >= (:tenant, :principal, :person)"
                " AND (tenant, principal, person) <= (:last_tenant, :last_principal, :last_person)",
                {"scan_id": scan_id, **_named(first), **{f"last_{name}": key for name, key in _named(last).items()}},
            ),
            write=False,
        )
        return {_key_of(row): row["outcome"] for row in found}

    def findings(self, scan_id: str, outcomes: Collection[str] = (), *, scored: bool = False) -> Iterator[Finding]:
        """Yield findings in the order of people, page by page.

        Args:
            scan_id: Of which scan.
            outcomes: Only these; all if empty.
            scored: Only those with a score.
        """
        wanted = [f":outcome_{place}" for place in range(len(outcomes))]
        values = {f"outcome_{place}": outcome for place, outcome in enumerate(outcomes)}
        where = f" AND outcome IN ({', '.join(wanted)})" if wanted else ""
        where += " AND scores <> '{}'" if scored else ""
        after: Key | None = None
        while True:
            page = self._page(scan_id, where, values, after)
            yield from page
            if len(page) < _PAGE:
                return
            after = page[-1].key

    def _page(self, scan_id: str, where: str, values: Mapping[str, Any], after: Key | None) -> list[Finding]:
        start = " AND (tenant, principal, person) > (:tenant, :principal, :person)" if after else ""
        found = self._store.transact(
            lambda run: run(
                f"SELECT * FROM scan_people WHERE scan_id = :scan_id{where}{start}"  # noqa: S608
                f" ORDER BY tenant, principal, person LIMIT {_PAGE}",
                {"scan_id": scan_id, **values, **(_named(after) if after else {})},
            ),
            write=False,
        )
        return [_finding_of(row) for row in found]

    def totals(self, scan_id: str) -> Sequence[ScanTotal]:
        """Return how many people ended how, and what they cost, by outcome and reason."""
        found = self._store.transact(
            lambda run: run(
                "SELECT outcome, reason, COUNT(*) AS people, SUM(tokens_in) AS tokens_in, SUM(tokens_out)"
                " AS tokens_out, SUM(cost_usd) AS cost_usd FROM scan_people WHERE scan_id = :scan_id"
                " GROUP BY outcome, reason ORDER BY outcome, reason",
                {"scan_id": scan_id},
            ),
            write=False,
        )
        return [
            ScanTotal(
                row["outcome"],
                row["reason"],
                row["people"],
                int(row["tokens_in"]),
                int(row["tokens_out"]),
                row["cost_usd"],
            )
            for row in found
        ]

    def last_decisions(self, key: Key, *, limit: int = 3) -> tuple[str, ...]:
        """Return the ids of a person's newest decisions, newest first."""
        found = self._store.transact(
            lambda run: run(
                "SELECT decisions.id AS id FROM turns JOIN decisions ON decisions.request_id = turns.request_id"
                " WHERE tenant = :tenant AND principal = :principal AND person = :person"
                " ORDER BY turns.seq DESC, decisions.seq DESC LIMIT :most",
                {**_named(key), "most": limit},
            ),
            write=False,
        )
        return tuple(row["id"] for row in found)


def _row(scan_id: str, finding: Finding) -> dict[str, Any]:
    return {
        "scan_id": scan_id,
        **_named(finding.key),
        "at": rows.stamp(finding.at),
        "outcome": finding.outcome,
        "scores": _text({name: round(score, 6) for name, score in finding.scores.items()}),
        # What a provider says of itself may hold what no store can.
        "reason": rows.storable(finding.reason),
        "model": rows.storable(finding.model),
        "tokens_in": finding.tokens_in,
        "tokens_out": finding.tokens_out,
        "cost_usd": finding.cost_usd,
        "prompts": finding.prompts,
    }


def _finding_of(row: Mapping[str, Any]) -> Finding:
    return Finding(
        *_key_of(row),
        at=rows.moment(row["at"]),
        outcome=row["outcome"],
        scores=json.loads(row["scores"]),
        reason=row["reason"],
        model=row["model"],
        tokens_in=row["tokens_in"],
        tokens_out=row["tokens_out"],
        cost_usd=row["cost_usd"],
        prompts=row["prompts"],
    )


def _scan_of(row: Mapping[str, Any]) -> Scan:
    finished = rows.moment(row["finished"]) if row["finished"] else None
    return Scan(row["id"], rows.moment(row["started"]), finished, json.loads(row["settings"]))


def _named(key: Key) -> dict[str, str]:
    return dict(zip(("tenant", "principal", "person"), key, strict=True))


def _key_of(row: Mapping[str, Any]) -> Key:
    return row["tenant"], row["principal"], row["person"]


def _text(value: Mapping[str, Any]) -> str:
    return json.dumps(value, ensure_ascii=False)
