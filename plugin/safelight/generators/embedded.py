"""The sample model: a true Stable Diffusion XL pipeline that needs no download, and draws a small world of things.

It is there so that everything else can be tried on pictures that mean something: installed, called through the API,
screened, refused. It was trained for this on simple drawings (see the model card in ``embedded_sdxl``), knows the words
of ``embedded_words`` and their synonyms, and answers any other word with an empty scene.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image

from ..errors import ConfigError, MissingExtra
from ..request import GenerationRequest
from . import Progress
from .embedded_files import FOLDER, check_files
from .embedded_words import COLOURS, EXAMPLES, KNOWS, PLACES, THINGS
from .running import PipelineRunner

STEPS = 20
GUIDANCE = 3.0
DEFAULT_SIDE = 512
NATIVE_SIDE = 64
"""Side of the pictures that the model learned, in pixels."""
MARGIN = 6
"""Of those, how many at an edge are surroundings and hardly ever a part of the thing."""


class EmbeddedGenerator:
    """Draws simple pictures with a small SDXL pipeline on the CPU, in about half a second each.

    Args:
        threads: CPU threads that torch uses, in the whole process.

    Raises:
        ConfigError: If a file of the model is not as it was shipped, or ``threads`` is below 1.
        MissingExtra: If torch, diffusers or transformers is not installed.
    """

    name = "safelight-embedded-sdxl"
    note = (
        f"This is the embedded sample model: it draws simple pictures of {len(THINGS)} things in {len(COLOURS)} "
        f"colours and {len(PLACES)} places, and an empty scene for words that it does not know; "
        'for real pictures set [generator] use = "diffusers" and a model in safelight.toml.'
    )
    examples = EXAMPLES
    knows = KNOWS

    def __init__(self, *, threads: int = 1) -> None:
        if threads < 1:
            raise ConfigError(f"generator.threads: must be at least 1, not {threads}")
        self._threads = threads
        self._runner = PipelineRunner(load(), steps=STEPS)

    def generate(self, request: GenerationRequest, progress: Progress) -> Sequence[Image.Image]:
        """Return ``request.n`` RGB pictures of exactly the asked size, 512 x 512 where none is asked.

        They are drawn with 64 x 64 pixels and then enlarged; see :func:`enlarged` for what is not square.

        Raises:
            InvalidRequest: If the request sets a text that SDXL does not read; the message names it.
            GenerationFailed: If no proper picture came out.
        """
        import torch

        # Here and not at the start, because torch keeps the number by thread.
        torch.set_num_threads(self._threads)
        guidance = GUIDANCE if request.guidance_scale is None else request.guidance_scale
        size = request.width or DEFAULT_SIDE, request.height or DEFAULT_SIDE
        own = replace(request, width=NATIVE_SIDE, height=NATIVE_SIDE, guidance_scale=guidance)
        return [enlarged(picture, size) for picture in self._runner.generate(own, progress)]


def enlarged(picture: Image.Image, size: tuple[int, int]) -> Image.Image:
    """Return a square drawing at any size: whole and in the middle, its surroundings going on where there is more room.

    Bicubic keeps outlines crisp without a halo around them. The scenes are level bands, so what goes on is more table,
    sky or sea. Asked for a longer picture, the model itself would draw two things or a stretched one.

    Args:
        picture: The square drawing.
        size: Width and height wanted, in pixels, from 1 x 1 up.
    """
    width, height = size
    side = min(size)
    pixels = np.asarray(picture.resize((side, side), Image.Resampling.BICUBIC), dtype=np.float32)
    if width > side:
        pixels = _gone_on(pixels, width, level=False)
    elif height > side:
        pixels = _gone_on(pixels.swapaxes(0, 1), height, level=True).swapaxes(0, 1)
    return Image.fromarray(pixels.round().astype(np.uint8))


def _gone_on(pixels: np.ndarray[Any, Any], length: int, *, level: bool) -> np.ndarray[Any, Any]:
    """Return a square [side, side, 3] as [side, length, 3], with what is at its left and right edges going on.

    The edge fades into the median of the margin, since a cloud that is cut off would become a streak; where ``level``,
    into one colour, as above and below a scene of level bands.
    """
    side = len(pixels)
    if side == 1:
        # Too little for two margins.
        return np.repeat(pixels, length, axis=1)
    margin = max(1, MARGIN * side // NATIVE_SIDE)
    over = (0, 1) if level else 1
    left = np.median(pixels[:, :margin], axis=over, keepdims=True)
    right = np.median(pixels[:, -margin:], axis=over, keepdims=True)
    own = np.linspace(0, 1, margin, dtype=np.float32)[None, :, None]
    before = (length - side) // 2
    parts = (
        np.broadcast_to(left, (side, before, 3)),
        left + (pixels[:, :margin] - left) * own,
        pixels[:, margin:-margin],
        right + (pixels[:, -margin:] - right) * own[:, ::-1],
        np.broadcast_to(right, (side, length - side - before, 3)),
    )
    return np.concatenate(parts, axis=1)


def load(folder: Path = FOLDER) -> Any:
    """Return the ``StableDiffusionXLPipeline`` itself, in float32 on the CPU, a new one each time.

    Its own pictures are of 64 x 64 pixels: ask for that size, or they are no drawings.

    Args:
        folder: The model's files.

    Raises:
        ConfigError: If a file is not as it was shipped.
        MissingExtra: If torch, diffusers or transformers is not installed.
    """
    try:
        with _quiet_libraries():
            import torch
            from diffusers import StableDiffusionXLPipeline
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "diffusers", "embedded", needed_by="the embedded model") from error
    check_files(folder)
    with _quiet_libraries():
        return StableDiffusionXLPipeline.from_pretrained(
            folder, dtype=torch.float32, use_safetensors=True, local_files_only=True, add_watermarker=False
        )


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Silence the progress bars and advice that the libraries print while they load, and put them back afterwards."""
    from diffusers.utils import logging as diffusers_logging
    from transformers.utils import logging as transformers_logging

    libraries = diffusers_logging, transformers_logging
    before = [(library.get_verbosity(), library.is_progress_bar_enabled()) for library in libraries]
    for library in libraries:
        library.set_verbosity_error()
        library.disable_progress_bar()
    try:
        yield
    finally:
        for library, (verbosity, bars) in zip(libraries, before, strict=True):
            library.set_verbosity(verbosity)
            if bars:
                library.enable_progress_bar()
