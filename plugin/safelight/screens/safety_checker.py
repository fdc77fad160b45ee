"""Stable Diffusion's own safety checker: CLIP, and how near a picture is to seventeen sexual concepts.

The model is diffusers' real class, but its ``forward`` is never called: that blacks pictures out in place, fails on a
list of PIL pictures, and answers only yes or no. The cosines are taken from its parts, and its rule is applied here.

What is covered: ``sexual``. A picture that is not square is looked at twice, its middle as the model's authors prepare
it and whole inside a margin, and the higher score counts.
What is not covered: violence, hate, symbols, text; something small in a large picture, a collage, or noise made against
CLIP. The model's three special-care concepts only make the other seventeen stricter, by 0.01; they say nothing on
their own, so nothing is ever scored as ``sexual/minors``.
"""

from __future__ import annotations

import asyncio
import math
import re
from collections.abc import Sequence
from pathlib import Path
from threading import Lock
from typing import TYPE_CHECKING, Any

import numpy as np
from PIL import Image

from ..errors import ConfigError, MissingExtra
from ..request import GenerationRequest, Turn
from ..verdict import Category, Stage, Verdict
from .fitting import letterboxed

if TYPE_CHECKING:
    import torch
    from numpy.typing import NDArray

MODEL = "stable-diffusion-v1-5/stable-diffusion-v1-5"
"""The checker as it comes with Stable Diffusion 1.5, in safetensors; CompVis' own repository holds a pickle."""

REVISION = "451f4fe16113bff5a5d2269ed5ad43b0592e9a14"
"""The commit of ``MODEL`` that is loaded."""

SPECIAL_CARE = 0.01
"""What a hit of a special-care concept adds to the other concepts' margins, as in diffusers."""

_SOFTNESS = 20.0
# CLIP's mean, so that the margin says nothing.
_MARGIN = (123, 117, 104)
_WIDEST = 4


class SafetyCheckerScreen:
    """Scores ``sexual``, 0..1, one verdict a picture. At 0.5 and above the checker itself would have flagged it.

    Args:
        model: A folder, or a repository of the Hugging Face hub, with weights in safetensors.
        revision: The full commit to load. Required for every repository but the default one.
        subfolder: Where the checker is in it; empty for the top.
        processor_subfolder: Where the image processor's configuration is; empty for the top.
        device: Where the model runs, as torch names it.
        name: How the screen signs its verdicts.

    Raises:
        MissingExtra: If torch, diffusers or transformers is not installed.
        ConfigError: If the model cannot be loaded completely, or its revision is not pinned.
    """

    def __init__(
        self,
        *,
        model: str = MODEL,
        revision: str | None = None,
        subfolder: str = "safety_checker",
        processor_subfolder: str = "feature_extractor",
        device: str = "cpu",
        name: str = "safety_checker",
    ) -> None:
        self.name = name
        pinned = _pinned(model, revision)
        self._processor, checker = _load(model, pinned, subfolder, processor_subfolder)
        self._checker = checker.to(device).eval()
        self._label = f"{model}@{pinned}" if pinned else model
        self._side = int(self._processor.crop_size["height"])
        self._special_limits = checker.special_care_embeds_weights.detach().cpu().float().numpy()
        self._limits = checker.concept_embeds_weights.detach().cpu().float().numpy()
        self._lock = Lock()

    async def screen_images(
        self, images: Sequence[Image.Image], request: GenerationRequest, history: Sequence[Turn]
    ) -> Sequence[Verdict]:
        """Judge the pixels alone; the request and its history are not read.

        Raises:
            ValueError: If the model's answer is no number.
        """
        return await asyncio.to_thread(self._judge, tuple(images))

    def _judge(self, images: Sequence[Image.Image]) -> list[Verdict]:
        if not images:
            return []
        views = [_views(image.convert("RGB"), self._side) for image in images]
        # A thread's lock, not asyncio's: the same screen may serve several event loops.
        with self._lock:
            pixels = self._processor([view for few in views for view in few], return_tensors="pt").pixel_values
            special, concepts = self._cosines(pixels)
        found = margins(special, self._special_limits, concepts, self._limits)
        ends = np.cumsum([len(few) for few in views])[:-1]
        return [self._verdict(graded(float(part.max()))) for part in np.split(found, ends)]

    def _cosines(self, pixels: torch.Tensor) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
        """Return cosines with the special-care concepts (n x 3) and with the concepts (n x 17)."""
        import torch
        from diffusers.pipelines.stable_diffusion.safety_checker import cosine_distance

        checker = self._checker
        with torch.inference_mode():
            embeds = checker.visual_projection(checker.vision_model(pixels.to(checker.device, checker.dtype))[1])
            special = cosine_distance(embeds, checker.special_care_embeds).cpu().float().numpy()
            concepts = cosine_distance(embeds, checker.concept_embeds).cpu().float().numpy()
        return special, concepts

    def _verdict(self, score: float) -> Verdict:
        return Verdict(screen=self.name, stage=Stage.IMAGE, scores={Category.SEXUAL: score}, model=self._label)


