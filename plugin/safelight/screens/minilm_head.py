"""A quick local opinion on a prompt: MiniLM vectors and a small trained head that knows the policy's categories.

The head (``minilm_head.json``) was trained by ``examples/train_minilm_head.py`` on short, tame prompts that were
written for it; ``python examples/train_minilm_head.py --check`` prints what it does on prompts it was not trained on,
and ``python benchmarks/prompt_screens.py`` how it stands beside other screens that packages ship.

What is covered: requests that name their matter plainly, in English, for every shipped category but one, in every
channel that says what to show: as typed, and in each view that undoes a disguise which is there. A long text is read
whole: in overlapping windows, and clause by clause, so that a request is not lost among harmless words; in long ones
about one in four is lost all the same. 722 of the 723 harmless prompts of ``examples/prompts/benign.tsv`` pass.
What is not covered: other languages. Harmless prompts pass in the twelve that were tried, but so do nine of ten
harmful ones in eleven of them. Where a text is most likely not English the verdict's reason says so (``NOT_ENGLISH``):
a low score must not spare it a better judge. ``sexual/minors``, for which nothing was written and no score is given.
Negative prompts (``negative_prompt``, ``negative_prompt_2`` and further ones): they list what to avoid, which the head
cannot tell from asking for it, so it reads them only where a guidance below 1 turns them into a request. History.
Euphemism, slang, names, and how people really word such prompts: the training prompts are tame, so the recall on real
ones is unknown. Speaking against a harm ("stop hate speech") looks to it much like the harm.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from math import inf
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from ..backends.minilm import DIMENSIONS, MODEL_SHA256, TOKENIZER_SHA256, MiniLM, Tokens
from ..errors import ConfigError
from ..normalise import View
from ..request import GenerationRequest, Turn
from ..verdict import Outcome, Stage, Verdict

WINDOW = 64
"""Tokens that are judged at a time. In longer passages one request is averaged away by what surrounds it."""

STRIDE = 48
"""Tokens from one window to the next, so that no request of ``WINDOW - STRIDE`` tokens is cut by every border. By
cross-validation on the training prompts a stride of 32 found nothing more, in prompts of any length."""

CLAUSE_SHIFT = 3.0
"""By how many logits a clause alone must be surer than a window. 1, 2, 3 and no clauses were tried by cross-validation
on the training prompts. With 3, single harmless prompts are flagged no more often than without any clauses (1.4 %).
With 2 that holds too, and 83 % instead of 75 % of the requests between two harmless prompts are found; but then 23 %
instead of 13 % of harmless lists of 24 tricky prompts are flagged."""

MIN_CHARS_PER_TOKEN = 2.4
"""Fewer letters a token than this, and a view is noise (a harmless text backwards, a cipher undone that never was
there). On 341 training prompts and their views, noise has at most 2.33 and what can be read at least 2.62, for 95 %."""

ENGLISH_CHARS_PER_TOKEN = 3.0
"""Fewer than this, and the text is most likely not English, which this tokenizer cuts to pieces. Measured on the
harmless training prompts: 4 % of the English ones are below it, and 94 % of those in eleven other languages."""

NOT_ENGLISH = "not_english"
"""The reason in a verdict on a text that is most likely not English: its low scores are no evidence."""

MAX_WORK = 24_576
"""Most tokens of all passages of a request, about ten seconds of one core. English that fills a channel has some 7,000
in its readable views. More is not cut off but not judged at all, which never is an allow."""

_BATCH_TOKENS = 512

# A run of the model costs about as much as this many tokens, so more are not spent on filling up shorter passages.
_FILLING = 16
_CLAUSE_ENDS = re.compile(r"[.,;:!?|()\[\]{}\"\n\u3001\u3002\uff0c\uff1b]+")
_NEGATIVE = "negative_prompt"


class Embedder(Protocol):
    """What the screen needs of a text model; ``backends.minilm.MiniLM`` is one."""

    def tokens(self, text: str) -> Tokens:
        """Return all of a text's tokens."""
        ...

    def vectors(self, passages: Sequence[Tokens]) -> NDArray[np.float32]:
        """Return one vector a passage, shape ``(len(passages), 384)``."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """Linear logits: one row a category, and a last row for "any of them".

    Args:
        categories: The names of the rows but the last.
        weights: Shape ``(len(categories) + 1, 384)``.
        biases: Shape ``(len(categories) + 1,)``.
        digest: The first 8 hexadecimal digits of the file's sha256.
    """

    categories: tuple[str, ...]
    weights: NDArray[np.float32]
    biases: NDArray[np.float32]
    digest: str

    @classmethod
    def shipped(cls) -> Head:
        """Return the head that ships with Safelight."""
        return cls.parse((resources.files(__package__) / "minilm_head.json").read_bytes())

    @classmethod
    def parse(cls, content: bytes) -> Head:
        """Read a head file.

        Raises:
            ConfigError: If it is no head for the two pinned files.
        """
        try:
            data = json.loads(content)
            pins = data["model_sha256"], data["tokenizer_sha256"]
            categories = tuple(map(str, data["categories"]))
            weights = np.array(data["weights"], dtype=np.float32)
            biases = np.array(data["biases"], dtype=np.float32)
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigError("minilm_head.json: not a head file; train it again") from error
        rows = len(categories) + 1
        if pins != (MODEL_SHA256, TOKENIZER_SHA256):
            raise ConfigError("minilm_head.json: trained for another embedding model; train it again")
        if rows < 2 or weights.shape != (rows, DIMENSIONS) or biases.shape != (rows,):
            raise ConfigError("minilm_head.json: its weights do not fit its categories")
        if not (np.isfinite(weights).all() and np.isfinite(biases).all()):
            raise ConfigError("minilm_head.json: holds numbers that are not finite")
        return cls(categories, weights, biases, hashlib.sha256(content).hexdigest()[:8])

    def scores(self, vectors: NDArray[np.float32], shifts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scores in 0..1, shape ``(len(vectors), len(categories))``.

        A row's highest score says how sure the head is that the passage is a request of any category: the mean of that
        category's logit and of the logit of "any", which was trained on all of them. The other categories get the part
        of it that their own probability is of the highest one, so one finding is not reported under every name.

        Args:
            vectors: Shape ``(n, 384)``.
            shifts: Shape ``(n,)``; taken off the logits.
        """
        logits = np.clip(vectors @ self.weights.T + self.biases, -30, 30)
        own, any_of_them = logits[:, :-1], logits[:, -1:]
        sure = _sigmoid((own + any_of_them) / 2 - shifts[:, None])
        share = _sigmoid(own)
        scores: NDArray[np.float32] = sure * share / share.max(axis=1, keepdims=True)
        return scores


