"""The benign suite through the two prompt screens with a trained head, at the shipped policy's thresholds.

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
from safelight.screens import PromptScreen
from safelight.screens.minilm_head import MiniLMHeadScreen
from safelight.screens.sentence_head import SentenceHeadScreen
from safelight.verdict import Outcome, Verdict

SUITE = Path(__file__).parents[2] / "examples" / "prompts" / "benign.tsv"
SLICES = {
    "portraits", "childrens_books", "art_history", "anatomy_medicine", "swimwear_sport", "horror_history_painting",
    "news", "craft_words",
}  # fmt: skip
PASS_RATES = {"slice": 0.98, "language": 0.96}
SCREENS = ("minilm_head", "sentence_head")
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


def judged(screen: PromptScreen, *, every: int = 1) -> list[Verdict]:
    requests = [GenerationRequest(row["prompt"], Principal("suite")) for row in suite()[::every]]

    async def run() -> list[Verdict]:
        return [await screen.screen_prompt(request, ()) for request in requests]

    return asyncio.run(run())


@cache
def verdicts(screen: str) -> list[Verdict]:
    return judged(SentenceHeadScreen()) if screen == "sentence_head" else judged_ahead()


def judged_ahead(*, every: int = 1) -> list[Verdict]:
    model = Ahead()
    judged(MiniLMHeadScreen(embedder=model), every=every)
    model.embed()
    return judged(MiniLMHeadScreen(embedder=model), every=every)


def passes(verdict: Verdict, policy: Policy) -> bool:
    assert verdict.outcome is Outcome.OK
    return all(score < policy.categories[name].threshold(verdict) for name, score in verdict.scores.items())


@pytest.mark.parametrize("column", ["slice", "language"])
@pytest.mark.parametrize("screen", SCREENS)
def test_nearly_all_pass_in_every_slice_and_language(screen: str, column: str) -> None:
    policy = Policy.default()
    passed = [passes(verdict, policy) for verdict in verdicts(screen)]
    for name in {row[column] for row in suite()}:
        own = [ok for row, ok in zip(suite(), passed, strict=True) if row[column] == name]
        lines = [
            number
            for number, (row, ok) in enumerate(zip(suite(), passed, strict=True), start=2)
            if row[column] == name and not ok
        ]
        assert sum(own) / len(own) >= PASS_RATES[column], f"{name}: lines {lines} of {SUITE.name}"


def test_the_multilingual_screen_marks_hardly_any_of_them_as_unfamiliar() -> None:
    # Measured: 5 of 723. Such a prompt costs a judge's call where the cascade would have spared it.
    assert sum(verdict.reason != "" for verdict in verdicts("sentence_head")) <= 15


def test_the_passages_told_ahead_give_the_same_scores() -> None:
    alone, ahead = judged(MiniLMHeadScreen(), every=60), judged_ahead(every=60)
    for one, other in zip(alone, ahead, strict=True):
        assert one.scores == pytest.approx(other.scores, abs=1e-3)


def test_the_suite_has_every_slice_in_twelve_languages_and_no_training_prompt() -> None:
    rows = suite()
    assert {row["slice"] for row in rows} == SLICES
    assert len(rows) >= 600
    assert len({row["language"] for row in rows}) == 12
    assert len({(row["slice"], row["language"]) for row in rows}) == 96
    training = (SUITE.parent / "train.tsv").read_text("utf-8").splitlines()[1:]
    assert not {row["prompt"].casefold() for row in rows} & {line.split("\t")[1].casefold() for line in training}
