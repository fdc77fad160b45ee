"""Things of the home, drawn by code."""

from __future__ import annotations

import math

from .canvas import Canvas
from .colours import RGB, Paint
from .shapes import Drawing

PAPER: RGB = (252, 250, 240)
HANDS: RGB = (30, 30, 34)


def teapot(canvas: Canvas, paint: Paint) -> None:
    """Draw a teapot: belly, spout, handle, lid."""
    canvas.stroke([(0.42, -0.08), (0.74, -0.2), (0.87, 0.12), (0.72, 0.48), (0.42, 0.58)], 0.15, paint.base)
    spout = [(-0.3, 0.66), (-0.66, 0.3), (-0.78, -0.12), (-0.97, -0.3), (-0.7, -0.36), (-0.56, -0.12), (-0.3, 0.1)]
    canvas.polygon(spout, paint.base)
    canvas.polygon([(-0.34, 0.7), (0.34, 0.7), (0.42, 0.9), (-0.42, 0.9)], paint.dark)
    canvas.ellipse((0, -0.58), (0.14, 0.14), paint.dark)
    canvas.blob([(-0.36, -0.22), (-0.26, -0.4), (0, -0.48), (0.26, -0.4), (0.36, -0.22), (0, -0.1)], paint.base)
    canvas.ellipse((0, 0.3), (0.62, 0.52), paint.base)
    canvas.stroke([(-0.38, 0.2), (-0.3, 0.04), (-0.16, -0.06)], 0.1, paint.light, edge=False)


def cup(canvas: Canvas, paint: Paint) -> None:
    """Draw a cup: a tapering bowl with a dark mouth, a handle, a saucer."""
    canvas.ellipse((-0.05, 0.76), (0.9, 0.16), paint.base)
    canvas.stroke([(0.46, -0.26), (0.76, -0.34), (0.86, -0.04), (0.68, 0.26), (0.36, 0.32)], 0.16, paint.base)
    bowl = [(-0.74, -0.5), (-0.68, 0.1), (-0.52, 0.48), (-0.3, 0.7), (0.14, 0.7), (0.36, 0.48), (0.52, 0.1)]
    canvas.polygon([*bowl, (0.58, -0.5)], paint.base)
    canvas.ellipse((-0.08, -0.5), (0.66, 0.19), paint.base)
    canvas.ellipse((-0.08, -0.47), (0.5, 0.1), paint.dark, edge=False)
    canvas.stroke([(-0.52, -0.1), (-0.47, 0.16), (-0.38, 0.34)], 0.1, paint.light, edge=False)


def bottle(canvas: Canvas, paint: Paint) -> None:
    """Draw a bottle: a long neck with a cork, shoulders, a body with a label."""
    canvas.polygon([(-0.13, -0.98), (0.13, -0.98), (0.13, -0.76), (-0.13, -0.76)], (196, 148, 92))
    left = [(-0.15, -0.74), (-0.15, -0.34), (-0.24, -0.2), (-0.38, -0.06), (-0.42, 0.1), (-0.42, 0.82), (-0.36, 0.92)]
    canvas.polygon([*left, *[(-x, y) for x, y in reversed(left)]], paint.base)
    canvas.polygon([(-0.21, -0.82), (0.21, -0.82), (0.21, -0.68), (-0.21, -0.68)], paint.base)
    canvas.polygon([(-0.42, 0.3), (0.42, 0.3), (0.42, 0.55), (-0.42, 0.55)], paint.light)
    canvas.stroke([(-0.25, 0.14), (-0.2, 0.02), (-0.05, -0.16)], 0.09, paint.light, edge=False)


def lamp(canvas: Canvas, paint: Paint) -> None:
    """Draw a table lamp: a wide shade, a stem, a foot."""
    canvas.polygon([(-0.1, 0), (0.1, 0), (0.1, 0.8), (-0.1, 0.8)], paint.dark)
    canvas.polygon([(-0.5, 0.9), (-0.44, 0.76), (-0.2, 0.66), (0.2, 0.66), (0.44, 0.76), (0.5, 0.9)], paint.base)
    canvas.polygon([(-0.38, -0.92), (0.38, -0.92), (0.82, 0.08), (-0.82, 0.08)], paint.base)
    canvas.polygon([(-0.24, -0.76), (-0.12, -0.76), (-0.34, -0.06), (-0.52, -0.06)], paint.light, edge=False)


