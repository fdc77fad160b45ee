"""The rows of the fault matrix that a provider causes, through LiteLLM's own code and a real socket."""

from __future__ import annotations

import asyncio
import json
import logging
import socket
import time
from collections.abc import Mapping
from typing import Any

import pytest

from clocks import Clock
from safelight.backends.circuit import CircuitBreaker, CircuitState
from safelight.backends.litellm_chat import ChatAnswer, LiteLLMChat
from safelight.backends.problems import Problems
from safelight.errors import ConfigError
from safelight.verdict import Outcome
from scripted_gemini import (
    DROP,
    HANG,
    PORTAL,
    RESET,
    Asked,
    Reply,
    Script,
    ScriptedGemini,
    allow,
    fails,
    refused,
    says,
    sends,
    served_by,
    stopped,
)

KEY = "canary-key-5d1f"
PROMPT = "canary-prompt a red teapot"
MODEL = "gemini/gemini-2.5-flash-lite"
SAID = '{"fine": true}'
GOOD = says(SAID)

MESSAGES = [{"role": "system", "content": "rules"}, {"role": "user", "content": PROMPT}]


def chat(gemini: ScriptedGemini, **options: Any) -> LiteLLMChat:
    given: dict[str, Any] = {"model": MODEL, "api_base": gemini.url, "api_key": KEY, "pause_s": 0.01} | options
    return LiteLLMChat(given.pop("model"), **given)


async def ask(gemini: ScriptedGemini, **options: Any) -> ChatAnswer:
    return await chat(gemini, **options).ask(MESSAGES, max_tokens=100)


# How Gemini answers to a key that it does not know.
KEY_INVALID = Reply(
    400,
    json.dumps(
        {
            "error": {
                "code": 400,
                "message": "scripted",
                "status": "INVALID_ARGUMENT",
                "details": [{"@type": "type.googleapis.com/google.rpc.ErrorInfo", "reason": "API_KEY_INVALID"}],
            }
        }
    ).encode(),
    {"Content-Type": "application/json"},
)


def usage(prompt: int, answer: int) -> dict[str, int]:
    return {"promptTokenCount": prompt, "candidatesTokenCount": answer, "totalTokenCount": prompt + answer}


async def test_a_complete_answer_comes_with_model_tokens_and_cost() -> None:
    with ScriptedGemini(GOOD) as gemini:
        answer = await ask(gemini)
    assert (answer.outcome, answer.text, answer.model) == (Outcome.OK, SAID, "gemini-2.5-flash-lite")
    assert (answer.tokens_in, answer.tokens_out) == (400, 60)
    # 400 tokens at 0.10 and 60 at 0.40 dollars a million.
    assert answer.cost_usd == pytest.approx(64e-6)


