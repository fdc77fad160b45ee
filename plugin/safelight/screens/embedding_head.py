"""What screens share that judge a prompt by sentence vectors and a small trained head: passages in, scores out.

A text is read whole, in windows that overlap, and clause by clause, so that a request is not lost among harmless words;
as typed, and in each view that undoes a disguise which is there. What the embedding model makes of a text decides
which views can be read, so a screen says that itself (``HeadScreen._can_read``).
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
from itertools import chain
from typing import ClassVar, Protocol, Self

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError
from ..normalise import View, views
from ..request import GenerationRequest, Turn
from ..verdict import Outcome, Stage, Verdict
from .earlier_turns import MAX_TURNS, asked_now, pointed_at, said_earlier

WINDOW = 64
"""Tokens that are judged at a time. In longer passages one request is averaged away by what surrounds it."""

STRIDE = 48
"""Tokens from one window to the next, so that no request of ``WINDOW - STRIDE`` tokens is cut by every border. By
cross-validation on the training prompts a stride of 32 found nothing more, in prompts of any length."""

MAX_WORK = 24_576
"""Most tokens of all passages of a request. English that fills a channel has some 7,000 in its readable views. More is
not cut off but not judged at all, which never is an allow."""

_CLAUSE_ENDS = re.compile(r"[.,;:!?|()\[\]{}\"\n\u3001\u3002\uff0c\uff1b]+")
_NEGATIVE = "negative_prompt"

Tokens = tuple[int, ...]
Batch = Sequence[tuple[Tokens, float]]


class Embedder(Protocol):
    """What a screen needs of a text model."""

    def tokens(self, text: str) -> Tokens:
        """Return all of a text's tokens."""
        ...

    def vectors(self, passages: Sequence[Tokens]) -> NDArray[np.float32]:
        """Return one vector a passage, shape ``(len(passages), dimensions)``."""
        ...


@dataclass(frozen=True, slots=True)
class Head:
    """Linear logits: one row a category, and a last row for "any of them".

    Args:
        categories: The names of the rows but the last.
        weights: Shape ``(len(categories) + 1, dimensions)``.
        biases: Shape ``(len(categories) + 1,)``.
        digest: The first 8 hexadecimal digits of the file's sha256.
    """

    FILE: ClassVar[str]
    """The file that ships, beside this module."""

    PINS: ClassVar[tuple[str, str]]
    """The sha256 of the embedding model and of its tokenizer."""

    DIMENSIONS: ClassVar[int]

    categories: tuple[str, ...]
    weights: NDArray[np.float32]
    biases: NDArray[np.float32]
    digest: str

    @classmethod
    def shipped(cls) -> Self:
        """Return the head that ships with Safelight."""
        return cls.parse((resources.files(__package__) / cls.FILE).read_bytes())

    @classmethod
    def parse(cls, content: bytes) -> Self:
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
            raise ConfigError(f"{cls.FILE}: not a head file; train it again") from error
        rows = len(categories) + 1
        if pins != cls.PINS:
            raise ConfigError(f"{cls.FILE}: trained for another embedding model; train it again")
        if rows < 2 or weights.shape != (rows, cls.DIMENSIONS) or biases.shape != (rows,):
            raise ConfigError(f"{cls.FILE}: its weights do not fit its categories")
        if not (np.isfinite(weights).all() and np.isfinite(biases).all()):
            raise ConfigError(f"{cls.FILE}: holds numbers that are not finite")
        return cls(categories, weights, biases, hashlib.sha256(content).hexdigest()[:8])

    def scores(self, vectors: NDArray[np.float32], shifts: NDArray[np.float32]) -> NDArray[np.float32]:
        """Return scores in 0..1, shape ``(len(vectors), len(categories))``.

        A row's highest score says how sure the head is that the passage is a request of any category: the mean of that
        category's logit and of the logit of "any", which was trained on all of them. The other categories get the part
        of it that their own probability is of the highest one, so one finding is not reported under every name.

        Args:
            vectors: Shape ``(n, dimensions)``.
            shifts: Shape ``(n,)``; taken off the logits.
        """
        logits = np.clip(vectors @ self.weights.T + self.biases, -30, 30)
        own, any_of_them = logits[:, :-1], logits[:, -1:]
        sure = _sigmoid((own + any_of_them) / 2 - shifts[:, None])
        share = _sigmoid(own)
        scores: NDArray[np.float32] = sure * share / share.max(axis=1, keepdims=True)
        return scores


