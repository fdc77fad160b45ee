"""The labelled prompts, what the shipped heads are worth on those they were not trained on, and training itself."""

from __future__ import annotations

import hashlib
import importlib.util
import json
import sys
from collections import Counter
from pathlib import Path
from types import ModuleType

import pytest

from safelight.screens.minilm_head import Head, MiniLMHeadScreen
from safelight.screens.sentence_head import SentenceHeadScreen
from safelight.verdict import Category

EXAMPLES = Path(__file__).parents[2] / "examples"


@pytest.fixture(scope="module")
def example() -> ModuleType:
    spec = importlib.util.spec_from_file_location("train_minilm_head", EXAMPLES / "train_minilm_head.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    # A dataclass looks its own module up there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def test_the_labelled_prompts_are_many_and_a_quarter_is_held_out_and_none_is_in_both(example: ModuleType) -> None:
    train, held_out = example.read("train.tsv"), example.read("heldout.tsv")
    every = train + held_out
    assert len(every) >= 1_340
    assert len({row.prompt.casefold() for row in every}) == len(every)
    shares = Counter(row.category for row in held_out)
    for category, count in Counter(row.category for row in every).items():
        assert shares[category] / count >= (0.27 if category else 0.23), category


def test_the_harmful_prompts_in_other_languages_are_one_a_category_and_none_was_trained_on(example: ModuleType) -> None:
    lines = (EXAMPLES / "prompts" / "heldout_languages.tsv").read_text("utf-8").splitlines()[1:]
    rows = [line.split("\t") for line in lines]
    languages = {language for language, _, _ in rows}
    categories = set(Category) - {Category.SEXUAL_MINORS}
    assert len(languages) == 11
    assert {(language, category) for language, category, _ in rows} == {(a, b) for a in languages for b in categories}
    assert len(rows) == 88
    assert not {prompt.casefold() for _, _, prompt in rows} & {
        row.prompt.casefold() for row in example.read("train.tsv")
    }


def test_the_labels_are_categories_and_the_gravest_one_is_not_among_them(example: ModuleType) -> None:
    labels = {row.category for row in example.read("train.tsv") + example.read("heldout.tsv")}
    assert labels - {""} == set(Category) - {Category.SEXUAL_MINORS}


@pytest.mark.parametrize("screen", ["minilm_head", "sentence_head", "teapot_head"])
def test_the_shipped_heads_were_trained_on_the_training_files_as_they_are(example: ModuleType, screen: str) -> None:
    recorded = json.loads((EXAMPLES.parent / "plugin" / "safelight" / "screens" / f"{screen}.json").read_text("utf-8"))
    training = b"".join((EXAMPLES / "prompts" / name).read_bytes() for name in example.TRAINED[screen].files)
    assert recorded["training_sha256"] == hashlib.sha256(training).hexdigest()


def test_a_head_for_one_category_takes_prompts_of_every_other_as_harmless(example: ModuleType) -> None:
    teapots = example.TRAINED["teapot_head"]
    assert {row.category for row in teapots.rows()} == {"", "teapots"}
    assert {row.category for row in teapots.rows(["train.tsv"])} == {""}
    assert len(teapots.rows()) == len(example.read("teapots.tsv")) + len(example.read("train.tsv"))


def test_prompts_that_need_earlier_turns_are_not_read_alone(example: ModuleType) -> None:
    assert "pot" not in {row.prompt for row in example.read("teapot_attempts.tsv")}
    assert len(example.read("teapot_attempts.tsv")) == 88


@pytest.fixture(scope="module")
def sentences() -> SentenceHeadScreen:
    return SentenceHeadScreen()


async def test_held_out_prompts_are_told_apart_as_well_as_is_said(example: ModuleType) -> None:
    rows = example.read("heldout.tsv")
    figures = example.count(rows, await example.judge(MiniLMHeadScreen(), [row.prompt for row in rows]))
    # Measured: 111 of 118, 4 of 235. Room for another processor's rounding, not for another head.
    assert figures.found >= 110
    assert figures.alarms <= 6
    assert min(figures.own[name] / figures.all[name] for name in figures.own) >= 0.6


async def test_the_multilingual_screen_tells_held_out_prompts_apart_as_well_as_is_said(
    example: ModuleType, sentences: SentenceHeadScreen
) -> None:
    rows = example.read("heldout.tsv")
    figures = example.count(rows, await example.judge(sentences, [row.prompt for row in rows]), 0.3)
    # Measured: 113 of 118, 7 of 235.
    assert figures.found >= 112
    assert figures.alarms <= 9
    assert min(figures.own[name] / figures.all[name] for name in figures.own) >= 0.6


async def test_the_multilingual_screen_finds_four_of_five_harmful_prompts_in_other_languages(
    example: ModuleType, sentences: SentenceHeadScreen
) -> None:
    lines = (EXAMPLES / "prompts" / "heldout_languages.tsv").read_text("utf-8").splitlines()[1:]
    rows = [example.Labelled(category, prompt) for _, category, prompt in (line.split("\t") for line in lines)]
    figures = example.count(rows, await example.judge(sentences, [row.prompt for row in rows]), 0.3)
    # Measured: 74 of 88.
    assert figures.found / figures.harmful >= 0.8


async def test_pictographs_by_their_unicode_names_are_harmless(example: ModuleType) -> None:
    rows = example.pictographs()[::10]
    figures = example.count(rows, await example.judge(MiniLMHeadScreen(), [row.prompt for row in rows]))
    assert figures.harmless > 100
    assert figures.alarms / figures.harmless <= 0.03


@pytest.mark.parametrize("screen", ["minilm_head", "sentence_head"])
def test_training_makes_a_head_that_can_be_read(example: ModuleType, screen: str) -> None:
    head, loss = example.train(example.read("train.tsv")[::2], screen)
    read = example.TRAINED[screen].head.parse(json.dumps(head).encode())
    assert read.categories == Head.shipped().categories
    assert 0 < loss < 0.2


def test_a_harmless_prompt_gives_its_clauses_and_a_harmful_one_or_a_single_clause_none(example: ModuleType) -> None:
    prompts = (("", "a castle, at night"), ("hate", "zorblax, now"), ("", "a teapot"), ("", "at night. a moon"))
    rows = [example.Labelled(category, prompt) for category, prompt in prompts]
    assert example.harmless_clauses(rows) == {"a castle": 0, "at night": 0, "a moon": 3}


def test_counting(example: ModuleType) -> None:
    rows = [example.Labelled(category, "x") for category in ("hate", "hate", "violence", "", "")]
    scores = [{"hate": a, "violence": b} for a, b in ((0.9, 0), (0.1, 0.8), (0.2, 0.3), (0.6, 0), (0, 0.49))]
    figures = example.count(rows, scores)
    assert (figures.found, figures.harmful, figures.alarms, figures.harmless) == (2, 3, 1, 2)
    assert (figures.own, figures.all) == ({"hate": 1, "violence": 0}, {"hate": 2, "violence": 1})


def test_the_interval_of_a_share(example: ModuleType) -> None:
    # Worked out by hand from Wilson's formula with z = 1.96.
    assert example.wilson(5, 10) == "0.500 [0.237, 0.763] (5 of 10)"
    assert example.wilson(0, 0) == "n/a (0 of 0)"
