"""What colour a drawing of the embedded model is, told by the nearest of those that it knows."""

from __future__ import annotations

import numpy as np
from embedded_model.colours import COLOURS
from PIL import Image

_NAMES = tuple(COLOURS)
_PALE = ("white", "grey", "black")
"""Colours of backgrounds, outlines and lights as well as of things."""


def shares(picture: Image.Image) -> dict[str, float]:
    """Return the share of the middle of a picture that is nearest to each colour, 0 to 1."""
    side = min(picture.size)
    left, top = (picture.width - side) // 2 + side // 4, (picture.height - side) // 2 + side // 4
    pixels = np.asarray(picture.convert("RGB").crop((left, top, left + side // 2, top + side // 2)), dtype=float)
    nearest = ((pixels[:, :, None] - [COLOURS[name] for name in _NAMES]) ** 2).sum(axis=-1).argmin(axis=-1)
    return {name: float((nearest == place).mean()) for place, name in enumerate(_NAMES)}


def leading(picture: Image.Image) -> str:
    """Return the colour of most of the middle of a picture, white, grey and black left out."""
    found = {name: share for name, share in shares(picture).items() if name not in _PALE}
    return max(found, key=lambda name: found[name])


def unrest(picture: Image.Image) -> float:
    """Return how much neighbouring pixels differ on average, 0 to 255; a drawn thing has outlines."""
    pixels = np.asarray(picture.convert("RGB").resize((64, 64), Image.Resampling.BOX), dtype=float)
    return float((np.abs(np.diff(pixels, axis=0)).mean() + np.abs(np.diff(pixels, axis=1)).mean()) / 2)
