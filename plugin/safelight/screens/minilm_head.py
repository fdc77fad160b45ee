"""A quick local opinion on a prompt: MiniLM vectors and a small trained head that knows the policy's categories.

The head (``minilm_head.json``) was trained by ``examples/train_minilm_head.py`` on short, tame prompts that were
written for it; ``python examples/train_minilm_head.py --check`` prints what it does on prompts it was not trained on.

What is covered: requests that name their matter plainly, in English, for every shipped category but one, in every view
of every channel that says what to show. A long text is read whole: in overlapping windows, and clause by clause, so
that a request is not lost among harmless words; not every one is found there.
What is not covered: ``sexual/minors``, for which nothing was written and no score is given. Negative prompts
(``negative_prompt``, ``negative_prompt_2`` and further ones): they list what to avoid, and the head cannot tell that
from asking for it, so it does not read them, unless a guidance below 1 turns them into a request. History. Other
languages, euphemism, slang, names, and how people really word such prompts: the training prompts are tame, so the
recall on real ones is unknown. Speaking against a harm ("stop hate speech") looks to it much like the harm.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib import resources
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

STRIDE = 32
"""Tokens from one window to the next; half a window, so that no short request is cut by every border."""

CLAUSE_SHIFT = 3.0
"""By how many logits a clause alone must be surer than a window. 0, 1, 2 and 3 were tried by cross-validation on the
training prompts: with 3, single harmless prompts were flagged no more often than without any clauses."""

MIN_CHARS_PER_TOKEN = 2.4
"""Fewer letters a token than this, and a view is noise (a harmless text backwards, a cipher undone that never was
there). Measured on 341 training prompts and their views: noise has 2.33 or fewer, readable views 2.62 or more, each at
the 5 % that come closest."""

MAX_WORK = 24_576
"""Most tokens of all passages of a request, about ten seconds of one core. English that fills a channel has some 7,000
in its readable views. More is not cut off but not judged at all, which never is an allow."""

_BATCH_TOKENS = 512
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

        Raises:
            ValueError: If the model's answer is no array of finite numbers.
        """
        passages = await asyncio.to_thread(self._passages, request)
        if passages is None:
            return Verdict(
                screen=self.name,
                stage=Stage.PROMPT,
                outcome=Outcome.OVER_BUDGET,
                reason=f"more than {MAX_WORK} tokens in all views",
                model=self.model,
            )
        best = np.zeros(len(self._head.categories), dtype=np.float32)
        # One batch at a time: others get their turn in between, and a deadline ends the work and not only the waiting.
        for batch in _batches(passages):
            best = np.maximum(best, await asyncio.to_thread(self._scores, batch))
        scores = {category: float(score) for category, score in zip(self._head.categories, best, strict=True)}
        return Verdict(screen=self.name, stage=Stage.PROMPT, scores=scores, model=self.model)

    def _passages(self, request: GenerationRequest) -> Mapping[Tokens, float] | None:
        """Return each distinct passage with its shift, or None where there are more than the screen can read."""
        found: dict[Tokens, float] = {}
        work = 0
        for view in _views(request):
            tokens = self._embedder.tokens(view.text)
            if view.kind != "raw" and not _readable(view.text, tokens):
                continue
            clauses = (self._embedder.tokens(clause) for clause in _CLAUSE_ENDS.split(view.text))
            shifted = [(window, CLAUSE_SHIFT) for clause in clauses for window in _windows(clause)]
            for passage, shift in [(window, 0.0) for window in _windows(tokens)] + shifted:
                if passage not in found:
                    work += len(passage)
                found[passage] = min(shift, found.get(passage, shift))
            if work > MAX_WORK:
                return None
        return found

    def _scores(self, batch: Sequence[tuple[Tokens, float]]) -> NDArray[np.float32]:
        vectors = self._embedder.vectors([passage for passage, _ in batch])
        shifts = np.array([shift for _, shift in batch], dtype=np.float32)
        highest: NDArray[np.float32] = self._head.scores(vectors, shifts).max(axis=0)
        return highest


def _views(request: GenerationRequest) -> Iterator[View]:
    """Yield the views of every channel that says what to show, and those channels' texts as one."""
    turned = request.guidance_scale is not None and request.guidance_scale < 1
    shown = [name for name in request.texts if turned or not name.startswith(_NEGATIVE)]
    for name in shown:
        yield from request.views[name]
    if len(shown) > 1:
        # One request may be told in two channels.
        yield View("raw", " ".join(request.texts[name] for name in shown))


def _readable(text: str, tokens: Tokens) -> bool:
    return len("".join(text.split())) >= MIN_CHARS_PER_TOKEN * len(tokens)


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
        if batch and (len(batch) + 1) * len(passage) > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append((passage, shift))
    if batch:
        yield batch


def _sigmoid(logits: NDArray[np.float32]) -> NDArray[np.float32]:
    probabilities: NDArray[np.float32] = np.reciprocal(1 + np.exp(-logits))
    return probabilities