def margins(
    special: NDArray[np.float32],
    special_limits: NDArray[np.float32],
    concepts: NDArray[np.float32],
    limits: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Return by how much each picture's nearest concept passes its limit; above 0 the checker flags the picture.

    Args:
        special: Cosines with the special-care concepts, n x 3.
        special_limits: Their limits, 3.
        concepts: Cosines with the concepts, n x 17.
        limits: Their limits, 17.

    Returns:
        n margins, about -1..1, rounded to three places as the checker does.

    Raises:
        ValueError: If a cosine is not finite.
    """
    # A NaN compares as false, so without this check it would count as "no special care".
    if not (np.isfinite(special).all() and np.isfinite(concepts).all()):
        raise ValueError("the safety checker answered with something that is no number")
    careful = (np.round(special - special_limits, 3) > 0).any(axis=1, keepdims=True)
    raised = np.where(careful, np.float32(SPECIAL_CARE), np.float32(0))
    widest: NDArray[np.float32] = np.round(concepts - limits + raised, 3).max(axis=1)
    return widest


def graded(margin: float) -> float:
    """Return a margin as a score in 0..1 that rises with it.

    0.001, the smallest margin that the checker flags, is exactly 0.5; 0 is below it. A margin of 0.05 is 0.92.
    """
    thousandths = round(margin * 1000)
    return 1.0 / (1.0 + math.exp((1 - thousandths) / _SOFTNESS))


def _views(picture: Image.Image, side: int) -> list[Image.Image]:
    width, height = picture.size
    if width == height:
        return [picture]
    # The processor keeps the middle square only, but would first blow a strip of 4096 x 1 up to a gigabyte.
    longest = _WIDEST * min(width, height)
    left, top = max(0, width - longest) // 2, max(0, height - longest) // 2
    middle = picture.crop((left, top, width - left, height - top))
    whole = letterboxed(picture, side, canvas=side, fill=_MARGIN, resample=Image.Resampling.BICUBIC)
    return [middle, whole]


def _pinned(model: str, revision: str | None) -> str | None:
    if Path(model).is_dir():
        return None
    if revision is None and model == MODEL:
        return REVISION
    # A branch's name moves: what was tried and what runs would differ one day (I9).
    if revision is None or not re.fullmatch(r"[0-9a-f]{40}", revision):
        raise ConfigError(f"revision: name the full commit of {model!r}, 40 hexadecimal digits, not {revision!r}")
    return revision


def _load(model: str, revision: str | None, subfolder: str, processor_subfolder: str) -> tuple[Any, Any]:
    try:
        from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker

        # The one on Pillow, by name: CLIPImageProcessor is another one where torchvision is installed.
        from transformers import CLIPImageProcessorPil
    except ImportError as error:
        raise MissingExtra(error.name or "diffusers", "models", needed_by="SafetyCheckerScreen") from error
    try:
        processor = CLIPImageProcessorPil.from_pretrained(model, revision=revision, subfolder=processor_subfolder)
        checker, report = StableDiffusionSafetyChecker.from_pretrained(
            model, revision=revision, subfolder=subfolder, use_safetensors=True, output_loading_info=True
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ConfigError(f"model: cannot load the safety checker from {model!r}: {error}") from error
    # transformers fills what is missing with noise and only logs it: a screen of noise would pass anything.
    if report["missing_keys"]:
        raise ConfigError(f"model: {model!r} lacks {', '.join(sorted(map(str, report['missing_keys'])))}")
    return processor, checker
