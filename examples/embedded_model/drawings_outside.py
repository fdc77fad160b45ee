"""Things of outdoors and of leisure, drawn by code."""

from __future__ import annotations

import math

from .canvas import Canvas, Point
from .colours import RGB, Paint
from .shapes import Drawing

GLASS: RGB = (190, 226, 244)
WOOD: RGB = (166, 112, 62)
TYRE: RGB = (46, 46, 50)
HUB: RGB = (206, 208, 212)
FLAME: RGB = (255, 150, 30)


def _arc(middle: Point, radii: Point, start: float, end: float, pieces: int = 12) -> list[Point]:
    """Return points on a part of an ellipse, between two angles in degrees, clockwise from the right."""
    angles = [math.radians(start + (end - start) * piece / pieces) for piece in range(pieces + 1)]
    return [(middle[0] + radii[0] * math.cos(a), middle[1] + radii[1] * math.sin(a)) for a in angles]


def house(canvas: Canvas, paint: Paint) -> None:
    """Draw a house: walls with a gable, roof, chimney, door, two windows."""
    canvas.polygon([(0.4, -0.95), (0.68, -0.95), (0.68, -0.2), (0.4, -0.2)], paint.base)
    canvas.polygon([(0, -0.8), (0.8, -0.1), (0.8, 0.9), (-0.8, 0.9), (-0.8, -0.1)], paint.base)
    canvas.polygon([(0, -0.98), (1, -0.06), (0.89, 0.07), (0, -0.73), (-0.89, 0.07), (-1, -0.06)], paint.dark)
    canvas.polygon([(-0.16, 0.9), (-0.16, 0.42), (0.16, 0.42), (0.16, 0.9)], paint.dark)
    for x in (-0.49, 0.49):
        canvas.polygon([(x - 0.13, 0.22), (x + 0.13, 0.22), (x + 0.13, 0.48), (x - 0.13, 0.48)], GLASS)


def boat(canvas: Canvas, paint: Paint) -> None:
    """Draw a sailing boat: hull, mast, large sail, small sail."""
    canvas.stroke([(0, -0.92), (0, 0.5)], 0.08, WOOD)
    canvas.polygon([(-0.11, -0.6), (-0.11, 0.28), (-0.74, 0.28), (-0.48, -0.14)], paint.light)
    canvas.polygon([(0.11, -0.92), (0.4, -0.64), (0.68, -0.2), (0.86, 0.28), (0.11, 0.28)], paint.base)
    canvas.polygon([(-0.98, 0.42), (0.98, 0.42), (0.86, 0.7), (0.66, 0.9), (-0.6, 0.9), (-0.82, 0.7)], paint.base)


def car(canvas: Canvas, paint: Paint) -> None:
    """Draw a car from its side: body with cabin, two windows, two wheels."""
    cabin = [(-0.7, -0.08), (-0.54, -0.54), (-0.38, -0.64), (0.22, -0.64), (0.38, -0.54), (0.62, -0.08)]
    front = [(0.86, 0.0), (0.98, 0.12), (0.98, 0.6), (-0.98, 0.6), (-0.98, 0.06), (-0.9, -0.08)]
    canvas.polygon([*cabin, *front], paint.base)
    canvas.polygon([(-0.47, -0.06), (-0.36, -0.42), (-0.14, -0.42), (-0.14, -0.06)], GLASS)
    canvas.polygon([(0.06, -0.06), (0.06, -0.42), (0.2, -0.42), (0.38, -0.06)], GLASS)
    for x in (-0.54, 0.54):
        canvas.ellipse((x, 0.65), (0.25, 0.25), TYRE)
        canvas.ellipse((x, 0.65), (0.11, 0.11), HUB, edge=False)


def rocket(canvas: Canvas, paint: Paint) -> None:
    """Draw a rocket: flame, two fins, body, nose, round window."""
    canvas.polygon([(-0.22, 0.56), (-0.14, 0.78), (0, 0.95), (0.14, 0.78), (0.22, 0.56)], FLAME)
    for side in (-1, 1):
        canvas.polygon([(0.3 * side, 0.02), (0.74 * side, 0.38), (0.78 * side, 0.84), (0.24 * side, 0.56)], paint.base)
    right = [(0, -0.98), (0.25, -0.72), (0.41, -0.38), (0.46, -0.02), (0.41, 0.34), (0.29, 0.62)]
    outline = [*right, *((-x, y) for x, y in reversed(right[1:]))]
    canvas.polygon(outline, paint.base)
    canvas.polygon([(-0.33, -0.55), (-0.25, -0.72), (0, -0.98), (0.25, -0.72), (0.33, -0.55)], paint.dark)
    canvas.ellipse((0, -0.14), (0.19, 0.19), GLASS)