class HeadScreen:
    """Scores a prompt in every category of the head: the highest score of any passage of any view of any channel.

    Subclasses say how their model reads: ``_can_read``, ``_remark``, ``_batches``, and ``_tokens`` where the model is
    to be shown something else than the text.

    Args:
        name: How the screen signs its verdicts.
        model: How verdicts name the embedding model.
        embedder: The model.
        head: The head that was trained for it.
        clause_shift: By how many logits a clause alone must be surer than a window.
        turns: How many of a person's newest turns a prompt that points back is read together with; 0 for none.

    Raises:
        ConfigError: If ``turns`` is out of range.
    """

    def __init__(
        self, *, name: str, model: str, embedder: Embedder, head: Head, clause_shift: float, turns: int = 0
    ) -> None:
        if not 0 <= turns <= MAX_TURNS:
            raise ConfigError(f"{name}.turns: must be from 0 to {MAX_TURNS}, not {turns}")
        self.name = name
        self._turns = turns
        self.model = f"{model}+head-{head.digest}"
        self._embedder = embedder
        self._head = head
        self._clause_shift = clause_shift

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        """Judge what the request asks to show; where it points back to earlier turns, together with these.

        The verdict has a reason where the text is none that the model knows: then only high scores mean anything.

        Raises:
            ValueError: If the model's answer is no array of finite numbers.
        """
        earlier = said_earlier(history, self._turns, prompts=asked_now(request))
        passages, remark = await asyncio.to_thread(self._passages, request, earlier)
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
        for batch in self._batches(passages):
            best = np.maximum(best, await asyncio.to_thread(self._scores, batch))
        scores = {category: float(score) for category, score in zip(self._head.categories, best, strict=True)}
        return Verdict(screen=self.name, stage=Stage.PROMPT, scores=scores, reason=remark, model=self.model)

    def _can_read(self, view: View, tokens: Tokens, typed: Tokens, *, of: str) -> bool:
        """Return whether a view says something to the model, and more than ``of``, the text as typed, does."""
        raise NotImplementedError

    def _remark(self, text: str, tokens: Tokens) -> str:
        """Return why the low scores of a text as typed are no evidence, as a short code, or nothing."""
        raise NotImplementedError

    def _batches(self, passages: Mapping[Tokens, float]) -> Iterator[Batch]:
        """Yield the passages in groups that the model takes at a time."""
        raise NotImplementedError

    def _tokens(self, text: str) -> Tokens:
        """Return the tokens that the model is shown for a text."""
        return self._embedder.tokens(text)

    def _passages(
        self, request: GenerationRequest, earlier: Sequence[str] = ()
    ) -> tuple[Mapping[Tokens, float] | None, str]:
        """Return each distinct passage with its shift, and the first channel's remark that has one.

        Each prompt that points back to turns of ``earlier``, oldest first, is read with them too.

        None stands for the passages where there are more than the screen can read.
        """
        meant = filter(None, (pointed_at(prompt, earlier) for prompt in asked_now(request)))
        found: dict[Tokens, float] = {}
        work = 0
        remark = ""
        for found_in in chain(_channels(request), map(views, meant)):
            texts = self._worth_reading(found_in)
            remark = remark or self._remark(*texts[0])
            for text, tokens in texts:
                for passage, shift in self._parts(text, tokens, windows=text == texts[0][0]):
                    if passage not in found:
                        work += len(passage)
                    found[passage] = min(shift, found.get(passage, shift))
                if work > MAX_WORK:
                    return None, remark
        return found, remark

    def _parts(self, text: str, tokens: Tokens, *, windows: bool) -> Iterator[tuple[Tokens, float]]:
        """Yield a text's passages with their shifts: its windows and its clauses.

        Without ``windows``, a text of several windows is read by clauses alone, where it has them: in a view of a long
        text its windows would be the text's own again, moved by a few tokens.
        """
        parts = clauses(text)
        if windows or len(tokens) <= WINDOW or len(parts) < 2:
            yield from ((window, 0.0) for window in _windows(tokens))
        for clause in parts:
            yield from ((window, self._clause_shift) for window in _windows(self._tokens(clause)))

    def _worth_reading(self, views: Sequence[View]) -> list[tuple[str, Tokens]]:
        """Return the text as it is, and after it each view that can be read and undoes something, with their tokens."""
        raw, *others = views
        typed = self._tokens(raw.text)
        worth = [(raw.text, typed)]
        for view in others:
            tokens = self._tokens(view.text)
            if self._can_read(view, tokens, typed, of=raw.text):
                worth.append((view.text, tokens))
        return worth

    def _scores(self, batch: Batch) -> NDArray[np.float32]:
        vectors = self._embedder.vectors([passage for passage, _ in batch])
        shifts = np.array([shift for _, shift in batch], dtype=np.float32)
        highest: NDArray[np.float32] = self._head.scores(vectors, shifts).max(axis=0)
        return highest


def clauses(text: str) -> list[str]:
    """Return the parts of a text between its punctuation marks that hold more than white space."""
    return [clause for clause in _CLAUSE_ENDS.split(text) if clause.strip()]


def _channels(request: GenerationRequest) -> Iterator[Sequence[View]]:
    """Yield the views of each channel that says what to show, and those channels' texts as one."""
    turned = request.guidance_scale is not None and request.guidance_scale < 1
    shown = [name for name in request.texts if turned or not name.startswith(_NEGATIVE)]
    for name in shown:
        yield request.views[name]
    if len(shown) > 1:
        # One request may be told in two channels.
        yield (View("raw", " ".join(request.texts[name] for name in shown)),)


def _windows(tokens: Tokens) -> Iterator[Tokens]:
    """Yield the passage itself, or windows that overlap and together hold every token of it."""
    if not tokens:
        return
    for start in range(0, max(len(tokens) - WINDOW, 0), STRIDE):
        yield tokens[start : start + WINDOW]
    yield tokens[-WINDOW:]


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    probabilities: NDArray[np.float32] = np.reciprocal(1 + np.exp(-logits))
    return probabilities
