"""One picture of the small world that the model learns: what is in it, and the drawing of it."""

from __future__ import annotations

import random
from dataclasses import dataclass

from PIL import Image

from .canvas import OVERSAMPLING, Canvas, Place
from .colours import COLOURS, Paint
from .drawings_home import HOME
from .drawings_nature import NATURE
from .drawings_outside import OUTSIDE
from .scenes import SCENES
from .shapes import SHAPES

SIDE = 64
"""Side of a picture, in pixels."""

DRAWINGS = {**HOME, **NATURE, **OUTSIDE, **SHAPES}
NOUNS = tuple(DRAWINGS)

USUAL: dict[str, tuple[str, ...]] = {
    "apple": ("red", "green"),
    "balloon": ("red", "orange", "blue"),
    "boat": ("white", "red", "blue"),
    "book": ("red", "blue", "brown"),
    "bottle": ("green", "blue"),
    "butterfly": ("orange", "blue", "yellow"),
    "car": ("red", "blue", "grey"),
    "cat": ("grey", "orange", "black"),
    "chair": ("brown",),
    "clock": ("red", "grey", "yellow"),
    "cup": ("white", "blue", "red"),
    "duck": ("yellow", "white"),
    "fish": ("orange", "blue"),
    "flower": ("red", "pink", "yellow", "purple"),
    "guitar": ("brown", "orange"),
    "hat": ("black", "brown"),
    "heart": ("red", "pink"),
    "house": ("white", "yellow", "red"),
    "key": ("yellow", "grey"),
    "lamp": ("yellow", "orange"),
    "mushroom": ("red", "brown"),
    "rabbit": ("grey", "white", "brown"),
    "rocket": ("white", "red", "grey"),
    "star": ("yellow",),
    "teapot": ("white", "blue", "brown", "red"),
    "tree": ("green",),
    "umbrella": ("red", "purple", "blue"),
}
"""Colours of things whose colour a prompt leaves open; those that are not here may have any."""


@dataclass(frozen=True, slots=True)
class Motif:
    """What a picture shows.

    Args:
        noun: A name of ``NOUNS``, or nothing for an empty scene.
        colour: A name of ``COLOURS``; the colour of the noun.
        scene: A name of ``SCENES``.
        size: ``small``, ``medium`` or ``big``.
    """

    noun: str
    colour: str
    scene: str
    size: str = "medium"


_HALF = {"small": 0.27, "medium": 0.36, "big": 0.43}


def draw(motif: Motif, chance: random.Random) -> Image.Image:
    """Return an RGB picture of 64 x 64 pixels. ``chance`` decides place, tilt and what the scene leaves open."""
    image = Image.new("RGB", (SIDE * OVERSAMPLING, SIDE * OVERSAMPLING))
    SCENES[motif.scene](image, chance)
    if motif.noun:
        paint = Paint.of(COLOURS[motif.colour])
        DRAWINGS[motif.noun](Canvas(image, _place(motif, chance), paint.edge), paint)
    return image.reduce(OVERSAMPLING)


def _place(motif: Motif, chance: random.Random) -> Place:
    half = _HALF[motif.size] * chance.uniform(0.94, 1.06)
    floats = motif.scene in ("plain", "sky")
    # On a ground, a thing's lower end stands a little below the horizon's line.
    middle = 0.5 + chance.uniform(-0.04, 0.04) if floats else 0.87 - half * 0.92 + chance.uniform(-0.03, 0.03)
    return Place(
        x=0.5 + chance.uniform(-0.05, 0.05),
        y=min(middle, 0.97 - half),
        half=half,
        tilt=chance.uniform(-4, 4),
    )


def any_motif(chance: random.Random) -> Motif:
    """Return a motif, each noun, colour and scene as likely as the others; medium is the likeliest size."""
    return Motif(
        noun=chance.choice(NOUNS),
        colour=chance.choice(list(COLOURS)),
        scene="plain" if chance.random() < 0.3 else chance.choice(list(SCENES)),
        size=chance.choices(("small", "medium", "big"), (1, 8, 1))[0],
    )
