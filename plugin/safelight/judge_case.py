"""What a judge of prompts is shown: one JSON object with everything that people wrote, and nothing else.

The request to rule on stands in it whole, byte for byte. What is known of the person is bounded: the same number of
turns and the same size after 100,000 requests as after 100. A few old risky turns take the places of as many recent
ones. Texts of turns that have no room are left out whole, never cut; nobody can push short ones out by long ones.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

from .course import course_risk
from .instructions import COUNT_STEPS, as_data
from .normalise import evident
from .policy import Action
from .request import GenerationRequest, History, Turn
from .rules import CourseRule

MAX_CASE_CHARS = 9_000
"""Characters of a case that history may fill it up to: about 2,300 tokens of English."""

MIN_HISTORY_CHARS = 6_000
"""Characters that history always has: a long request must not hide what came before it."""

MAX_RISKIEST = 3
"""Older risky turns that are shown, in place of as many recent ones."""

MAX_KIN = 3
"""Turns of the same account under other names that are shown."""

MAX_VIEWS = 8
"""Most views of all channels together."""

MAX_VIEW_CHARS = 4_000
"""Characters of all views together. A view that has no room is left out; the text that it was made of is there."""

MAX_AT_ONCE_CHARS = 24_000
"""Characters of older requests that are not ruled on yet: what somebody sends at once, beyond the newest turns. It is
not left out where it is more, since no summary holds it: then nothing is asked (``TooMuchAtOnce``)."""

MIN_WEIGHT = 0.05
"""Turns that weigh less are not shown: with a half-life of a day, after four days."""

STEADY_FOR = timedelta(minutes=10)
"""Weights change in steps of this, so that the same question, asked again soon, is the same text."""


class TooMuchAtOnce(ValueError):
    """More is waiting for a ruling than a judge can be shown: nobody could see what the pieces make together."""

    def __init__(self) -> None:
        super().__init__("too many requests of one person are waiting for a ruling")


def prompt_case(
    request: GenerationRequest,
    history: Sequence[Turn],
    *,
    nonce: str,
    course: CourseRule,
    now: datetime,
    max_history: int = 20,
    max_chars: int = MAX_CASE_CHARS,
) -> str:
    """Return the user message of the prompt judge.

    Args:
        request: What to rule on.
        history: What is known of the person; turns alone are taken for all that there are.
        nonce: What the answer must repeat.
        course: How old turns fade.
        now: The time, with time zone.
        max_history: How many turns of the person are shown at most.
        max_chars: Length up to which history may fill the case, but for ``MIN_HISTORY_CHARS``, and the newest turn,
            which is shown however long it is. The request itself is never shortened for it.

    Raises:
        TooMuchAtOnce: If more than ``MAX_AT_ONCE_CHARS`` of other requests are waiting for a ruling.
    """
    moment = _steady(now)
    known = _without_rerolls(_as_history(history), request)
    past: dict[str, Any] = {"summary": _summary(known, course, moment)}
    current = {"channels": _channels(request), "views": _views(request)}
    case = {"nonce": nonce, "current": current, "history": past}
    groups = _turns(known, course, moment, max_history)
    _make_room(groups, max(MIN_HISTORY_CHARS, max_chars - len(as_data(case))))
    past |= groups
    past["at_once"] = _at_once(known, shown=len(groups["turns"]))
    return as_data(case)


def _channels(request: GenerationRequest) -> dict[str, str]:
    """Return the channels, verbatim. A guidance below 1 turns what is to be avoided into what is asked for."""
    return {
        f"shown_{name}" if request.asks_for_negatives and name.startswith("negative_prompt") else name: text
        for name, text in request.texts.items()
    }


def _as_history(history: Sequence[Turn]) -> History:
    if isinstance(history, History):
        return history
    return History(tuple(history), total=len(history))


def _without_rerolls(known: History, request: GenerationRequest) -> History:
    """Leave out allowed turns that asked for exactly this: asked again it is the same question, answered the same."""
    kept = tuple(turn for turn in known.turns if turn.action is not Action.ALLOW or dict(turn.texts) != request.texts)
    left_out = len(known.turns) - len(kept)
    return replace(
        known,
        turns=kept,
        total=max(known.total - left_out, len(kept)),
        clean_run=max(known.clean_run - left_out, 0),
    )


def _steady(now: datetime) -> datetime:
    seconds = STEADY_FOR.total_seconds()
    return datetime.fromtimestamp(now.timestamp() // seconds * seconds, UTC)


def _summary(known: History, course: CourseRule, now: datetime) -> dict[str, float]:
    return {
        "total": _rounded(known.total),
        "blocked": _rounded(known.blocked),
        "flagged": _rounded(known.flagged),
        "overturned": _rounded(known.overturned),
        "clean_run": _rounded(known.clean_run),
        "risk": round(round(course_risk(known, rule=course, now=now) * 20) / 20, 2),
    }


def _rounded(count: int) -> int:
    return max((step for step in COUNT_STEPS if step <= count), default=count)


def _turns(known: History, course: CourseRule, now: datetime, max_history: int) -> dict[str, list[dict[str, Any]]]:
    """Return the turns that are shown, by group, each oldest first."""

    def lasting(turns: Sequence[Turn], most: int) -> list[dict[str, Any]]:
        shown = [_shown(turn, course.weight(now - turn.at)) for turn in turns]
        return [turn for turn in shown if turn["weight"] >= MIN_WEIGHT][-most:] if most else []

    riskiest = lasting(known.riskiest, min(MAX_RISKIEST, max_history))
    return {
        "riskiest": riskiest,
        "same_account": lasting(known.kin, MAX_KIN),
        "turns": lasting(known.turns, max_history - len(riskiest)),
    }


def _at_once(known: History, *, shown: int) -> list[dict[str, str]]:
    """Return the texts alone of what is not ruled on yet and not among the newest."""
    older = known.turns[: len(known.turns) - shown]
    waiting = [dict(turn.texts) for turn in older if turn.action is None and turn.texts]
    if sum(len(as_data(texts)) for texts in waiting) > MAX_AT_ONCE_CHARS:
        raise TooMuchAtOnce
    return waiting


def _shown(turn: Turn, weight: float) -> dict[str, Any]:
    if turn.overturned:
        ruling = "overturned"
    else:
        ruling = str(turn.action) if turn.action is not None else "pending"
    at = turn.at.astimezone(UTC).isoformat(timespec="seconds")
    return {"at": at, "weight": round(weight, 2), "ruling": ruling, "channels": dict(turn.texts)}


def _make_room(groups: Mapping[str, list[dict[str, Any]]], room: int) -> None:
    """Take the texts off turns until all have room.

    Half of what there is for texts is shared out evenly, so a turn that keeps to its share is always whole. Longer ones
    compete for the rest: the person's newest first, then the riskiest. The very newest is whole at any length.
    """
    shown = [turn for group in ("turns", "riskiest", "same_account") for turn in reversed(groups[group])]
    left = room - len(as_data({group: [{**turn, "channels": {}} for turn in groups[group]] for group in groups}))
    lengths = [len(as_data(turn["channels"])) for turn in shown]
    share = max(left, 0) // 2 // max(len(shown), 1)
    left -= sum(length for length in lengths if length <= share)
    for place, (turn, length) in enumerate(zip(shown, lengths, strict=True)):
        if length <= share:
            continue
        if length > left and (place or not groups["turns"]):
            turn["channels"] = {}
        else:
            left -= length


def _views(request: GenerationRequest) -> list[Mapping[str, str]]:
    """Return the views of disguised places, as many as have room, the first of every channel before the second."""
    found = [
        (place, {"channel": channel, "kind": view.kind, "why": view.why, "text": view.text})
        for channel, views in request.views.items()
        for place, view in enumerate(evident(views))
    ]
    shown: list[Mapping[str, str]] = []
    left = MAX_VIEW_CHARS
    for _, view in sorted(found, key=lambda ranked: ranked[0]):
        if len(view["text"]) <= left and len(shown) < MAX_VIEWS:
            shown.append(view)
            left -= len(view["text"])
    return shown
