"""What the judge sees of a person's course, through LiteLLM's real code and a socket."""

from __future__ import annotations

import asyncio
import itertools
from pathlib import Path

import pytest

from fakes import ALICE, FakeGenerator, MarkerScreen
from safelight.errors import ContentBlocked
from safelight.guard import Guard
from safelight.policy import Policy
from safelight.request import GenerationRequest
from safelight.screens.llm_judge import LLMJudge
from safelight.store.sqlite import SQLiteStore
from scripted_gemini import Asked, Reply, ScriptedGemini, allow, block

WORD = "zorblaxian"
"""Ten letters, the sentinel and some more, so that it can be cut into ten pieces."""


def guard(gemini: ScriptedGemini, path: Path) -> Guard:
    judge = LLMJudge(policy=Policy.default(), api_base=gemini.url, api_key="k", deadline_s=30.0)
    return Guard(
        Policy.default(),
        SQLiteStore(path / "s.db"),
        prompt_screens=[judge],
        image_screens=[MarkerScreen(category="violence")],
    )


def pieces(count: int) -> list[str]:
    """Cut the word into so many pieces, none of them empty."""
    cuts = [round(place * len(WORD) / count) for place in range(count + 1)]
    return [WORD[start:end] for start, end in itertools.pairwise(cuts)]


def sees_the_word(asked: Asked) -> bool:
    """Tell whether the pieces stand in what the judge was shown in their order, whatever is between."""
    shown = [text for turn in asked.turns for text in turn["channels"].values()]
    shown += list(asked.case["current"]["channels"].values())
    return WORD in "".join(text.removeprefix("part ") for text in shown if text.startswith("part "))


def block_the_word(asked: Asked) -> Reply:
    return block()(asked) if sees_the_word(asked) else allow(asked)


@pytest.mark.parametrize("between", [0, 1])
@pytest.mark.parametrize("count", range(2, 11))
async def test_a_request_that_completes_a_word_begun_turns_ago_is_blocked(
    tmp_path: Path, count: int, between: int
) -> None:
    with ScriptedGemini(block_the_word) as gemini:
        house = guard(gemini, tmp_path)
        *before, last = pieces(count)
        for piece in before:
            await house.create(GenerationRequest(f"part {piece}", ALICE), FakeGenerator())
            for number in range(between):
                await house.create(GenerationRequest(f"a cup of tea {piece} {number}", ALICE), FakeGenerator())
        with pytest.raises(ContentBlocked) as error:
            await house.create(GenerationRequest(f"part {last}", ALICE), FakeGenerator())
        assert error.value.decision.categories == ("violence",)
        house.store.close()


@pytest.mark.parametrize("count", [8, 32, 100])
async def test_of_requests_at_once_each_sees_all_that_came_before_it(tmp_path: Path, count: int) -> None:
    with ScriptedGemini(allow) as gemini:
        house = guard(gemini, tmp_path)
        await asyncio.gather(*(house.admit(GenerationRequest(f"half {number}", ALICE)) for number in range(count)))
        seen = [{text for turn in asked.turns for text in turn["channels"].values()} for asked in gemini.asked]
        house.store.close()
    # One saw nothing, the next one turn, and so on: no two were judged without one knowing of the other.
    assert sorted(map(len, seen)) == list(range(count))
