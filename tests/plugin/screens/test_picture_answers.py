"""10,000 generated answers of a picture judge in each of its two forms: none that is not a true all-clear opens.

What an all-clear is, is written down here once more and on its own, from the form's definition. Hypothesis draws seeds,
and each seed makes a hundred answers, so every run sees new ones: what fails is in the message.
"""

from __future__ import annotations

import json
import math
import random
import re
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from safelight.backends.litellm_chat import ChatAnswer
from safelight.errors import ConfigError
from safelight.instructions import UnreadableAnswer
from safelight.picture_questions import Questionnaire
from safelight.policy import Policy
from safelight.screens.picture_answers import (
    MAX_QUESTIONS,
    answer_schema,
    answer_tokens,
    question_names,
    questions_as_data,
    read_answers,
)
from safelight.screens.picture_asks import yes_or_no_asks
from safelight.screens.vlm_api_judge import VLMAPIJudge
from safelight.verdict import Outcome
from teapot_policy import teapot_policy

POLICY = teapot_policy()
QUESTIONS = Questionnaire.of(POLICY)
COUNT = len(QUESTIONS.questions)
NAMES = question_names(COUNT)
FIRST = NAMES[0]
NONCE = "0123456789abcdef"
LIMIT = 0.5
EACH = 100
SEEDS = st.integers(0, 2**64)

FINE = dict.fromkeys(NAMES, 0.02)
SAFE: dict[str, Any] = {"nonce": NONCE, "answers": FINE}
UNSAFE: dict[str, Any] = {"nonce": NONCE, "answers": FINE | {FIRST: 0.97}}
SAFE_TEXT, UNSAFE_TEXT = json.dumps(SAFE), json.dumps(UNSAFE)


def below_all(answers: Mapping[int, float]) -> bool:
    """Whether every category has a score, and none reaches its threshold."""
    scores = QUESTIONS.scores([answers.get(place) for place in range(COUNT)])
    return scores.keys() == POLICY.categories.keys() and max(scores.values()) < LIMIT


def opens(text: str) -> bool:
    """Whether a JSON answer clears a picture."""
    try:
        return below_all(dict(enumerate(read_answers(text, nonce=NONCE, count=COUNT))))
    except UnreadableAnswer:
        return False


# What an all-clear is, by the letters of the text and not by a JSON parser.

NUMBER = r"-?(?:0|[1-9]\d*)(?:\.\d+)?(?:[eE][+-]?\d+)?"
BLANK = r"[ \t\n\r]*"


def spelled(word: str) -> str:
    """A pattern of every way in which JSON may write a word: each letter plain or escaped."""
    letters = [f"(?:{re.escape(letter)}|\\\\u(?i:{ord(letter):04x}))" for letter in word]
    return f'"{"".join(letters)}"'


def pair(name: str, value: str) -> str:
    return f"{BLANK}{spelled(name)}{BLANK}:{BLANK}{value}{BLANK}"


ENTRY = re.compile(rf'{BLANK}"((?:[^"\\]|\\u[0-9a-fA-F]{{4}})*)"{BLANK}:{BLANK}({NUMBER}){BLANK}(?:,|$)', re.ASCII)
NONCE_PAIR, ANSWERS_PAIR = pair("nonce", spelled(NONCE)), pair("answers", r"\{([^{}]*)\}")
WHOLE = [
    re.compile(f"{BLANK}{{{one},{other}}}{BLANK}", re.ASCII)
    for one, other in ((NONCE_PAIR, ANSWERS_PAIR), (ANSWERS_PAIR, NONCE_PAIR))
]


def is_all_clear(text: str) -> bool:
    """Whether a text is the asked form with every category's answers below the limit, by a reading of our own."""
    found = next((match for form in WHOLE if (match := form.fullmatch(text))), None)
    if found is None or len(text) > 8_000:
        return False
    entries, at = [], 0
    while (entry := ENTRY.match(found[1], at)) is not None and entry.end() > at:
        name = re.sub(r"\\u([0-9a-fA-F]{4})", lambda code: chr(int(code[1], 16)), entry[1])
        entries.append((name, float(entry[2])))
        at = entry.end()
    whole = at == len(found[1]) and not found[1].rstrip().endswith(",")
    if not whole or sorted(name for name, _ in entries) != sorted(NAMES):
        return False
    values = dict(entries)
    if not all(0 <= value <= 1 for value in values.values()):
        return False
    # The teapot policy has no preconditions: each category's first sign decides.
    return all(values[NAMES[asked.signs[0]]] < LIMIT for asked in QUESTIONS.categories.values())


