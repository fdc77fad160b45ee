"""What is sent to a judge, and what is taken for its answer."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bad_answers import BAD_ANSWERS, CATEGORIES, GOOD, GOOD_TEXT, NONCE
from safelight.instructions import (
    MAX_ANSWER_CHARS,
    MAX_HISTORY_CHARS,
    UnreadableAnswer,
    answer_schema,
    answer_tokens,
    as_data,
    newest_turns,
    prompt_case,
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


def turn(text: str, *, minutes: int = 0, action: Action | None = Action.ALLOW) -> Turn:
    return Turn(texts={"prompt": text}, at=NOW + timedelta(minutes=minutes), action=action)


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


# The case.


@given(st.dictionaries(TEXTS, TEXTS))
def test_data_reads_back_unchanged_and_holds_no_control_token(texts: dict[str, str]) -> None:
    data = as_data(texts)
    assert json.loads(data) == texts
    assert "<" not in data


@given(st.dictionaries(TEXTS, TEXTS, min_size=1), st.lists(TEXTS, max_size=4))
def test_no_text_changes_the_shape_of_the_case(texts: dict[str, str], before: list[str]) -> None:
    case = json.loads(prompt_case(texts, [turn(text) for text in before], nonce=NONCE, max_history=9))
    assert list(case) == ["nonce", "current", "history_left_out", "history"]
    assert case["nonce"] == NONCE
    assert case["current"] == {"channels": texts}
    assert [shown["channels"] for shown in case["history"]] == [{"prompt": text} for text in before]


def test_the_history_is_shown_oldest_first_with_time_and_ruling() -> None:
    turns = [turn("one", action=Action.BLOCK), turn("two", minutes=1), turn("three", minutes=2, action=None)]
    case = json.loads(prompt_case({"prompt": "now"}, turns, nonce=NONCE, max_history=9))
    assert case["history_left_out"] == 0
    assert case["history"] == [
        {"at": "2026-11-22T12:00:00+00:00", "ruling": "block", "channels": {"prompt": "one"}},
        {"at": "2026-11-22T12:01:00+00:00", "ruling": "allow", "channels": {"prompt": "two"}},
        {"at": "2026-11-22T12:02:00+00:00", "ruling": "pending", "channels": {"prompt": "three"}},
    ]


def test_older_turns_are_left_out_first_and_counted() -> None:
    case = json.loads(prompt_case({}, [turn(str(place)) for place in range(30)], nonce=NONCE, max_history=20))
    assert case["history_left_out"] == 10
    assert [shown["channels"]["prompt"] for shown in case["history"]] == [str(place) for place in range(10, 30)]


def test_no_history_may_be_asked_for() -> None:
    case = json.loads(prompt_case({}, [turn("old")], nonce=NONCE, max_history=0))
    assert (case["history"], case["history_left_out"]) == ([], 1)


def test_long_turns_stop_at_the_bound_and_are_never_cut() -> None:
    turns = [turn(f"{place}" + "x" * 3_999) for place in range(9)]
    shown = newest_turns(turns, max_turns=20, max_chars=MAX_HISTORY_CHARS)
    assert list(shown) == turns[-5:]


def test_a_huge_last_turn_does_not_hide_itself() -> None:
    turns = [turn("zor"), turn("x" * (MAX_HISTORY_CHARS + 1))]
    assert newest_turns(turns, max_turns=20, max_chars=MAX_HISTORY_CHARS) == (turns[1],)


# The answer's form.


def test_the_schema_allows_nothing_beside_the_asked_keys() -> None:
    schema = answer_schema(CATEGORIES)
    assert schema["additionalProperties"] is False
    assert set(schema["required"]) == set(GOOD)
    assert schema["properties"]["scores"]["additionalProperties"] is False
    assert schema["properties"]["scores"]["required"] == list(CATEGORIES)


def test_an_answer_has_room_for_every_category() -> None:
    names = list(Policy.default().categories)
    longest = json.dumps(dict(GOOD, scores={name: 0.123456 for name in names}))
    # Short words and digits can be two characters a token.
    assert answer_tokens(names) > len(longest) / 2
    assert len(longest) < MAX_ANSWER_CHARS / 4


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
    text = json.dumps(dict(GOOD, verdict="block", scores={"violence": 1, "teapots": 0.25}, reason="disguised"))
    answer = read_answer(text, nonce=NONCE, categories=CATEGORIES)
    assert (answer.blocks, answer.scores, answer.reason) == (True, {"violence": 1.0, "teapots": 0.25}, "disguised")


def test_there_are_enough_bad_answers() -> None:
    assert len(BAD_ANSWERS) >= 60
    assert GOOD_TEXT not in BAD_ANSWERS.values()
    assert len(set(BAD_ANSWERS.values())) == len(BAD_ANSWERS)


@pytest.mark.parametrize("name", BAD_ANSWERS)
def test_a_bad_answer_is_none(name: str) -> None:
    with pytest.raises(UnreadableAnswer) as caught:
        read_answer(BAD_ANSWERS[name], nonce=NONCE, categories=CATEGORIES)
    assert caught.value.code.startswith("answer_")


SCALARS = st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.just(NONCE) | st.just("allow")
JSON_VALUES = st.recursive(SCALARS, lambda inner: st.lists(inner) | st.dictionaries(st.text(), inner), max_leaves=8)


@given(st.sampled_from(sorted(GOOD)), JSON_VALUES)
def test_any_other_value_of_a_key_opens_nothing_unless_it_means_the_same(key: str, value: object) -> None:
    changed = dict(GOOD) | {key: value}
    try:
        opened = read(json.dumps(changed))
    except UnreadableAnswer:
        return
    assert not opened or changed == GOOD


@given(st.text() | JSON_VALUES.map(json.dumps))
def test_text_without_the_nonce_opens_nothing(text: str) -> None:
    if NONCE not in text:
        with pytest.raises(UnreadableAnswer):
            read_answer(text, nonce=NONCE, categories=CATEGORIES)


BLOCKS = json.dumps(dict(GOOD, verdict="block", scores={"violence": 0.97, "teapots": 0.0}, reason="plain"))


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
