"""The second step of both databases' schemas: what is summed up of people, and the rooms beside the requests.

It was written once, since both databases understand nearly all of it. It is released: never change it.
"""

from __future__ import annotations

_STATEMENTS = (
    "ALTER TABLE turns ADD COLUMN risk DOUBLE PRECISION NOT NULL DEFAULT 0",
    "ALTER TABLE turns ADD COLUMN overturned INTEGER NOT NULL DEFAULT 0",
    "ALTER TABLE turns ADD COLUMN overturned_at TEXT",
    "ALTER TABLE decisions ADD COLUMN course TEXT NOT NULL DEFAULT '[]'",
    # What was blocked or flagged before scores were kept in the turn.
    """
    UPDATE turns SET risk = CASE state WHEN 'block' THEN 1.0 ELSE 0.5 END WHERE state IN ('block', 'flag')
    """,
    """
    CREATE INDEX turns_riskiest ON turns (tenant, principal, person, risk, seq)
    WHERE risk >= 0.3 AND overturned = 0 AND texts <> '{{}}'
    """,
    """
    CREATE INDEX turns_unsettled ON turns (tenant, principal, person, seq) WHERE state = 'pending'
    """,
    """
    CREATE INDEX turns_notable ON turns (tenant, principal, seq, person)
    WHERE state IN ('block', 'flag') AND overturned = 0
    """,
    """
    CREATE INDEX turns_blocked ON turns (tenant, principal, seq)
    WHERE state = 'block' AND overturned = 0 AND texts <> '{{}}'
    """,
    # clean_after: the newest turn there was when one was last blocked or flagged; clean_run counts those after it.
    """
    CREATE TABLE people (
        tenant TEXT NOT NULL,
        principal TEXT NOT NULL,
        person TEXT NOT NULL,
        total BIGINT NOT NULL DEFAULT 0,
        blocked BIGINT NOT NULL DEFAULT 0,
        flagged BIGINT NOT NULL DEFAULT 0,
        overturned BIGINT NOT NULL DEFAULT 0,
        clean_run BIGINT NOT NULL DEFAULT 0,
        last TEXT NOT NULL,
        clean_after BIGINT NOT NULL DEFAULT 0,
        PRIMARY KEY (tenant, principal, person)
    )
    """,
    """
    INSERT INTO people (tenant, principal, person, total, blocked, flagged, last, clean_after)
    SELECT tenant, principal, person, COUNT(*), SUM(CASE state WHEN 'block' THEN 1 ELSE 0 END),
        SUM(CASE state WHEN 'flag' THEN 1 ELSE 0 END), {newest},
        MAX(CASE WHEN state IN ('block', 'flag') THEN seq ELSE 0 END)
    FROM turns GROUP BY tenant, principal, person
    """,
    """
    UPDATE people SET clean_run = (
        SELECT COUNT(*) FROM turns WHERE turns.tenant = people.tenant AND turns.principal = people.principal
        AND turns.person = people.person AND turns.seq > people.clean_after AND turns.state = 'allow'
    )
    """,
    """
    CREATE TABLE attempts (
        request_id TEXT PRIMARY KEY,
        tenant TEXT NOT NULL,
        principal TEXT NOT NULL,
        kind TEXT NOT NULL,
        decision_id TEXT NOT NULL,
        at TEXT NOT NULL,
        voided INTEGER NOT NULL DEFAULT 0
    )
    """,
    "CREATE INDEX attempts_of_principal ON attempts (tenant, principal, at, request_id) WHERE voided = 0",
    "CREATE INDEX attempts_of_tenant ON attempts (tenant, at, request_id) WHERE voided = 0",
    "CREATE INDEX attempts_of_decision ON attempts (decision_id)",
    """
    CREATE TABLE holds (
        tenant TEXT NOT NULL,
        principal TEXT NOT NULL,
        since TEXT NOT NULL,
        decision_id TEXT NOT NULL,
        released TEXT,
        PRIMARY KEY (tenant, principal)
    )
    """,
    "CREATE INDEX holds_open ON holds (since) WHERE released IS NULL",
    """
    CREATE TABLE blocked_prompts (
        tenant TEXT NOT NULL,
        digest TEXT NOT NULL,
        categories TEXT NOT NULL,
        until TEXT NOT NULL,
        decision_id TEXT NOT NULL,
        PRIMARY KEY (tenant, digest)
    )
    """,
    "CREATE INDEX blocked_prompts_until ON blocked_prompts (until)",
    "CREATE INDEX blocked_prompts_of_decision ON blocked_prompts (decision_id)",
    """
    CREATE TABLE calls (
        seq {serial},
        at TEXT NOT NULL,
        screen TEXT NOT NULL,
        model TEXT NOT NULL,
        outcome TEXT NOT NULL,
        reason TEXT NOT NULL,
        tokens_in BIGINT NOT NULL,
        tokens_out BIGINT NOT NULL,
        cost_usd DOUBLE PRECISION,
        ms DOUBLE PRECISION NOT NULL,
        request_id TEXT NOT NULL,
        purpose TEXT NOT NULL
    )
    """,
    "CREATE INDEX calls_by_time ON calls (at)",
    """
    CREATE TABLE spending_days (
        day TEXT NOT NULL,
        model TEXT NOT NULL,
        purpose TEXT NOT NULL,
        calls BIGINT NOT NULL,
        tokens_in BIGINT NOT NULL,
        tokens_out BIGINT NOT NULL,
        cost_usd DOUBLE PRECISION NOT NULL,
        PRIMARY KEY (day, model, purpose)
    )
    """,
    """
    CREATE TABLE scans (
        id TEXT PRIMARY KEY,
        started TEXT NOT NULL,
        finished TEXT,
        settings TEXT NOT NULL
    )
    """,
    """
    CREATE TABLE scan_people (
        scan_id TEXT NOT NULL,
        tenant TEXT NOT NULL,
        principal TEXT NOT NULL,
        person TEXT NOT NULL,
        at TEXT NOT NULL,
        outcome TEXT NOT NULL,
        scores TEXT NOT NULL,
        reason TEXT NOT NULL,
        model TEXT NOT NULL,
        tokens_in BIGINT NOT NULL,
        tokens_out BIGINT NOT NULL,
        cost_usd DOUBLE PRECISION,
        prompts BIGINT NOT NULL,
        PRIMARY KEY (scan_id, tenant, principal, person)
    )
    """,
)


def statements(*, serial: str, newest: str) -> tuple[str, ...]:
    """Return the step's statements, in order.

    Args:
        serial: The type of a primary key that counts up by itself.
        newest: An expression for the latest ``created`` of a group of turns, as text in the form of ``rows.stamp``.
    """
    return tuple(statement.format(serial=serial, newest=newest) for statement in _STATEMENTS)