# Each row: what happens, how it must end, how often the provider may be asked.
FAULTS: Mapping[str, tuple[Script, Outcome, str, int]] = {
    "F01 prompt refused": (refused("SAFETY"), Outcome.REFUSED, "blocked_safety", 1),
    "F01 by a block list": (refused("BLOCKLIST"), Outcome.REFUSED, "blocked_blocklist", 1),
    "F02 restricted": (refused("PROHIBITED_CONTENT"), Outcome.RESTRICTED, "blocked_prohibited_content", 1),
    "F02 at the answer": (stopped("PROHIBITED_CONTENT"), Outcome.RESTRICTED, "blocked_prohibited_content", 1),
    "F02 without usage": (
        refused("PROHIBITED_CONTENT", usage=False),
        Outcome.RESTRICTED,
        "blocked_prohibited_content",
        1,
    ),
    "F03 other": (refused("OTHER"), Outcome.FAILED, "blocked_other", 1),
    "F03 other at the answer": (stopped("OTHER"), Outcome.FAILED, "blocked_other", 1),
    "F03 recitation": (stopped("RECITATION"), Outcome.FAILED, "blocked_recitation", 1),
    "F03 personal data": (stopped("SPII"), Outcome.FAILED, "blocked_spii", 1),
    "F03 language": (stopped("LANGUAGE"), Outcome.FAILED, "blocked_language", 1),
    "F03 a new word for a block": (refused("SOMETHING_NEW"), Outcome.FAILED, "blocked_unknown", 1),
    "F04 refused without usage": (refused("SAFETY", usage=False), Outcome.REFUSED, "blocked_safety", 1),
    "F04 an answer without usage": (says(SAID, usage=False), Outcome.UNPARSABLE, "malformed_response", 2),
    "F05 refused after half an answer": (stopped("SAFETY"), Outcome.REFUSED, "blocked_safety", 1),
    "F05 without usage": (stopped("SAFETY", usage=False), Outcome.REFUSED, "blocked_safety", 1),
    "F06 cut": (stopped("MAX_TOKENS"), Outcome.UNPARSABLE, "finish_length", 2),
    "F06 cut at nothing": (stopped("MAX_TOKENS", text=None), Outcome.UNPARSABLE, "finish_length", 2),
    "F06 cut where the answer reads whole": (stopped("MAX_TOKENS", text=SAID), Outcome.UNPARSABLE, "finish_length", 2),
    "F07 malformed": (stopped("MALFORMED_RESPONSE", text=None), Outcome.UNPARSABLE, "finish_malformed", 2),
    "F07 empty text": (says(""), Outcome.EMPTY, "empty", 2),
    "F07 no parts": (says(None), Outcome.EMPTY, "empty", 2),
    "F07 no candidates": (sends({"candidates": [], "usageMetadata": usage(1, 0)}), Outcome.EMPTY, "no_candidates", 2),
    "F07 candidates missing": (sends({"usageMetadata": usage(1, 0)}), Outcome.EMPTY, "no_candidates", 2),
    "F07 a new word for an ending": (stopped("SOMETHING_NEW", text=SAID), Outcome.FAILED, "finish_unknown", 2),
    "F07 no ending": (
        sends({"candidates": [{"content": {"parts": [{"text": SAID}]}}], "usageMetadata": usage(1, 1)}),
        Outcome.FAILED,
        "finish_unknown",
        2,
    ),
    "F07 an empty object": (sends({}), Outcome.UNPARSABLE, "malformed_response", 2),
    "F07 a list": (sends([1]), Outcome.UNPARSABLE, "not_json", 2),
    "F08 a captive portal": (PORTAL, Outcome.UNPARSABLE, "html", 2),
    "F08 no body": (Reply(), Outcome.UNPARSABLE, "not_json", 2),
    "F09 bad request": (fails(400), Outcome.FAILED, "http_400", 1),
    "F09 too large": (fails(413), Outcome.FAILED, "http_413", 1),
    "F10 unknown key": (fails(401), Outcome.FAILED, "http_401", 1),
    "F10 a key that Gemini does not know": (KEY_INVALID, Outcome.FAILED, "http_400_key_invalid", 1),
    "F10 key without the right": (fails(403), Outcome.FAILED, "http_403", 1),
    "F11 model retired": (fails(404), Outcome.FAILED, "http_404_model_retired", 1),
    "F12 too many requests": (fails(429), Outcome.UNREACHABLE, "http_429", 2),
    "F12 come back soon": (fails(429, headers={"Retry-After": "0.02"}), Outcome.UNREACHABLE, "http_429", 2),
    "F12 come back too late": (fails(429, headers={"Retry-After": "60"}), Outcome.UNREACHABLE, "http_429", 1),
    "F12 a date to come back": (
        fails(429, headers={"Retry-After": "Sun, 22 Nov 2026 10:00:00 GMT"}),
        Outcome.UNREACHABLE,
        "http_429",
        2,
    ),
    "F13 broken": (fails(500), Outcome.UNREACHABLE, "http_500", 2),
    "F13 bad gateway": (fails(502), Outcome.UNREACHABLE, "http_502", 2),
    "F13 overloaded": (fails(503), Outcome.UNREACHABLE, "http_503", 2),
    "F13 gateway timed out": (fails(504), Outcome.UNREACHABLE, "http_504", 2),
    "F14 reset in the body": (RESET, Outcome.UNREACHABLE, "connection", 2),
    # LiteLLM itself sends this one twice; a second attempt of ours would make it four.
    "F14 reset before an answer": (DROP, Outcome.UNREACHABLE, "connection", 2),
}


