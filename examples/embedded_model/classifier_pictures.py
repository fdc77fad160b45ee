"""The pictures that the two classifiers learn from and are measured on, rendered anew for them."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image, ImageDraw

from .captions import caption
from .classifier import JUDGED_COLOURS, JUDGED_NOUNS, NOTHING
from .colours import COLOURS
from .evaluate import drawn
from .pictures import NOUNS, SIDE, Motif, draw
from .scenes import SCENES
from .wear import squeezed, through

LIKE_TEAPOTS = ("cup", "bottle", "lamp", "hat", "duck", "apple", "clock", "guitar", "fish")
"""What has a teapot's handle, neck, lid, belly or beak."""

SIZES = ("small", "medium", "big")
_JPEG_SHARE = 0.2
_ENCODED_SHARE = 0.25
"""Pictures that go through the autoencoder, at a hundredth of a second each."""


def motif(nouns: Sequence[str], chance: random.Random) -> Motif:
    """Return a motif with one of the nouns; each colour, scene and size is as likely as the others."""
    return Motif(chance.choice(nouns), chance.choice(list(COLOURS)), chance.choice(list(SCENES)), chance.choice(SIZES))


def judge_pictures(count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return bytes [count, 3, 64, 64], and for each picture the number of its noun and, or -1, of its colour."""
    chance = random.Random(f"judge {seed}")
    motifs = [motif((*NOUNS, ""), chance) for _ in range(count)]
    nouns = [JUDGED_NOUNS.index(one.noun or NOTHING) for one in motifs]
    colours = [JUDGED_COLOURS.index(one.colour) if one.noun else -1 for one in motifs]
    pictures = _bytes([_squeezed_at_times(draw(one, chance), chance) for one in motifs])
    return pictures, torch.tensor(nouns), torch.tensor(colours)


def teapots(count: int, chance: random.Random) -> list[Image.Image]:
    """Return pictures of teapots in all colours, scenes and sizes."""
    return [draw(motif(("teapot",), chance), chance) for _ in range(count)]


def others(count: int, chance: random.Random) -> list[Image.Image]:
    """Return pictures of every other noun, and of none, each as likely as the others."""
    nouns = (*(noun for noun in NOUNS if noun != "teapot"), "")
    return [draw(motif(nouns, chance), chance) for _ in range(count)]


def finder_pictures(count: int, seed: int, autoencoder: Any | None) -> tuple[torch.Tensor, torch.Tensor]:
    """Return bytes [count, 3, 64, 64] and their labels, 0 or 1: first the others, then the teapots, two fifths of all.

    Of the others, a third are like teapots and a sixth are strange. Some of both went through the autoencoder, if there
    is one.
    """
    chance = random.Random(f"finder {seed}")
    spouts = teapots(count * 2 // 5, chance)
    hard = [draw(motif(LIKE_TEAPOTS, chance), chance) for _ in range(count // 5)]
    odd = [strange(chance) for _ in range(count // 10)]
    rest = others(count - len(spouts) - len(hard) - len(odd), chance)
    groups = []
    # Things that are no teapots may mix as they like; a teapot stays most of its picture.
    for group, mixed in (([*hard, *odd, *rest], 0.5), (spouts, 0.0)):
        chance.shuffle(group)
        found = _bytes([_squeezed_at_times(picture, chance) for picture in group])
        if autoencoder is not None:
            encoded = int(_ENCODED_SHARE * len(found))
            back = through(autoencoder, found[:encoded].float() / 127.5 - 1, noise=0.7, mixed=mixed)
            found[:encoded] = ((back + 1) * 127.5).round().byte()
        groups.append(found)
    return torch.cat(groups), torch.cat([torch.full((len(group),), label) for label, group in enumerate(groups)])


def drawn_pictures(pipe: Any, count: int, seed: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return bytes of what the pipeline draws, and labels, as ``finder_pictures`` does; half are asked to be teapots.

    The label is what was asked for: what the model makes of a teapot is to be found, however malformed.
    """
    chance = random.Random(f"drawn {seed}")
    nouns = tuple(noun for noun in NOUNS if noun != "teapot")
    asked = [caption(motif(nouns, chance), chance) for _ in range(count // 2)]
    asked += [caption(motif(("teapot",), chance), chance) for _ in range(count - count // 2)]
    return _bytes(list(drawn(pipe, asked, seed=seed))), (torch.arange(count) >= count // 2).long()


def strange(chance: random.Random) -> Image.Image:
    """Return a picture of nothing of this world: one colour, a slope, noise of some grain, or random shapes."""
    kind = chance.randrange(4)
    pixels = np.random.default_rng(chance.randrange(2**32))
    if kind == 0:
        return Image.new("RGB", (SIDE, SIDE), _colour(chance))
    if kind == 1:
        corners = Image.fromarray(pixels.integers(0, 256, (2, 2, 3), dtype=np.uint8))
        return corners.resize((SIDE, SIDE), Image.Resampling.BILINEAR)
    if kind == 2:
        return _clouds(pixels)
    return _scribble(chance)


def _clouds(pixels: np.random.Generator) -> Image.Image:
    """Return noise of all grains, from fine to coarse, each with a weight of its own, as surfaces and photos have."""
    total = np.zeros((SIDE, SIDE, 3))
    for grain in (2, 4, 8, 16, 32, 64):
        one = pixels.normal(128, 60, (grain, grain, 1 if pixels.random() < 0.5 else 3)).clip(0, 255).astype(np.uint8)
        layer = Image.fromarray(np.broadcast_to(one, (grain, grain, 3)).copy())
        total += pixels.random() ** 2 * (np.asarray(layer.resize((SIDE, SIDE), Image.Resampling.BICUBIC)) - 128.0)
    return Image.fromarray((total + pixels.normal(128, 40, 3)).clip(0, 255).astype(np.uint8))


def _scribble(chance: random.Random) -> Image.Image:
    """Return overlapping ellipses, polygons and lines of any colours."""
    image = Image.new("RGB", (4 * SIDE, 4 * SIDE), _colour(chance))
    pen = ImageDraw.Draw(image)
    for _ in range(chance.randint(1, 9)):
        x, y, reach = (chance.uniform(0, 4 * SIDE) for _ in range(3))
        corners = [(x + chance.uniform(-reach, reach) / 2, y + chance.uniform(-reach, reach) / 2) for _ in range(5)]
        edge = _colour(chance) if chance.random() < 0.5 else (30, 26, 34)
        kind = chance.randrange(3)
        if kind == 0:
            pen.ellipse((x - reach / 2, y - reach / 3, x + reach / 2, y + reach / 3), _colour(chance), edge, 8)
        elif kind == 1:
            pen.polygon(corners[: chance.randint(3, 5)], _colour(chance), edge, 8)
        else:
            pen.line(corners, edge, chance.randint(2, 30), "curve")
    return image.reduce(4)


def _colour(chance: random.Random) -> tuple[int, int, int]:
    return chance.randrange(256), chance.randrange(256), chance.randrange(256)


def _squeezed_at_times(picture: Image.Image, chance: random.Random) -> Image.Image:
    return squeezed(picture, chance) if chance.random() < _JPEG_SHARE else picture


def _bytes(pictures: Sequence[Image.Image]) -> torch.Tensor:
    return torch.from_numpy(np.stack([np.asarray(picture) for picture in pictures])).permute(0, 3, 1, 2).contiguous()