class MiniLMHeadScreen:
    """Scores a prompt in every category of the head: the highest score of any passage of any view of any channel.

    Args:
        name: How the screen signs its verdicts.
        threads: Threads of one inference.
        embedder: Another runtime of the same model; whoever passes it vouches for it.
        head: A head of one's own, trained for the same model.

    Raises:
        MissingExtra: If onnxruntime, tokenizers or a package with the model's files is not installed.
        ConfigError: If one of the files is not the one that was measured.
    """

    def __init__(
        self,
        *,
        name: str = "minilm_head",
        threads: int = 1,
        embedder: Embedder | None = None,
        head: Head | None = None,
    ) -> None:
        self.name = name
        self._head = head or Head.shipped()
        self._embedder = embedder or MiniLM(threads=threads, needed_by=type(self).__name__)
        self.model = f"minilm-l6-int8+head-{self._head.digest}"

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        """Judge what the request asks to show. The history is not read.

        The verdict's reason is ``NOT_ENGLISH`` where the text most likely is not: then only high scores mean anything.

        Raises:
            ValueError: If the model's answer is no array of finite numbers.
        """
        passages, english = await asyncio.to_thread(self._passages, request)
        if passages is None:
            return Verdict(
                screen=self.name,
                stage=Stage.PROMPT,
                outcome=Outcome.OVER_BUDGET,
                reason=f"more than {MAX_WORK} tokens in all views",
                model=self.model,
            )
        best = np.zeros(len(self._head.categories), dtype=np.float32)
        # One batch at a time: others get their turn, and a deadline ends the work and not only the waiting.
        for batch in _batches(passages):
            best = np.maximum(best, await asyncio.to_thread(self._scores, batch))
        scores = {category: float(score) for category, score in zip(self._head.categories, best, strict=True)}
        reason = "" if english else NOT_ENGLISH
        return Verdict(screen=self.name, stage=Stage.PROMPT, scores=scores, reason=reason, model=self.model)

    def _passages(self, request: GenerationRequest) -> tuple[Mapping[Tokens, float] | None, bool]:
        """Return each distinct passage with its shift, and whether every channel is most likely English.

        None stands for the passages where there are more than the screen can read.
        """
        found: dict[Tokens, float] = {}
        work = 0
        english = True
        for views in _channels(request):
            texts = self._worth_reading(views)
            english = english and _density(*texts[0]) >= ENGLISH_CHARS_PER_TOKEN
            for text, tokens in texts:
                for passage, shift in self._parts(text, tokens, windows=text == texts[0][0]):
                    if passage not in found:
                        work += len(passage)
                    found[passage] = min(shift, found.get(passage, shift))
                if work > MAX_WORK:
                    return None, english
        return found, english

    def _parts(self, text: str, tokens: Tokens, *, windows: bool) -> Iterator[tuple[Tokens, float]]:
        """Yield a text's passages with their shifts: its windows and its clauses.

        Without ``windows``, a text of several windows is read by clauses alone, where it has them: in a view of a long
        text its windows would be the text's own again, moved by a few tokens.
        """
        clauses = [clause for clause in _CLAUSE_ENDS.split(text) if clause.strip()]
        if windows or len(tokens) <= WINDOW or len(clauses) < 2:
            yield from ((window, 0.0) for window in _windows(tokens))
        for clause in clauses:
            yield from ((window, CLAUSE_SHIFT) for window in _windows(self._embedder.tokens(clause)))

    def _worth_reading(self, views: Sequence[View]) -> list[tuple[str, Tokens]]:
        """Return the text as it is, and after it each view that can be read and undoes something, with their tokens.

        A disguise that the normaliser has found is undone for certain. A blind reading counts where it is better
        English than the text itself: that is how a text looks that was written backwards or in leetspeak.
        """
        typed, *others = ((view, self._embedder.tokens(view.text)) for view in views)
        limit = _density(typed[0].text, typed[1])
        worth = [typed]
        for view, tokens in others:
            density = _density(view.text, tokens)
            if density >= MIN_CHARS_PER_TOKEN and (view.evident or view.kind == "folded" or density > limit):
                worth.append((view, tokens))
        return [(view.text, tokens) for view, tokens in worth]

    def _scores(self, batch: Sequence[tuple[Tokens, float]]) -> NDArray[np.float32]:
        vectors = self._embedder.vectors([passage for passage, _ in batch])
        shifts = np.array([shift for _, shift in batch], dtype=np.float32)
        highest: NDArray[np.float32] = self._head.scores(vectors, shifts).max(axis=0)
        return highest


