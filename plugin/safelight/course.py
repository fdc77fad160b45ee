"""How much risk a person's course carries: a local figure, made without asking any model."""

from __future__ import annotations

import math
from datetime import datetime

from .request import History, Turn
from .rules import CourseRule

NOTABLE = 0.3
"""Scores below it are the noise of screens, of which many would add up. Above it, risk grows linearly to 1."""


def course_risk(history: History, *, rule: CourseRule, now: datetime) -> float:
    """Return the risk of the turns that are known, old ones faded, in 0..1: 0 for a stranger.

    Each turn counts as an independent chance that something is amiss; one that was overturned on appeal counts nothing.
    Turns of the same principal under other names count like the person's own.
    """
    known = (*history.kin, *history.riskiest, *history.turns)
    return 1.0 - math.prod(1.0 - turn_risk(turn, rule=rule, now=now) for turn in known)


def turn_risk(turn: Turn, *, rule: CourseRule, now: datetime) -> float:
    """Return what one turn adds, in 0..1: its own risk above ``NOTABLE``, faded by its age."""
    if turn.overturned or turn.risk <= NOTABLE:
        return 0.0
    return (turn.risk - NOTABLE) / (1.0 - NOTABLE) * rule.weight(now - turn.at)