@pytest.mark.parametrize("row", FAULTS)
async def test_a_fault_has_its_outcome_and_is_asked_again_only_if_it_may_pass(row: str) -> None:
    script, outcome, reason, requests = FAULTS[row]
    with ScriptedGemini(script) as gemini:
        answer = await ask(gemini)
        assert (answer.outcome, answer.reason, len(gemini.asked)) == (outcome, reason, requests)
    assert answer.text == ""


@pytest.mark.parametrize("row", [row for row, (_, _, _, requests) in FAULTS.items() if requests == 2])
async def test_a_fault_that_passes_is_forgotten(row: str) -> None:
    script = FAULTS[row][0]
    assert not isinstance(script, list)
    with ScriptedGemini([script, GOOD]) as gemini:  # type: ignore[list-item]
        answer = await ask(gemini)
        assert len(gemini.asked) == 2
    assert (answer.outcome, answer.text) == (Outcome.OK, SAID)


async def test_tokens_and_cost_of_both_attempts_are_counted() -> None:
    with ScriptedGemini([stopped("MAX_TOKENS"), GOOD]) as gemini:
        answer = await ask(gemini)
    assert (answer.tokens_in, answer.tokens_out) == (800, 120)
    assert answer.cost_usd == pytest.approx(128e-6)


@pytest.mark.parametrize("attempts", [1, 2, 3])
async def test_there_are_no_more_requests_than_attempts(attempts: int) -> None:
    with ScriptedGemini(fails(503)) as gemini:
        await ask(gemini, max_attempts=attempts)
        assert len(gemini.asked) == attempts


async def test_a_hang_ends_at_the_deadline_and_is_not_asked_again() -> None:
    with ScriptedGemini(HANG) as gemini:
        answer = await ask(gemini, deadline_s=0.5)
        assert len(gemini.asked) == 1
    assert (answer.outcome, answer.reason) == (Outcome.TIMEOUT, "deadline")


async def test_the_deadline_covers_all_attempts_together() -> None:
    with ScriptedGemini([fails(503), HANG]) as gemini:
        answer = await ask(gemini, deadline_s=0.5)
        assert len(gemini.asked) == 2
    assert answer.outcome is Outcome.TIMEOUT


async def test_a_second_attempt_has_what_the_first_one_left_of_the_deadline() -> None:
    def late(asked: Asked) -> Reply:
        time.sleep(0.18)
        return GOOD

    with ScriptedGemini([fails(503), late]) as gemini:
        # With its pause of 0.05 s or more, the second answer comes after 0.23 s.
        answer = await ask(gemini, deadline_s=0.2, pause_s=0.1)
    assert answer.outcome is not Outcome.OK


async def test_no_second_attempt_starts_where_its_pause_would_pass_the_deadline() -> None:
    with ScriptedGemini(fails(503)) as gemini:
        answer = await ask(gemini, deadline_s=2.0, pause_s=10.0)
        assert len(gemini.asked) == 1
    assert (answer.outcome, answer.reason) == (Outcome.UNREACHABLE, "http_503")


async def test_a_caller_that_leaves_cancels_the_question() -> None:
    with ScriptedGemini(HANG) as gemini:
        task = asyncio.ensure_future(ask(gemini))
        while not gemini.asked:
            await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_a_provider_that_is_not_there_is_unreachable() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    answer = await LiteLLMChat(MODEL, api_base=f"http://127.0.0.1:{port}/v1beta", api_key=KEY, pause_s=0.01).ask(
        MESSAGES, max_tokens=10
    )
    assert (answer.outcome, answer.reason) == (Outcome.UNREACHABLE, "connection")