def chair(canvas: Canvas, paint: Paint) -> None:
    """Draw a chair, seen a little from the side: a back with two slats, a seat, four legs."""
    for x in (-0.5, 0.3):
        canvas.stroke([(x, 0.2), (x, 0.68)], 0.12, paint.dark)
    for edge in (True, False):
        for x in (-0.55, 0.35):
            canvas.stroke([(x, -0.86), (x, 0.16)], 0.17, paint.base, edge=edge)
        canvas.stroke([(-0.55, -0.72), (0.35, -0.72)], 0.26, paint.base, edge=edge)
        canvas.stroke([(-0.55, -0.24), (0.35, -0.24)], 0.17, paint.base, edge=edge)
    for x in (-0.28, 0.6):
        canvas.stroke([(x, 0.34), (x, 0.84)], 0.17, paint.base)
    canvas.polygon([(-0.66, 0.04), (0.46, 0.04), (0.72, 0.3), (-0.4, 0.3)], paint.base)
    canvas.polygon([(-0.4, 0.3), (0.72, 0.3), (0.72, 0.44), (-0.4, 0.44)], paint.base)


def book(canvas: Canvas, paint: Paint) -> None:
    """Draw a closed book that stands: the front, the spine, the paper between the covers, a title."""
    canvas.polygon([(-0.74, -0.66), (-0.46, -0.92), (0.8, -0.92), (0.8, 0.64), (0.56, 0.9)], paint.base)
    canvas.polygon([(-0.5, -0.66), (-0.28, -0.84), (0.72, -0.84), (0.54, -0.66)], PAPER)
    canvas.polygon([(0.54, -0.66), (0.72, -0.84), (0.72, 0.66), (0.54, 0.84)], PAPER)
    canvas.polygon([(-0.74, -0.66), (0.58, -0.66), (0.58, 0.9), (-0.74, 0.9)], paint.base)
    canvas.polygon([(-0.74, -0.66), (-0.54, -0.66), (-0.54, 0.9), (-0.74, 0.9)], paint.dark)
    for y, half in ((-0.34, 0.34), (-0.1, 0.2)):
        canvas.stroke([(0.02 - half, y), (0.02 + half, y)], 0.1, paint.edge, edge=False)


def clock(canvas: Canvas, paint: Paint) -> None:
    """Draw an alarm clock: two bells, a round case with a white face and hands, two feet."""
    for side in (-1, 1):
        canvas.stroke([(side * 0.4, 0.6), (side * 0.6, 0.84)], 0.16, paint.base)
        canvas.stroke([(side * 0.36, -0.4), (side * 0.5, -0.62)], 0.12, paint.dark)
        bell = [(0.18, -0.74), (0.3, -0.9), (0.48, -0.98), (0.68, -0.92), (0.8, -0.76), (0.84, -0.58), (0.8, -0.4)]
        canvas.polygon([(side * x, y) for x, y in bell], paint.base)
    canvas.ellipse((0, 0.18), (0.76, 0.71), paint.base)
    canvas.ellipse((0, 0.18), (0.4, 0.38), PAPER)
    canvas.stroke([(0, -0.07), (0, 0.18), (0.2, 0.28)], 0.09, HANDS, edge=False, smooth=False)


def key(canvas: Canvas, paint: Paint) -> None:
    """Draw a key: a ring to hold it, a shaft, two teeth."""
    turns = [math.tau * step / 32 for step in range(34)]
    ring = [(-0.08 + 0.4 * math.cos(turn), -0.42 + 0.4 * math.sin(turn)) for turn in turns]
    for edge in (True, False):
        canvas.stroke(ring, 0.24, paint.base, edge=edge, smooth=False)
        canvas.stroke([(-0.08, -0.04), (-0.08, 0.78)], 0.22, paint.base, edge=edge)
        canvas.stroke([(-0.08, 0.38), (0.26, 0.38)], 0.2, paint.base, edge=edge)
        canvas.stroke([(-0.08, 0.78), (0.36, 0.78)], 0.2, paint.base, edge=edge)


HOME: dict[str, Drawing] = {
    "teapot": teapot,
    "cup": cup,
    "bottle": bottle,
    "lamp": lamp,
    "chair": chair,
    "book": book,
    "clock": clock,
    "key": key,
}
