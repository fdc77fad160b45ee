"""The tokenizer: CLIP's, with a vocabulary of its own that is learned from the captions and from harmless prompts."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from . import workers
from .captions import any_hidden, caption, harmless_prompts
from .parts import TOKEN_LIMIT
from .pictures import any_motif

SIZE = 3_000
"""Tokens. Every common word of a caption is one; any other text is made of pieces, at worst of bytes."""


def kept_tokenizer(folder: Path, seed: int) -> Any:
    """Return the tokenizer of ``folder``, after learning it and putting it there if it is not there yet.

    Its tokens must stay what they are while a model is trained on them, whatever becomes of the captions.
    """
    from transformers import CLIPTokenizer

    place = folder / "tokenizer"
    if workers.rank() == 0 and not place.exists():
        scratch = folder / "tokenizer.part"
        tokenizer(seed).save_pretrained(scratch)
        scratch.rename(place)
    workers.wait()
    return CLIPTokenizer.from_pretrained(place, local_files_only=True)


def tokenizer(seed: int) -> Any:
    """Return a ``CLIPTokenizer`` whose last two tokens are its start and end marks.

    Its words are the same each time, but not all their numbers: pieces that are equally frequent come in any order.
    """
    import json

    from tokenizers.pre_tokenizers import ByteLevel
    from transformers import CLIPTokenizer

    letters = sorted(ByteLevel.alphabet())
    marks = ["<|startoftext|>", "<|endoftext|>"]
    bare = [*letters, *(letter + "</w>" for letter in letters), *marks]
    blank = CLIPTokenizer(vocab={token: number for number, token in enumerate(bare)}, merges=[])
    learned = blank.train_new_from_iterator(_texts(seed), vocab_size=SIZE, show_progress=False)
    merges = [tuple(pair) for pair in json.loads(learned.backend_tokenizer.to_str())["model"]["merges"]]
    # Bytes first, in both forms, so that no text is out of vocabulary; then the learned pieces; then the marks.
    pieces = [*bare[:-2], *dict.fromkeys("".join(pair) for pair in merges)]
    vocabulary = {token: number for number, token in enumerate([*dict.fromkeys(pieces), *marks])}
    return CLIPTokenizer(vocab=vocabulary, merges=merges, model_max_length=TOKEN_LIMIT)


def _texts(seed: int) -> list[str]:
    chance = random.Random(seed)
    texts = [caption(any_motif(chance), chance) for _ in range(8_000)]
    texts += [caption(any_hidden(chance), chance) for _ in range(2_000)]
    return [*texts, *harmless_prompts()]
