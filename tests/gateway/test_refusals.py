from __future__ import annotations

import logging
import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import openai
import pytest

from gateway_fakes import BrokenPainter, FaultyScreen, MarkerScreen, Painter, WordScreen
from gateway_server import Served, serving
from safelight.config import GatewaySettings
from safelight.request import GenerationRequest, Turn
from safelight.verdict import Category, Outcome, Stage, Verdict


def test_a_blocked_prompt_is_a_bad_request_that_says_why_and_is_sent_once(gateway: Served) -> None:
    with gateway.client() as client, pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt="a zorblax", size="64x64")
    error = caught.value
    assert (error.code, error.type, error.param) == ("moderation_blocked", "image_generation_user_error", None)
    assert isinstance(error.body, dict)
    assert error.body["moderation_details"] == {"categories": ["violence"], "moderation_stage": "input"}
    assert error.body["reason_code"] == "category" and error.body["stage"] == "prompt"
    assert error.body["appeal_id"] == error.body["decision_id"] == error.response.headers["x-safelight-decision"]
    assert error.response.headers["x-safelight-screens"] == "prompt=words"
    assert error.request_id == error.body["request_id"]
    assert gateway.requests == ["/v1/images/generations"]
    assert gateway.store.decisions(request_id=error.request_id)[0].id == error.body["decision_id"]


def test_the_message_holds_what_clients_look_for_and_plain_words(gateway: Served) -> None:
    message = gateway.post(prompt="a zorblax").json()["error"]["message"]
    assert "request was rejected as a result of the safety system" in message
    assert re.search(r"safety_violations=\[violence\]", message) and re.search(r"req_[a-zA-Z0-9]+", message)
    assert "Violence: Leave out cruelty and threats" in message
    assert "zorblax" not in message


def test_an_appeal_address_is_named(tmp_path: Path) -> None:
    with serving(tmp_path, gateway=GatewaySettings(appeal="safety@example.org")) as gateway:
        message = gateway.post(prompt="a zorblax").json()["error"]["message"]
    assert "appeal to safety@example.org with the decision ID dec_" in message


def test_when_every_picture_is_blocked_the_stage_is_output(tmp_path: Path) -> None:
    with serving(tmp_path, generator=Painter(marked=frozenset({0, 1}))) as gateway:
        response = gateway.post(prompt="teapots", n=2)
    error = response.json()["error"]
    assert response.status_code == 400 and error["code"] == "moderation_blocked"
    assert error["moderation_details"]["moderation_stage"] == "output" and error["stage"] == "image"
    assert response.headers["x-should-retry"] == "false"


def test_the_gravest_category_is_named_and_nothing_more(tmp_path: Path) -> None:
    screens = [WordScreen(category=Category.SEXUAL_MINORS)]
    with serving(tmp_path, prompt_screens=screens) as gateway:
        error = gateway.post(prompt="a zorblax").json()["error"]
    assert error["reason_code"] == "restricted"
    assert "Child safety: This cannot be made." in error["message"]


@pytest.mark.parametrize(
    "screens",
    [{"prompt_screens": [FaultyScreen()]}, {"image_screens": [MarkerScreen(), FaultyScreen()]}],
    ids=["prompt", "image"],
)
def test_a_failing_screen_is_503_and_is_not_retried(tmp_path: Path, screens: dict[str, Any]) -> None:
    with serving(tmp_path, **screens) as gateway:
        with gateway.client() as client, pytest.raises(openai.InternalServerError) as caught:
            client.images.generate(prompt="a canary")
        assert len(gateway.requests) == 1
    assert caught.value.status_code == 503 and caught.value.code == "screening_unavailable"
    assert int(caught.value.response.headers["retry-after"]) > 0
    assert isinstance(caught.value.body, dict) and caught.value.body["reason_code"] == "screening_unavailable"
    assert "canary" not in caught.value.response.text


@pytest.mark.parametrize("method", ["find_key", "reserve", "record prompt", "record image"])
def test_a_failing_store_is_503_and_releases_nothing(gateway: Served, method: str) -> None:
    gateway.store.failing = frozenset({method})
    response = gateway.post(prompt="a teapot")
    assert response.status_code == 503 and response.json()["error"]["code"] == "screening_unavailable"
    assert "b64_json" not in response.text and "disk" not in response.text
    gateway.store.failing = frozenset()
    assert gateway.post(prompt="a teapot").status_code == 200


def test_a_failing_generator_is_500_without_its_words(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with serving(tmp_path, generator=BrokenPainter()) as gateway:
        with gateway.client() as client, pytest.raises(openai.InternalServerError) as caught:
            client.images.generate(prompt="a canary")
        assert len(gateway.requests) == 1
    assert (caught.value.status_code, caught.value.code) == (500, "generation_failed")
    assert "canary" not in caught.value.response.text + caplog.text


def test_an_unforeseen_error_is_500_and_neither_answer_nor_log_hold_its_text(
    gateway: Served, caplog: pytest.LogCaptureFixture
) -> None:
    gateway.store.failing = frozenset({"crash"})
    response = gateway.post(prompt="a canary", response_format="url")
    assert response.status_code == 500 and response.json()["error"]["code"] == "internal_error"
    assert "ZeroDivisionError" in caplog.text
    for text in (response.text, caplog.text):
        assert "a secret text" not in text and "canary" not in text


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"authorization": "Bearer sl-wrong"},
        {"authorization": "Bearer"},
        {"authorization": "Basic c2w6"},
        {"authorization": "Bearer " + "x" * 5_000},
        {"authorization": "Bearer ' OR 1=1 --"},
        {"api-key": "sl-wrong"},
        {"authorization": b"Bearer \xff\xfe"},
    ],
)
def test_a_missing_and_a_wrong_key_get_the_same_401(gateway: Served, headers: dict[str, Any]) -> None:
    url = f"{gateway.address}/v1/images/generations"
    expected = gateway.http.post(url, headers={"authorization": "Bearer other"}, json={"prompt": "a teapot"})
    response = gateway.http.post(url, headers=headers, json={"prompt": "a teapot"})
    assert response.status_code == 401 and response.json()["error"]["code"] == "invalid_api_key"
    assert response.content == expected.content
    assert gateway.http.get(f"{gateway.address}/v1/models", headers=headers).content == expected.content


