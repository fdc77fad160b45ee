"""Alphabets that are shifted or mirrored, and how natural the letters of a text are.

A reader cannot know that a cipher was used. Rot13 and atbash are read in every text; the other shifts only of a text
that as a whole is much more natural under one of them. A single word that is shifted by another number than thirteen,
among ordinary words, is not covered.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import log

from .lookalikes import swapped

_ALPHABET = "abcdefghijklmnopqrstuvwxyz"
_LETTERS = _ALPHABET.encode()
_SHIFTS = [bytes.maketrans(_LETTERS, _LETTERS[shift:] + _LETTERS[:shift]) for shift in range(26)]
_ATBASH = bytes.maketrans(_LETTERS, _LETTERS[::-1])

# Letters in a thousand of English text, a to z; the usual table, as in Beker and Piper, "Cipher Systems" (1982).
_FREQUENCIES = (82, 15, 28, 43, 127, 22, 20, 61, 70, 2, 8, 40, 24, 67, 75, 19, 1, 60, 63, 91, 28, 10, 24, 2, 20, 1)
_INFORMATION = [log(1000 / frequency) for frequency in _FREQUENCIES]

# Nats a letter. Of 1,000 English prompts half have 2.93 or less and all but a handful 3.3 or less; evenly mixed letters
# have 3.9.
_NATURAL = 3.4
_READ = 3.3
_MIN_GAIN = 0.35
_MIN_LETTERS = 16


def rot13(text: str) -> str:
    """Shift the letters of a folded text by thirteen."""
    return swapped(text, _SHIFTS[13])


def atbash(text: str) -> str:
    """Mirror the alphabet of a folded text: a is z, b is y."""
    return swapped(text, _ATBASH)


def likeliest(text: str) -> int | None:
    """Find how to turn a folded text that no language is likely to have into one that it is.

    Returns:
        By how many letters to shift (1 to 25), 0 to mirror the alphabet, or None where the text is natural already, too
        short to tell, or natural in no way.
    """
    if 5 * sum(map(text.count, "etaoinsr")) > 2 * len(text):
        # At once for most texts: the commonest letters are half of a natural one.
        return None
    counts = [text.count(letter) for letter in _ALPHABET]
    if sum(counts) < _MIN_LETTERS or (own := _information(counts)) < _NATURAL:
        return None
    ways = [(_information(counts[-shift:] + counts[:-shift]), shift) for shift in range(1, 26)]
    best, way = min([*ways, (_information(counts[::-1]), 0)])
    return way if best < _READ and own - best > _MIN_GAIN else None


def shifted(text: str, shift: int) -> str:
    """Shift the letters of a folded text forwards."""
    return swapped(text, _SHIFTS[shift])


def _information(counts: Sequence[int]) -> float:
    """Return the mean information of a letter, in nats, as English would write it."""
    return sum(count * nats for count, nats in zip(counts, _INFORMATION, strict=True)) / sum(counts)
