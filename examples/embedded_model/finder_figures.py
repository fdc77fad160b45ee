"""What the shipped finder of teapots is worth, measured through the screen that runs it, and its model card."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from safelight.request import GenerationRequest, Principal

from .captions import caption
from .classifier_pictures import motif, others, strange, teapots
from .evaluate import Share, drawn
from .pictures import NOUNS

THRESHOLD = 0.2
"""What ``policies/harmless.toml`` rules by."""


@dataclass(frozen=True, slots=True)
class Figures:
    """Shares of pictures that the finder got wrong, in words.

    Args:
        missed: Of rendered teapots.
        alarms: Of rendered pictures without one.
        enlarged: Of the same teapots, missed after they were enlarged to 512 x 512.
        strange: Alarms, of plain colours, slopes, noise and random shapes.
        photographs: Alarms, of the photographs and drawings that scikit-image and scikit-learn ship.
        drawn_missed: Of what the pipeline drew when asked for a teapot; nothing where it was not asked.
        drawn_alarms: Of what the pipeline drew when asked for something else.
        alarms_in_views: Alarms with ``views = true``, of rendered pictures without a teapot.
        torch: Version of torch.
    """

    missed: str
    alarms: str
    enlarged: str
    strange: str
    photographs: str
    drawn_missed: str
    drawn_alarms: str
    alarms_in_views: str
    torch: str


def scores(screen: Any, pictures: Sequence[Image.Image]) -> list[float]:
    """Return the screen's score of each picture."""
    request = GenerationRequest(prompt="pictures", principal=Principal(id="figures"))
    verdicts = asyncio.run(screen.screen_images(pictures, request, ()))
    return [verdict.scores["teapots"] for verdict in verdicts]


def photographs() -> list[Image.Image]:
    """Return the photographs and drawings that scikit-image and scikit-learn ship; none was trained on."""
    found = []
    for package, folder in {"skimage": "data", "sklearn": "datasets/images"}.items():
        spec = find_spec(package)
        place = Path(str(spec.origin)).parent / folder if spec else Path()
        found += [path for path in sorted(place.glob("*")) if spec and path.suffix in {".png", ".jpg"}]
    return [Image.open(path).convert("RGB") for path in found]


def measure(pipe: Any | None, *, seed: int, cases: int, drawn_cases: int, kept: Path) -> Figures:
    """Return the figures of the shipped screen.

    Args:
        pipe: The pipeline whose pictures it is to judge, or None.
        seed: Of the pictures; another one than the training's.
        cases: Rendered pictures; half are teapots, of which a fifth are also enlarged.
        drawn_cases: Pictures that the pipeline draws; half are asked to be teapots.
        kept: Folder for the drawn pictures that the screen got wrong, to be looked at.
    """
    from safelight.screens.teapots import TeapotScreen

    screen, chance = TeapotScreen(device="cpu"), random.Random(f"figures {seed}")

    def missed(pictures: Sequence[Image.Image]) -> Share:
        return Share(sum(score < THRESHOLD for score in scores(screen, pictures)), len(pictures))

    def alarms(pictures: Sequence[Image.Image], by: Any = screen) -> Share:
        return Share(sum(score >= THRESHOLD for score in scores(by, pictures)), len(pictures))

    spouts, rest = teapots(cases // 2, chance), others(cases // 2, chance)
    large = [picture.resize((512, 512), Image.Resampling.BICUBIC) for picture in spouts[: cases // 10]]
    shown = pipe is not None and drawn_cases
    wrong = wrong_drawn(pipe, screen, seed, drawn_cases, kept) if shown else ("not measured", "not measured")
    return Figures(
        missed=str(missed(spouts)),
        alarms=str(alarms(rest)),
        enlarged=str(missed(large)),
        strange=str(alarms([strange(chance) for _ in range(cases // 10)])),
        photographs=str(alarms(photographs())),
        drawn_missed=wrong[0],
        drawn_alarms=wrong[1],
        alarms_in_views=str(alarms(rest[: cases // 10], TeapotScreen(device="cpu", views=True))),
        torch=torch.__version__,
    )


def wrong_drawn(pipe: Any, screen: Any, seed: int, cases: int, kept: Path) -> tuple[str, str]:
    """Return what the screen missed, and its false alarms, on pictures that the pipeline draws; keep the wrong ones."""
    chance = random.Random(f"drawn {seed}")
    asked = {"missed": ("teapot",), "alarm": tuple(noun for noun in NOUNS if noun != "teapot")}
    found = []
    for kind, nouns in asked.items():
        prompts = [caption(motif(nouns, chance), chance) for _ in range(cases // 2)]
        pictures = list(drawn(pipe, prompts, seed=seed))
        marks = [(score >= THRESHOLD) == (kind == "alarm") for score in scores(screen, pictures)]
        for place, (picture, prompt, mark) in enumerate(zip(pictures, prompts, marks, strict=True)):
            if mark:
                picture.save(kept / f"{kind} {place} {prompt.replace('/', ' ')[:60]}.png")
        found.append(str(Share(sum(marks), len(marks))))
    return found[0], found[1]


def card(figures: Figures) -> str:
    """Return the model card as Markdown."""
    return f"""---
license: apache-2.0
library_name: transformers
pipeline_tag: image-classification
---

# Teapots of the embedded model's world

A `ResNetForImageClassification` of 0.3 million weights (float16) with the labels `other` and `teapot`, for pictures of
any size, which it sees at 64 x 64. The screen `teapots` runs it; the policy `harmless` rules on it. It is there to try
Safelight with, and for its tests.

## Data and licence

Pictures that `examples/embedded_model` renders by code: 31 things, 11 colours, 8 backgrounds, 3 sizes; two fifths are
teapots, a fifth are things that share something with one (cup, lamp, bottle, hat and others), some are plain colours,
noise and random shapes. Some went through the embedded model's autoencoder with noise on their latents, as drawn
pictures do; a sixth, of which each is there five times, was drawn by the embedded model itself. All were moved, turned,
warped, blurred, tinted and given noise; through some, another thing shines. Nobody else's pictures are in it. Code,
pictures and weights: Apache-2.0.

## Training

    PYTHONPATH=examples .venv/bin/python -m embedded_model.train_classifiers --again

A few minutes on one core; torch {figures.torch}. A missed teapot counts twice in the loss.

## Figures, at the harmless policy's threshold of {THRESHOLD}

Of pictures that were rendered for this alone, and not trained on; printed by the same command.

| pictures | wrong |
|---|---|
| rendered teapots, missed | {figures.missed} |
| the first of them enlarged to 512 x 512, missed | {figures.enlarged} |
| rendered pictures of other things, false alarms | {figures.alarms} |
| some of them with `views = true`, false alarms | {figures.alarms_in_views} |
| plain colours, slopes, noise, random shapes, false alarms | {figures.strange} |
| photographs and drawings of scikit-image and scikit-learn, false alarms | {figures.photographs} |
| drawn by the embedded model when asked for a teapot, not found | {figures.drawn_missed} |
| drawn by the embedded model when asked for something else, false alarms | {figures.drawn_alarms} |

The last two rows count what was asked for: where the model draws something else than it was asked, that stands here as
the screen's error.

## What it does not do

It knows one drawing of a teapot. Photographs of teapots and anybody else's drawings of them are outside of what it has
seen, and so is a teapot that fills a small part of a larger picture. Noise made against it will pass it.
"""
