"""Learned tokens (textual inversion): which of them a tokenizer has, and which of them a text uses.

The pipeline's own tokenizer is only asked for what it holds. Having it read a text would switch its padding and its
truncation, in the middle of another thread's call.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any


def learned_tokens(tokenizer: Any) -> dict[int, str]:
    """Return the tokens beyond a tokenizer's base vocabulary, by number. What is no tokenizer has none."""
    if not hasattr(tokenizer, "added_tokens_decoder"):
        return {}
    own = set(map(str, tokenizer.special_tokens_map.values()))
    learned = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}
    return {number: token for number, token in learned.items() if token not in own}


def used_tokens(tokenizer: Any, texts: Iterable[str]) -> tuple[str, ...]:
    """Return the learned tokens that texts use, as they were added, each once."""
    learned = learned_tokens(tokenizer)
    if not learned:
        return ()
    if getattr(tokenizer, "backend_tokenizer", None) is None:
        # One that is written in Python keeps nothing between two texts.
        found = [learned.get(number) for text in texts for number in tokenizer.encode(text, add_special_tokens=False)]
    else:
        found = [token for token in _read(tokenizer, texts) if token in learned.values()]
    return tuple(dict.fromkeys(token for token in found if token is not None))


def _read(tokenizer: Any, texts: Iterable[str]) -> Iterator[str]:
    """Yield the added tokens in texts.

    A tokenizer takes them out of the text, as its normalizer leaves it, before it looks at its vocabulary. So one
    without a vocabulary finds the same ones, and is made in 0.1 ms.
    """
    from tokenizers import Tokenizer
    from tokenizers.models import WordLevel

    reader = Tokenizer(WordLevel({"": 0}, unk_token=""))
    normalizer = tokenizer.backend_tokenizer.normalizer
    if normalizer is not None:
        reader.normalizer = normalizer
    for token in tokenizer.added_tokens_decoder.values():
        add = reader.add_special_tokens if token.special else reader.add_tokens
        add([token])
    # By number: a token may be written in another case than it was added in.
    added = {number: token.content for number, token in reader.get_added_tokens_decoder().items()}
    for text in texts:
        for number in reader.encode(text, add_special_tokens=False).ids:
            if number in added:
                yield added[number]
