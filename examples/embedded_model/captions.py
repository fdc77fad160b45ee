"""Captions: the many ways in which people ask for the same picture, by templates with synonyms.

A part of every caption may be words that mean nothing to the model, so that it learns to pass over them; a caption of
such words alone belongs to an empty scene.
"""

from __future__ import annotations

import csv
import random
import re
from functools import cache
from pathlib import Path

from .colours import COLOURS
from .pictures import NOUNS, USUAL, Motif
from .scenes import SCENES

NOUN_WORDS: dict[str, tuple[str, ...]] = {
    "teapot": ("teapot", "tea pot", "kettle", "teakettle"),
    "cup": ("cup", "mug", "teacup", "coffee cup", "cup of tea", "cup of coffee"),
    "bottle": ("bottle", "flask", "wine bottle"),
    "lamp": ("lamp", "table lamp", "lampshade"),
    "chair": ("chair", "seat", "stool", "wooden chair"),
    "book": ("book", "novel", "notebook"),
    "clock": ("clock", "alarm clock", "watch"),
    "key": ("key", "door key"),
    "apple": ("apple", "fruit"),
    "mushroom": ("mushroom", "toadstool"),
    "flower": ("flower", "daisy", "blossom"),
    "tree": ("tree", "oak", "oak tree"),
    "cat": ("cat", "kitten", "kitty", "cat face"),
    "rabbit": ("rabbit", "bunny", "hare"),
    "fish": ("fish", "goldfish"),
    "duck": ("duck", "duckling", "bird", "rubber duck"),
    "butterfly": ("butterfly", "moth"),
    "house": ("house", "home", "cottage", "hut"),
    "boat": ("boat", "sailing boat", "sailboat", "ship"),
    "car": ("car", "automobile", "taxi"),
    "rocket": ("rocket", "spaceship", "rocket ship"),
    "balloon": ("balloon", "hot air balloon"),
    "umbrella": ("umbrella", "parasol"),
    "hat": ("hat", "top hat"),
    "guitar": ("guitar", "acoustic guitar", "ukulele"),
    "circle": ("circle", "disc", "dot", "ball"),
    "square": ("square", "box"),
    "triangle": ("triangle",),
    "star": ("star",),
    "heart": ("heart", "love heart"),
    "ring": ("ring", "donut", "hoop"),
}

COLOUR_WORDS: dict[str, tuple[str, ...]] = {
    "red": ("red", "red", "red", "crimson", "scarlet"),
    "orange": ("orange", "orange", "orange", "tangerine"),
    "yellow": ("yellow", "yellow", "yellow", "golden", "gold"),
    "green": ("green", "green", "green", "emerald"),
    "blue": ("blue", "blue", "blue", "navy", "azure"),
    "purple": ("purple", "purple", "purple", "violet"),
    "pink": ("pink", "pink", "pink", "rose coloured"),
    "brown": ("brown", "brown", "brown", "chocolate"),
    "black": ("black", "black", "black", "dark"),
    "white": ("white", "white", "white", "ivory"),
    "grey": ("grey", "gray", "grey", "silver"),
}

SCENE_WORDS: dict[str, tuple[str, ...]] = {
    "table": ("on a table", "on the table", "on a wooden table", "on a desk", "in a kitchen"),
    "grass": ("on grass", "in a meadow", "in a garden", "on the lawn", "in a field", "in a park"),
    "snow": ("in the snow", "in winter", "on snow", "on a snowy day"),
    "beach": ("on a beach", "on the beach", "on sand", "by the sea"),
    "night": ("at night", "in the night", "under the stars", "at midnight"),
    "sky": ("in the sky", "in the clouds", "among clouds", "flying"),
    "sea": ("on the sea", "in the water", "on the water", "on a lake", "in the ocean"),
    "plain": ("", "", "", "on a plain background", "isolated"),
}

SIZE_WORDS = {"small": ("small", "tiny", "little"), "medium": ("",), "big": ("big", "large", "huge")}

