"""What a judge of prompts is shown of a request and of the person who asks."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.judge_case import (
    MAX_CASE_CHARS,
    MAX_VIEW_CHARS,
    MAX_VIEWS,
    MIN_HISTORY_CHARS,
    TooMuchAtOnce,
    prompt_case,
)
from safelight.policy import Action
from safelight.request import GenerationRequest, History, Principal, Turn
from safelight.rules import CourseRule

# A whole number of ten minutes, which is how far the weights' clock is rounded down.
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
NONCE = "0123456789abcdef"
PROMPT = "a quiet lake at dawn, soft light, watercolour on rough paper, wide view"

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"), max_size=200)


def request(prompt: str = PROMPT, **texts: str) -> GenerationRequest:
    return GenerationRequest(prompt, Principal("key-1"), extra_texts=texts)


def turn(text: str, action: Action | None = Action.ALLOW, *, hours: float = 0.0, **more: Any) -> Turn:
    return Turn(texts={"prompt": text}, at=NOW - timedelta(hours=hours), action=action, **more)


def case_text(history: Sequence[Turn] = (), asked: GenerationRequest | None = None, **options: Any) -> str:
    given: dict[str, Any] = {"nonce": NONCE, "course": CourseRule(), "now": NOW} | options
    return prompt_case(asked or request(), history, **given)


def case(history: Sequence[Turn] = (), asked: GenerationRequest | None = None, **options: Any) -> dict[str, Any]:
    read = json.loads(case_text(history, asked, **options))
    assert isinstance(read, dict)
    return read


def shown(history: Sequence[Turn], group: str = "turns", **options: Any) -> list[Any]:
    """The first texts of the turns in a group; None where they are left out."""
    return [turn["channels"].get("prompt") for turn in case(history, **options)["history"][group]]


# The whole.


def test_the_case_has_exactly_this_layout() -> None:
    history = History(
        turns=(turn("one", Action.BLOCK, hours=24, risk=1.0), turn("two", None)),
        riskiest=(turn("old", Action.FLAG, hours=48, risk=0.5),),
        kin=(turn("other", Action.BLOCK, hours=24, risk=1.0, overturned=True),),
        total=7,
        blocked=1,
        flagged=2,
        overturned=1,
        clean_run=3,
    )
    # (0.5 - 0.3) / 0.7 and 1, at weights of a quarter and a half: 1 - (1 - 0.0714) * (1 - 0.5) = 0.536.
    assert case(history, request("now", style="ink")) == {
        "nonce": NONCE,
        "current": {"channels": {"prompt": "now", "style": "ink"}, "views": []},
        "history": {
            "summary": {"total": 7, "blocked": 1, "flagged": 2, "overturned": 1, "clean_run": 3, "risk": 0.55},
            "riskiest": [
                {
                    "at": "2026-11-20T12:00:00+00:00",
                    "weight": 0.25,
                    "ruling": "flag",
                    "channels": {"prompt": "old"},
                }
            ],
            "same_account": [
                {
                    "at": "2026-11-21T12:00:00+00:00",
                    "weight": 0.5,
                    "ruling": "overturned",
                    "channels": {"prompt": "other"},
                }
            ],
            "turns": [
                {"at": "2026-11-21T12:00:00+00:00", "weight": 0.5, "ruling": "block", "channels": {"prompt": "one"}},
                {"at": "2026-11-22T12:00:00+00:00", "weight": 1.0, "ruling": "pending", "channels": {"prompt": "two"}},
            ],
            "at_once": [],
        },
    }


def test_the_parts_stand_in_their_order() -> None:
    read = case(History((turn("one"),), total=1))
    assert list(read) == ["nonce", "current", "history"]
    assert list(read["history"]) == ["summary", "riskiest", "same_account", "turns", "at_once"]


@given(st.dictionaries(TEXTS.filter(lambda name: name != "prompt"), TEXTS, max_size=3), TEXTS.filter(str.strip))
def test_no_text_changes_the_shape_of_the_case_nor_itself(texts: dict[str, str], prompt: str) -> None:
    asked = GenerationRequest("now", Principal("key-1"), extra_texts={"style": prompt})
    before = Turn(texts={**texts, "prompt": prompt}, at=NOW, action=Action.BLOCK)
    text = case_text([before], asked)
    assert "<" not in text
    read = json.loads(text)
    assert read["current"]["channels"] == {"prompt": "now", "style": prompt}
    assert [one["channels"] for one in read["history"]["turns"]] == [{**texts, "prompt": prompt}]
    assert read["nonce"] == NONCE


@pytest.mark.parametrize("length", [1, 1_000, 4_000])
def test_the_request_is_never_shortened(length: int) -> None:
    texts = {f"channel {place}": f"{place}" * length for place in range(9)}
    read = case([turn("x" * 900) for _ in range(20)], request("p" * length, **texts), max_chars=0)
    assert read["current"]["channels"] == {"prompt": "p" * length, **texts}


# Views.


def test_what_shows_a_disguise_is_shown_beside_the_text() -> None:
    current = case((), request("a z0rbl4x at dawn", style="em9yYmxheA=="))["current"]
    assert current["channels"] == {"prompt": "a z0rbl4x at dawn", "style": "em9yYmxheA=="}
    views = {(view["channel"], view["kind"]): view for view in current["views"]}
    assert views["prompt", "leet"]["text"] == "a zorblax at dawn"
    assert views["style", "base64"]["text"] == "zorblax"
    assert all(list(view) == ["channel", "kind", "why", "text"] and view["why"] for view in current["views"])


def test_a_plain_request_has_no_views() -> None:
    assert case((), request("An old woman reads by the window, 1890, oil on canvas (f/1.8)."))["current"]["views"] == []


def test_views_are_bounded_and_every_channel_has_its_first_before_any_has_its_second() -> None:
    disguised = "z\u200borb1ax em9yYmxheA== " + "q" * 300
    texts = {f"style {place}": disguised for place in range(4)}
    views = case((), request(disguised, **texts))["current"]["views"]
    assert len(views) <= MAX_VIEWS
    assert sum(len(view["text"]) for view in views) <= MAX_VIEW_CHARS
    assert [view["channel"] for view in views[:5]] == ["prompt", *texts]


# Which turns.


def test_turns_alone_are_all_there_is() -> None:
    summary = case([turn("one"), turn("two")])["history"]["summary"]
    assert (summary["total"], summary["blocked"], summary["risk"]) == (2, 0, 0)


def test_a_stranger_has_an_empty_history() -> None:
    past = case()["history"]
    assert (past["riskiest"], past["same_account"], past["turns"]) == ([], [], [])
    assert set(past["summary"].values()) == {0}


def test_the_newest_turns_are_shown_oldest_first() -> None:
    assert shown([turn(str(place)) for place in range(30)], max_history=20) == [str(place) for place in range(10, 30)]
    assert shown([turn("old")], max_history=0) == []


def test_what_came_at_once_is_shown_beyond_the_newest_turns_as_far_as_it_is_not_ruled_on() -> None:
    settled = [turn(f"settled {place}") for place in range(5)]
    waiting = [turn(f"half {place}", None) for place in range(100)]
    past = case(History((*settled, *waiting), total=105))["history"]
    assert [one["channels"]["prompt"] for one in past["turns"]] == [f"half {place}" for place in range(80, 100)]
    assert [one["prompt"] for one in past["at_once"]] == [f"half {place}" for place in range(80)]


def test_of_a_hundred_long_requests_at_once_none_is_left_out() -> None:
    waiting = [turn(f"{place} " + "x" * 200, None) for place in range(100)]
    past = case(History(tuple(waiting), total=100))["history"]
    texts = [one["channels"]["prompt"] for one in past["turns"]] + [one["prompt"] for one in past["at_once"]]
    assert {int(text.split()[0]) for text in texts if text} == set(range(100))


def test_more_at_once_than_can_be_shown_is_not_asked_about() -> None:
    waiting = [turn(f"{place} " + "x" * 400, None) for place in range(100)]
    with pytest.raises(TooMuchAtOnce):
        case(History(tuple(waiting), total=100))


@pytest.mark.parametrize(("guidance", "name"), [(None, "negative_prompt"), (1.0, "negative_prompt"), (0.5, "shown_")])
def test_a_guidance_below_one_turns_what_to_avoid_into_what_is_asked_for(guidance: float | None, name: str) -> None:
    asked = GenerationRequest("tea", Principal("p"), negative_prompt="cups", guidance_scale=guidance)
    assert list(case((), asked)["current"]["channels"])[1].startswith(name)


def test_old_turns_fade_by_the_policys_half_life_and_then_go() -> None:
    turns = [turn(f"{hours}", hours=hours) for hours in (120, 96, 48, 24, 0)]
    weights = [(one["channels"]["prompt"], one["weight"]) for one in case(turns)["history"]["turns"]]
    assert weights == [("96", 0.06), ("48", 0.25), ("24", 0.5), ("0", 1.0)]
    slower = case(turns, course=CourseRule(half_life=timedelta(hours=48)))["history"]["turns"]
    assert [one["weight"] for one in slower] == [0.18, 0.25, 0.5, 0.71, 1.0]


def test_a_block_that_was_overturned_is_shown_as_that_and_carries_no_risk() -> None:
    blocked = turn("teapot", Action.BLOCK, risk=1.0)
    cleared = turn("teapot", Action.BLOCK, risk=1.0, overturned=True)
    for one, ruling, risk in ((blocked, "block", 1.0), (cleared, "overturned", 0.0)):
        past = case([one])["history"]
        assert (past["turns"][0]["ruling"], past["summary"]["risk"]) == (ruling, risk)
        assert past["turns"][0]["channels"] == {"prompt": "teapot"}


def test_a_turn_whose_text_was_not_kept_is_shown_without_it() -> None:
    (one,) = case([Turn(texts={}, at=NOW, action=Action.BLOCK)])["history"]["turns"]
    assert (one["ruling"], one["channels"]) == ("block", {})


def test_an_allowed_turn_that_asked_the_very_same_is_left_out() -> None:
    history = History((turn("zor"),), total=5, clean_run=4)
    again = History((turn("zor"), turn(PROMPT, hours=0.1)), total=6, clean_run=5)
    assert case_text(again) == case_text(history)


@pytest.mark.parametrize("action", [Action.BLOCK, Action.FLAG, None])
def test_the_very_same_request_is_shown_if_it_was_not_plainly_allowed(action: Action | None) -> None:
    assert shown([turn(PROMPT, action)]) == [PROMPT]


def test_the_same_words_in_another_channel_are_another_request() -> None:
    assert len(case([Turn({"style": PROMPT}, NOW, Action.ALLOW)])["history"]["turns"]) == 1


def test_the_riskiest_take_the_places_of_the_oldest() -> None:
    turns = tuple(turn(str(place)) for place in range(20))
    riskiest = tuple(turn(f"risky {place}", Action.BLOCK, hours=24) for place in range(5))
    history = History(turns=turns, riskiest=riskiest, total=200)
    assert shown(history, "riskiest") == ["risky 2", "risky 3", "risky 4"]
    assert shown(history) == [str(place) for place in range(3, 20)]


# Size.


def of_size(total: int, *, turns: int = 20, risky: bool = False) -> History:
    newest = tuple(turn(f"{PROMPT}, number {place:06}", hours=1) for place in range(total - turns, total))
    riskiest = tuple(turn(f"{PROMPT}, number {place:06}", Action.BLOCK, hours=9, risk=1.0) for place in range(3))
    return History(
        turns=newest,
        riskiest=riskiest if risky else (),
        total=total,
        blocked=total // 10 if risky else 0,
        clean_run=total,
    )


def test_the_case_is_of_the_same_size_after_100_and_after_100_000_turns() -> None:
    for risky in (False, True):
        lengths = {len(case_text(of_size(total, risky=risky))) for total in (100, 1_000, 10_000, 100_000)}
        assert max(lengths) - min(lengths) <= (1 if risky else 0)


def test_200_turns_cost_at_most_a_twentieth_more_than_20() -> None:
    few = len(case_text(of_size(20)))
    assert len(case_text(of_size(200))) <= 1.05 * few
    assert len(case_text(of_size(200, turns=200))) <= 1.05 * few
    assert len(case_text(of_size(200, risky=True))) <= 1.05 * few


@pytest.mark.parametrize(
    ("count", "told"), [(0, 0), (19, 19), (20, 20), (49, 20), (50, 50), (199, 100), (499, 200), (10**6, 500)]
)
def test_a_count_above_twenty_is_rounded_down(count: int, told: int) -> None:
    summary = case(History(total=count, blocked=count, clean_run=count))["history"]["summary"]
    assert (summary["total"], summary["blocked"], summary["clean_run"]) == (told, told, told)


@given(st.lists(st.integers(1, 4_000), min_size=1, max_size=40), st.integers(1, 4_000))
def test_history_keeps_to_its_room_but_for_the_newest_turn(lengths: list[int], asked: int) -> None:
    turns = [turn("x" * length) for length in lengths]
    now = request("y" * asked)
    text = case_text(History(tuple(turns), kin=tuple(turns[:5]), total=len(turns)), now)
    without = len(case_text(History(total=len(turns)), now))
    assert len(text) <= max(MAX_CASE_CHARS, without + MIN_HISTORY_CHARS) + lengths[-1]
    # Whole or not at all.
    assert all(
        one["channels"] in ({}, *(dict(before.texts) for before in turns))
        for group in ("same_account", "turns")
        for one in json.loads(text)["history"][group]
    )


def test_long_turns_do_not_push_short_ones_out() -> None:
    turns = [turn("zor"), *[turn("x" * 4_000, hours=0) for _ in range(18)], turn("y" * 4_000)]
    found = shown(turns)
    assert (found[0], found[-1]) == ("zor", "y" * 4_000)
    assert len(found) == 20
    assert None in found


def test_a_long_request_does_not_push_the_history_out() -> None:
    texts = {f"channel {place}": "x" * 4_000 for place in range(9)}
    assert shown([turn("zor"), turn("and then")], asked=request("blax", **texts)) == ["zor", "and then"]


def test_a_huge_last_turn_is_shown_whole() -> None:
    huge = Turn({f"channel {place}": "x" * 4_000 for place in range(9)}, NOW, Action.ALLOW)
    assert case([turn("zor"), huge])["history"]["turns"][-1]["channels"] == huge.texts
    assert shown([turn("zor"), huge])[0] == "zor"


# Time.


def test_the_same_question_within_minutes_is_the_same_text() -> None:
    history = [turn(str(place), hours=place / 3) for place in range(20)]
    texts = {case_text(history, now=NOW + timedelta(seconds=seconds)) for seconds in (0, 1, 200, 599)}
    assert len(texts) == 1
    assert case_text(history, now=NOW + timedelta(seconds=1_300)) not in texts


def test_times_are_told_in_one_time_zone() -> None:
    local = Turn({"prompt": "x"}, datetime.fromisoformat("2026-11-22T21:00:00+09:00"), Action.ALLOW)
    assert case([local])["history"]["turns"][0]["at"] == "2026-11-22T12:00:00+00:00"
