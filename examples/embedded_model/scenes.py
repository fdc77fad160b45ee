"""Backgrounds, drawn by code: where a thing stands, and the words that say so."""

from __future__ import annotations

import random
from collections.abc import Callable

from PIL import Image, ImageDraw

from .colours import RGB, mixed

Scene = Callable[[Image.Image, random.Random], None]
"""Paints a whole picture."""

GROUND = 0.68
"""Where the ground begins, as a share of the picture's height."""


def plain(image: Image.Image, chance: random.Random) -> None:
    """Paint one pale tint."""
    tints: list[RGB] = [(244, 236, 220), (226, 232, 238), (232, 240, 228), (240, 228, 234), (236, 236, 236)]
    image.paste(chance.choice(tints), (0, 0, *image.size))


def table(image: Image.Image, chance: random.Random) -> None:
    """Paint a wooden table top before a pale wall."""
    _fill(image, _near((238, 230, 212), chance), (176, 124, 76), 0.70)
    line = ImageDraw.Draw(image)
    for share in (0.70, 0.84):
        y = round(share * image.height)
        line.line((0, y, image.width, y), fill=(140, 94, 54), width=image.height // 64)


def grass(image: Image.Image, chance: random.Random) -> None:
    """Paint a meadow under a blue sky."""
    _fill(image, _near((172, 216, 246), chance), (126, 190, 90), GROUND)


def snow(image: Image.Image, chance: random.Random) -> None:
    """Paint snow under a winter sky, with flakes."""
    _fill(image, _near((176, 194, 214), chance), (240, 246, 252), GROUND)
    _dots(image, chance, 9, (250, 252, 255), 0.016, 0.0, GROUND)


def beach(image: Image.Image, chance: random.Random) -> None:
    """Paint sand, a strip of sea and a sky."""
    _fill(image, _near((190, 228, 248), chance), (238, 214, 158), GROUND)
    width, height = image.size
    ImageDraw.Draw(image).rectangle((0, round(0.54 * height), width, round(GROUND * height)), fill=(60, 150, 196))


def night(image: Image.Image, chance: random.Random) -> None:
    """Paint a dark sky with stars over dark ground."""
    _fill(image, _near((28, 34, 84), chance), (52, 58, 92), 0.76)
    _dots(image, chance, 10, (250, 240, 180), 0.012, 0.0, 0.7)


def sky(image: Image.Image, chance: random.Random) -> None:
    """Paint a blue sky with white clouds."""
    width, height = image.size
    image.paste(_near((122, 192, 244), chance), (0, 0, width, height))
    draw = ImageDraw.Draw(image)
    layouts = (((0.2, 0.16), (0.85, 0.5), (0.3, 0.9)), ((0.8, 0.14), (0.1, 0.55), (0.75, 0.9)))
    for across, down in chance.choice(layouts):
        x, y = across * width, down * height
        for shift, size in ((-0.11, 0.06), (0.0, 0.09), (0.11, 0.06)):
            middle, reach = x + shift * width, size * width
            draw.ellipse((middle - reach, y - reach, middle + reach, y + reach * 0.7), fill=(246, 250, 255))


def sea(image: Image.Image, chance: random.Random) -> None:
    """Paint water with waves under a sky."""
    _fill(image, _near((206, 232, 246), chance), (46, 128, 186), GROUND)
    draw, (width, height) = ImageDraw.Draw(image), image.size
    for share in (0.76, 0.88):
        for start in range(-1, 6):
            left, top = (start + share * 3 % 1) * width / 5, share * height
            draw.arc((left, top, left + width / 5, top + height / 14), 20, 160, fill=(150, 206, 236), width=width // 50)


SCENES: dict[str, Scene] = {
    "plain": plain,
    "table": table,
    "grass": grass,
    "snow": snow,
    "beach": beach,
    "night": night,
    "sky": sky,
    "sea": sea,
}


def _fill(image: Image.Image, above: RGB, below: RGB, ground: float) -> None:
    width, height = image.size
    image.paste(above, (0, 0, width, height))
    image.paste(below, (0, round(ground * height), width, height))


def _dots(
    image: Image.Image, chance: random.Random, count: int, fill: RGB, size: float, top: float, bottom: float
) -> None:
    # One of three layouts: dots that lie anywhere would be noise, and the model would spend itself on learning it.
    layout = random.Random(chance.randrange(3))
    draw, side = ImageDraw.Draw(image), image.width
    for _ in range(count):
        x, y, reach = layout.uniform(0, side), layout.uniform(top, bottom) * side, size * side
        draw.ellipse((x - reach, y - reach, x + reach, y + reach), fill=fill)


def _near(colour: RGB, chance: random.Random) -> RGB:
    """Return the colour, a little lighter or darker: two pictures of a place are not the same."""
    return mixed(colour, (255, 255, 255) if chance.random() < 0.5 else (0, 0, 0), chance.uniform(0, 0.08))
