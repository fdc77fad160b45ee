"""100,000 generated answers and verdicts, most of them on a prompt that is known to be bad: no false allow.

Hypothesis draws seeds, and each seed makes a thousand cases, so every run sees new ones: what fails is in the message.
"""

from __future__ import annotations

import json
import random
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from bad_answers import BAD_ANSWERS
from safelight.policy import Decision
from safelight.screens.asked_model import Questions
from safelight.screens.second_opinion import combine
from safelight.verdict import Outcome, Stage, Verdict
from teapot_policy import teapot_policy

POLICY = teapot_policy()
NAMES = tuple(POLICY.categories)
LIMIT = 0.5
NONCE = "0123456789abcdef"
NOW = datetime(2026, 11, 22, tzinfo=UTC)
QUESTIONS = Questions.of(POLICY, "judge")
EACH = 1_000
SEEDS = st.integers(0, 2**64)


def rule(*verdicts: Verdict) -> Decision:
    return POLICY.decide(verdicts, id="dec_0", request_id="req_0", stage=Stage.PROMPT, created=NOW, expected=["judge"])


def opens(text: str) -> bool:
    """Whether an answer lets the request pass."""
    return rule(QUESTIONS.verdict(text, NONCE)).allows


def part(score: float, **more: Any) -> dict[str, Any]:
    return {"scores": dict.fromkeys(NAMES, 0.01) | {NAMES[0]: score}, "reason": "clear"} | more


def whole(verdict: str = "block", score: float = 0.97) -> dict[str, Any]:
    return {"nonce": NONCE, "prompt": part(score, verdict=verdict), "course": part(0.4)}


# What a good judge says of the bad prompt; nothing below may make an allow of it but by saying so throughout.
BLOCKS = json.dumps(whole())


def test_the_kit_tells_an_opening_from_a_block() -> None:
    assert opens(json.dumps(whole("allow", 0.01)))
    assert not opens(BLOCKS)


# Whole answers, made up piece by piece, where it is known of each piece whether it is sound.

Piece = tuple[Any, bool]


def pick(rng: random.Random, sound: Callable[[], Any], odd: list[Any]) -> Piece:
    """A sound piece mostly, an odd one now and then."""
    return (sound(), True) if rng.random() < 0.93 else (rng.choice(odd), False)


def made_up(rng: random.Random) -> tuple[str, bool]:
    """An answer, and whether it is of the asked form and says that the prompt is fine."""
    odd: list[Any] = [None, True, False, [], {}, "", "allow", ["allow"], "clear", 1.7, -0.1, 10**400, "0.1", NAMES[0]]
    number = lambda: rng.choice([0, 0.0, 0.1, 0.499999, 0.5, 0.97, 1, round(rng.random(), 3)])  # noqa: E731
    fine = True
    answer: dict[str, Any] = {}
    for name in ("prompt", "course"):
        scores: dict[str, Any] = {}
        for category in NAMES:
            score, sound = pick(rng, number, [one for one in odd if type(one) not in (int, float) or not 0 <= one <= 1])
            scores[category] = score
            fine &= sound and (name == "course" or score < LIMIT)
        inner: dict[str, Any] = {"scores": scores}
        inner["reason"], sound = pick(rng, lambda: "clear", [one for one in odd if one != "clear"])
        fine &= sound
        if name == "prompt":
            inner["verdict"], sound = pick(
                rng, lambda: rng.choice(["allow", "block"]), [None, True, ["allow"], "Allow"]
            )
            fine &= sound and inner["verdict"] == "allow"
        answer[name] = inner
    answer["nonce"], sound = pick(rng, lambda: NONCE, [None, "", NONCE[:-1], NONCE.upper(), [NONCE], 1])
    fine &= sound
    holder = rng.choice([answer, answer["prompt"], answer["course"], answer["prompt"]["scores"]])
    if rng.random() < 0.1:
        holder["sure"] = rng.choice(odd)
        fine = False
    elif rng.random() < 0.1:
        holder.pop(rng.choice(list(holder)))
        fine = False
    text = json.dumps(answer)
    if rng.random() < 0.1:
        text = (
            rng.choice(["Sure: {}", "{}.", "```\n{}\n```", "{0}{0}", "[{}]", "\ufeff{}"])
            .replace("{0}", "{}")
            .replace("{}", text)
        )
        fine = False
    return text, fine


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_no_made_up_answer_opens_unless_all_of_it_says_so(seed: int) -> None:
    rng = random.Random(seed)
    opened = 0
    for _ in range(EACH):
        text, fine = made_up(rng)
        assert opens(text) is fine, text
        opened += fine
    # Both kinds are there.
    assert 0 < opened < EACH / 2


