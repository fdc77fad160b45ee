"""What a principal's attempts come to: a pure function of the attempts, the limits and the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from enum import StrEnum

from .rules import Consequence, Limit
from .store.strikes import Attempt, AttemptKind, Hold

WARN_AT = 2
"""A principal with so few attempts left, who has made one, is warned."""

MAX_SKEW = timedelta(days=1)
"""Attempts that lie further in the future do not count. A clock set to a wrong time zone is off by 14 hours at most."""


class Level(StrEnum):
    """How a principal stands, from good to bad."""

    CLEAR = "clear"
    WARNED = "warned"
    COOL_DOWN = "cool_down"
    HELD = "held"

    @property
    def severity(self) -> int:
        """Rank for 'the most severe wins': clear 0 to held 3."""
        return list(Level).index(self)

    @property
    def stops(self) -> bool:
        """Whether nothing is judged or made."""
        return self in (Level.COOL_DOWN, Level.HELD)


@dataclass(frozen=True, slots=True)
class Standing:
    """How a principal, or a tenant, stands.

    Args:
        level: What it comes to.
        until: When a cool-down ends, else None.
        attempts: How many attempts count.
        left: How many more there may be, the one that brings on the next consequence included; 0 where it is there,
            None where there is no limit.
        decision_id: The newest block that led to it; quote it to appeal. Empty where there was none.
        scope: ``principal`` or ``tenant``.
    """

    level: Level
    until: datetime | None
    attempts: int
    left: int | None
    decision_id: str
    scope: str = "principal"


def standing_of(
    attempts: Sequence[Attempt],
    limits: Sequence[Limit],
    *,
    now: datetime,
    decay: timedelta,
    hold: Hold | None,
    scope: str = "principal",
) -> Standing:
    """Return what attempts come to. A pure function.

    Each limit looks back from every attempt: where enough lie within its time, the consequence starts there. The most
    severe consequence that still lasts wins, the longest among cool-downs. One attempt more, above the limit, starts
    it again.

    An attempt in the future, by up to ``MAX_SKEW``, was written before a clock was set back. It counts as made now:
    its cool-down goes on, and ends its usual length after the clock has come to where it was. One still further in the
    future does not count, so that a clock that was years ahead locks nobody out for years.

    Args:
        attempts: In any order.
        limits: Budgets.
        now: The time.
        decay: Older attempts do not count, not even for a cool-down that they led to.
        hold: A hold that nobody has released, or None.
        scope: What the attempts are of.
    """
    counted = [attempt for attempt in attempts if now - decay <= attempt.at <= now + MAX_SKEW]
    made = sorted(
        (attempt if attempt.at <= now else replace(attempt, at=now) for attempt in counted),
        key=lambda attempt: attempt.at,
    )
    stops = [Standing(Level.HELD, None, len(made), 0, hold.decision_id, scope)] if hold else []
    for limit in limits:
        last = _last_reached(limit, made)
        if last is None:
            continue
        decision_id = _newest_block(made[: last + 1])
        if limit.lasts is None or limit.then is Consequence.HOLD:
            stops.append(Standing(Level.HELD, None, len(made), 0, decision_id, scope))
        elif (until := made[last].at + limit.lasts) > now:
            stops.append(Standing(Level.COOL_DOWN, until, len(made), 0, decision_id, scope))
    if stops:
        return max(stops, key=by_severity)
    return _going_on(made, limits, now, scope)


def by_severity(standing: Standing) -> tuple[int, float]:
    """Return what standings are sorted by: the most severe last, among cool-downs the longest."""
    return standing.level.severity, standing.until.timestamp() if standing.until else 0.0


def _last_reached(limit: Limit, made: Sequence[Attempt]) -> int | None:
    """Return the place of the newest attempt with which a limit was reached, if it was."""
    for last in range(len(made) - 1, limit.attempts - 2, -1):
        if made[last].at - made[last - limit.attempts + 1].at < limit.within:
            return last
    return None


def _newest_block(made: Sequence[Attempt]) -> str:
    """Return the newest decision that was a block, since a variant's own was an allow, which nobody can appeal."""
    allowed = (AttemptKind.NEAR_DUPLICATE, AttemptKind.REROLL)
    blocks = [attempt for attempt in made if attempt.kind not in allowed]
    return (blocks or made)[-1].decision_id if made else ""


def _going_on(made: Sequence[Attempt], limits: Sequence[Limit], now: datetime, scope: str) -> Standing:
    counted = [(limit, sum(now - attempt.at < limit.within for attempt in made)) for limit in limits]
    # At or above a limit whose cool-down is over, the next attempt starts it again.
    left = [max(limit.attempts - count, 1) for limit, count in counted]
    near = any(count and rest <= WARN_AT for (_, count), rest in zip(counted, left, strict=True))
    level = Level.WARNED if near else Level.CLEAR
    return Standing(level, None, len(made), min(left, default=None), _newest_block(made), scope)
