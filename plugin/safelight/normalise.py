"""The views of a prompt: the text itself, and what is left when the usual disguises are taken off it.

What is covered: invisible characters and what they hide, lookalikes, leetspeak, spaced-out and punctuated words,
repeated letters, backspaces, reversed and upside-down text, prompt weights and special tokens, and codes (``decode``),
alone and in the combinations that people use.
What is not covered: typing errors, synonyms and languages (a judge reads the raw text for these), words split by single
white space into longer pieces, and a sentence of single letters without any wider gap between its words. Nor can a
reading know what was meant: every text is also read backwards and as a cipher, so a short term is met by an ordinary
word now and then ("raw" backwards is "war"); terms of five letters or more hardly ever are.

The raw text is always the first view, whole and unchanged. The others are made of its first ``MAX_READ_CHARS``
characters by a fixed list of recipes, so neither their number nor the work depends on what the text holds: nobody
can push a view out by filling the text with decoys. A request refuses longer texts before anything reads them.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from . import decode, disguises
from .lookalikes import collapse_space, fold_spaced, plain, unmask
from .lookalikes import fold as fold

MAX_READ_CHARS = 16_384
"""Characters of a text that views are made of: more than four full channels of a request together."""

MAX_VIEWS = 64
"""Most views of one text, the raw one included; there are not more recipes."""

MAX_VIEW_CHARS = 32_768
"""Longest view but the raw one. A text of 4,096 characters never reaches it: one character folds to four at most."""

MAX_TOTAL_CHARS = 1_048_576
"""Most characters of all views but the raw one together: 64 views of 4,096 characters, each four times as long."""


@dataclass(frozen=True, slots=True)
class View:
    """One reading of a text.

    Args:
        kind: How it was read, a short stable code; steps are joined by ">", as in "base64>leet".
        text: What it says. Folded (see ``fold``), but for the kind "raw".
    """

    kind: str
    text: str


def views(text: str) -> tuple[View, ...]:
    """Return the text itself as "raw", and after it every other reading, each text once.

    A plain sentence has a handful of views; at most ``MAX_VIEWS`` come back. No text makes this fail.
    """
    found = {text: View("raw", text)}
    left = MAX_TOTAL_CHARS
    for kind, reading in _readings(text[:MAX_READ_CHARS]):
        folded = collapse_space(reading[:MAX_VIEW_CHARS])
        if folded and folded not in found and len(folded) <= left and len(found) < MAX_VIEWS:
            found[folded] = View(kind, folded)
            left -= len(folded)
    return tuple(found.values())


def _readings(text: str) -> Iterator[tuple[str, str]]:
    """Yield every reading, its white space not yet collapsed, the likelier disguises first."""
    hidden = decode.hidden(text)
    typed = plain(text)
    folded = fold_spaced(text)
    yield "folded", folded
    undone = unmask(plain(disguises.without_backspaces(text)))
    yield "unmasked", fold_spaced(undone)
    bare = fold_spaced(disguises.without_weights(undone, ""))
    yield "unweighted", bare
    yield "apart", fold_spaced(disguises.without_weights(undone, " "))
    yield "split", fold_spaced(disguises.split_words(undone))
    yield "drawn>leet", disguises.leet(disguises.drawn(folded), disguises.LEET_I)
    yield from _undisguised("", folded)
    if bare != folded:
        yield from _undisguised("unweighted>", bare)
    if hidden:
        yield from _short("hidden", hidden)
    yield from _decoded(f"{typed}\n{hidden}" if hidden else typed)
    yield from _ciphers(folded)
    yield "acrostic", fold_spaced(disguises.acrostic(undone))
    yield "upside_down", fold_spaced(disguises.upside_down(text))
    yield "pig_latin", disguises.pig_latin(folded)


def _undisguised(prefix: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield a folded text without spacing, leetspeak, repeats and reversal, and without two of them at a time."""
    yield from _leet(prefix, text)
    yield from _collapsed(prefix, text)
    yield prefix + "reversed", disguises.backwards(text)
    letters = disguises.leet(text, disguises.LEET_I)
    yield prefix + "leet>reversed", disguises.backwards(letters)
    yield prefix + "leet>collapsed", disguises.collapsed(letters, lambda length: 1)
    yield prefix + "joined_words", disguises.joined_words(text)
    yield prefix + "joined_pieces", disguises.joined_pieces(text)
    for kind, joined in (("joined_letters", disguises.joined_letters(text)), ("glued", disguises.glued(text))):
        if joined != text:
            yield prefix + kind, joined
            yield f"{prefix}{kind}>leet", disguises.leet(joined, disguises.LEET_DIGITS_I)
            yield f"{prefix}{kind}>leet_l", disguises.leet(joined, disguises.LEET_DIGITS_L)
            yield f"{prefix}{kind}>reversed", disguises.backwards(joined)
    characters = disguises.joined_characters(text)
    if characters != text:
        yield prefix + "joined_characters>leet", disguises.leet(characters, disguises.LEET_I)
        yield prefix + "joined_characters>leet_l", disguises.leet(characters, disguises.LEET_L)


def _leet(prefix: str, text: str) -> Iterator[tuple[str, str]]:
    yield prefix + "leet", disguises.leet(text, disguises.LEET_I)
    yield prefix + "leet_l", disguises.leet(text, disguises.LEET_L)
    yield prefix + "leet_digits", disguises.leet(text, disguises.LEET_DIGITS_I)


def _collapsed(prefix: str, text: str) -> Iterator[tuple[str, str]]:
    yield prefix + "collapsed", disguises.collapsed(text, lambda length: 1)
    # For words that have a double letter themselves.
    yield prefix + "halved", disguises.collapsed(text, lambda length: (length + 1) // 2)
    yield prefix + "doubled", disguises.collapsed(text, lambda length: 2)


def _decoded(text: str) -> Iterator[tuple[str, str]]:
    """Yield what codes hide, and what codes inside codes hide."""
    kind, once = decode.decode(text)
    if kind:
        yield from _short(kind, once)
        again, twice = decode.decode(plain(once))
        if again:
            yield from _short(f"{kind}>{again}", twice)


def _short(kind: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield a decoded text and its commonest disguises."""
    folded = fold_spaced(disguises.without_weights(unmask(plain(text)), " "))
    yield kind, fold_spaced(text)
    yield kind + ">leet", disguises.leet(folded, disguises.LEET_I)
    yield kind + ">joined_letters", disguises.joined_letters(folded)
    yield kind + ">reversed", disguises.backwards(folded)
    yield kind + ">rot13", decode.rot13(folded)


def _ciphers(folded: str) -> Iterator[tuple[str, str]]:
    yield "rot13", decode.rot13(folded)
    yield "atbash", decode.atbash(folded)
