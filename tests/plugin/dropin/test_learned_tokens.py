from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from tokenizers import AddedToken
from transformers import ByT5Tokenizer

import tiny_parts as parts
from safelight.dropin.learned_tokens import learned_tokens, used_tokens
from trained_sdxl import trained_tokenizer

LEARNED: list[Any] = [
    "<shard>",
    "<Shard>_1",
    "Zap",
    "zip zap",
    "ab",
    AddedToken("<left>", lstrip=True),
    AddedToken("lone", single_word=True),
    AddedToken("<Exact>", normalized=False),
]
PIECES = ["<shard>", "<SHARD>", "<Shard>_1", "_1", "zap", "ZAP", "zip  zap", "zip\nzap", "ab", "ＡＢ", "lone", "lonely"]
PIECES += ["<left>", "<exact>", "<Exact>", "<|endoftext|>", "</s>", " ", "é", "e\u0301", "İ", ""]


def _with_learned(tokenizer: Any) -> Any:
    tokenizer.add_tokens(LEARNED)
    return tokenizer


TOKENIZERS = {
    "clip": _with_learned(trained_tokenizer()),
    "t5": _with_learned(parts.t5_tokenizer()),
    "python": _with_learned(ByT5Tokenizer()),
}


@pytest.mark.parametrize("kind", TOKENIZERS)
@given(text=st.one_of(st.text(), st.lists(st.sampled_from(PIECES), max_size=8).map("".join)))
def test_a_text_uses_the_tokens_that_the_tokenizer_itself_finds_in_it(kind: str, text: str) -> None:
    tokenizer = TOKENIZERS[kind]
    learned = learned_tokens(tokenizer)
    numbers = tokenizer.encode(text, add_special_tokens=False)
    assert used_tokens(tokenizer, [text]) == tuple(
        dict.fromkeys(learned[number] for number in numbers if number in learned)
    )


def test_a_token_is_found_in_another_case_and_in_any_of_the_texts() -> None:
    assert used_tokens(TOKENIZERS["clip"], ["tea", "a ZAP", "an <exact> <Exact>"]) == ("Zap", "<Exact>")


def test_reading_leaves_the_shared_tokenizer_as_it_is() -> None:
    tokenizer = _with_learned(trained_tokenizer())
    # As in the middle of another thread's call.
    tokenizer.backend_tokenizer.enable_truncation(3)
    tokenizer.backend_tokenizer.enable_padding(length=9)
    before = tokenizer.backend_tokenizer.to_str()
    assert used_tokens(tokenizer, ["one two three four five <shard>"]) == ("<shard>",)
    assert tokenizer.backend_tokenizer.to_str() == before


def test_what_has_no_learned_tokens_is_not_read() -> None:
    assert used_tokens(trained_tokenizer(), ["<shard>"]) == ()
    assert used_tokens(None, ["<shard>"]) == ()
