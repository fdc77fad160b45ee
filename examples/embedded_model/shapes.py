"""Plain shapes, drawn by code."""

from __future__ import annotations

import math
from collections.abc import Callable

from .canvas import Canvas
from .colours import Paint

Drawing = Callable[[Canvas, Paint], None]
"""Draws one thing in the square from -1 to 1 of the canvas."""


def circle(canvas: Canvas, paint: Paint) -> None:
    """Draw a full circle."""
    canvas.ellipse((0, 0), (0.85, 0.85), paint.base)


def square(canvas: Canvas, paint: Paint) -> None:
    """Draw a square."""
    canvas.polygon([(-0.78, -0.78), (0.78, -0.78), (0.78, 0.78), (-0.78, 0.78)], paint.base)


def triangle(canvas: Canvas, paint: Paint) -> None:
    """Draw a triangle that stands on a side."""
    canvas.polygon([(0, -0.85), (0.92, 0.75), (-0.92, 0.75)], paint.base)


def star(canvas: Canvas, paint: Paint) -> None:
    """Draw a star of five points."""
    points = []
    for corner in range(10):
        radius = 0.98 if corner % 2 == 0 else 0.42
        angle = math.tau * corner / 10 - math.tau / 4
        points.append((radius * math.cos(angle), radius * math.sin(angle)))
    canvas.polygon(points, paint.base)


def heart(canvas: Canvas, paint: Paint) -> None:
    """Draw a heart."""
    points = []
    for step in range(48):
        t = math.tau * step / 48
        x = 16 * math.sin(t) ** 3
        y = 13 * math.cos(t) - 5 * math.cos(2 * t) - 2 * math.cos(3 * t) - math.cos(4 * t)
        points.append((x / 18, -(y + 2.5) / 17))
    canvas.polygon(points, paint.base)


def ring(canvas: Canvas, paint: Paint) -> None:
    """Draw a thick ring."""
    points = [(0.66 * math.cos(math.tau * step / 32), 0.66 * math.sin(math.tau * step / 32)) for step in range(34)]
    canvas.stroke(points, 0.4, paint.base, smooth=False)


SHAPES: dict[str, Drawing] = {
    "circle": circle,
    "square": square,
    "triangle": triangle,
    "star": star,
    "heart": heart,
    "ring": ring,
}
