"""What is sent to a judge, and what is taken for its answer."""

from __future__ import annotations

import copy
import json
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bad_answers import BAD_ANSWERS, CATEGORIES, GOOD, GOOD_TEXT, NONCE
from safelight.instructions import (
    COUNT_STEPS,
    MAX_ANSWER_CHARS,
    MAX_ANSWER_TOKENS,
    MAX_CATEGORIES,
    CourseReason,
    JudgeReason,
    UnreadableAnswer,
    answer_schema,
    answer_tokens,
    as_data,
    newest_turns,
    prompt_rules,
    read_answer,
)
from safelight.policy import Action, Policy
from safelight.request import Turn

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

TEXTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\x00"))

POLICY = """
version = 1
name = "teapots"
[categories.violence]
title = "Violence"
description = "Fights. {not a field}"
advice = "Show peace."
thresholds = { prompt = 0.7, image = 0.6 }
[categories.teapots]
title = "Teapots"
description = '''
Teapots of any make,
whole or broken.'''
advice = "Ask for a kettle."
action = "flag"
thresholds = { prompt = 0.5, image = 0.5 }
screens = { strict_judge = 0.25 }
"""


def turn(text: str) -> Turn:
    return Turn(texts={"prompt": text}, at=NOW, action=Action.ALLOW)


def altered(part: str, **changes: Any) -> dict[str, Any]:
    """A good answer with other values in one of its parts."""
    answer: dict[str, Any] = copy.deepcopy(dict(GOOD))
    answer[part] |= changes
    return answer


def read(text: str) -> bool:
    """Whether an answer would open the way: it says allow, and scores low."""
    answer = read_answer(text, nonce=NONCE, categories=CATEGORIES)
    return not answer.blocks and max(answer.scores.values()) < 0.5


# The rules.


def test_the_rules_name_every_category_with_its_limit_and_description() -> None:
    rules = prompt_rules(Policy.parse(POLICY), screen="llm_judge")
    assert '- "violence", limit 0.7: Fights. {not a field}\n' in rules
    assert '- "teapots", limit 0.5: Teapots of any make, whole or broken.\n' in rules


def test_the_rules_show_a_screen_its_own_limit() -> None:
    assert '- "teapots", limit 0.25:' in prompt_rules(Policy.parse(POLICY), screen="strict_judge")


def test_the_rules_are_the_same_bytes_for_the_same_policy() -> None:
    rules = {prompt_rules(Policy.parse(POLICY + comment), screen="a") for comment in ("", "# a comment\n")}
    assert len(rules) == 1


def test_the_shipped_policy_gives_rules_for_all_its_categories() -> None:
    policy = Policy.default()
    rules = prompt_rules(policy, screen="llm_judge")
    assert all(f'- "{name}", limit ' in rules for name in policy.categories)
    # A prompt costs about 4 characters a token; the judge's whole input is to stay below 4,000 tokens.
    assert len(rules) < 8_000


def test_the_rules_ask_both_questions_and_name_every_word_of_the_answer() -> None:
    rules = prompt_rules(Policy.parse(POLICY), screen="llm_judge")
    assert 'Question one, "prompt"' in rules
    assert 'Question two, "course"' in rules
    assert all(f'"{reason}" if' in rules for reason in (*JudgeReason, *CourseReason))
    assert f"Counts above {COUNT_STEPS[0]} are rounded down; {COUNT_STEPS[-1]} means" in rules


# Data.


@given(st.dictionaries(TEXTS, TEXTS))
def test_data_reads_back_unchanged_and_holds_no_control_token(texts: dict[str, str]) -> None:
    data = as_data(texts)
    assert json.loads(data) == texts
    assert "<" not in data


def test_long_turns_stop_at_the_bound_and_are_never_cut() -> None:
    turns = [turn(f"{place}" + "x" * 999) for place in range(9)]
    assert list(newest_turns(turns, max_turns=20, max_chars=5_000)) == turns[-5:]
    assert list(newest_turns(turns, max_turns=2, max_chars=5_000)) == turns[-2:]


def test_a_huge_last_turn_does_not_hide_itself() -> None:
    turns = [turn("zor"), turn("x" * 5_001)]
    assert newest_turns(turns, max_turns=20, max_chars=5_000) == (turns[1],)


# The answer's form.


