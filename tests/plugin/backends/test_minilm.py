"""MiniLM from the installed packages: whole texts, vectors of length 1, meaning."""

from __future__ import annotations

import numpy as np
import pytest

from safelight.backends.minilm import DIMENSIONS, MAX_TOKENS, MiniLM


@pytest.fixture(scope="module")
def model() -> MiniLM:
    return MiniLM()


def test_nothing_of_a_long_text_is_cut_off(model: MiniLM) -> None:
    # The tokenizer's own file asks to cut at 128 tokens.
    assert len(model.tokens("cat " * 1_000)) == 1_000
    assert model.tokens("") == ()


def test_vectors_have_length_one_and_do_not_depend_on_their_batch(model: MiniLM) -> None:
    passages = [model.tokens(text) for text in ("a red fox", "a fox that is red, in deep snow at dusk", "x")]
    together = model.vectors(passages)
    alone = np.concatenate([model.vectors([passage]) for passage in passages])
    assert together.shape == (3, DIMENSIONS)
    assert np.linalg.norm(together, axis=1) == pytest.approx(1)
    assert (together * alone).sum(axis=1) == pytest.approx(1, abs=1e-4)


def test_texts_of_like_meaning_are_near(model: MiniLM) -> None:
    fox, same, tax = model.vectors(
        [model.tokens(text) for text in ("a red fox in the snow", "a fox on a snowy field", "an income tax form")]
    )
    assert fox @ same > 0.7 > 0.3 > fox @ tax


def test_no_passages_are_no_vectors(model: MiniLM) -> None:
    assert model.vectors([]).shape == (0, DIMENSIONS)
    assert np.isfinite(model.vectors([()])).all()


def test_a_passage_that_is_too_long_is_refused_and_not_cut(model: MiniLM) -> None:
    with pytest.raises(ValueError, match="at most 254"):
        model.vectors([(5,) * (MAX_TOKENS + 1)])
