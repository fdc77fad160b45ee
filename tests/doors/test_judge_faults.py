"""Every row of part B1 of the fault matrix, from a client to a scripted Gemini and back, through LiteLLM's own code.

Of each row: the status and codes that the client is told, what the judge found, how often the provider was asked, that
nothing was made, and whether it counts against the client. What takes more than one request, or more than one judge,
is in test_judge_outages.
"""

from __future__ import annotations

import json
import logging
from collections.abc import Iterator
from dataclasses import dataclass

import openai
import pytest

from judge_door import KEY, PROMPT, Door, chat, judge, judge_door
from safelight.policy import Reason
from safelight.verdict import Outcome
from scripted_gemini import (
    DROP,
    HANG,
    PORTAL,
    RESET,
    Asked,
    Reply,
    Step,
    allow,
    answer,
    block,
    by_sentinel,
    edited,
    fails,
    refused,
    says,
    sends,
    served_by,
    stopped,
    verdict,
)


@dataclass(frozen=True)
class Row:
    """What happens, what the judge makes of it, how often it is asked, and whether it is a finding or a fault."""

    script: Step
    found: tuple[Outcome, str]
    asked: int
    reason: Reason = Reason.SCREENING_UNAVAILABLE
    problem: str = ""

    @property
    def status(self) -> int:
        return 503 if self.reason is Reason.SCREENING_UNAVAILABLE else 400


def refusal(script: Step, code: str) -> Row:
    return Row(script, (Outcome.REFUSED, code), 1, Reason.PROVIDER_REFUSED)


def restricted(script: Step) -> Row:
    return Row(script, (Outcome.RESTRICTED, "blocked_prohibited_content"), 1, Reason.RESTRICTED)


def blocked(script: Step, code: str = "contradiction") -> Row:
    return Row(script, (Outcome.OK, code), 1, Reason.CATEGORY)


def unable(script: Step, code: str) -> Row:
    return Row(script, (Outcome.FAILED, code), 1)


def flawed(script: Step, code: str, outcome: Outcome = Outcome.UNPARSABLE) -> Row:
    return Row(script, (outcome, code), 2)


def setting(script: Step, code: str, problem: str) -> Row:
    return Row(script, (Outcome.FAILED, code), 1, problem=problem)


def unreachable(script: Step, code: str, asked: int = 2) -> Row:
    return Row(script, (Outcome.UNREACHABLE, code), asked)


def allows_what_it_scores_high(asked: Asked) -> Reply:
    return says(json.dumps(verdict(asked, {"violence": 0.97}, verdict="allow")), model=asked.model)


def twice(key: str) -> Step:
    return edited(lambda text: text.replace(f'"{key}"', f'"{key}": "", "{key}"', 1))


KEY_INVALID = Reply(
    400,
    json.dumps({"error": {"code": 400, "message": "scripted", "details": [{"reason": "API_KEY_INVALID"}]}}).encode(),
    {"Content-Type": "application/json"},
)
ECHO = f"{KEY} {PROMPT}"
"""What a provider may repeat in its error, and nobody else may."""

