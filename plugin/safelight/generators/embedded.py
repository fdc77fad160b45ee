"""The sample model: a true Stable Diffusion XL pipeline that needs no download, and whose pictures are abstract noise.

It is there so that everything else can be tried: installed, called through the API, screened, refused. Its weights are
random (see ``tiny_sdxl``). It is built once, kept as files in a cache folder, and loaded from there like any model.
"""

from __future__ import annotations

import contextlib
import os
import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

from PIL import Image

from ..errors import ConfigError, MissingExtra
from ..request import GenerationRequest
from . import Progress
from .running import PipelineRunner

VERSION = 1
"""Goes up with every change to what is built, so that nobody loads an older build from the cache."""

STEPS = 8
DEFAULT_SIDE = 512
NATIVE_SIDE = 256
"""Longest side that the model itself makes, in pixels: half a second on one core. More is enlarged from that."""


class EmbeddedGenerator:
    """Makes abstract noise with a small, untrained SDXL pipeline on the CPU.

    Args:
        cache_dir: Where the model is kept; by default ``safelight`` in the user's cache folder, which is
            ``XDG_CACHE_HOME`` or ``~/.cache``.
        threads: CPU threads that torch uses, in the whole process.

    Raises:
        ConfigError: If the folder cannot be written, or ``threads`` is below 1.
        MissingExtra: If torch, diffusers or transformers is not installed.
    """

    name = "safelight-embedded-sdxl"
    note = (
        "This is the embedded sample model: its weights are untrained, so its pictures are abstract noise; "
        'for real pictures set [generator] use = "diffusers" and a model in safelight.toml.'
    )

    def __init__(self, *, cache_dir: str | None = None, threads: int = 1) -> None:
        if threads < 1:
            raise ConfigError(f"generator.threads: must be at least 1, not {threads}")
        folder = Path(cache_dir) if cache_dir else _cache_folder()
        with _quiet_libraries():
            pipe = _load(folder)
        self._threads = threads
        self._runner = PipelineRunner(pipe, steps=STEPS)

    def generate(self, request: GenerationRequest, progress: Progress) -> Sequence[Image.Image]:
        """Return ``request.n`` RGB pictures of exactly the asked size, 512 x 512 where none is asked.

        They are made with at most 256 pixels on the longer side and then enlarged: noise has no detail to lose.

        Raises:
            InvalidRequest: If the request sets a text that SDXL does not read; the message names it.
            GenerationFailed: If no proper picture came out.
        """
        import torch

        # Here and not at the start, because torch keeps the number by thread.
        torch.set_num_threads(self._threads)
        width, height = request.width or DEFAULT_SIDE, request.height or DEFAULT_SIDE
        scale = min(1.0, NATIVE_SIDE / max(width, height))
        made = self._runner.generate(
            replace(request, width=_native(width * scale), height=_native(height * scale)), progress
        )
        return [picture.resize((width, height), Image.Resampling.BICUBIC) for picture in made]


def _native(side: float) -> int:
    # Whole latents of 8 pixels, and no fewer than 8 of them, or every norm would average over next to nothing.
    return max(64, 8 * round(side / 8))


def _cache_folder() -> Path:
    # The convention of the desktop, not a setting of Safelight's; where it is relative, it must be ignored.
    named = os.environ.get("XDG_CACHE_HOME", "")
    base = Path(named) if os.path.isabs(named) else Path.home() / ".cache"
    return base / "safelight"


def _load(parent: Path) -> Any:
    try:
        from diffusers import StableDiffusionXLPipeline
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "diffusers", "embedded", needed_by="the embedded model") from error
    folder = parent / f"embedded-sdxl-{VERSION}"
    try:
        if not folder.is_dir():
            _build_into(folder)
        return StableDiffusionXLPipeline.from_pretrained(
            folder, use_safetensors=True, local_files_only=True, add_watermarker=False
        )
    except (OSError, ValueError) as error:
        raise ConfigError(
            f"generator.cache_dir: cannot keep or load the embedded model in {folder} ({error}); "
            "delete that folder, or name another one that can be written"
        ) from error


def _build_into(folder: Path) -> None:
    """Build the model beside ``folder`` and rename it, so that nobody ever sees half of it."""
    from .tiny_sdxl import build

    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as scratch:
        built = Path(scratch) / folder.name
        build().save_pretrained(built, safe_serialization=True)
        try:
            os.replace(built, folder)
        except OSError:
            # Another process was quicker, and its build is the same.
            if not folder.is_dir():
                raise


@contextlib.contextmanager
def _quiet_libraries() -> Iterator[None]:
    """Silence the progress bars and advice that the libraries print while they load, and put them back afterwards."""
    try:
        from diffusers.utils import logging as diffusers_logging
        from transformers.utils import logging as transformers_logging
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "diffusers", "embedded", needed_by="the embedded model") from error
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
