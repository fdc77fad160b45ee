"""Plants and animals, drawn by code."""

from __future__ import annotations

import math

from .canvas import Canvas, Point
from .colours import RGB, Paint
from .shapes import Drawing

_WHITE: RGB = (252, 252, 250)
_BLACK: RGB = (20, 18, 22)
_WOOD: RGB = (122, 78, 44)
_LEAF: RGB = (70, 158, 70)
_CREAM: RGB = (248, 236, 208)
_YOLK: RGB = (252, 206, 56)
_BEAK: RGB = (246, 146, 30)
_NOSE: RGB = (236, 120, 140)


def apple(canvas: Canvas, paint: Paint) -> None:
    """Draw an apple: a round fruit with a dip at the top, a stem, a leaf, a shine."""
    right = [(0.2, -0.5), (0.55, -0.56), (0.86, -0.25), (0.84, 0.25), (0.58, 0.74), (0.24, 0.88)]
    left = [(-x, y) for x, y in reversed(right)]
    canvas.stroke([(0.0, -0.36), (0.02, -0.62), (0.12, -0.88)], 0.1, _WOOD)
    canvas.blob([(0.14, -0.62), (0.32, -0.88), (0.66, -0.92), (0.5, -0.66)], _LEAF)
    canvas.blob([(0.0, -0.38), *right, (0.0, 0.81), *left], paint.base)
    canvas.ellipse((-0.5, -0.14), (0.11, 0.24), paint.light, tilt=20, edge=False)


def mushroom(canvas: Canvas, paint: Paint) -> None:
    """Draw a mushroom: a wide cap with spots on a pale stem."""
    canvas.blob([(-0.2, 0.1), (0.2, 0.1), (0.2, 0.5), (0.32, 0.86), (0, 0.9), (-0.32, 0.86), (-0.2, 0.5)], _CREAM)
    arc = [(-0.94 * math.cos(math.pi * step / 24), 0.22 - 1.12 * math.sin(math.pi * step / 24)) for step in range(25)]
    canvas.polygon([*arc, (0.8, 0.34), (0.4, 0.4), (-0.4, 0.4), (-0.8, 0.34)], paint.base)
    for middle, radius in (((-0.48, -0.1), 0.15), ((0.06, -0.48), 0.17), ((0.5, -0.02), 0.15)):
        canvas.ellipse(middle, (radius, radius), _WHITE)


def flower(canvas: Canvas, paint: Paint) -> None:
    """Draw a flower: six petals around a yellow middle, a stem, two leaves."""
    canvas.stroke([(0, 0), (0, 0.86)], 0.1, _LEAF)
    for side in (-1, 1):
        canvas.blob([(0, 0.88), (side * 0.2, 0.64), (side * 0.58, 0.54), (side * 0.4, 0.82)], _LEAF)
    for petal in range(6):
        angle = math.tau * (petal + 0.5) / 6
        middle = 0.5 * math.sin(angle), -0.22 - 0.5 * math.cos(angle)
        canvas.ellipse(middle, (0.27, 0.34), paint.base, tilt=math.degrees(angle))
    canvas.ellipse((0, -0.22), (0.23, 0.23), _YOLK)


def tree(canvas: Canvas, paint: Paint) -> None:
    """Draw a tree: a crown of round puffs on a wooden trunk."""
    canvas.polygon([(-0.13, 0.2), (0.13, 0.2), (0.16, 0.7), (0.28, 0.9), (-0.28, 0.9), (-0.16, 0.7)], _WOOD)
    puffs = [(0, -0.52, 0.44), (-0.46, -0.3, 0.38), (0.46, -0.3, 0.38), (-0.5, 0.1, 0.36), (0.5, 0.1, 0.36)]
    puffs.append((0, 0.1, 0.36))
    for x, y, radius in puffs:
        canvas.ellipse((x, y), (radius, radius), paint.base)
    for x, y, radius in puffs:
        canvas.ellipse((x, y), (radius - 0.03, radius - 0.03), paint.base, edge=False)


def cat(canvas: Canvas, paint: Paint) -> None:
    """Draw the head of a cat: pointed ears, eyes, a small nose, whiskers."""
    for side in (-1, 1):
        canvas.polygon([(side * 0.82, 0.1), (side * 0.82, -0.88), (side * 0.14, -0.4)], paint.base)
        canvas.polygon([(side * 0.66, -0.2), (side * 0.66, -0.62), (side * 0.34, -0.38)], _NOSE, edge=False)
    canvas.ellipse((0, 0.18), (0.84, 0.7), paint.base)
    for side in (-1, 1):
        _eye(canvas, (side * 0.36, 0.06), 0.19)
        for end in (0.3, 0.6):
            canvas.stroke([(side * 0.5, 0.42), (side * 0.98, end)], 0.08, paint.edge, edge=False)
        canvas.stroke([(0, 0.46), (side * 0.1, 0.58), (side * 0.24, 0.54)], 0.08, paint.edge, edge=False)
    canvas.polygon([(-0.12, 0.3), (0.12, 0.3), (0, 0.44)], _NOSE)


