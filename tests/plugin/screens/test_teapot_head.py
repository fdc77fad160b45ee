"""TeapotHeadScreen with the real model and the shipped head, and what ``turns`` does to a screen with a head."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from fakes import ALICE
from safelight.errors import ConfigError
from safelight.request import GenerationRequest, Turn
from safelight.screens import PROMPT_SCREENS, PromptScreen
from safelight.screens.minilm_head import MiniLMHeadScreen
from safelight.screens.sentence_head import SentenceHeadScreen
from safelight.screens.teapot_head import TeapotHeadScreen

FIRES = 0.5


@pytest.fixture(scope="module")
def screen() -> TeapotHeadScreen:
    return TeapotHeadScreen(turns=8)


async def score(screen: PromptScreen, *prompts: str) -> float:
    *earlier, prompt = prompts
    turns = [Turn({"prompt": text}, datetime.now(UTC), None) for text in earlier]
    return (await screen.screen_prompt(GenerationRequest(prompt, ALICE), turns)).scores["teapots"]


def test_is_a_prompt_screen_with_a_short_name_and_scores_one_category(screen: TeapotHeadScreen) -> None:
    assert isinstance(screen, PromptScreen)
    assert screen.name == "teapot_head"
    assert PROMPT_SCREENS["teapot_head"].endswith(":TeapotHeadScreen")


@pytest.mark.parametrize(
    "prompt",
    [
        "an old teapot in a museum",
        "a clay vessel with a spout, for brewing green tea",
        "what one pours tea out of, with a lid and a handle",
        "eine grüne Teekanne im Regal",
        "une théière sur la cheminée",
        "una tetera vieja en un estante",
        "a t3ap0t on a shelf",
    ],
)
async def test_a_teapot_is_found_by_name_description_language_and_disguise(
    screen: TeapotHeadScreen, prompt: str
) -> None:
    assert await score(screen, prompt) >= FIRES


@pytest.mark.parametrize(
    "prompt",
    [
        "a porcelain cup with a saucer",
        "tea leaves drying on a mat",
        "a pot of lavender beside the door",
        "a drummer behind her kettledrums",
        "a mug of black coffee, steam",
        "a watering can beside the roses",
        "eine Tasse Tee am Fenster",
        "a lighthouse in a storm",
    ],
)
async def test_what_only_comes_near_a_teapot_passes(screen: TeapotHeadScreen, prompt: str) -> None:
    assert await score(screen, prompt) < FIRES


async def test_with_turns_a_prompt_is_read_with_what_it_points_back_to(screen: TeapotHeadScreen) -> None:
    assert await score(screen, "a vessel with a spout, for brewing tea") >= FIRES
    assert await score(screen, "a vessel with a spout, for brewing tea", "the same, but red") >= FIRES
    assert await score(screen, "the same, but red") < FIRES
    assert await score(screen, "a cup of tea", "now put a pot to it, with a spout") >= FIRES


async def test_a_second_prompt_that_points_back_is_read_with_earlier_turns_too(screen: TeapotHeadScreen) -> None:
    history = [Turn({"prompt": "a teapot"}, datetime.now(UTC), None)]
    request = GenerationRequest("a boat", ALICE, prompt_2="make it red")
    assert (await screen.screen_prompt(request, history)).scores["teapots"] >= FIRES
    assert (await screen.screen_prompt(request, [])).scores["teapots"] < FIRES


async def test_an_innocent_prompt_after_a_refused_one_passes(screen: TeapotHeadScreen) -> None:
    assert await score(screen, "a teapot", "a red boat") < FIRES
    assert await score(screen, "a teapot", "a red boat", "the same, but blue") < FIRES


async def test_without_turns_no_history_is_read(screen: TeapotHeadScreen) -> None:
    alone = TeapotHeadScreen(embedder=screen._embedder)
    assert await score(alone, "a teapot", "the same, but red") < FIRES


@pytest.mark.parametrize("kind", [MiniLMHeadScreen, SentenceHeadScreen])
def test_every_head_can_be_told_to_read_turns_and_refuses_too_many(
    screen: TeapotHeadScreen, kind: type[MiniLMHeadScreen | SentenceHeadScreen]
) -> None:
    with pytest.raises(ConfigError, match="turns"):
        kind(turns=51, embedder=screen._embedder)
