"""What the finished pipeline is worth: is the thing that was asked for in the picture, in its colour, and how fast?"""

from __future__ import annotations

import itertools
import math
import random
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image, ImageDraw

from .captions import SCENE_WORDS
from .colours import COLOURS
from .pictures import NOUNS, SIDE, Motif

STEPS = 20
GUIDANCE = 3.0
BATCH = 10

Judge = Callable[[Sequence[Image.Image]], Sequence[tuple[str, float, str, float]]]
"""Pictures to a noun and its probability, and a colour and its probability, for each."""


@dataclass(frozen=True, slots=True)
class Asked:
    """A prompt, and what must be in its picture.

    Args:
        prompt: The prompt.
        motif: What it asks for.
    """

    prompt: str
    motif: Motif


@dataclass(frozen=True, slots=True)
class Share:
    """How many of some cases were right.

    Args:
        right: The right ones.
        cases: All.
    """

    right: int
    cases: int

    @property
    def value(self) -> float:
        """The share, 0..1."""
        return self.right / self.cases

    @property
    def interval(self) -> tuple[float, float]:
        """Wilson's interval of 95 %, each end 0..1."""
        z, n, p = 1.96, self.cases, self.value
        middle = (p + z * z / (2 * n)) / (1 + z * z / n)
        reach = z * math.sqrt(p * (1 - p) / n + z * z / (4 * n * n)) / (1 + z * z / n)
        return max(0.0, middle - reach), min(1.0, middle + reach)

    def __str__(self) -> str:
        low, high = self.interval
        share = f"{100 * self.value:.1f} % ({self.right} of {self.cases}"
        return f"{share}; 95 % interval {100 * low:.1f} to {100 * high:.1f})"


def asked(count: int, seed: int) -> list[Asked]:
    """Return prompts that go through all nouns evenly, each with a colour, and in half of them a place."""
    chance = random.Random(seed)
    nouns = itertools.cycle(NOUNS)
    colours: Iterator[str] = iter(())
    found = []
    for noun in itertools.islice(nouns, count):
        colour = next(colours, "")
        if not colour:
            colours = iter(chance.sample(list(COLOURS), len(COLOURS)))
            colour = next(colours)
        scene = "plain" if chance.random() < 0.5 else chance.choice([name for name in SCENE_WORDS if name != "plain"])
        place = "" if scene == "plain" else " " + SCENE_WORDS[scene][0]
        article = "an" if colour[0] in "aeiou" else "a"
        found.append(Asked(f"{article} {colour} {noun}{place}", Motif(noun, colour, scene)))
    return found


def drawn(
    pipe: Any, prompts: Sequence[str], *, seed: int, steps: int = STEPS, guidance: float = GUIDANCE
) -> Iterator[Image.Image]:
    """Yield one picture a prompt; the picture at place i has the seed ``seed + i``."""
    for start in range(0, len(prompts), BATCH):
        batch = list(prompts[start : start + BATCH])
        seeds = [torch.Generator().manual_seed(seed + start + i) for i in range(len(batch))]
        yield from pipe(
            batch, generator=seeds, num_inference_steps=steps, guidance_scale=guidance, height=SIDE, width=SIDE
        ).images


def hits(pipe: Any, judge: Judge, *, count: int, seed: int, **settings: Any) -> tuple[Share, Share, list[str]]:
    """Draw ``count`` prompts; return how often the noun and the colour were right, and what was taken for what.

    Args:
        pipe: The pipeline.
        judge: Names what it sees.
        count: Prompts.
        seed: Of prompts and pictures.
        settings: Passed to ``drawn``.
    """
    wanted = asked(count, seed)
    pictures = list(drawn(pipe, [one.prompt for one in wanted], seed=seed, **settings))
    seen = judge(pictures)
    pairs = list(zip(wanted, seen, strict=True))
    wrong = [f"{one.prompt}: {colour} {noun}" for one, (noun, _, colour, _) in pairs if (noun, colour) != _named(one)]
    nouns = sum(noun == one.motif.noun for one, (noun, _, _, _) in pairs)
    colours = sum(colour == one.motif.colour for one, (_, _, colour, _) in pairs)
    return Share(nouns, count), Share(colours, count), wrong


def _named(one: Asked) -> tuple[str, str]:
    return one.motif.noun, one.motif.colour


def seconds_a_picture(pipe: Any, *, pictures: int = 5) -> float:
    """Return the CPU seconds of one picture at the default steps, the middle one of some."""
    taken = []
    for seed in range(pictures):
        start = time.process_time()
        list(drawn(pipe, ["a red teapot on a table"], seed=seed))
        taken.append(time.process_time() - start)
    return sorted(taken)[pictures // 2]


def sheet(pictures: Sequence[Image.Image], labels: Sequence[str] | None, *, columns: int = 8) -> Image.Image:
    """Return the pictures side by side, twice their size, with labels below or numbers from 1 instead."""
    side, line = 2 * SIDE, 16
    rows = -(-len(pictures) // columns)
    whole = Image.new("RGB", (columns * (side + 6) + 6, rows * (side + line + 4) + 6), (255, 255, 255))
    draw = ImageDraw.Draw(whole)
    for i, picture in enumerate(pictures):
        x, y = 6 + i % columns * (side + 6), 6 + i // columns * (side + line + 4)
        whole.paste(picture.resize((side, side), Image.Resampling.LANCZOS), (x, y))
        draw.text((x + side / 2, y + side + 2), labels[i] if labels else str(i + 1), fill=(40, 40, 40), anchor="ma")
    return whole