def balloon(canvas: Canvas, paint: Paint) -> None:
    """Draw a hot-air balloon: ropes, basket, envelope with a pale stripe."""
    for side in (-1, 1):
        canvas.stroke([(0.32 * side, 0.3), (0.18 * side, 0.7)], 0.07, paint.edge, edge=False)
    canvas.polygon([(-0.23, 0.64), (0.23, 0.64), (0.17, 0.92), (-0.17, 0.92)], WOOD)
    bottom = [(0.3, 0.38), (-0.3, 0.38)]
    canvas.polygon([*_arc((0, -0.24), (0.84, 0.75), 150, 390, 32), *bottom], paint.base)
    middle = _arc((0, -0.24), (0.2, 0.75), 180, 360, 16)
    canvas.polygon([*middle, (0.08, 0.38), (-0.08, 0.38)], paint.light)


def umbrella(canvas: Canvas, paint: Paint) -> None:
    """Draw an open umbrella: tip, stick with a crooked handle, canopy of three panels."""
    canvas.stroke([(0, -0.92), (0, -0.7)], 0.09, WOOD)
    handle = _arc((0.19, 0.65), (0.19, 0.2), 180, 0)
    canvas.stroke([(0, -0.2), *handle, (0.38, 0.58)], 0.11, WOOD, smooth=False)
    dome = _arc((0, 0.06), (0.98, 0.88), 180, 360, 32)
    scallops = [point for x in (0.65, 0, -0.65) for point in _arc((x, 0.06), (0.325, 0.15), 0, -180)]
    canvas.polygon([*dome, *scallops], paint.base)
    for side in (-1, 1):
        rib = [(0.0, -0.8), (0.24 * side, -0.45), (0.325 * side, 0.04)]
        canvas.stroke(rib, 0.06, paint.edge, edge=False)


def hat(canvas: Canvas, paint: Paint) -> None:
    """Draw a top hat: brim, tall crown, band."""
    canvas.ellipse((0, 0.62), (0.98, 0.29), paint.base)
    side = [(-0.66, -0.74), (-0.58, -0.2), (-0.58, 0.58)]
    bottom = _arc((0, 0.58), (0.58, 0.14), 180, 0)
    canvas.polygon([*side, *bottom, (0.58, -0.2), (0.66, -0.74)], paint.base)
    band = [*_arc((0, 0.32), (0.58, 0.14), 180, 0), *_arc((0, 0.58), (0.58, 0.14), 0, 180)]
    canvas.polygon(band, paint.dark)
    canvas.ellipse((0, -0.74), (0.66, 0.14), paint.light)


def guitar(canvas: Canvas, paint: Paint) -> None:
    """Draw a guitar: head, neck, body with a waist, sound hole, bridge."""
    canvas.polygon([(-0.2, -0.98), (0.2, -0.98), (0.14, -0.66), (-0.14, -0.66)], paint.base)
    upper = [(0.2, -0.27), (0.48, -0.18), (0.53, 0.02), (0.42, 0.22)]
    lower = [(0.6, 0.38), (0.68, 0.62), (0.5, 0.86), (0.18, 0.93)]
    right = [*upper, *lower]
    canvas.blob([*right, *((-x, y) for x, y in reversed(right))], paint.base)
    canvas.polygon([(-0.09, -0.68), (0.09, -0.68), (0.09, 0.08), (-0.09, 0.08)], WOOD)
    canvas.ellipse((0, 0.22), (0.18, 0.18), TYRE)
    canvas.stroke([(-0.22, 0.66), (0.22, 0.66)], 0.1, WOOD)


OUTSIDE: dict[str, Drawing] = {
    "house": house,
    "boat": boat,
    "car": car,
    "rocket": rocket,
    "balloon": balloon,
    "umbrella": umbrella,
    "hat": hat,
    "guitar": guitar,
}
