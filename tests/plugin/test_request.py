from __future__ import annotations

from typing import Any

import pytest

from fakes import ALICE
from safelight.errors import InvalidRequest
from safelight.request import MAX_PROMPT_CHARS, GenerationRequest, Principal


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("prompt", ""),
        ("prompt", "  \n"),
        ("prompt", None),
        ("prompt", "x" * (MAX_PROMPT_CHARS + 1)),
        ("prompt", "a\x00b"),
        ("prompt", "a\ud800b"),
        ("negative_prompt", "x" * (MAX_PROMPT_CHARS + 1)),
        ("negative_prompt", 3),
        ("width", 0),
        ("width", 5000),
        ("height", 64.0),
        ("height", True),
        ("steps", 0),
        ("steps", 10_000),
        ("n", 0),
        ("n", 11),
        ("n", None),
        ("seed", -1),
        ("seed", 2**63),
        ("guidance_scale", float("nan")),
        ("guidance_scale", -1),
        ("guidance_scale", "7"),
    ],
)
def test_a_value_out_of_range_is_refused_by_the_name_of_its_field(field: str, value: Any) -> None:
    values: dict[str, Any] = {"prompt": "tea", "principal": ALICE} | {field: value}
    with pytest.raises(InvalidRequest) as error:
        GenerationRequest(**values)
    assert error.value.field == field


def test_a_further_text_cannot_stand_in_a_fields_place() -> None:
    with pytest.raises(InvalidRequest, match="extra_texts.prompt"):
        GenerationRequest("tea", ALICE, extra_texts={"prompt": "something else"})


@pytest.mark.parametrize("text", ["a\x00b", "a\ud800b"])
def test_a_persons_name_that_no_store_can_hold_is_refused(text: str) -> None:
    with pytest.raises(InvalidRequest, match="user"):
        Principal("key", person=text)


def test_every_channel_with_text_is_named_verbatim_and_empty_ones_are_left_out() -> None:
    request = GenerationRequest(
        "a\tcup\u200b", ALICE, prompt_2="two", negative_prompt="", negative_prompt_2="four", extra_texts={"style": "s"}
    )
    assert dict(request.texts) == {
        "prompt": "a\tcup\u200b",
        "prompt_2": "two",
        "negative_prompt_2": "four",
        "style": "s",
    }
    assert list(request.views) == list(request.texts)
    assert request.views["prompt"][0].text == "a\tcup\u200b"