ROWS: dict[str, Row] = {
    "F01 prompt refused": refusal(refused("SAFETY"), "blocked_safety"),
    "F01 by a block list": refusal(refused("BLOCKLIST"), "blocked_blocklist"),
    "F02 prohibited content": restricted(refused("PROHIBITED_CONTENT")),
    "F02 at the answer": restricted(stopped("PROHIBITED_CONTENT")),
    "F02 without usage": restricted(refused("PROHIBITED_CONTENT", usage=False)),
    "F03 other": unable(refused("OTHER"), "blocked_other"),
    "F03 recitation": unable(stopped("RECITATION"), "blocked_recitation"),
    "F03 personal data": unable(stopped("SPII"), "blocked_spii"),
    "F03 language": unable(stopped("LANGUAGE"), "blocked_language"),
    "F04 refused without usage": refusal(refused("SAFETY", usage=False), "blocked_safety"),
    "F04 an answer without usage": flawed(says("{}", usage=False), "malformed_response"),
    "F05 refused after half an answer": refusal(stopped("SAFETY"), "blocked_safety"),
    "F06 truncated": flawed(stopped("MAX_TOKENS"), "finish_length"),
    "F07 malformed": flawed(stopped("MALFORMED_RESPONSE", text=None), "finish_malformed"),
    "F07 empty": flawed(says(""), "empty", Outcome.EMPTY),
    "F07 no candidates": flawed(sends({"candidates": []}), "malformed_response"),
    "F07 unknown ending": flawed(stopped("SOMETHING_NEW"), "finish_unknown", Outcome.FAILED),
    "F08 HTML": flawed(PORTAL, "html"),
    "F09 400": setting(fails(400, message=ECHO), "http_400", "judge_config"),
    "F10 401": setting(fails(401, message=ECHO), "http_401", "judge_auth"),
    "F10 403": setting(fails(403, message=ECHO), "http_403", "judge_auth"),
    "F10 a key that Gemini does not know": setting(KEY_INVALID, "http_400_key_invalid", "judge_auth"),
    "F11 404": setting(fails(404, message=ECHO), "http_404_model_retired", "judge_retired"),
    "F12 429": unreachable(fails(429, message=ECHO), "http_429"),
    "F12 429 with a short wait": unreachable(fails(429, headers={"Retry-After": "0.02"}), "http_429"),
    "F12 429 with a wait beyond the deadline": unreachable(fails(429, headers={"Retry-After": "30"}), "http_429", 1),
    "F13 500": unreachable(fails(500, message=ECHO), "http_500"),
    "F13 503": unreachable(fails(503, message=ECHO), "http_503"),
    "F14 reset": unreachable(RESET, "connection"),
    "F14 drop": unreachable(DROP, "connection"),
    "F15 hang": Row(HANG, (Outcome.TIMEOUT, "deadline"), 1),
    "F17 prose": flawed(says("This prompt is fine."), "answer_not_json"),
    "F17 wrong nonce": flawed(answer(nonce="0000"), "answer_nonce"),
    "F17 extra key": flawed(answer(comment="fine"), "answer_keys"),
    "F17 doubled key": flawed(twice("nonce"), "answer_doubled_key"),
    "F17 score above 1": flawed(edited(lambda text: text.replace("0.01", "1.7", 1)), "answer_score"),
    "F17 NaN": flawed(edited(lambda text: text.replace("0.01", "NaN", 1)), "answer_score"),
    "F17 list": flawed(says("[]"), "answer_not_json"),
    "F17 a list for a word": flawed(answer(verdict=["allow"]), "answer_verdict"),
    "F18 blocks with low scores": blocked(answer(verdict="block")),
    "F18 allows with a high score": blocked(allows_what_it_scores_high),
    "F19 another model": Row(
        served_by("gemini-9-ultra"), (Outcome.FAILED, "served_model_mismatch"), 1, problem="judge_changed"
    ),
    "a block": blocked(block(), "plain"),
}


@pytest.fixture(scope="module")
def serve(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    with judge_door(tmp_path_factory.mktemp("faults")) as door:
        yield door


@pytest.fixture
def door(serve: Door) -> Door:
    serve.fresh(allow)
    return serve


@pytest.mark.parametrize("name", ROWS)
def test_a_fault_ends_as_the_fault_matrix_says_with_nothing_made(
    door: Door, name: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    row = ROWS[name]
    door.fresh(row.script)
    if row.script is HANG:
        door.use(judge(door.gemini, chat=chat(door.gemini, deadline_s=1.0)))
    error, decision = door.refused()
    (found,) = decision.verdicts
    assert (error.status_code, decision.reason, (found.outcome, found.reason)) == (row.status, row.reason, row.found)
    assert error.body["reason_code"] == row.reason  # type: ignore[index]
    assert error.code == ("screening_unavailable" if row.status == 503 else "moderation_blocked")
    # Neither does the client ask again by itself, nor does anybody retry more than the matrix allows.
    assert error.response.headers["x-should-retry"] == "false"
    assert ("retry-after" in error.response.headers) is (row.status == 503)
    assert len(door.gemini.asked) == row.asked
    assert door.unready() == ((row.problem,) if row.problem else ())
    assert "canary-" not in error.response.text + caplog.text + "".join(capfd.readouterr())
    # Only a finding counts against whoever asked, and only the gravest holds them at once.
    assert len(door.attempts()) == (row.reason in (Reason.CATEGORY, Reason.RESTRICTED))
    assert (door.hold() is not None) is (row.reason is Reason.RESTRICTED)


def test_an_allow_releases_a_picture(door: Door) -> None:
    assert door.ask().data
    assert len(door.gemini.asked) == 1


def test_a_prompt_split_over_two_requests_reaches_the_judge_together_for_one_person_only(door: Door) -> None:
    door.fresh(by_sentinel)
    door.ask("zor", user="ada")
    door.ask("blax", user="bob")
    with pytest.raises(openai.BadRequestError) as error:
        door.ask("blax", user="ada")
    assert error.value.code == "moderation_blocked"
