"""A canvas in units of the thing that is drawn, so that a drawing knows neither its place nor its size.

A drawing fills the square from -1 to 1, x to the right and y downwards. The canvas turns, sizes and places it,
and draws at four times the final size, which makes the edges smooth when the picture is reduced.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

from PIL import Image, ImageDraw

from .colours import RGB

Point = tuple[float, float]

OVERSAMPLING = 4


@dataclass(frozen=True, slots=True)
class Place:
    """Where a drawing goes, in shares of the picture's side.

    Args:
        x: Middle of the drawing, 0 at the left, 1 at the right.
        y: Middle of the drawing, 0 at the top, 1 at the bottom.
        half: Half of the drawing's side.
        tilt: Turn, in degrees.
    """

    x: float = 0.5
    y: float = 0.5
    half: float = 0.38
    tilt: float = 0.0


class Canvas:
    """Draws shapes with dark edges in the square from -1 to 1 of one place of a picture."""

    def __init__(self, image: Image.Image, place: Place, edge: RGB, *, edge_width: float = 0.07) -> None:
        self._draw = ImageDraw.Draw(image)
        self._side = image.width
        self._place = place
        self._edge = edge
        self._edge_width = edge_width
        angle = math.radians(place.tilt)
        self._cos, self._sin = math.cos(angle), math.sin(angle)

    def polygon(self, points: Sequence[Point], fill: RGB, *, edge: bool = True) -> None:
        """Fill a closed shape with straight sides, with an edge unless ``edge`` is false."""
        pixels = [self._pixel(point) for point in points]
        self._draw.polygon(pixels, fill=fill)
        if edge:
            self._line([*pixels, pixels[0], pixels[1]], self._edge_width, self._edge)

    def blob(self, points: Sequence[Point], fill: RGB, *, edge: bool = True) -> None:
        """Fill a closed, smooth curve that goes through ``points``, of which there are at least three."""
        self.polygon(_smooth(points, closed=True), fill, edge=edge)

    def ellipse(self, middle: Point, radii: Point, fill: RGB, *, tilt: float = 0.0, edge: bool = True) -> None:
        """Fill an ellipse. ``tilt`` turns it, in degrees."""
        angle = math.radians(tilt)
        points = []
        for step in range(32):
            x = radii[0] * math.cos(step * math.tau / 32)
            y = radii[1] * math.sin(step * math.tau / 32)
            points.append(
                (
                    middle[0] + x * math.cos(angle) - y * math.sin(angle),
                    middle[1] + x * math.sin(angle) + y * math.cos(angle),
                )
            )
        self.polygon(points, fill, edge=edge)

    def stroke(
        self, points: Sequence[Point], width: float, fill: RGB, *, edge: bool = True, smooth: bool = True
    ) -> None:
        """Draw a line of ``width`` with round ends, smooth through ``points`` or straight between them."""
        path = _smooth(points, closed=False) if smooth and len(points) > 2 else list(points)
        pixels = [self._pixel(point) for point in path]
        if edge:
            self._line(pixels, width + 2 * self._edge_width * 0.8, self._edge)
        self._line(pixels, width, fill)

    def _pixel(self, point: Point) -> Point:
        x, y = point
        turned = x * self._cos - y * self._sin, x * self._sin + y * self._cos
        return (
            (self._place.x + turned[0] * self._place.half) * self._side,
            (self._place.y + turned[1] * self._place.half) * self._side,
        )

    def _line(self, pixels: Sequence[Point], width: float, fill: RGB) -> None:
        thick = max(1, round(width * self._place.half * self._side))
        self._draw.line(list(pixels), fill=fill, width=thick, joint="curve")
        for x, y in (pixels[0], pixels[-1]):
            self._draw.ellipse((x - thick / 2, y - thick / 2, x + thick / 2, y + thick / 2), fill=fill)


def _smooth(points: Sequence[Point], *, closed: bool, pieces: int = 6) -> list[Point]:
    """Return points on the Catmull-Rom curve through ``points``, ``pieces`` of them between each two."""
    count = len(points)

    def at(i: int) -> Point:
        return points[i % count] if closed else points[min(max(i, 0), count - 1)]

    curve: list[Point] = []
    for i in range(count if closed else count - 1):
        before, start, end, after = at(i - 1), at(i), at(i + 1), at(i + 2)
        for piece in range(pieces):
            curve.append(_between(before, start, end, after, piece / pieces))
    if not closed:
        curve.append(points[-1])
    return curve


def _between(before: Point, start: Point, end: Point, after: Point, t: float) -> Point:
    x, y = (
        0.5 * (2 * b + (c - a) * t + (2 * a - 5 * b + 4 * c - d) * t * t + (3 * b - a - 3 * c + d) * t**3)
        for a, b, c, d in zip(before, start, end, after, strict=True)
    )
    return x, y