async def test_a_flawed_answer_is_asked_again_and_then_unparsable() -> None:
    with ScriptedGemini(GOOD) as gemini:
        answer = await chat(gemini).ask(MESSAGES, max_tokens=10, flaw=lambda text: "not_nice")
        assert len(gemini.asked) == 2
    assert (answer.outcome, answer.reason, answer.text) == (Outcome.UNPARSABLE, "not_nice", "")


async def test_flaws_and_faults_share_one_budget_of_attempts() -> None:
    with ScriptedGemini([fails(503), says("bad"), GOOD]) as gemini:
        answer = await chat(gemini).ask(MESSAGES, max_tokens=10, flaw=lambda text: "" if text == SAID else "bad")
        assert len(gemini.asked) == 2
    assert (answer.outcome, answer.reason) == (Outcome.UNPARSABLE, "bad")


async def test_the_model_that_answered_is_reported_as_the_provider_names_it() -> None:
    with ScriptedGemini(served_by("gemini-3.5-flash-lite")) as gemini:
        answer = await ask(gemini)
    assert answer.model == "gemini-3.5-flash-lite"


async def test_a_provider_that_names_no_model_is_not_taken_to_be_the_one_that_was_asked() -> None:
    body = json.loads(GOOD.body)
    del body["modelVersion"]
    with ScriptedGemini(sends(body)) as gemini:
        answer = await ask(gemini)
    assert (answer.outcome, answer.model) == (Outcome.OK, "")


async def test_texts_reach_the_provider_unchanged_with_the_rules_apart() -> None:
    with ScriptedGemini(GOOD) as gemini:
        await ask(gemini)
        asked = gemini.asked[0]
    assert asked.path == "/v1beta/models/gemini-2.5-flash-lite:generateContent"
    assert (asked.system, asked.user_texts) == ("rules", [PROMPT])


async def test_gemini_is_asked_without_filters_thinking_or_temperature() -> None:
    with ScriptedGemini(GOOD) as gemini:
        await ask(gemini)
        body = gemini.asked[0].body
    assert {setting["threshold"] for setting in body["safetySettings"]} == {"OFF"}
    assert len(body["safetySettings"]) == 4
    assert body["generationConfig"]["thinkingConfig"]["thinkingBudget"] == 0
    assert body["generationConfig"]["max_output_tokens"] == 100
    assert not {"temperature", "topP", "top_p", "topK", "top_k"} & body["generationConfig"].keys()


async def test_newer_geminis_think_as_little_as_they_can() -> None:
    with ScriptedGemini(GOOD) as gemini:
        await ask(gemini, model="gemini/gemini-3.1-flash-lite")
        config = gemini.asked[0].body["generationConfig"]
    assert config["thinkingConfig"] == {"thinkingLevel": "minimal", "includeThoughts": False}


async def test_a_schema_is_asked_of_the_provider() -> None:
    schema = {"type": "object", "properties": {"fine": {"type": "boolean"}}, "required": ["fine"]}
    with ScriptedGemini(GOOD) as gemini:
        await chat(gemini).ask(MESSAGES, schema=schema, max_tokens=100)
        config = gemini.asked[0].body["generationConfig"]
    assert config["response_mime_type"] == "application/json"
    assert config["response_json_schema"]["properties"] == schema["properties"]


def openai_reply(text: str | None, *, finish: str | None = "stop", **message: Any) -> Reply:
    likely = [{"token": "Yes", "logprob": -0.1, "bytes": None}, {"token": "No", "logprob": -2.5, "bytes": None}]
    choice = {
        "index": 0,
        "message": {"role": "assistant", "content": text} | message,
        "finish_reason": finish,
        "logprobs": {"content": [likely[0] | {"top_logprobs": likely}]},
    }
    usage = {"prompt_tokens": 9, "completion_tokens": 1, "total_tokens": 10}
    body = {"id": "c1", "object": "chat.completion", "created": 1, "model": "vlm", "choices": [choice], "usage": usage}
    return sends(body)


async def ask_vllm(gemini: ScriptedGemini, **options: Any) -> ChatAnswer:
    return await chat(gemini, model="hosted_vllm/vlm").ask(MESSAGES, max_tokens=1, **options)


