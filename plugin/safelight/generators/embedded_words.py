"""What the embedded model can draw, in words that it knows. Synonyms of these work as well."""

from __future__ import annotations

from collections.abc import Mapping

THINGS = (
    "teapot", "cup", "bottle", "lamp", "chair", "book", "clock", "key", "apple", "mushroom", "flower", "tree", "cat",
    "rabbit", "fish", "duck", "butterfly", "house", "boat", "car", "rocket", "balloon", "umbrella", "hat", "guitar",
    "circle", "square", "triangle", "star", "heart", "ring",
)  # fmt: skip

COLOURS = ("red", "orange", "yellow", "green", "blue", "purple", "pink", "brown", "black", "white", "grey")

PLACES = ("on a table", "on grass", "in the snow", "on a beach", "at night", "in the sky", "on the sea")

KNOWS: Mapping[str, tuple[str, ...]] = {"things": THINGS, "colours": COLOURS, "places": PLACES}

EXAMPLES = (
    "a red teapot on a table",
    "a blue boat on the sea",
    "a white rabbit in the snow",
    "a pink balloon in the sky",
    "a cat at night",
    "apple, green",
)
"""Whole prompts: with and without a colour and a place, and not in one order only."""