def objects(schema: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """A schema and every object in it."""
    inner = schema.get("properties", {}).values()
    return [schema, *(found for one in inner if one["type"] == "object" for found in objects(one))]


def test_the_schema_allows_nothing_beside_the_asked_keys_at_any_level() -> None:
    schema = answer_schema(CATEGORIES)
    assert len(objects(schema)) == 5
    for found in objects(schema):
        assert found["additionalProperties"] is False
        assert found["required"] == list(found["properties"])
    assert set(schema["required"]) == set(GOOD)
    for part in ("prompt", "course"):
        assert set(schema["properties"][part]["required"]) == set(GOOD[part])
        assert schema["properties"][part]["properties"]["scores"]["required"] == list(CATEGORIES)


def test_a_category_that_only_a_policy_names_is_asked_about() -> None:
    policy = Policy.parse(POLICY)
    scores = answer_schema(policy.categories)["properties"]["prompt"]["properties"]["scores"]
    assert scores["properties"]["teapots"] == {"type": "number", "minimum": 0, "maximum": 1}
    assert "Teapots of any make, whole or broken." in prompt_rules(policy, screen="llm_judge")


def longest(names: list[str]) -> str:
    scores = {name: 0.25 for name in names}
    prompt = {"verdict": "block", "scores": scores, "reason": "across_turns"}
    return json.dumps({"nonce": NONCE, "prompt": prompt, "course": {"scores": scores, "reason": "escalating"}})


def test_an_answer_has_room_for_every_category_twice_over() -> None:
    names = list(Policy.default().categories)
    # Names and words are four characters a token, digits and braces fewer: three is on the safe side.
    assert answer_tokens(names) >= 2 * len(longest(names)) / 3
    assert answer_tokens(names) <= MAX_ANSWER_TOKENS


def test_an_answer_about_the_most_categories_still_fits() -> None:
    names = [f"category-{place}" for place in range(MAX_CATEGORIES)]
    assert answer_tokens(names) == MAX_ANSWER_TOKENS
    assert len(longest(names)) / 3 < MAX_ANSWER_TOKENS
    assert len(longest(names)) < MAX_ANSWER_CHARS / 2


@pytest.mark.parametrize(
    "text",
    [
        GOOD_TEXT,
        f"\n {GOOD_TEXT}\r\n\t",
        json.dumps(GOOD, indent=4),
        json.dumps({key: GOOD[key] for key in reversed(tuple(GOOD))}),
        GOOD_TEXT.replace("0.01", "0"),
        GOOD_TEXT.replace("0.01", "1e-2"),
    ],
)
def test_a_good_answer_is_read(text: str) -> None:
    assert read(text)


def test_what_a_good_answer_says_is_returned() -> None:
    said = altered("prompt", verdict="block", scores={"violence": 1, "teapots": 0.25}, reason="disguised")
    said["course"] = {"scores": {"violence": 0.5, "teapots": 0}, "reason": "retrying"}
    answer = read_answer(json.dumps(said), nonce=NONCE, categories=CATEGORIES)
    assert (answer.blocks, answer.scores, answer.reason) == (True, {"violence": 1.0, "teapots": 0.25}, "disguised")
    assert (answer.course, answer.course_reason) == ({"violence": 0.5, "teapots": 0.0}, "retrying")


def test_there_are_enough_bad_answers() -> None:
    assert len(BAD_ANSWERS) >= 120
    assert GOOD_TEXT not in BAD_ANSWERS.values()
    assert len(set(BAD_ANSWERS.values())) == len(BAD_ANSWERS)


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_bad_answer_is_none(name: str) -> None:
    with pytest.raises(UnreadableAnswer) as caught:
        read_answer(BAD_ANSWERS[name], nonce=NONCE, categories=CATEGORIES)
    assert caught.value.code.startswith("answer_")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(NONCE) | st.just("allow")
JSON_VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


PLACES: list[tuple[str, ...]] = [("nonce",), ("prompt",), ("course",)]
PLACES += [("prompt", key) for key in GOOD["prompt"]] + [("course", key) for key in GOOD["course"]]
PLACES += [(part, "scores", name) for part in ("prompt", "course") for name in CATEGORIES]


@given(st.sampled_from(PLACES), JSON_VALUES)
def test_any_other_value_of_a_key_opens_nothing_unless_it_is_of_the_same_form(
    place: tuple[str, ...], value: object
) -> None:
    changed: dict[str, Any] = copy.deepcopy(dict(GOOD))
    holder = changed
    for key in place[:-1]:
        holder = holder[key]
    before = holder[place[-1]]
    holder[place[-1]] = value
    try:
        read(json.dumps(changed))
    except UnreadableAnswer:
        return
    is_score = type(value) in (int, float) and 0 <= value <= 1  # type: ignore[operator]
    assert value == before or value in ("allow", "clear") or (place[1:2] == ("scores",) and is_score)


@given(st.text() | JSON_VALUES.map(json.dumps))
def test_text_without_the_nonce_opens_nothing(text: str) -> None:
    if NONCE not in text:
        with pytest.raises(UnreadableAnswer):
            read_answer(text, nonce=NONCE, categories=CATEGORIES)


BLOCKS = json.dumps(altered("prompt", verdict="block", scores={"violence": 0.97, "teapots": 0.0}, reason="plain"))


@given(
    st.lists(
        st.tuples(st.integers(0, len(BLOCKS)), st.integers(0, 6), st.text(max_size=3) | st.sampled_from('{}[]",:01')),
        min_size=1,
        max_size=4,
    )
)
def test_no_edit_turns_a_block_into_an_opening(edits: list[tuple[int, int, str]]) -> None:
    text = BLOCKS
    for at, length, put in edits:
        text = text[:at] + put + text[at + length :]
    try:
        answer = read_answer(text, nonce=NONCE, categories=CATEGORIES)
    except UnreadableAnswer:
        return
    assert answer.blocks


@given(st.text(max_size=40), st.text(max_size=40))
def test_nothing_but_white_space_may_stand_around_an_answer(before: str, after: str) -> None:
    space = " \t\r\n"
    if before.strip(space) or after.strip(space):
        with pytest.raises(UnreadableAnswer):
            read_answer(before + GOOD_TEXT + after, nonce=NONCE, categories=CATEGORIES)
    else:
        assert read(before + GOOD_TEXT + after)