async def test_the_likely_first_tokens_are_reported_and_a_cut_answer_is_then_whole() -> None:
    with ScriptedGemini(openai_reply("Yes", finish="length")) as gemini:
        answer = await ask_vllm(gemini, top_logprobs=2, extra_body={"mm_processor_kwargs": {"max_patches": 1}})
        body = gemini.asked[0].body
    assert (answer.outcome, answer.text, answer.model) == (Outcome.OK, "Yes", "vlm")
    assert answer.first_token == {"Yes": -0.1, "No": -2.5}
    assert (body["logprobs"], body["top_logprobs"], body["max_tokens"]) == (True, 2, 1)
    assert body["mm_processor_kwargs"] == {"max_patches": 1}


@pytest.mark.parametrize(
    ("reply", "outcome", "reason"),
    [
        (openai_reply("Yes", finish="length"), Outcome.UNPARSABLE, "finish_length"),
        (openai_reply("Yes", finish="content_filter"), Outcome.REFUSED, "content_filter"),
        (openai_reply("Yes", finish="something_new"), Outcome.FAILED, "finish_unknown"),
        (openai_reply("Yes", finish=None), Outcome.FAILED, "finish_unknown"),
        (openai_reply(None), Outcome.EMPTY, "empty"),
        (openai_reply(None, refusal="I cannot"), Outcome.REFUSED, "content_filter"),
        (sends({"id": "c1", "model": "vlm", "choices": []}), Outcome.EMPTY, "no_candidates"),
        (PORTAL, Outcome.UNPARSABLE, "html"),
        (fails(400), Outcome.FAILED, "http_400"),
        (fails(404), Outcome.FAILED, "http_404_model_retired"),
        (fails(503), Outcome.UNREACHABLE, "http_503"),
        (RESET, Outcome.UNREACHABLE, "connection"),
    ],
)
async def test_faults_of_an_openai_style_server_have_the_same_outcomes(
    reply: Reply, outcome: Outcome, reason: str
) -> None:
    with ScriptedGemini(reply) as gemini:
        answer = await ask_vllm(gemini)
        assert len(gemini.asked) <= 2
    assert (answer.outcome, answer.reason, answer.text) == (outcome, reason, "")


@pytest.mark.parametrize("model", ["openai/vlm", "hosted_vllm/vlm"])
async def test_a_policy_refusal_with_status_400_is_a_refusal(model: str) -> None:
    error = {"code": "content_policy_violation", "type": "invalid_request_error", "message": "no", "param": None}
    with ScriptedGemini(Reply(400, json.dumps({"error": error}).encode())) as gemini:
        answer = await ask(gemini, model=model)
        assert len(gemini.asked) == 1
    assert (answer.outcome, answer.reason) == (Outcome.REFUSED, "content_policy")


@pytest.mark.parametrize("row", FAULTS)
async def test_no_key_and_no_prompt_in_answers_logs_or_output(
    row: str, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.INFO)
    script = FAULTS[row][0]
    # A provider may repeat what it was sent.
    if isinstance(script, Reply) and script.status >= 400:
        script = fails(script.status, message=f"{KEY} {PROMPT}")
    with ScriptedGemini(script) as gemini:
        answer = await ask(gemini)
    shown = repr(answer) + caplog.text + "".join(capfd.readouterr())
    assert "canary" not in shown


def test_one_chat_serves_one_event_loop_after_another_and_leaves_no_connection_open() -> None:
    with ScriptedGemini(GOOD) as gemini:
        one = chat(gemini)

        async def twice() -> list[Outcome]:
            answers = [await one.ask(MESSAGES, max_tokens=10) for _ in range(2)]
            assert gemini.connections == 1
            return [answer.outcome for answer in answers]

        for _ in range(3):
            assert asyncio.run(twice()) == [Outcome.OK, Outcome.OK]
            asyncio.run(closed(gemini))


async def closed(gemini: ScriptedGemini) -> None:
    async with asyncio.timeout(5):
        while gemini.connections:
            await asyncio.sleep(0.01)


