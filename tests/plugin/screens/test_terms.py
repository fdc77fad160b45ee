from __future__ import annotations

from typing import Any

import pytest

from disguises_of_zorblax import ALL, ORDINARY
from fakes import ALICE
from safelight.errors import ConfigError
from safelight.request import GenerationRequest
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
