"""The embedded model for tests in which it matters what a picture shows; it takes half a second a picture."""

from __future__ import annotations

from copy import deepcopy
from functools import cache
from typing import Any

import torch

from safelight.generators import embedded
from safelight.generators.embedded_files import FOLDER

DRAWN: dict[str, Any] = {
    "height": embedded.NATIVE_SIDE,
    "width": embedded.NATIVE_SIDE,
    "num_inference_steps": embedded.STEPS,
    "guidance_scale": embedded.GUIDANCE,
}
"""How the model is called as its generator calls it."""


def trained_sdxl() -> Any:
    """Return a pipeline of its own on one thread, without a progress bar."""
    torch.set_num_threads(1)
    return deepcopy(_loaded())


def trained_tokenizer() -> Any:
    """Return a new CLIP tokenizer whose tokens are words and pieces of words."""
    from transformers import CLIPTokenizer

    return CLIPTokenizer.from_pretrained(FOLDER / "tokenizer", local_files_only=True)


@cache
def _loaded() -> Any:
    pipe = embedded.load()
    pipe.set_progress_bar_config(disable=True)
    return pipe