async def test_simultaneous_questions_get_their_own_answers() -> None:
    with ScriptedGemini(lambda asked: says(asked.user_texts[0])) as gemini:
        one = chat(gemini)
        texts = [f"text {number}" for number in range(20)]
        answers = await asyncio.gather(*(one.ask([{"role": "user", "content": text}], max_tokens=10) for text in texts))
    assert [answer.text for answer in answers] == texts


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"model": ""}, "model"),
        ({"deadline_s": 0.0}, "deadline_s"),
        ({"deadline_s": float("nan")}, "deadline_s"),
        ({"max_attempts": 0}, "max_attempts"),
    ],
)
def test_a_setting_out_of_range_is_refused(options: dict[str, Any], key: str) -> None:
    with ScriptedGemini() as gemini, pytest.raises(ConfigError, match=key):
        chat(gemini, **options)


def test_a_gemini_without_a_key_does_not_start(monkeypatch: pytest.MonkeyPatch) -> None:
    # LiteLLM itself looks there.
    monkeypatch.delenv("GEMINI_API_KEY", raising=False)
    monkeypatch.delenv("GOOGLE_API_KEY", raising=False)
    with pytest.raises(ConfigError, match="GEMINI_API_KEY"):
        LiteLLMChat(MODEL)
    monkeypatch.setenv("GEMINI_API_KEY", KEY)
    assert LiteLLMChat(MODEL).model == MODEL


def guarded(gemini: ScriptedGemini, clock: Clock, **options: Any) -> LiteLLMChat:
    return chat(gemini, breaker=CircuitBreaker(clock=clock), problems=Problems(MODEL, clock=clock), **options)


async def ask_often(one: LiteLLMChat, times: int) -> list[ChatAnswer]:
    return [await one.ask(MESSAGES, max_tokens=10) for _ in range(times)]


async def test_a_provider_that_keeps_failing_is_asked_five_times_and_then_left_alone() -> None:
    clock = Clock()
    with ScriptedGemini(fails(503)) as gemini:
        one = guarded(gemini, clock)
        answers = await ask_often(one, 50)
        assert len(gemini.asked) == 5
    assert [answer.reason for answer in answers] == ["http_503"] * 3 + ["circuit_open"] * 47
    assert answers[-1] == ChatAnswer(Outcome.UNREACHABLE, reason="circuit_open", retry_after_s=30.0)
    assert (one.circuit, one.retry_after_s) == (CircuitState.OPEN, 30.0)


async def test_half_open_asks_once_and_a_success_closes_it() -> None:
    clock = Clock()
    with ScriptedGemini([fails(503)] * 6 + [GOOD]) as gemini:
        one = guarded(gemini, clock)
        await ask_often(one, 3)
        clock.now += 30
        probe, refused_one = await ask_often(one, 2)
        assert (probe.reason, refused_one.reason, len(gemini.asked)) == ("http_503", "circuit_open", 6)
        clock.now += 30
        answers = await ask_often(one, 3)
    assert [answer.outcome for answer in answers] == [Outcome.OK] * 3
    assert one.circuit is CircuitState.CLOSED


async def test_of_many_at_once_half_open_lets_one_through() -> None:
    clock = Clock()
    with ScriptedGemini([fails(503)] * 5 + [HANG]) as gemini:
        one = guarded(gemini, clock, deadline_s=1.0)
        await ask_often(one, 3)
        clock.now += 30
        answers = await asyncio.gather(*(one.ask(MESSAGES, max_tokens=10) for _ in range(8)))
        assert len(gemini.asked) == 6
    assert sorted(answer.reason for answer in answers) == ["circuit_open"] * 7 + ["deadline"]


async def test_a_caller_that_leaves_during_the_probe_does_not_keep_the_circuit_shut() -> None:
    clock = Clock()
    with ScriptedGemini([fails(503)] * 5 + [HANG, GOOD]) as gemini:
        one = guarded(gemini, clock)
        await ask_often(one, 3)
        clock.now += 30
        probe = asyncio.ensure_future(one.ask(MESSAGES, max_tokens=10))
        while len(gemini.asked) < 6:
            await asyncio.sleep(0.01)
        probe.cancel()
        with pytest.raises(asyncio.CancelledError):
            await probe
        assert [answer.outcome for answer in await ask_often(one, 1)] == [Outcome.OK]


