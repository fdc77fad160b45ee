from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import httpx
import openai
import pytest

from gateway_fakes import FaultyScreen, Painter, WordScreen
from gateway_server import Served, serving
from safelight.store.strikes import Strikes
from safelight.verdict import Category


def post_as_another(gateway: Served, **asked: object) -> httpx.Response:
    """Ask with a new key of the same tenant."""
    _, token = gateway.store.create_key("other", at=datetime.now(UTC))
    return gateway.http.post(
        f"{gateway.address}/v1/images/generations", headers={"authorization": f"Bearer {token}"}, json=asked
    )


def test_after_three_blocks_a_key_is_turned_away_unjudged_whoever_its_user_is(tmp_path: Path) -> None:
    screen = WordScreen()
    with serving(tmp_path, prompt_screens=[screen], enforce=True) as gateway:
        answers = [gateway.post(prompt=f"zorblax in shape {n}", user=f"user {n}") for n in range(30)]
        judged = len(screen.asked)
        innocent = gateway.post(prompt="a teapot", user="another")
        allowed = post_as_another(gateway, prompt="a teapot")
    assert [answer.status_code for answer in answers] == [400] * 3 + [403] * 27
    assert judged == 3
    assert innocent.status_code == 403
    assert allowed.status_code == 200


def test_a_cool_down_says_until_when_why_and_how_to_appeal_and_is_not_retried(tmp_path: Path) -> None:
    with serving(tmp_path, enforce=True) as gateway:
        blocks = [gateway.post(prompt=f"zorblax {word}").json()["error"] for word in ("by sea", "at noon", "in oil")]
        sent = len(gateway.requests)
        with gateway.client() as client, pytest.raises(openai.PermissionDeniedError) as caught:
            client.images.generate(prompt="a teapot")
        assert len(gateway.requests) == sent + 1
    error = caught.value
    assert (error.code, error.type) == ("user_cooldown", "image_generation_user_error")
    assert isinstance(error.body, dict)
    assert 0 < error.body["retry_after_s"] <= 600
    assert error.body["retry_after_s"] == int(error.response.headers["retry-after"])
    assert error.body["appeal_id"] == blocks[-1]["decision_id"]
    assert error.body["decision_id"] in error.body["message"]
    assert [block["attempts_left"] for block in blocks] == [2, 1, 0]
    assert "After 1 more blocked request further ones are paused" in blocks[1]["message"]


def test_the_gravest_category_holds_the_key_until_a_person_has_looked(tmp_path: Path) -> None:
    screens = [WordScreen(category=Category.SEXUAL_MINORS)]
    with serving(tmp_path, prompt_screens=screens, enforce=True) as gateway:
        assert gateway.post(prompt="zorblax").status_code == 400
        held = gateway.post(prompt="a teapot")
        assert Strikes(gateway.store).release("default", gateway.key_id, at=datetime.now(UTC))
        assert gateway.post(prompt="a teapot").status_code == 200
    error = held.json()["error"]
    assert (held.status_code, error["code"], error["reason_code"]) == (403, "user_cooldown", "held")
    assert error["retry_after_s"] is None and "retry-after" not in held.headers


def test_faults_of_ours_are_no_attempts(tmp_path: Path) -> None:
    with serving(tmp_path, prompt_screens=[FaultyScreen()], enforce=True) as gateway:
        answers = [gateway.post(prompt=f"a teapot {n}").status_code for n in range(6)]
    assert answers == [503] * 6


def test_a_prompt_whose_picture_was_blocked_is_refused_to_everybody_in_the_tenant(tmp_path: Path) -> None:
    painter = Painter(marked=frozenset({0}))
    with serving(tmp_path, generator=painter, enforce=True) as gateway:
        first = gateway.post(prompt="A Teapot,  on fire")
        again = post_as_another(gateway, prompt="a teapot, on fire", negative_prompt="cups")
        else_ = post_as_another(gateway, prompt="a cup of tea")
    assert first.json()["error"]["stage"] == "image"
    assert again.json()["error"]["stage"] == "prompt"
    assert else_.json()["error"]["stage"] == "image"
    assert len(painter.asked) == 2