def _channels(request: GenerationRequest) -> Iterator[Sequence[View]]:
    """Yield the views of each channel that says what to show, and those channels' texts as one."""
    turned = request.guidance_scale is not None and request.guidance_scale < 1
    shown = [name for name in request.texts if turned or not name.startswith(_NEGATIVE)]
    for name in shown:
        yield request.views[name]
    if len(shown) > 1:
        # One request may be told in two channels.
        yield (View("raw", " ".join(request.texts[name] for name in shown)),)


def _density(text: str, tokens: Tokens) -> float:
    """Return letters a token; infinite where there is no token."""
    return len("".join(text.split())) / len(tokens) if tokens else inf


def _windows(tokens: Tokens) -> Iterator[Tokens]:
    """Yield the passage itself, or windows that overlap and together hold every token of it."""
    if not tokens:
        return
    for start in range(0, max(len(tokens) - WINDOW, 0), STRIDE):
        yield tokens[start : start + WINDOW]
    yield tokens[-WINDOW:]


def _batches(passages: Mapping[Tokens, float]) -> Iterator[list[tuple[Tokens, float]]]:
    """Yield the passages in groups of like length, so that little is spent on filling up the shorter ones."""
    batch: list[tuple[Tokens, float]] = []
    for passage, shift in sorted(passages.items(), key=lambda item: len(item[0])):
        filling = sum(len(passage) - len(shorter) for shorter, _ in batch)
        if batch and (filling > _FILLING or (len(batch) + 1) * len(passage) > _BATCH_TOKENS):
            yield batch
            batch = []
        batch.append((passage, shift))
    if batch:
        yield batch


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    probabilities: NDArray[np.float32] = np.reciprocal(1 + np.exp(-logits))
    return probabilities
