"""The colours that the embedded model knows, and the three paints that a drawing makes of one."""

from __future__ import annotations

from dataclasses import dataclass

RGB = tuple[int, int, int]
"""Red, green and blue, each 0 to 255."""

COLOURS: dict[str, RGB] = {
    "red": (222, 40, 40),
    "orange": (248, 138, 20),
    "yellow": (250, 216, 40),
    "green": (44, 160, 68),
    "blue": (36, 96, 222),
    "purple": (132, 56, 176),
    "pink": (250, 138, 184),
    "brown": (128, 78, 40),
    "black": (38, 38, 42),
    "white": (248, 248, 246),
    "grey": (142, 146, 152),
}


@dataclass(frozen=True, slots=True)
class Paint:
    """What one thing is painted with: its colour, a lighter and a darker shade of it, and the colour of its edges."""

    base: RGB
    light: RGB
    dark: RGB
    edge: RGB

    @classmethod
    def of(cls, base: RGB) -> Paint:
        """Return the paint of one colour. Edges are dark, but grey on a colour that is nearly black."""
        nearly_black = sum(base) < 180
        return cls(
            base=base,
            light=mixed(base, (255, 255, 255), 0.25 if nearly_black else 0.45),
            dark=mixed(base, (0, 0, 0), 0.3),
            edge=(92, 92, 98) if nearly_black else mixed(base, (20, 16, 24), 0.72),
        )


def mixed(one: RGB, other: RGB, share: float) -> RGB:
    """Return ``one`` with a ``share`` (0 to 1) of ``other`` in it."""
    red, green, blue = (round(a + (b - a) * share) for a, b in zip(one, other, strict=True))
    return red, green, blue
