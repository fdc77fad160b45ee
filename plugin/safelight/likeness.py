"""How alike two requests are in what they ask to be shown: tells a variant of a blocked prompt from another prompt.

What is covered: another order of words or of phrases, filler before, after and between, small changes of letters, one
word exchanged in a longer phrase, prompt weights, and whatever ``normalise.fold`` takes off. A style tail that two
prompts share makes them no more alike: phrases that stand in both are set aside, and what is left must be alike too.
What is not covered: synonyms and other languages (a judge reads those), filler around a blocked prompt of a few
letters, and a prompt of tags in which one whole tag is exchanged, which is as likely another picture.

Nothing here knows which words are harmful, so an innocent word put in a blocked one's place looks like any other swap.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from rapidfuzz import fuzz

from .normalise import fold

MIN_CONTAINED_CHARS = 30
"""A shorter blocked prompt is not looked for inside a longer one, where its few words would stand by chance."""

SLACK = 0.15
"""So much less alike may the unshared phrases be where the texts as a whole are alike: a word in a phrase of seven."""

# What separates phrases, in folded text. A full-width comma is folded to an ASCII one before.
_ENDS = re.compile(r"[,.;:!?|·、。]+")
_WEIGHT = re.compile(r":\s*[-+]?\d*\.?\d+(?=\s*[)\]>])")
_NO_WORD = re.compile(r"[^\w\s]")


@dataclass(frozen=True)
class Wording:
    """The words of a request.

    Args:
        shown: The channels that say what to show, each as its phrases, each of them words joined by blanks. A channel
            that says the same as one before it is left out.
        every: How often each word stands in all channels together, negative prompts included.
    """

    shown: tuple[tuple[str, ...], ...]
    every: Counter[str]

    @classmethod
    def of(cls, texts: Mapping[str, str]) -> Wording:
        """Read the channels of a request, by name; names that begin with "negative" say what to avoid."""
        phrases = {name: _phrases(text) for name, text in texts.items()}
        shown = [found for name, found in phrases.items() if not name.startswith("negative")]
        every = Counter(word for found in phrases.values() for phrase in found for word in phrase.split())
        return cls(tuple(dict.fromkeys(shown)), every)

    @cached_property
    def phrases(self) -> tuple[str, ...]:
        """The phrases of all shown channels, in order."""
        return tuple(phrase for channel in self.shown for phrase in channel)

    @cached_property
    def text(self) -> str:
        """The shown words in their order."""
        return " ".join(self.phrases)

    @cached_property
    def sorted_text(self) -> str:
        """The shown words in the order of the alphabet."""
        return " ".join(sorted(self.text.split()))

    @cached_property
    def bag(self) -> Counter[str]:
        """How often each shown word stands there."""
        return Counter(self.text.split())

    @cached_property
    def canonical(self) -> str:
        """The shown words, each once, in a fixed order: the same for every order, spacing and weighting of them."""
        return _canonical(self.phrases)

    @cached_property
    def canonical_channels(self) -> tuple[str, ...]:
        """The same for every shown channel by itself."""
        return tuple(_canonical(channel) for channel in self.shown)

    def without(self, phrases: Collection[str]) -> Wording:
        """Return what is shown beside these phrases."""
        rest = (tuple(phrase for phrase in channel if phrase not in phrases) for channel in self.shown)
        return Wording(tuple(rest), self.every)

    def corrects(self, blocked: Wording) -> bool:
        """Tell whether words of the blocked request were taken out and nothing was put in, as the advice asks."""
        return self.every != blocked.every and self.every <= blocked.every

    def explains(self, blocked: Wording) -> bool:
        """Tell whether all words of the blocked request are still there, unchanged, and others were put in."""
        return self.every != blocked.every and self.every >= blocked.every


def likeness(asked: Wording, blocked: Wording, *, least: float = 0.0) -> float:
    """Return how far a request is a variant of a blocked one, 0 to 1; 1 also where it contains the blocked one.

    Args:
        asked: The request.
        blocked: The blocked one.
        least: What is less alike than this may come out as 0, which takes a fraction of the time.
    """
    inside = len(blocked.text) >= MIN_CONTAINED_CHARS
    whole = _alike(asked, blocked, inside, least)
    shared = set(asked.phrases) & set(blocked.phrases)
    if whole < least or not shared:
        return whole
    ours, theirs = asked.without(shared), blocked.without(shared)
    if not ours.text or not theirs.text:
        return whole
    return min(whole, _alike(ours, theirs, inside, least - SLACK) + SLACK)


def _alike(asked: Wording, blocked: Wording, inside: bool, least: float) -> float:
    """Return the highest of three: letter by letter, the same with sorted words, how much of one is in the other."""
    if not asked.text or not blocked.text:
        return 0.0
    contained = _contained(asked.bag, blocked.bag) if inside else 0.0
    cutoff = 100 * max(least, contained)
    in_order = fuzz.ratio(asked.text, blocked.text, score_cutoff=cutoff)
    sorted_ = fuzz.ratio(asked.sorted_text, blocked.sorted_text, score_cutoff=max(cutoff, in_order))
    return max(contained, in_order / 100, sorted_ / 100)


def _contained(asked: Counter[str], blocked: Counter[str]) -> float:
    """Return how like the blocked words are those of them that stand in the asked ones, as often at most."""
    total = sum(len(word) * count for word, count in blocked.items())
    found = sum(len(word) * min(count, asked[word]) for word, count in blocked.items())
    # As the letter-by-letter figure counts: twice what is common, by all on both sides.
    return 2 * found / (found + total) if total else 0.0


def _phrases(text: str) -> tuple[str, ...]:
    # Folding makes a blank of a line's end, which ends a phrase too.
    folded = _WEIGHT.sub("", fold(", ".join(text.splitlines())))
    found = (" ".join(_NO_WORD.sub(_word_part, phrase).split()) for phrase in _ENDS.split(folded))
    # A text of nothing but punctuation says that.
    return tuple(phrase for phrase in found if phrase) or (folded,)


def _word_part(match: re.Match[str]) -> str:
    """Return what a character that is no letter or digit is to a word: a mark is part of it, an emoji is one."""
    kind = unicodedata.category(match[0])
    if kind[0] == "M":
        return match[0]
    return f" {match[0]} " if kind == "So" else " "


def _canonical(phrases: Sequence[str]) -> str:
    return " ".join(sorted({word for phrase in phrases for word in phrase.split()}))