_BEFORE = (
    "a picture of", "a drawing of", "an icon of", "an image of", "a photo of", "a painting of", "a sketch of",
    "clip art of", "draw", "please draw", "show me", "make", "i want", "an illustration of", "a watercolour of",
)  # fmt: skip
_AFTER = (
    "simple", "flat design", "icon", "cartoon", "digital art", "highly detailed", "4k", "minimalist", "vector art",
    "soft light", "masterpiece", "children's book illustration", "centered", "cute style", "clean lines",
)  # fmt: skip
_KINDS = ("cute", "beautiful", "old", "nice", "lovely", "pretty", "shiny", "new", "simple", "friendly", "antique")


def caption(motif: Motif, chance: random.Random) -> str:
    """Return one way to ask for the motif. A colour may be left out only where it is a usual one of the thing."""
    scene = chance.choice(SCENE_WORDS[motif.scene])
    if not motif.noun:
        return _joined([*_strangers(chance), scene], chance)
    noun = _mostly_first(NOUN_WORDS[motif.noun], chance)
    colour = _mostly_first(COLOUR_WORDS[motif.colour], chance)
    if motif.colour in USUAL.get(motif.noun, COLOURS) and chance.random() < 0.3:
        colour = ""
    size = chance.choice(SIZE_WORDS[motif.size])
    text = _arranged(noun, colour, size, scene, chance)
    if chance.random() < 0.3:
        text = f"{chance.choice(_BEFORE)} {text}"
    if chance.random() < 0.25:
        text = f"{text}, {chance.choice(_AFTER)}"
    if chance.random() < 0.15:
        text = f"{text}, {' '.join(_strangers(chance)[:3])}"
    return text


def _arranged(noun: str, colour: str, size: str, scene: str, chance: random.Random) -> str:
    kind = chance.choice(_KINDS) if chance.random() < 0.12 else ""
    article = chance.choice(("a", "a", "a", "the", "one", ""))
    plain = _words(article, size, kind, colour, noun)
    pattern = chance.random()
    if pattern < 0.6 or not colour:
        # The place comes first now and then.
        return _words(plain, scene) if chance.random() < 0.85 or not scene else f"{scene}, {plain}"
    if pattern < 0.75:
        return ", ".join(part for part in (noun, colour, scene) if part)
    if pattern < 0.85:
        return _words(article, size, kind, noun, chance.choice(("that is", "in", "coloured")), colour, scene)
    if pattern < 0.93:
        return ", ".join(part for part in (_words(colour, noun), scene, size) if part)
    return _words(article, size, noun, scene, "in", colour)


def any_hidden(chance: random.Random) -> Motif:
    """Return the motif of a caption that names nothing the model knows: an empty scene."""
    return Motif(noun="", colour="white", scene="plain" if chance.random() < 0.5 else chance.choice(list(SCENES)))


def _strangers(chance: random.Random) -> list[str]:
    return chance.sample(strange_words(), chance.randint(1, 8))


@cache
def strange_words() -> tuple[str, ...]:
    """Return words of harmless prompts that name nothing the model knows."""
    known = {word for text in _known_texts() for word in text.split()}
    found = {word for prompt in harmless_prompts() for word in re.findall(r"[^\W\d_]{2,}", prompt.lower())}
    return tuple(sorted(word for word in found if word not in known and word.removesuffix("s") not in known))


@cache
def harmless_prompts() -> tuple[str, ...]:
    """Return the harmless prompts of ``examples/prompts``, in twelve languages."""
    file = Path(__file__).parents[1] / "prompts" / "benign.tsv"
    with file.open(encoding="utf-8", newline="") as lines:
        rows = csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE)
        return tuple(row["prompt"] for row in rows)


def _known_texts() -> list[str]:
    groups = [NOUN_WORDS, COLOUR_WORDS, SCENE_WORDS, SIZE_WORDS]
    return [text for group in groups for texts in group.values() for text in texts] + list(NOUNS)


def _mostly_first(words: tuple[str, ...], chance: random.Random) -> str:
    return words[0] if chance.random() < 0.5 else chance.choice(words)


def _words(*words: str) -> str:
    return " ".join(word for word in words if word)


def _joined(words: list[str], chance: random.Random) -> str:
    return (" " if chance.random() < 0.7 else ", ").join(word for word in words if word)
