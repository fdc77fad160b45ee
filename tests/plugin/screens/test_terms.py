from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from typing import Any

import pytest

from disguises_of_zorblax import ALL, ORDINARY
from fakes import ALICE
from safelight.errors import ConfigError
from safelight.request import GenerationRequest, Turn
from safelight.screens.terms import TermsScreen


async def score(screen: TermsScreen, prompt: str, **more: Any) -> float:
    verdict = await screen.screen_prompt(GenerationRequest(prompt, ALICE, **more), ())
    return verdict.scores["x"]


@pytest.mark.parametrize("prompt", ALL.values(), ids=ALL.keys())
async def test_a_term_is_found_in_every_disguise(prompt: str) -> None:
    assert await score(TermsScreen(terms=["zorblax"], category="x"), prompt) == 1.0


async def test_ordinary_prompts_are_no_hits() -> None:
    prompts = ORDINARY if not isinstance(ORDINARY, str) else ORDINARY.strip().splitlines()
    assert len(prompts) > 50
    assert [prompt for prompt in prompts if await score(TermsScreen(terms=["zorblax"], category="x"), prompt)] == []


async def test_a_term_is_a_word_or_phrase_of_its_own() -> None:
    screen = TermsScreen(terms=["cat", "tea pot"], category="x")
    assert [await score(screen, text) for text in ("a cat", "CAT!", "c a t", "a  tea   pot")] == [1.0] * 4
    assert [await score(screen, text) for text in ("concatenate", "cats", "a pot of tea")] == [0.0] * 3


async def test_a_short_term_is_not_looked_for_backwards_or_in_ciphers() -> None:
    assert await score(TermsScreen(terms=["cat", "war"], category="x"), "a raw png of tac") == 0.0


async def test_a_term_is_found_in_every_channel_and_the_reason_names_the_channel_and_not_the_text() -> None:
    screen = TermsScreen(terms=["zorblax"], category="x")
    verdict = await screen.screen_prompt(GenerationRequest("tea", ALICE, negative_prompt="a z0rbl4x"), ())
    assert verdict.scores == {"x": 1.0}
    assert "negative_prompt" in verdict.reason
    assert "z0rbl4x" not in verdict.reason


async def test_a_term_is_no_pattern() -> None:
    assert await score(TermsScreen(terms=["c.t"], category="x"), "a cat") == 0.0


@pytest.mark.parametrize("terms", [[], "zorblax", [""], [3], ["\u200b"]])
def test_a_list_without_terms_is_refused(terms: Any) -> None:
    with pytest.raises(ConfigError, match="term"):
        TermsScreen(terms=terms, category="x")


@pytest.mark.parametrize(
    "prompt", ["赤いティーポットを描いて", "桌上的红色茶壶和杯子", "빨간 찻주전자를 그려 줘", "ขอกาน้ำชาสีแดงหน่อย"]
)
async def test_a_term_is_found_inside_a_text_of_a_writing_without_gaps(prompt: str) -> None:
    screen = TermsScreen(terms=["ティーポット", "茶壶", "찻주전자", "กาน้ำชา", "чай"], category="x")
    assert await score(screen, prompt) == 1.0
    assert await score(screen, "красный чайник") == 0.0


async def told(screen: TermsScreen, *prompts: str) -> float:
    *earlier, prompt = prompts
    turns = [Turn({"prompt": text}, datetime.now(UTC), None) for text in earlier]
    verdict = await screen.screen_prompt(GenerationRequest(prompt, ALICE), turns)
    assert ("earlier turns" in verdict.reason) == (verdict.scores["x"] == 1.0)
    return verdict.scores["x"]


@pytest.mark.parametrize(
    "prompts",
    [
        ("a zorblax", "the same, but red"),
        ("a zorblax", "make it bigger", "and in blue"),
        ("zor", "blax"),
        ("z0r", "bl4x"),
        ("a picture of a zor", "blax"),
        ("zo", "rbl", "ax"),
        ("the first letter is z", "then o", "r", "b", "l", "a", "and an x"),
    ],
)
async def test_with_turns_a_term_that_is_told_over_several_requests_is_found(prompts: tuple[str, ...]) -> None:
    assert await told(TermsScreen(terms=["zorblax"], category="x", turns=8), *prompts) == 1.0
    assert await told(TermsScreen(terms=["zorblax"], category="x"), *prompts) == 0.0


@pytest.mark.parametrize(
    "prompts",
    [
        ("a zorblax", "a boat"),
        ("a zorblax", "now a blue boat"),
        ("a zorblax", "a boat", "the same, but red"),
        ("zorblax", "cat"),
        ("a zorblax", "x"),
    ],
)
async def test_an_innocent_prompt_after_a_refused_one_passes(prompts: tuple[str, ...]) -> None:
    assert await told(TermsScreen(terms=["zorblax"], category="x", turns=8), *prompts) == 0.0


async def test_a_second_prompt_that_points_back_is_read_with_earlier_turns_too() -> None:
    screen = TermsScreen(terms=["zorblax"], category="x", turns=8)
    history = [Turn({"prompt": "a zorblax"}, datetime.now(UTC), None)]
    for request in (
        GenerationRequest("a boat", ALICE, prompt_2="make it red"),
        GenerationRequest("a boat", ALICE, extra_texts={"prompt_3": "make it red"}),
    ):
        assert (await screen.screen_prompt(request, history)).scores["x"] == 1.0
    avoiding = GenerationRequest("a boat", ALICE, negative_prompt="make it red")
    assert (await screen.screen_prompt(avoiding, history)).scores["x"] == 0.0


async def test_turns_further_back_than_was_set_are_not_read() -> None:
    prompts = ("zorblax", "make it red", "make it small", "make it round")
    assert await told(TermsScreen(terms=["zorblax"], category="x", turns=3), *prompts) == 1.0
    assert await told(TermsScreen(terms=["zorblax"], category="x", turns=2), *prompts) == 0.0


async def test_the_loop_is_free_while_earlier_turns_are_read() -> None:
    screen = TermsScreen(terms=["zorblax"], category="x", turns=50)
    history = [Turn({"prompt": f"4@|_|{number}"}, datetime.now(UTC), None) for number in range(50)]
    reading = asyncio.create_task(screen.screen_prompt(GenerationRequest("a", ALICE), history))
    for _ in range(10):
        # Somebody else's turn. What reads in the loop is done at its first.
        await asyncio.sleep(0)
        assert not reading.done()
    # As a deadline does. It ends between two texts.
    reading.cancel()
    with pytest.raises(asyncio.CancelledError):
        await reading


async def test_an_ordinary_prompt_after_another_is_no_hit() -> None:
    screen = TermsScreen(terms=["teapot", "tea pot", "zorblax"], category="x", turns=8)
    pairs = [pair for pair in zip(ORDINARY[::3], ORDINARY[1::3], strict=False) if "teapot" not in pair[0]]
    assert len(pairs) > 25
    assert [pair for pair in pairs if await told(screen, *pair)] == []


@pytest.mark.parametrize("turns", [-1, 51])
def test_a_number_of_turns_out_of_range_is_refused(turns: int) -> None:
    with pytest.raises(ConfigError, match="turns"):
        TermsScreen(terms=["zorblax"], category="x", turns=turns)