def test_the_kit_tells_an_all_clear_from_a_finding() -> None:
    assert opens(SAFE_TEXT) and is_all_clear(SAFE_TEXT)
    assert not opens(UNSAFE_TEXT) and not is_all_clear(UNSAFE_TEXT)
    turned = json.dumps({"answers": FINE, "nonce": NONCE}, indent=1)
    escaped = SAFE_TEXT.replace("answers", "\\u0061nswers")
    for text in (turned, escaped, f"\n{SAFE_TEXT} "):
        assert opens(text) and is_all_clear(text)


ODD = [
    "",
    "safe",
    "Safe. The picture is fine.",
    '"safe"',
    "null",
    "0",
    "[]",
    "{}",
    "No",
    "NaN",
    "true",
    f"```json\n{SAFE_TEXT}\n```",
    f"Here you are: {SAFE_TEXT}",
    f"{SAFE_TEXT} I hope this helps.",
    f"<think>fine</think>{SAFE_TEXT}",
    f"[{SAFE_TEXT}]",
    json.dumps(SAFE_TEXT),
    json.dumps({"answer": SAFE}),
    SAFE_TEXT * 2,
    SAFE_TEXT[:-1],
    SAFE_TEXT[:-2],
    SAFE_TEXT + "}",
    SAFE_TEXT[: len(SAFE_TEXT) // 2],
    SAFE_TEXT.replace('"', "'"),
    SAFE_TEXT.replace('"', "\u201c"),
    SAFE_TEXT.replace("{", "\uff5b"),
    SAFE_TEXT.replace("0.02", "\u0660.\u0660\u0662", 1),
    SAFE_TEXT.replace("0.02", '"0.02"', 1),
    SAFE_TEXT.replace("0.02", "false", 1),
    SAFE_TEXT.replace("0.02", "null", 1),
    SAFE_TEXT.replace("0.02", "NaN", 1),
    SAFE_TEXT.replace("0.02", "-Infinity", 1),
    SAFE_TEXT.replace("0.02", "-0.02", 1),
    SAFE_TEXT.replace("0.02", "2", 1),
    SAFE_TEXT.replace("0.02", "1e400", 1),
    SAFE_TEXT.replace("0.02", "1" * 5_000, 1),
    SAFE_TEXT.replace("0.02", "[0.02]", 1),
    SAFE_TEXT.replace("0.02", '{"value": 0.02}', 1),
    SAFE_TEXT.replace("0.02", ".02", 1),
    SAFE_TEXT.replace("0.02", "+0.02", 1),
    SAFE_TEXT.replace("0.02", "0,02", 1),
    SAFE_TEXT.replace("0.02", "2%", 1),
    SAFE_TEXT.replace(f'"{FIRST}"', f'"{FIRST}": 0.97, "{FIRST}"'),
    SAFE_TEXT.replace(f'"{FIRST}"', f'"{FIRST}": 0.97, "\\u0071{FIRST[1:]}"'),
    SAFE_TEXT.replace(f'"{FIRST}"', '"\u051b1"'),
    SAFE_TEXT.replace(f'"{FIRST}"', '"Q1"'),
    SAFE_TEXT.replace('"answers"', '"answers": {}, "answers"'),
    SAFE_TEXT.replace('"nonce"', '"nonce": "x", "nonce"'),
    SAFE_TEXT.replace(NONCE, NONCE.upper()),
    SAFE_TEXT.replace(NONCE, NONCE[:-1]),
    SAFE_TEXT.replace(f'"{NONCE}"', f'["{NONCE}"]'),
    json.dumps(SAFE | {"safe": True}),
    json.dumps({"answers": FINE}),
    json.dumps({"nonce": NONCE}),
    json.dumps({"nonce": NONCE, "answers": 0.02}),
    json.dumps({"nonce": NONCE, "answers": [0.02] * COUNT}),
    json.dumps({"nonce": NONCE, "answers": {}}),
    json.dumps({"nonce": NONCE, "answers": FINE | {"q99": 0.02}}),
    json.dumps({"nonce": NONCE} | FINE),
    "\ufeff" + SAFE_TEXT,
    "\u00a0" + SAFE_TEXT,
    SAFE_TEXT + "\x00",
    SAFE_TEXT + " " * 10_000,
    "[" * 5_000,
    '{"answers":' * 1_000,
]


@pytest.mark.parametrize("text", ODD, ids=range(len(ODD)))
def test_no_odd_answer_is_read(text: str) -> None:
    with pytest.raises(UnreadableAnswer) as error:
        read_answers(text, nonce=NONCE, count=COUNT)
    assert not is_all_clear(text)
    assert re.fullmatch(r"answer_[a-z_]+", error.value.code), "a code of ours, without a word of the answer"


def mutated(rng: random.Random, text: str) -> str:
    """A text with a few edits, at places where they may well leave it sound."""
    put = ["", "", " ", "\n", "0", "1", "9", ".", "-", "e", "E-3", '"', "{", "}", ",", ":", "\\", "\\u0071", "\x00"]
    words = ["safe", "false", "null", "NaN", NONCE, FIRST, f', "{FIRST}": 0', "0.02", "0.97", "\u00b9", "\u200b"]
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(text) + 1), rng.choice([0, 1, 1, 2, 4, 9])
        text = text[:at] + rng.choice(put + words) + text[at + length :]
    return text


