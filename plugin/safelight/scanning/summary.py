"""What a judge is shown of a person in place of their raw history: a local summary of bounded size, no model asked.

What it gives up: requests that no local screen found risky, and that are older than the few newest, are only counted.
A long text is shown by its beginning and its end. ``benchmarks/scan_cost.py`` measures what that hides.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from ..course import NOTABLE, course_risk
from ..instructions import newest_turns
from ..policy import Action
from ..request import History, Turn
from ..rules import CourseRule

SUSPICIOUS = 0.5
"""A score from which a local screen means more likely than not."""

_UNCUT = 1_000_000
_PLAIN = {"prompt", "prompt_2", "negative_prompt", "negative_prompt_2"}


@dataclass(frozen=True, slots=True)
class Bounds:
    """How much of a person is shown. Sizes are in bytes of UTF-8, which is nearer to tokens than characters are.

    Args:
        text: Of one request, all its channels together.
        all: Of all requests together; ``newest`` and ``risky`` are shown even if they need more.
        newest: How many of the newest requests are always shown. More are, while they fit.
        risky: How many of the riskiest other requests are shown.
        kin: How many blocked or flagged requests of the same principal under other names are shown.
    """

    text: int = 1_600
    all: int = 520
    newest: int = 2
    risky: int = 3
    kin: int = 2


ALONE = Bounds()
"""For a person who has a call to themselves: some 390 tokens with the rules, where people write as they usually do."""

PACKED = Bounds(text=400, all=180, newest=1, risky=2, kin=1)
"""For a person among many in one call."""


def summary(history: History, *, rule: CourseRule, now: datetime, bounds: Bounds) -> dict[str, Any]:
    """Return the summary of a person as plain JSON types. What is zero or empty is left out.

    Args:
        history: What the store knows of the person.
        rule: How old requests fade.
        now: The time from which ages are counted.
        bounds: How much is shown.
    """
    risky = _riskiest(history, bounds.risky)
    left = bounds.all - sum(_size(turn, bounds.text) for turn in risky)
    recent: list[Turn] = []
    for turn in reversed(history.turns):
        if any(turn is shown for shown in risky):
            continue
        left -= _size(turn, bounds.text)
        if left < 0 and len(recent) >= bounds.newest:
            break
        recent.insert(0, turn)
    counts = {
        "requests": history.total,
        "blocked": history.blocked,
        "flagged": history.flagged,
        "overturned": history.overturned,
        # Only where it says something: for a person without a block it equals the number of requests.
        "clean_run": history.clean_run if history.blocked or history.flagged else 0,
        "risk": round(local_risk(history, rule=rule), 2),
        "last_h": _age_h(history.turns[-1], now) if history.turns else 0,
    }
    shown = {
        "risky": [_shown(turn, now, bounds.text) for turn in risky],
        "recent": [_short(turn, now, bounds.text) for turn in recent],
        "kin": [_shown(turn, now, bounds.text) for turn in history.kin[-bounds.kin :]],
    }
    return {name: value for name, value in (counts | shown).items() if value}


def local_risk(history: History, *, rule: CourseRule) -> float:
    """Return the risk of a person's course when they last asked for something, in 0..1.

    Not the risk now: between two scans everything fades, and whoever went quiet would pass for harmless.
    """
    return course_risk(history, rule=rule, now=history.turns[-1].at) if history.turns else 0.0


def is_quiet(history: History, *, rule: CourseRule, below: float) -> bool:
    """Return whether the local screens leave nothing to ask about: what the cascade goes by.

    That is a local risk below ``below``, and no known request that a screen found ``SUSPICIOUS`` or that was blocked,
    however old: who is asked about is not thereby blamed, and the judge is told how old it is.
    """
    if local_risk(history, rule=rule) >= below:
        return False
    known = (turn for turn in (*history.riskiest, *history.turns) if not turn.overturned)
    return not any(turn.risk >= SUSPICIOUS or turn.action is Action.BLOCK for turn in known)


def raw(history: History, *, now: datetime, max_turns: int, max_chars: int) -> dict[str, Any]:
    """Return a person's newest requests uncut, the riskiest before them, and the counts: what the full question shows.

    Args:
        history: What the store knows of the person.
        now: The time from which ages are counted.
        max_turns: How many of the newest requests are shown at most.
        max_chars: Characters of these, all together; the newest is shown however long it is.
    """
    newest = newest_turns(history.turns, max_turns=max_turns, max_chars=max_chars)
    return {
        "requests": history.total,
        "blocked": history.blocked,
        "flagged": history.flagged,
        "overturned": history.overturned,
        "clean_run": history.clean_run,
        "risky": [_shown(turn, now, ALONE.text) for turn in history.riskiest],
        "recent": [_shown(turn, now, _UNCUT) for turn in newest],
        "kin": [_shown(turn, now, ALONE.text) for turn in history.kin],
    }


def _riskiest(history: History, most: int) -> list[Turn]:
    found = [
        turn
        for turn in (*history.riskiest, *history.turns)
        if not turn.overturned and (turn.risk > NOTABLE or turn.action is Action.BLOCK)
    ]
    chosen = sorted(found, key=lambda turn: (turn.risk, turn.at), reverse=True)[:most]
    return sorted(chosen, key=lambda turn: turn.at)


def _short(turn: Turn, now: datetime, bound: int) -> dict[str, Any] | str:
    """Return the bare prompt where there is nothing else to say of a request: most have no more, and it costs less."""
    if turn.action is Action.ALLOW and turn.texts.keys() == {"prompt"}:
        return cut_middle(turn.texts["prompt"], bound)
    return _shown(turn, now, bound)


def _age_h(turn: Turn, now: datetime) -> int:
    return round(max(now - turn.at, timedelta()) / timedelta(hours=1))


def _shown(turn: Turn, now: datetime, bound: int) -> dict[str, Any]:
    about: dict[str, Any] = {"age_h": _age_h(turn, now)}
    if turn.overturned:
        about["ruling"] = "overturned"
    elif turn.action is not Action.ALLOW:
        about["ruling"] = str(turn.action) if turn.action is not None else "pending"
    texts = _cut_texts(turn.texts, bound)
    # Channels of known names need no table of their own, which would cost tokens; others could pass for our own words.
    return about | (texts if texts.keys() <= _PLAIN else {"texts": texts})


def _cut_texts(texts: Mapping[str, str], bound: int) -> dict[str, str]:
    # Every channel gets an equal share, and what a short one leaves goes to those after it, shortest first.
    cut: dict[str, str] = {}
    left, waiting = bound, len(texts)
    for name, text in sorted(texts.items(), key=lambda item: len(item[1].encode())):
        cut[name] = cut_middle(text, left // waiting)
        left -= len(cut[name].encode())
        waiting -= 1
    return {name: cut[name] for name in texts}


def cut_middle(text: str, bound: int) -> str:
    """Return a text of at most ``bound`` bytes: whole, or its beginning and its end around an ellipsis."""
    data = text.encode()
    if len(data) <= bound:
        return text
    room = max(bound - len("…".encode()), 0)
    tail = room // 3
    # 'ignore': a character that is cut through is left out.
    start = data[: room - tail].decode(errors="ignore")
    end = data[len(data) - tail :].decode(errors="ignore") if tail else ""
    return f"{start}…{end}"


def _size(turn: Turn, bound: int) -> int:
    return min(sum(len(text.encode()) for text in turn.texts.values()), bound)


def newest_texts(turns: Sequence[Turn], most: int) -> list[dict[str, str]]:
    """Return the texts of the newest turns, oldest first, for a person who reviews."""
    return [dict(turn.texts) for turn in turns[-most:]]