async def test_hangs_count_as_failures() -> None:
    with ScriptedGemini(HANG) as gemini:
        one = chat(gemini, deadline_s=0.2)
        await asyncio.gather(*(one.ask(MESSAGES, max_tokens=10) for _ in range(5)))
    assert one.circuit is CircuitState.OPEN


@pytest.mark.parametrize(
    ("script", "state"),
    [(FAULTS[row][0], CircuitState.CLOSED) for row in FAULTS if row[:3] in ("F01", "F02", "F03", "F04", "F05", "F06")]
    + [(says(""), CircuitState.CLOSED), (sends({"candidates": []}), CircuitState.CLOSED)]
    + [(FAULTS[row][0], CircuitState.OPEN) for row in FAULTS if row[:3] in ("F08", "F09", "F10", "F11", "F12", "F13")],
)
async def test_what_a_person_may_bring_on_opens_no_circuit_for_everybody(script: Script, state: CircuitState) -> None:
    with ScriptedGemini(script) as gemini:
        one = chat(gemini)
        await ask_often(one, 6)
    assert one.circuit is state


async def test_flawed_answers_open_no_circuit() -> None:
    with ScriptedGemini(GOOD) as gemini:
        one = chat(gemini)
        for _ in range(6):
            await one.ask(MESSAGES, max_tokens=10, flaw=lambda text: "not_nice")
    assert one.circuit is CircuitState.CLOSED


@pytest.mark.parametrize("script", [fails(401), fails(403), KEY_INVALID])
async def test_a_key_that_is_not_taken_opens_the_circuit_at_once(script: Reply) -> None:
    with ScriptedGemini(script) as gemini:
        one = chat(gemini)
        answers = await ask_often(one, 3)
        assert len(gemini.asked) == 1
    assert (answers[-1].reason, one.problems) == ("circuit_open", ("judge_auth",))


@pytest.mark.parametrize(
    ("script", "problem"),
    [
        (fails(400), "judge_config"),
        (fails(413), "judge_config"),
        (fails(403), "judge_auth"),
        (fails(404), "judge_retired"),
    ],
)
async def test_a_wrong_setting_is_a_problem_told_once_until_a_call_succeeds(
    script: Reply, problem: str, caplog: pytest.LogCaptureFixture
) -> None:
    clock = Clock()
    with ScriptedGemini([script, script, GOOD]) as gemini:
        one = guarded(gemini, clock)
        for _ in range(2):
            await ask_often(one, 1)
            clock.now += 30
            assert one.problems == (problem,)
        told = [record.getMessage() for record in caplog.records if record.levelno == logging.ERROR]
        assert [text.split(":")[0] for text in told] == [problem]
        await ask_often(one, 1)
    assert one.problems == ()


@pytest.mark.parametrize("script", [fails(503), fails(429), RESET, PORTAL, refused("SAFETY")])
async def test_a_fault_that_passes_is_no_problem_of_a_setting(script: Reply) -> None:
    with ScriptedGemini(script) as gemini:
        one = chat(gemini)
        await ask_often(one, 4)
    assert one.problems == ()


async def test_a_hang_after_an_attempt_that_was_paid_for_does_not_lose_its_tokens() -> None:
    with ScriptedGemini([says("bad"), HANG]) as gemini:
        answer = await chat(gemini, deadline_s=0.5).ask(MESSAGES, max_tokens=10, flaw=lambda text: "bad")
    assert (answer.outcome, answer.tokens_in, answer.tokens_out) == (Outcome.TIMEOUT, 400, 60)
    assert answer.cost_usd == pytest.approx(64e-6)


async def test_the_wait_that_a_provider_asks_for_is_passed_on() -> None:
    with ScriptedGemini(fails(429, headers={"Retry-After": "60"})) as gemini:
        assert (await ask(gemini)).retry_after_s == 60