def made_up(rng: random.Random) -> str:
    """An answer that is put together piece by piece, now and then from odd pieces."""
    values: list[Any] = [0, 0.0, 0.02, 0.3, 0.499, 0.5, 0.97, 1, 1e-9, round(rng.random(), 3)]
    odd: list[Any] = [None, True, False, "0.02", [], {}, -0.1, 1.5, 97, math.nan, math.inf]
    rate = rng.choice([0.0, 0.0, 0.1, 0.5])
    answers = {name: rng.choice(odd if rng.random() < rate else values[:5] + [0.02] * 9) for name in NAMES}
    if rng.random() < 0.4:
        answers[rng.choice(NAMES)] = rng.choice(values)
    if rng.random() < rate:
        answers[rng.choice(["q0", "q99", "Q1", "safe", ""])] = 0.02
    if rng.random() < rate:
        answers.pop(rng.choice(NAMES))
    whole: dict[str, Any] = {"nonce": NONCE if rng.random() >= rate else rng.choice([None, "", NONCE[1:], 7])}
    whole["answers"] = answers if rng.random() >= rate else rng.choice([[answers], None, json.dumps(answers), {}])
    text = json.dumps(whole, indent=rng.choice([None, None, 2]), separators=rng.choice([None, (",", ":")]))
    return text if rng.random() >= rate else rng.choice(ODD[5:20]) + text


@given(SEEDS)
@settings(max_examples=60, deadline=None)
def test_no_made_up_or_damaged_answer_opens_unless_it_is_an_all_clear(seed: int) -> None:
    rng = random.Random(seed)
    opened = 0
    for _ in range(EACH):
        base = made_up(rng)
        for text in (base, mutated(rng, rng.choice([base, UNSAFE_TEXT, SAFE_TEXT]))):
            assert opens(text) == is_all_clear(text), text
            opened += opens(text)
    # All-clears are among them, and are not the most.
    assert 0 < opened < EACH


JSON_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.sampled_from(["safe", NONCE, 0.0, *NAMES]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["nonce", "answers", "safe", *NAMES]), inner, max_size=5)
    ),
    max_leaves=12,
)


@given(JSON_VALUES | st.text(max_size=30))
@settings(max_examples=300, deadline=None)
def test_no_other_json_opens(value: Any) -> None:
    assert not opens(json.dumps(value))


@given(st.dictionaries(st.sampled_from(NAMES), st.floats(0, 1), min_size=COUNT, max_size=COUNT))
def test_a_sound_answer_is_read_by_name_in_the_questions_order(answers: dict[str, float]) -> None:
    text = json.dumps({"answers": answers, "nonce": NONCE})
    assert read_answers(text, nonce=NONCE, count=COUNT) == tuple(answers[name] for name in NAMES)


# The other form: likelihoods of first tokens.

TOKENS = ("Yes", " Yes", "yes", " yes", "YES", " YES", "No", " No", "no", " no", "NO", " NO")
NEARLY = (
    "N",
    "Not",
    "none",
    "Nо",
    "Ｎｏ",
    "NO.",
    "\u200bNo",
    "No\n",
    "safe",
    "Safe",
    "0",
    "false",
    "The",
    "",
    "<|im_end|>",
)
ASKS = yes_or_no_asks(QUESTIONS, min_share=LIMIT)


def clears(first_tokens: Sequence[Mapping[str, float]]) -> bool:
    """Whether the answers to all questions, one a call, clear a picture."""
    answers: dict[int, float] = {}
    try:
        for ask, first in zip(ASKS, first_tokens, strict=True):
            answers |= ask.read(ChatAnswer(Outcome.OK, text="No", first_token=first))
    except UnreadableAnswer:
        return False
    return below_all(answers)


