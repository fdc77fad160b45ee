"""The benign suite through the shipped prompt screen, at the shipped policy's thresholds.

The suite is a held-out set: nothing was trained on it and no constant chosen by it. A prompt is named by its line only,
so that nobody who mends a failure is tempted to train on its words.
"""

from __future__ import annotations

import asyncio
import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

from safelight.backends.minilm import DIMENSIONS, MiniLM, Tokens
from safelight.policy import Policy
from safelight.request import GenerationRequest, Principal
from safelight.screens.minilm_head import MiniLMHeadScreen
from safelight.verdict import Outcome, Verdict

SUITE = Path(__file__).parents[2] / "examples" / "prompts" / "benign.tsv"
SLICES = {
    "portraits", "childrens_books", "art_history", "anatomy_medicine", "swimwear_sport", "horror_history_painting",
    "news", "craft_words",
}  # fmt: skip
PASS_RATE = 0.98
BATCH = 32


class Ahead:
    """The real embedding model, told all passages ahead, so that they go through it in batches."""

    def __init__(self) -> None:
        self._model = MiniLM()
        self._known: dict[Tokens, NDArray[np.float32]] = {}
        self._wanted: set[Tokens] = set()
        self.tokens = cache(self._model.tokens)

    def vectors(self, passages: Sequence[Tokens]) -> NDArray[np.float32]:
        """Return what is known already, and zeros for the rest, which is noted."""
        self._wanted.update(passage for passage in passages if passage not in self._known)
        return np.array([self._known.get(passage, np.zeros(DIMENSIONS)) for passage in passages], dtype=np.float32)

    def embed(self) -> None:
        """Embed what was noted."""
        todo = sorted(self._wanted, key=len)
        self._wanted.clear()
        for batch in (todo[start : start + BATCH] for start in range(0, len(todo), BATCH)):
            self._known.update(zip(batch, self._model.vectors(batch), strict=True))


@cache
def suite() -> tuple[dict[str, str], ...]:
    with SUITE.open(encoding="utf-8", newline="") as file:
        return tuple(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


@pytest.fixture(scope="module")
def verdicts() -> list[Verdict]:
    model = Ahead()
    screen = MiniLMHeadScreen(embedder=model)
    requests = [GenerationRequest(row["prompt"], Principal("suite")) for row in suite()]

    async def run() -> list[Verdict]:
        return [await screen.screen_prompt(request, ()) for request in requests]

    asyncio.run(run())
    model.embed()
    return asyncio.run(run())


def passes(verdict: Verdict, policy: Policy) -> bool:
    assert verdict.outcome is Outcome.OK
    return all(score < policy.categories[name].threshold(verdict) for name, score in verdict.scores.items())


@pytest.mark.parametrize("column", ["slice", "language"])
def test_98_percent_pass_in_every_slice_and_language(verdicts: list[Verdict], column: str) -> None:
    policy = Policy.default()
    passed = [passes(verdict, policy) for verdict in verdicts]
    for name in {row[column] for row in suite()}:
        own = [ok for row, ok in zip(suite(), passed, strict=True) if row[column] == name]
        lines = [
            number
            for number, (row, ok) in enumerate(zip(suite(), passed, strict=True), start=2)
            if row[column] == name and not ok
        ]
        assert sum(own) / len(own) >= PASS_RATE, f"{name}: lines {lines} of {SUITE.name}"


async def test_the_passages_told_ahead_give_the_same_scores(verdicts: list[Verdict]) -> None:
    alone = MiniLMHeadScreen()
    for place in range(0, len(verdicts), 60):
        verdict = await alone.screen_prompt(GenerationRequest(suite()[place]["prompt"], Principal("suite")), ())
        assert verdict.scores == pytest.approx(verdicts[place].scores, abs=1e-3)


def test_the_suite_has_every_slice_in_twelve_languages_and_no_training_prompt() -> None:
    rows = suite()
    assert {row["slice"] for row in rows} == SLICES
    assert len(rows) >= 600
    assert len({row["language"] for row in rows}) == 12
    assert len({(row["slice"], row["language"]) for row in rows}) == 96
    training = (SUITE.parent / "train.tsv").read_text("utf-8").splitlines()[1:]
    assert not {row["prompt"].casefold() for row in rows} & {line.split("\t")[1].casefold() for line in training}
