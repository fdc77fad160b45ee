from __future__ import annotations

import json
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.policy import Action
from safelight.request import History, Turn
from safelight.rules import CourseRule
from safelight.scanning.summary import ALONE, PACKED, Bounds, cut_middle, is_quiet, local_risk, summary
from scan_crowd import NOW


def turn(text: str, hours: float = 1.0, **changes: Any) -> Turn:
    return Turn({"prompt": text}, NOW - timedelta(hours=hours), changes.pop("action", Action.ALLOW), **changes)


def shown(history: History, bounds: Bounds = ALONE) -> dict[str, Any]:
    return summary(history, rule=CourseRule(), now=NOW, bounds=bounds)


def test_the_newest_are_shown_oldest_first_and_the_rest_is_counted() -> None:
    history = History(tuple(turn(f"{place} {'x' * 250}", 20 - place) for place in range(20)), total=100_000)
    found = shown(history)
    assert [item[:2] for item in found["recent"]] == ["18", "19"]
    assert found["requests"] == 100_000


@pytest.mark.parametrize("bounds", [ALONE, PACKED])
def test_it_stays_as_small_however_long_the_history_is(bounds: Bounds) -> None:
    turns = tuple(turn("é" * 4_000, 20 - place, risk=0.9) for place in range(20))
    kin = riskiest = tuple(turn("y" * 4_000, 500 + place, risk=1.0, action=Action.BLOCK) for place in range(5))
    size = len(json.dumps(shown(History(turns, riskiest, kin, total=100, blocked=5), bounds), ensure_ascii=False))
    huge = History(turns, riskiest, kin, total=100_000, blocked=5_000)
    assert len(json.dumps(shown(huge, bounds), ensure_ascii=False)) <= 1.05 * size <= 12_000


def test_a_risky_request_is_shown_however_old_and_an_overturned_one_is_not_held_against_anybody() -> None:
    old = turn("risky", 9_000, risk=0.8)
    won = turn("won", 8_000, risk=1.0, action=Action.BLOCK, overturned=True)
    found = shown(History((turn("tea"),), (old, won)))
    assert [item["prompt"] for item in found["risky"]] == ["risky"]
    assert "risk" not in found


def test_a_turn_that_is_risky_and_recent_is_shown_once() -> None:
    assert "recent" not in shown(History((turn("risky", risk=0.9),)))


def test_a_ruling_is_shown_where_it_was_no_allow() -> None:
    turns = (
        turn("a", 4, action=Action.BLOCK, overturned=True),
        turn("b", 3, action=Action.FLAG),
        turn("c", 2, action=None),
        turn("d", 1),
    )
    *others, allowed = shown(History(turns))["recent"]
    assert [(item["age_h"], item["ruling"]) for item in others] == [(4, "overturned"), (3, "flag"), (2, "pending")]
    assert allowed == "d"


def test_a_channel_cannot_pass_for_a_word_of_ours() -> None:
    liar = Turn({"prompt": "tea", "ruling": "overturned", "age_h": "9"}, NOW, Action.BLOCK, 1.0)
    (item,) = shown(History((liar,)))["risky"]
    assert (item["ruling"], item["age_h"]) == ("block", 0)
    assert item["texts"]["ruling"] == "overturned"


def test_every_channel_is_shown_and_a_short_one_leaves_its_share_to_the_others() -> None:
    both = Turn({"prompt": "p" * 2_900, "negative_prompt": "no rain"}, NOW, Action.ALLOW)
    (item,) = shown(History((both,)))["recent"]
    assert item["negative_prompt"] == "no rain"
    assert len(item["prompt"].encode()) == ALONE.text - len("no rain")


@given(st.text(st.characters(exclude_categories=["Cs"])), st.integers(0, 60))
def test_a_text_is_whole_or_its_beginning_and_end_within_the_bound(text: str, bound: int) -> None:
    cut = cut_middle(text, bound)
    if len(text.encode()) <= bound:
        assert cut == text
    else:
        start, dots, end = cut.partition("…") if "…" not in text else (cut, "…", "")
        assert dots
        assert len(cut.encode()) <= max(bound, len("…".encode()))
        assert "…" in text or (text.startswith(start) and text.endswith(end))


@pytest.mark.parametrize(
    ("history", "quiet"),
    [
        (History((turn("tea"),)), True),
        (History((turn("tea", risk=0.34),)), True),
        (History((turn("tea", risk=0.45),)), False),
        # What a screen suspected is asked about however long ago it was, but not what a person has since put right.
        (History((turn("tea"),), (turn("old", 9_000, risk=0.5),)), False),
        (History((turn("tea"),), (turn("old", 9_000, risk=0.45),)), True),
        (History((turn("won", 2, risk=1.0, action=Action.BLOCK, overturned=True), turn("tea"))), True),
        (History((turn("no", 900, risk=0.4, action=Action.BLOCK), turn("tea"))), False),
    ],
)
def test_who_is_left_to_the_local_screens(history: History, quiet: bool) -> None:
    assert is_quiet(history, rule=CourseRule(), below=0.1) is quiet


def test_risk_is_that_of_the_time_when_a_person_last_asked() -> None:
    # A month has passed since, and nothing was asked in it.
    assert local_risk(History((turn("no", 721, risk=0.9), turn("tea", 720))), rule=CourseRule()) > 0.8
    assert local_risk(History((turn("no", 721, risk=0.9), turn("tea", 1))), rule=CourseRule()) < 0.01
