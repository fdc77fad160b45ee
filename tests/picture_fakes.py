"""What the tests of the classifiers share: a scripted ONNX session, a request, and awkward pictures."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from safelight.request import GenerationRequest, Principal

FIXTURES = Path(__file__).parent / "fixtures"

AWKWARD_SIZES = ((1, 1), (1, 3), (3, 2), (17, 4096), (4096, 1), (1, 4096), (4096, 4096))
"""Width and height in pixels: tiny, extreme shapes, and the largest side that a request may ask for."""

MODES = ("1", "L", "P", "RGBA", "CMYK", "LA")


class ScriptedSession:
    """Answers like an onnxruntime session, with what a function makes of the batch, and remembers the batches."""

    def __init__(self, answer: Callable[[NDArray[np.float32]], NDArray[np.float32]]) -> None:
        self.batches: list[NDArray[np.float32]] = []
        self._answer = answer

    def run(self, outputs: Sequence[str], feeds: Mapping[str, Any]) -> list[NDArray[np.float32]]:
        """Answer for the one input of the feeds."""
        (batch,) = feeds.values()
        self.batches.append(batch)
        return [self._answer(batch)]


def a_request() -> GenerationRequest:
    """Return a request that no image classifier reads."""
    return GenerationRequest(prompt="a cup of coffee", principal=Principal(id="tester"))


def fixture(name: str) -> Image.Image:
    """Return a picture of ``tests/fixtures``."""
    with Image.open(FIXTURES / name) as picture:
        return picture.convert("RGB")


def noise(width: int, height: int, *, seed: int = 0) -> Image.Image:
    """Return an RGB picture of random pixels."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), dtype=np.uint8)
    return Image.fromarray(pixels)