async def test_a_model_without_a_price_has_the_operators() -> None:
    with ScriptedGemini(openai_reply("Yes")) as gemini:
        unpriced, priced = (
            chat(gemini, model="hosted_vllm/vlm", usd_per_million=prices) for prices in (None, [2.0, 10])
        )
        assert (unpriced.is_priced, priced.is_priced) == (False, True)
        assert chat(gemini).is_priced
        answers = [await one.ask(MESSAGES, max_tokens=10) for one in (unpriced, priced)]
    assert answers[0].cost_usd is None
    # 9 tokens at 2 and 1 at 10 dollars a million.
    assert answers[1].cost_usd == pytest.approx(28e-6)


@pytest.mark.parametrize("prices", [[], [1.0], [1.0, -1.0], [1.0, float("nan")], ["1", "2"], "12", [True, 1.0]])
def test_prices_that_are_none_are_refused(prices: Any) -> None:
    with ScriptedGemini() as gemini, pytest.raises(ConfigError, match="usd_per_million"):
        chat(gemini, usd_per_million=prices)


def test_a_price_of_another_providers_model_of_the_same_name_is_no_price() -> None:
    with ScriptedGemini() as gemini:
        models = {"vertex_ai/gemini-2.5-flash-lite": True, "openai/gpt-4o": True, "hosted_vllm/gpt-4o": False}
        assert {model: chat(gemini, model=model).is_priced for model in models} == models


@pytest.mark.parametrize(
    ("model", "effort"),
    [
        ("openai/gpt-5-nano", "minimal"),
        ("openai/gpt-5-nano-2025-08-07", "minimal"),
        ("openai/gpt-5.1", "none"),
        ("openai/o4-mini", "low"),
        ("openai/gpt-4o", None),
        ("openai/gpt-5-chat-latest", None),
        ("openai/vlm", None),
        ("hosted_vllm/gpt-5-nano", None),
        # LiteLLM makes "high" of any effort for some, and so they are left alone.
        ("mistral/mistral-small-latest", None),
        ("deepseek/deepseek-reasoner", None),
    ],
)
async def test_a_reasoning_model_of_openais_is_asked_to_think_as_little_as_it_can(
    model: str, effort: str | None
) -> None:
    with ScriptedGemini(openai_reply(SAID)) as gemini:
        answer = await ask(gemini, model=model)
        body = gemini.asked[0].body
    assert answer.outcome is Outcome.OK
    assert body.get("reasoning_effort") == effort
    assert "thinking" not in body
    assert 100 in (body.get("max_tokens"), body.get("max_completion_tokens"))


@pytest.mark.parametrize(
    "used",
    [
        {"prompt_tokens": -5, "completion_tokens": 1, "total_tokens": -4},
        {"prompt_tokens": 9, "completion_tokens": -1, "total_tokens": 8},
        {"prompt_tokens": 10**15, "completion_tokens": 1, "total_tokens": 10**15 + 1},
        {"prompt_tokens": 10**400, "completion_tokens": 1, "total_tokens": 1},
    ],
)
@pytest.mark.parametrize("prices", [None, [2.0, 10.0]])
async def test_a_usage_that_can_be_none_is_not_counted_and_has_no_price(used: Any, prices: Any) -> None:
    body = json.loads(openai_reply(SAID).body) | {"usage": used}
    with ScriptedGemini(sends(body)) as gemini:
        answer = await ask(gemini, model="openai/gpt-4o", usd_per_million=prices)
    assert (answer.outcome, answer.text) == (Outcome.OK, SAID)
    assert (answer.tokens_in, answer.tokens_out, answer.cost_usd) == (0, 0, None)


async def test_what_is_asked_is_in_no_log_line_even_where_the_host_program_debugs(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with ScriptedGemini(allow) as gemini, caplog.at_level(logging.DEBUG):
        asked = chat(gemini)
        await asked.ask([{"role": "user", "content": "a canary in a coal mine"}], max_tokens=50)
    assert len(gemini.asked) == 1
    assert "coal mine" not in caplog.text