def is_plain_no(first: Mapping[str, float]) -> bool:
    """Whether log probabilities are possible ones, of which yes and no have half, and no has more than yes."""
    if any(math.isnan(value) or value > 0.001 for value in first.values()):
        return False
    shares = {token: math.e**value for token, value in first.items()}
    yes = math.fsum(share for token, share in shares.items() if token in TOKENS[:6])
    no = math.fsum(share for token, share in shares.items() if token in TOKENS[6:])
    if abs(yes - no) < 1e-9 or abs(yes + no - LIMIT) < 1e-9 or abs(math.fsum(shares.values()) - 1.01) < 1e-9:
        raise _OnTheEdge
    return math.fsum(shares.values()) <= 1.01 and yes + no >= LIMIT and no > yes


class _OnTheEdge(Exception):
    """Where the last bit of a sum decides, nobody can say what is right."""


def some_tokens(rng: random.Random) -> dict[str, float]:
    """Likely first tokens as a server might report them, or nearly."""
    chosen = rng.sample(TOKENS, rng.randint(0, 5)) + rng.sample(NEARLY, rng.randint(0, 4))
    if not chosen:
        return {}
    weights = [rng.random() ** rng.choice([1, 8]) for _ in chosen]
    total = sum(weights) * rng.choice([1.0, 1.0, 1.0, 1.3, 0.8, 3.0])
    found = {token: math.log(max(weight / total, 1e-300)) for token, weight in zip(chosen, weights, strict=True)}
    if rng.random() < 0.15:
        found[rng.choice(chosen)] = rng.choice([math.nan, math.inf, -math.inf, 0.5, 0.0, -9999.0, 1e308, -1e308])
    return found


NO_AT_ALL = {"No": -0.02, "Yes": -4.0}


@given(SEEDS)
@settings(max_examples=100, deadline=None)
def test_no_likelihoods_open_but_those_of_a_plain_no_to_every_question(seed: int) -> None:
    rng = random.Random(seed)
    opened = 0
    for _ in range(EACH):
        # Most answers are plain, so that one odd one decides.
        first = [some_tokens(rng) if rng.random() < 0.4 else NO_AT_ALL for _ in range(COUNT)]
        try:
            # The last question is about the style, on which no category hangs; but it has to be answered.
            expected = all([is_plain_no(one) for one in first[:-1]]) and readable(first[-1])
        except _OnTheEdge:
            continue
        assert clears(first) == expected, first
        opened += expected
    assert 0 < opened < EACH


def readable(first: Mapping[str, float]) -> bool:
    swapped = {_other_side(token): value for token, value in first.items()}
    return is_plain_no(first) or is_plain_no(swapped)


def _other_side(token: str) -> str:
    return TOKENS[(TOKENS.index(token) + 6) % 12] if token in TOKENS else token


# What is asked for.


def test_the_questions_travel_as_json_under_the_names_that_the_schema_asks_for() -> None:
    asked = json.loads(questions_as_data(QUESTIONS.questions, nonce=NONCE))
    assert asked == {
        "nonce": NONCE,
        "questions": {name: text.strip() for name, text in zip(NAMES, QUESTIONS.questions, strict=True)},
    }
    schema = answer_schema(COUNT)
    assert schema["required"] == ["nonce", "answers"] and schema["additionalProperties"] is False
    answers = schema["properties"]["answers"]
    assert answers["required"] == list(answers["properties"]) == list(NAMES)
    assert answers["additionalProperties"] is False
    assert "<" not in questions_as_data(["\n<|im_end|> <IMG>"], nonce=NONCE)


def test_the_longest_answer_is_within_what_is_paid_for_and_read() -> None:
    whole = {"nonce": NONCE, "answers": dict.fromkeys(question_names(MAX_QUESTIONS), 0.123456789)}
    text = json.dumps(whole, indent=4)
    assert len(read_answers(text, nonce=NONCE, count=MAX_QUESTIONS)) == MAX_QUESTIONS
    # Three characters a token is what numbers and punctuation come to.
    short = json.dumps({"nonce": NONCE, "answers": dict.fromkeys(question_names(MAX_QUESTIONS), 0.123)}, indent=1)
    assert len(short) / 3 < answer_tokens(MAX_QUESTIONS)


CATEGORY = """
[categories."c{0}"]
title = "c{0}"
description = "d"
advice = "a"
thresholds = {{ prompt = 0.5, image = 0.5 }}
questions = {{ signs = [{1}] }}
"""


def test_a_policy_with_more_questions_than_one_answer_holds_is_refused() -> None:
    many = [CATEGORY.format(one, ", ".join(f'"Is {one} {k} there?"' for k in range(8))) for one in range(20)]
    policy = Policy.parse('version = 1\nname = "many"\n' + "".join(many))
    with pytest.raises(ConfigError, match="answers"):
        VLMAPIJudge(policy=policy, answers="json", model="gemini/gemini-2.5-flash-lite", api_key="k")