# The honest block, damaged.


def damaged(rng: random.Random) -> str:
    text = BLOCKS
    for _ in range(rng.randint(1, 4)):
        at, length = rng.randrange(len(text) + 1), rng.randint(0, 6)
        put = rng.choice(
            ["", "", "0", "1", '"', "{", "}", ",", ":", "allow", "clear", " ", "\\", "null", "e-9", "\x00"]
        )
        text = text[:at] + put + text[at + length :]
    return text


@given(SEEDS)
@settings(max_examples=40, deadline=None)
def test_no_damage_makes_an_allow_of_a_block(seed: int) -> None:
    rng = random.Random(seed)
    for _ in range(EACH):
        text = damaged(rng)
        assert not opens(text), text


def test_no_bad_answer_opens() -> None:
    assert not any(opens(text) for text in BAD_ANSWERS.values())


@given(
    st.lists(
        st.tuples(st.integers(0, len(BLOCKS)), st.integers(0, 8), st.text(max_size=4) | st.sampled_from('{}[]",:01.')),
        min_size=1,
        max_size=6,
    )
)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_edit_makes_an_allow_of_a_block(edits: list[tuple[int, int, str]]) -> None:
    text = BLOCKS
    for at, length, put in edits:
        text = text[:at] + put + text[at + length :]
    assert not opens(text)


JSON_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=9)
    | st.sampled_from(["allow", "clear", NONCE, 0.0, *NAMES]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(st.sampled_from(["nonce", "prompt", "course", "verdict", "scores", "reason", *NAMES]), inner)
    ),
    max_leaves=12,
)


@given(JSON_VALUES)
@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.too_slow])
def test_no_other_json_opens(value: Any) -> None:
    assert not opens(json.dumps(value))


# Verdicts of one or two judges, of any outcome, with any scores.


def some_verdict(rng: random.Random, worst: float) -> Verdict:
    outcome = rng.choice([Outcome.OK, Outcome.OK, *Outcome])
    scores = {name: rng.random() * worst for name in NAMES} if outcome is Outcome.OK or rng.random() < 0.2 else {}
    course = {name: rng.random() for name in NAMES} if rng.random() < 0.5 else {}
    stage = Stage.PROMPT if rng.random() < 0.95 else Stage.IMAGE
    screen = "judge" if rng.random() < 0.95 else "other"
    return Verdict(screen, stage, scores, outcome, course=course)


def clears(verdict: Verdict) -> bool:
    """Whether a verdict says that nothing is amiss."""
    sound = verdict.outcome is Outcome.OK and verdict.stage is Stage.PROMPT
    return sound and all(score < LIMIT for score in verdict.scores.values())


@given(SEEDS)
@settings(max_examples=30, deadline=None)
def test_no_generated_verdict_of_one_judge_or_two_allows_what_it_does_not_clear(seed: int) -> None:
    rng = random.Random(seed)
    allowed = 0
    for _ in range(EACH):
        first, second = some_verdict(rng, rng.choice([0.5, 1.0])), some_verdict(rng, rng.choice([0.5, 1.0]))
        asked = "judge" in (first.screen, second.screen)
        assert rule(first).allows is (clears(first) and first.screen == "judge")
        assert rule(first, second).allows is (clears(first) and clears(second) and asked)
        if rule(combine(first, second, POLICY)).allows:
            allowed += 1
            # The second clears it, and the first found nothing: it cleared it too, or failed.
            assert second.outcome is Outcome.OK
            assert all(score < LIMIT for score in (*first.scores.values(), *second.scores.values()))
            assert first.outcome not in (Outcome.REFUSED, Outcome.RESTRICTED)
    assert allowed > 0
