"""Answers of a judge that are none: each differs from a good one in one way, and each must open nothing."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

NONCE = "0123456789abcdef"
CATEGORIES = ("violence", "teapots")

GOOD: Mapping[str, Any] = {
    "nonce": NONCE,
    "prompt": {"verdict": "allow", "scores": {"violence": 0.01, "teapots": 0.0}, "reason": "clear"},
    "course": {"scores": {"violence": 0.02, "teapots": 0.03}, "reason": "isolated"},
}
GOOD_TEXT = json.dumps(GOOD)


def _with(**changes: Any) -> str:
    """The answer with other keys at the top."""
    return json.dumps({**GOOD, **changes})


def _prompt(**changes: Any) -> str:
    return _with(prompt={**GOOD["prompt"], **changes})


def _course(**changes: Any) -> str:
    return _with(course={**GOOD["course"], **changes})


def _without(key: str, part: str = "") -> str:
    if part:
        return _with(**{part: {name: value for name, value in GOOD[part].items() if name != key}})
    return json.dumps({name: value for name, value in GOOD.items() if name != key})


def _score(literal: str) -> str:
    return GOOD_TEXT.replace("0.01", literal)


def _course_score(literal: str) -> str:
    return GOOD_TEXT.replace("0.02", literal)


def _scores(**scores: Any) -> str:
    return _prompt(scores=scores)


BAD_ANSWERS: Mapping[str, str] = {
    # No JSON object at all.
    "nothing": "",
    "white space": " \n\t ",
    "the word": "allow",
    "the word in quotes": '"allow"',
    "safe": "safe",
    "not safe": "Not safe",
    "safe but": "safe: false",
    "true": "true",
    "null": "null",
    "zero": "0",
    "an empty list": "[]",
    "an empty object": "{}",
    "a list around it": f"[{GOOD_TEXT}]",
    "a text around it": json.dumps(GOOD_TEXT),
    "an object around it": json.dumps({"answer": GOOD}),
    "prose before": f"Here is my answer: {GOOD_TEXT}",
    "prose after": f"{GOOD_TEXT} I hope this helps.",
    "a fence around it": f"```json\n{GOOD_TEXT}\n```",
    "a tag around it": f"<answer>{GOOD_TEXT}</answer>",
    "thoughts before": f"<think>fine</think>{GOOD_TEXT}",
    "two of them": GOOD_TEXT + GOOD_TEXT,
    "two lines of them": f"{GOOD_TEXT}\n{GOOD_TEXT}",
    "half of it": GOOD_TEXT[: len(GOOD_TEXT) // 2],
    "the last brace missing": GOOD_TEXT[:-1],
    "a brace too many": GOOD_TEXT + "}",
    "a comma too many": GOOD_TEXT[:-1] + ",}",
    "single quotes": GOOD_TEXT.replace('"', "'"),
    "keys without quotes": GOOD_TEXT.replace('"verdict"', "verdict"),
    "a comment": GOOD_TEXT[:-1] + "/* fine */}",
    "a byte order mark": "\ufeff" + GOOD_TEXT,
    "a no-break space before": "\u00a0" + GOOD_TEXT,
    "a NUL after": GOOD_TEXT + "\x00",
    "a NUL inside": GOOD_TEXT.replace("allow", "allow\x00"),
    "deep nesting": "[" * 5_000,
    "a deep object": '{"a":' * 1_000 + "1" + "}" * 1_000,
    "endless white space": GOOD_TEXT + " " * 10_000,
    "a huge reason": _prompt(reason="clear" * 3_000),
    # The nonce.
    "no nonce": _without("nonce"),
    "another nonce": _with(nonce="fedcba9876543210"),
    "an empty nonce": _with(nonce=""),
    "a null nonce": _with(nonce=None),
    "a number for a nonce": _with(nonce=123),
    "a list for a nonce": _with(nonce=[NONCE]),
    "a nonce in capitals": _with(nonce=NONCE.upper()),
    "a nonce with a space": _with(nonce=NONCE + " "),
    "part of the nonce": _with(nonce=NONCE[:8]),
    # The verdict.
    "no verdict": _without("verdict", "prompt"),
    "a list for a verdict": _prompt(verdict=["allow"]),
    "an object for a verdict": _prompt(verdict={"allow": True}),
    "true for a verdict": _prompt(verdict=True),
    "null for a verdict": _prompt(verdict=None),
    "a verdict in capitals": _prompt(verdict="ALLOW"),
    "a verdict with a space": _prompt(verdict="allow "),
    "an unknown verdict": _prompt(verdict="flag"),
    "two verdicts in one": _prompt(verdict="allow|block"),
    # The scores.
    "no scores": _without("scores", "prompt"),
    "empty scores": _prompt(scores={}),
    "null scores": _prompt(scores=None),
    "a list of scores": _prompt(scores=[0.01, 0.0]),
    "scores as text": _prompt(scores=json.dumps(GOOD["prompt"]["scores"])),
    "a score missing": _scores(violence=0.01),
    "a score too many": _scores(violence=0.01, teapots=0.0, kettles=0.0),
    "a score of another name": _scores(violence=0.01, kettles=0.0),
    "a score above one": _score("1.7"),
    "a score just above one": _score("1.0000001"),
    "a score below zero": _score("-0.01"),
    "a score in percent": _score("3"),
    "a score as text": _score('"0.01"'),
    "true for a score": _score("true"),
    "false for a score": _score("false"),
    "null for a score": _score("null"),
    "a list for a score": _score("[0.01]"),
    "an object for a score": _score('{"value": 0.01}'),
    "NaN": _score("NaN"),
    "Infinity": _score("Infinity"),
    "-Infinity": _score("-Infinity"),
    "a number that reads as infinite": _score("1e400"),
    "a number of too many digits": _score("1" * 5_000),
    "a number in other digits": _score("\u0660.\u0661"),
    "a number with a leading plus": _score("+0.01"),
    "a number without a leading zero": _score(".01"),
    # The reason.
    "no reason": _without("reason", "prompt"),
    "a reason of its own": _prompt(reason="because the picture is fine"),
    "an empty reason": _prompt(reason=""),
    "a list for a reason": _prompt(reason=["clear"]),
    "null for a reason": _prompt(reason=None),
    # Keys too many or doubled.
    "a key too many": _with(confidence=1.0),
    "a key with a trick": _with(__proto__={}),
    "a doubled verdict": GOOD_TEXT.replace('"clear"', '"clear", "verdict": "allow"'),
    "a verdict that is taken back": GOOD_TEXT.replace('"verdict"', '"verdict": "block", "verdict"'),
    "a doubled prompt": GOOD_TEXT[:-1] + f', "prompt": {json.dumps(GOOD["prompt"])}}}',
    "a prompt that is taken back": GOOD_TEXT.replace('"prompt"', '"prompt": {"verdict": "block"}, "prompt"'),
    "a doubled course": GOOD_TEXT[:-1] + f', "course": {json.dumps(GOOD["course"])}}}',
    "a doubled reason": GOOD_TEXT.replace('"isolated"', '"escalating", "reason": "isolated"'),
    "a doubled nonce": GOOD_TEXT.replace('"nonce"', '"nonce": "x", "nonce"'),
    "doubled scores": GOOD_TEXT.replace('"scores"', '"scores": {"violence": 1.0, "teapots": 1.0}, "scores"'),
    "a doubled score": GOOD_TEXT.replace('"violence"', '"violence": 1.0, "violence"'),
    "a score doubled in other letters": GOOD_TEXT.replace('"violence"', '"violence": 1.0, "violenc\\u0065"'),
    "a doubled course score": GOOD_TEXT.replace("0.02", '1.0, "violence": 0.02'),
    "a key in capitals": GOOD_TEXT.replace('"verdict"', '"Verdict"'),
    # The two parts.
    "an answer to one question": json.dumps({"nonce": NONCE, **GOOD["prompt"]}),
    "no prompt": _without("prompt"),
    "no course": _without("course"),
    "the prompt as text": _with(prompt=json.dumps(GOOD["prompt"])),
    "the prompt in a list": _with(prompt=[GOOD["prompt"]]),
    "null for the prompt": _with(prompt=None),
    "an empty prompt": _with(prompt={}),
    "the word for the prompt": _with(prompt="allow"),
    "the parts exchanged": _with(prompt=GOOD["course"], course=GOOD["prompt"]),
    "the same part twice": _with(course=GOOD["prompt"]),
    "the verdict outside": json.dumps({**json.loads(_without("verdict", "prompt")), "verdict": "allow"}),
    "the nonce inside": _prompt(nonce=NONCE),
    "a key too many in the prompt": _prompt(sure=True),
    "null for the course": _with(course=None),
    "an empty course": _with(course={}),
    "a list for the course": _with(course=[0.0, 0.0]),
    "a verdict for the course": _course(verdict="allow"),
    "no course scores": _without("scores", "course"),
    "empty course scores": _course(scores={}),
    "a course score missing": _course(scores={"violence": 0.02}),
    "a course score too many": _course(scores={"violence": 0.02, "teapots": 0.03, "kettles": 0.0}),
    "a course score above one": _course_score("1.7"),
    "a course score below zero": _course_score("-0.02"),
    "a course score as text": _course_score('"0.02"'),
    "true for a course score": _course_score("true"),
    "NaN for a course score": _course_score("NaN"),
    "a course score that reads as infinite": _course_score("1e400"),
    "no course reason": _without("reason", "course"),
    "a course reason of its own": _course(reason="because"),
    "the prompt's reason for the course": _course(reason="plain"),
    "the course's reason for the prompt": _prompt(reason="escalating"),
    "a list for a course reason": _course(reason=["clear"]),
}