def rabbit(canvas: Canvas, paint: Paint) -> None:
    """Draw the head of a rabbit: two long ears, eyes, a nose, a tooth."""
    for side in (-1, 1):
        canvas.ellipse((side * 0.34, -0.4), (0.23, 0.57), paint.base, tilt=side * 9)
        canvas.ellipse((side * 0.34, -0.42), (0.08, 0.34), _NOSE, tilt=side * 9, edge=False)
    canvas.ellipse((0, 0.36), (0.74, 0.54), paint.base)
    canvas.polygon([(-0.11, 0.58), (0.11, 0.58), (0.11, 0.76), (-0.11, 0.76)], _WHITE)
    for side in (-1, 1):
        _eye(canvas, (side * 0.38, 0.24), 0.16)
        canvas.stroke([(0, 0.54), (side * 0.14, 0.6), (side * 0.28, 0.54)], 0.08, paint.edge, edge=False)
    canvas.ellipse((0, 0.42), (0.13, 0.09), _NOSE)


def fish(canvas: Canvas, paint: Paint) -> None:
    """Draw a fish from the side: an oval body, a tail, fins, an eye."""
    canvas.blob([(0.36, 0.14), (0.94, -0.42), (0.82, 0.14), (0.94, 0.7)], paint.base)
    canvas.blob([(-0.46, -0.26), (-0.2, -0.7), (0.34, -0.68), (0.3, -0.1)], paint.base)
    canvas.blob([(-0.2, 0.5), (0.1, 0.88), (0.34, 0.86), (0.26, 0.4)], paint.base)
    front = [(-0.16, 0.7), (-0.62, 0.58), (-0.95, 0.16), (-0.62, -0.28), (-0.16, -0.42)]
    canvas.blob([*front, (0.28, -0.24), (0.58, 0.14), (0.28, 0.52)], paint.base)
    canvas.stroke([(-0.26, -0.24), (-0.14, 0.14), (-0.26, 0.52)], 0.08, paint.edge, edge=False)
    _eye(canvas, (-0.56, 0.06), 0.15)


def duck(canvas: Canvas, paint: Paint) -> None:
    """Draw a duck from the side: a body with a raised tail, a round head, a beak, a wing."""
    canvas.blob([(-0.6, -0.5), (-0.98, -0.36), (-0.94, -0.22), (-0.6, -0.22)], _BEAK)
    head = [(-0.1, -0.1), (-0.02, -0.5), (-0.2, -0.84), (-0.5, -0.86), (-0.74, -0.58), (-0.66, -0.22), (-0.56, 0.0)]
    belly = [(-0.78, 0.3), (-0.62, 0.74), (-0.1, 0.9), (0.5, 0.8), (0.84, 0.4), (0.96, -0.16), (0.6, 0.08)]
    canvas.blob([*head, *belly, (0.2, 0.06)], paint.base)
    canvas.blob([(-0.3, 0.32), (0.1, 0.26), (0.6, 0.34), (0.3, 0.62), (-0.1, 0.6)], paint.base)
    _eye(canvas, (-0.42, -0.54), 0.14)


def butterfly(canvas: Canvas, paint: Paint) -> None:
    """Draw a butterfly from above: four wings with spots, a slim body, feelers."""
    for side in (-1, 1):
        canvas.stroke([(0, -0.4), (side * 0.12, -0.72), (side * 0.3, -0.88)], 0.08, paint.edge, edge=False)
        lower = [(0.05, 0.1), (0.5, 0.06), (0.74, 0.4), (0.56, 0.84), (0.26, 0.76)]
        upper = [(0.05, -0.1), (0.3, -0.52), (0.78, -0.78), (0.96, -0.5), (0.8, 0.02), (0.4, 0.18), (0.05, 0.14)]
        for wing in (lower, upper):
            canvas.blob([(side * x, y) for x, y in wing], paint.base)
        canvas.ellipse((side * 0.66, -0.36), (0.14, 0.14), paint.light)
        canvas.ellipse((side * 0.46, 0.5), (0.1, 0.1), paint.light)
    canvas.ellipse((0, 0.1), (0.09, 0.56), paint.dark)


def _eye(canvas: Canvas, middle: Point, radius: float) -> None:
    """Draw an eye: a black pupil with white around it."""
    canvas.ellipse(middle, (radius, radius), _WHITE, edge=False)
    canvas.ellipse(middle, (radius * 0.62, radius * 0.62), _BLACK, edge=False)


NATURE: dict[str, Drawing] = {
    "apple": apple,
    "mushroom": mushroom,
    "flower": flower,
    "tree": tree,
    "cat": cat,
    "rabbit": rabbit,
    "fish": fish,
    "duck": duck,
    "butterfly": butterfly,
}
