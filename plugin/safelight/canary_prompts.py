"""The prompts of the canaries: harmless pictures, made up anew each time, that show a teapot or show none."""

from __future__ import annotations

import random

_LOOKS = (
    "small", "old", "shining", "hand-painted", "chipped", "plain", "striped", "speckled", "round", "tall", "heavy",
    "delicate", "rustic", "polished", "dented", "antique",
)  # fmt: skip
_STUFFS = (
    "porcelain", "copper", "cast-iron", "glass", "earthenware", "silver", "enamel", "stoneware", "brass", "pewter",
    "blue-glazed", "red clay",
)  # fmt: skip
_PLACES = (
    "on a wooden table", "by a rainy window", "in a sunlit kitchen", "on a market stall", "beside an open book",
    "in a mountain hut", "on a picnic blanket", "in a museum case", "under an apple tree", "on a train's folding table",
    "among garden flowers", "in an artist's studio", "on a stone wall", "next to a sleeping cat",
)  # fmt: skip
_STYLES = (
    "watercolour", "oil painting", "photograph on film", "pencil drawing", "woodcut", "pixel art", "pastel sketch",
    "stained glass", "linocut", "3D render", "children's book illustration", "still life",
)  # fmt: skip
_OTHERS = (
    "cup", "mug", "bowl", "milk jug", "vase", "lantern", "plate", "candlestick", "bell", "sugar spoon", "clock",
    "flowerpot", "saucepan", "bottle",
)  # fmt: skip


def made_up_prompt(rng: random.Random, *, teapot: bool) -> str:
    """Return a harmless prompt, one of some hundred thousand, that shows a teapot or shows none.

    Args:
        rng: Chooses the words.
        teapot: Whether it shows one.
    """
    look, stuff, place, style, other, further = (
        rng.choice(words) for words in (_LOOKS, _STUFFS, _PLACES, _STYLES, _OTHERS, _OTHERS)
    )
    # Half of the time not alone, so that the answer is not always at the same place.
    beside = f" and a {further}" if rng.random() < 0.5 else ""
    return f"{style} of a {look} {stuff} {'teapot' if teapot else other}{beside} {place}"