def test_a_revoked_key_is_401_and_an_api_key_header_counts(gateway: Served) -> None:
    body, url = {"prompt": "a teapot"}, f"{gateway.address}/v1/images/generations"
    assert gateway.http.post(url, headers={"api-key": gateway.token}, json=body).status_code == 200
    gateway.store.revoke_key(gateway.key_id, at=datetime.now(UTC))
    assert gateway.http.post(url, headers={"api-key": gateway.token}, json=body).status_code == 401


def test_an_unknown_model_is_404(gateway: Served) -> None:
    with gateway.client() as client, pytest.raises(openai.NotFoundError) as caught:
        client.images.generate(prompt="a teapot", model="no-such-model")
    assert caught.value.code == "model_not_found"


def test_edits_and_variations_say_that_they_are_not_offered(gateway: Served) -> None:
    calls: list[Callable[[openai.OpenAI], object]] = [
        lambda client: client.images.edit(image=b"picture", prompt="a teapot"),
        lambda client: client.images.create_variation(image=b"picture"),
    ]
    for call in calls:
        with gateway.client() as client, pytest.raises(openai.NotFoundError) as caught:
            call(client)
        assert caught.value.code == "not_offered"


@pytest.mark.parametrize(
    ("method", "path", "status"),
    [
        ("GET", "/v1/nothing", 404),
        ("GET", "/v1/images/generations", 405),
        ("POST", "/v1/images/generations/", 404),
        ("DELETE", "/v1/models", 405),
        ("GET", "/docs", 404),
        ("GET", "/openapi.json", 404),
        ("GET", "//v1/models", 404),
    ],
)
def test_whatever_is_not_there_answers_in_the_same_shape(gateway: Served, method: str, path: str, status: int) -> None:
    response = gateway.http.request(method, gateway.address + path)
    assert response.status_code == status
    assert set(response.json()["error"]) == {"message", "type", "param", "code"}


def test_health_follows_store_and_draining(gateway: Served) -> None:
    assert gateway.http.get(f"{gateway.address}/livez").status_code == 200
    assert gateway.http.get(f"{gateway.address}/readyz").status_code == 200
    gateway.store.failing = frozenset({"find_key"})
    assert gateway.http.get(f"{gateway.address}/readyz").status_code == 503
    assert gateway.http.get(f"{gateway.address}/livez").status_code == 200
    gateway.store.failing = frozenset()
    gateway.app.state.draining = True
    assert gateway.http.get(f"{gateway.address}/readyz").status_code == 503


def test_the_log_holds_no_prompt_key_link_or_line_break(gateway: Served, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    url = gateway.post(prompt="a canary", user="canary-person", response_format="url").json()["data"][0]["url"]
    gateway.http.get(url)
    gateway.post(prompt="a canary zorblax")
    gateway.http.get(f"{gateway.address}/v1/%0Aforged%0D%1B[31m?canary=1")
    own = [record.getMessage() for record in caplog.records if record.name.startswith(("safelight", "uvicorn"))]
    assert any("/v1/images/files/" in line for line in own)
    for line in own:
        assert "\n" not in line and "\x1b" not in line
        for secret in ("canary", gateway.token, "sig=", url.partition("sig=")[2]):
            assert secret not in line


def test_litellm_reads_a_block_as_a_content_policy_violation(gateway: Served, monkeypatch: pytest.MonkeyPatch) -> None:
    # Else it fetches its list of prices from the network when it is imported.
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    import litellm

    with pytest.raises(litellm.exceptions.ContentPolicyViolationError):
        litellm.image_generation(
            prompt="a zorblax", model="openai/painter", api_base=f"{gateway.address}/v1", api_key=gateway.token
        )
    assert gateway.requests == ["/v1/images/generations"]
    answer = litellm.image_generation(
        prompt="a teapot", model="openai/painter", api_base=f"{gateway.address}/v1", api_key=gateway.token, seed=4
    )
    assert answer.data is not None and answer.data[0].b64_json


def test_a_spent_budget_is_named_and_lasts_until_the_day_is_over(tmp_path: Path) -> None:
    class Poor:
        name = "poor"

        async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
            return Verdict(self.name, Stage.PROMPT, outcome=Outcome.OVER_BUDGET, reason="budget_exhausted")

    with serving(tmp_path, prompt_screens=[Poor()]) as gateway:
        response = gateway.post(prompt="a teapot")
    error = response.json()["error"]
    assert (response.status_code, error["code"], error["reason_code"]) == (
        503,
        "screening_unavailable",
        "budget_exhausted",
    )
    assert error["failed"] == {"poor": "over_budget"}
    now = datetime.now(UTC)
    left = 86_400 - now.hour * 3_600 - now.minute * 60 - now.second
    assert abs(int(response.headers["retry-after"]) - left) < 60 or left < 60
