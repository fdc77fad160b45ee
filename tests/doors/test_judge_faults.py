"""Every scripted fault of the LLM judge, through LiteLLM's real code and two doors: nothing is released, no 500."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path

import openai
import pytest

from fakes import FakeGenerator, MarkerScreen
from gateway_server import Served, serving
from safelight.policy import Policy, Reason
from safelight.screens.llm_judge import LLMJudge
from scripted_gemini import (
    DROP,
    HANG,
    PORTAL,
    RESET,
    Asked,
    Reply,
    ScriptedGemini,
    allow,
    answer,
    block,
    by_sentinel,
    fails,
    refused,
    says,
    sends,
    served_by,
    stopped,
)

Script = Reply | Callable[[Asked], Reply]

FAULTS: dict[str, tuple[Script, int, str]] = {
    "F01 prompt refused": (refused("SAFETY"), 400, Reason.PROVIDER_REFUSED),
    "F02 prohibited content": (refused("PROHIBITED_CONTENT"), 400, Reason.RESTRICTED),
    "F03 other": (refused("OTHER"), 503, Reason.SCREENING_UNAVAILABLE),
    "F04 refused without usage": (refused("SAFETY", usage=False), 400, Reason.PROVIDER_REFUSED),
    "F05 candidate refused": (stopped("SAFETY"), 400, Reason.PROVIDER_REFUSED),
    "F06 truncated": (stopped("MAX_TOKENS"), 503, Reason.SCREENING_UNAVAILABLE),
    "F07 malformed": (stopped("MALFORMED_RESPONSE", text=None), 503, Reason.SCREENING_UNAVAILABLE),
    "F07 unknown ending": (stopped("SOMETHING_NEW"), 503, Reason.SCREENING_UNAVAILABLE),
    "F07 empty": (says(""), 503, Reason.SCREENING_UNAVAILABLE),
    "F07 no candidates": (sends({"candidates": []}), 503, Reason.SCREENING_UNAVAILABLE),
    "F08 HTML": (PORTAL, 503, Reason.SCREENING_UNAVAILABLE),
    "F09 400": (fails(400), 503, Reason.SCREENING_UNAVAILABLE),
    "F10 401": (fails(401), 503, Reason.SCREENING_UNAVAILABLE),
    "F10 403": (fails(403), 503, Reason.SCREENING_UNAVAILABLE),
    "F11 404": (fails(404), 503, Reason.SCREENING_UNAVAILABLE),
    "F12 429": (fails(429), 503, Reason.SCREENING_UNAVAILABLE),
    "F12 429 with a wait": (fails(429, headers={"Retry-After": "30"}), 503, Reason.SCREENING_UNAVAILABLE),
    "F13 500": (fails(500), 503, Reason.SCREENING_UNAVAILABLE),
    "F13 503": (fails(503), 503, Reason.SCREENING_UNAVAILABLE),
    "F14 reset": (RESET, 503, Reason.SCREENING_UNAVAILABLE),
    "F14 drop": (DROP, 503, Reason.SCREENING_UNAVAILABLE),
    "F15 hang": (HANG, 503, Reason.SCREENING_UNAVAILABLE),
    "F17 prose": (says("This prompt is fine."), 503, Reason.SCREENING_UNAVAILABLE),
    "F17 wrong nonce": (answer(nonce="0000"), 503, Reason.SCREENING_UNAVAILABLE),
    "F17 extra key": (answer(comment="fine"), 503, Reason.SCREENING_UNAVAILABLE),
    "F17 list": (says("[]"), 503, Reason.SCREENING_UNAVAILABLE),
    "F18 blocks with low scores": (answer(verdict="block"), 400, Reason.CATEGORY),
    "F19 another model": (served_by("gemini-9-ultra"), 503, Reason.SCREENING_UNAVAILABLE),
    "block": (block(), 400, Reason.CATEGORY),
}


class Door:
    def __init__(self, served: Served, gemini: ScriptedGemini, generator: FakeGenerator) -> None:
        self.served, self.gemini, self.generator = served, gemini, generator


@pytest.fixture(scope="module")
def script() -> list[Script]:
    """What the scripted judge does next; one server serves all the tests of this module."""
    return [allow]


@pytest.fixture(scope="module")
def door(script: list[Script], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Door]:
    def act(asked: Asked) -> Reply:
        now = script[0]
        return now if isinstance(now, Reply) else now(asked)

    generator = FakeGenerator()
    with ScriptedGemini(act) as gemini:
        judge = LLMJudge(policy=Policy.default(), api_base=gemini.url, api_key="k", deadline_s=2.0)
        folder: Path = tmp_path_factory.mktemp("faults")
        with serving(
            folder, generator=generator, prompt_screens=[judge], image_screens=[MarkerScreen(category="violence")]
        ) as served:
            yield Door(served, gemini, generator)


@pytest.mark.parametrize("name", FAULTS)
def test_a_fault_ends_as_the_fault_matrix_says_with_nothing_released(
    door: Door, script: list[Script], name: str
) -> None:
    script[0], status, reason = FAULTS[name]
    made = len(door.generator.requests)
    asked = len(door.gemini.asked)
    with door.served.client() as client, pytest.raises(openai.APIStatusError) as error:
        client.images.generate(prompt="a cup of tea", size="64x64")
    assert error.value.status_code == status
    assert error.value.body["reason_code"] == reason  # type: ignore[index]
    assert len(door.generator.requests) == made
    # At most the first try and one more, and none at all by the client's own retries.
    assert len(door.gemini.asked) - asked <= 2


def test_an_allow_releases_a_picture(door: Door, script: list[Script]) -> None:
    script[0] = allow
    with door.served.client() as client:
        assert client.images.generate(prompt="a cup of tea", size="64x64").data


def test_a_prompt_split_over_two_requests_reaches_the_judge_together_for_one_person_only(
    door: Door, script: list[Script]
) -> None:
    script[0] = by_sentinel
    with door.served.client() as client:
        client.images.generate(prompt="zor", user="ada", size="64x64")
        client.images.generate(prompt="blax", user="bob", size="64x64")
        with pytest.raises(openai.BadRequestError) as error:
            client.images.generate(prompt="blax", user="ada", size="64x64")
    assert error.value.code == "moderation_blocked"
