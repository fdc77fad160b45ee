"""A real Stable Diffusion XL pipeline, small enough for tests: the embedded model, built in memory."""

from __future__ import annotations

import torch
from diffusers import StableDiffusionXLPipeline

from safelight.generators.tiny_sdxl import build


def tiny_sdxl() -> StableDiffusionXLPipeline:
    """Return a new pipeline on one thread, without a progress bar. Two of them have the same weights."""
    torch.set_num_threads(1)
    pipe = build()
    pipe.set_progress_bar_config(disable=True)
    return pipe
