"""The views of a prompt: the text itself, and what is left when the usual disguises are taken off it.

What is covered: invisible characters and what they hide, lookalikes, leetspeak, spaced-out and punctuated words,
repeated letters, backspaces, reversed and upside-down text, prompt syntax and special tokens (``prompt_syntax``),
codes up to ``MAX_DEPTH`` deep (``decode``) and shifted alphabets (``ciphers``), alone and in the combinations that
people use.
What is not covered: typing errors, synonyms and languages (a judge reads the raw text for these), words split by single
white space into longer pieces, and a sentence of single letters without any wider gap between its words. Nor can a
reading know what was meant: every text is also read backwards and as a cipher, so a short term is met by an ordinary
word now and then ("raw" backwards is "war"); terms of five letters or more hardly ever are.

The raw text is always the first view, whole and unchanged. The others are made of its first ``MAX_READ_CHARS``
characters by a fixed list of recipes, so neither their number nor the work depends on what the text holds: nobody
can push a view out by filling the text with decoys. A request refuses longer texts before anything reads them.

Each view says how it was read, and whether the disguise was really there (``traces``) or the reading was blind.
``evident`` picks the former, for a judge or an operator.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import NamedTuple

from . import ciphers, decode, disguises, prompt_syntax, traces
from .lookalikes import collapse_space, fold_plain, fold_spaced, plain, unmask
from .lookalikes import fold as fold

NORMALISER_VERSION = 2
"""Goes up whenever a text may get other views than before, so that nobody reads a verdict on the old ones."""

MAX_READ_CHARS = 16_384
"""Characters of a text that views are made of: more than four full channels of a request together."""

MAX_VIEWS = 72
"""Most views of one text, the raw one included; there are not more recipes."""

MAX_VIEW_CHARS = 32_768
"""Longest view but the raw one. A text of 4,096 characters never reaches it: one character folds to four at most."""

MAX_TOTAL_CHARS = 1_179_648
"""Most characters of all views but the raw one together: 72 views of 4,096 characters, each four times as long."""

MAX_DEPTH = 2
"""Codes inside codes that are read."""

MAX_EVIDENT = 6
"""Most views that ``evident`` returns: each is read by a judge that is paid by the token."""

_REMARKS = {
    "folded": "letters folded to one spelling", "unmasked": "lookalikes read as Latin",
    "unweighted": "prompt syntax removed", "apart": "prompt syntax read as gaps", "split": "words split at capitals",
    "drawn": "letters drawn with signs read", "leet": "digits and signs read as letters",
    "leet_l": "digits and signs read as letters, 1 as l", "leet_digits": "digits read as letters",
    "collapsed": "repeated letters read as one", "halved": "doubled letters read as one",
    "doubled": "repeated letters read as two", "reversed": "read backwards", "joined_words": "spaced-out words joined",
    "joined_letters": "spaced-out letters joined", "joined_pieces": "pieces of words joined",
    "joined_characters": "spaced-out signs joined", "glued": "signs inside words removed",
    "hidden": "text hidden in invisible characters", "rot13": "letters shifted by 13", "atbash": "alphabet mirrored",
    "caesar": "letters shifted", "acrostic": "first letters read", "upside_down": "upside-down letters turned",
    "pig_latin": "pig Latin read", "unicode": "Unicode escapes decoded", "css": "CSS escapes decoded",
    "bytes": "escaped bytes decoded", "octal": "octal escapes decoded", "html": "HTML entities decoded",
    "nato": "spelling words read", "octal_groups": "octal numbers decoded", "decimal": "decimal numbers decoded",
    "hex": "hexadecimal decoded",
}  # fmt: skip


@dataclass(frozen=True, slots=True)
class View:
    """One reading of a text.

    Args:
        kind: How it was read, a short stable code; steps are joined by ">", as in "base64>leet".
        text: What it says. Folded (see ``fold``), but for the kind "raw".
        why: The same for people, as "base64 decoded; digits and signs read as letters". Empty for the kind "raw".
        evident: Whether the disguise was found in the text. If not, the reading was blind and is most likely noise.
    """

    kind: str
    text: str
    why: str = ""
    evident: bool = False


class _Reading(NamedTuple):
    """A view before its white space is collapsed; ``why`` only where the kind does not say it."""

    kind: str
    text: str
    evident: bool = False
    why: str = ""


def views(text: str) -> tuple[View, ...]:
    """Return the text itself as "raw", and after it every other reading, each text once.

    A plain sentence has a handful of views; at most ``MAX_VIEWS`` come back. No text makes this fail.
    """
    found = {text: View("raw", text)}
    left = MAX_TOTAL_CHARS
    for reading in _readings(text[:MAX_READ_CHARS]):
        folded = collapse_space(reading.text[:MAX_VIEW_CHARS])
        known = found.get(folded)
        if known is None and folded and len(folded) <= left and len(found) < MAX_VIEWS:
            found[folded] = View(reading.kind, folded, reading.why or _why(reading.kind), reading.evident)
            left -= len(folded)
        elif known is not None and reading.evident and not known.evident and known.kind != "raw":
            # The same text by another way, and this way leads there.
            found[folded] = replace(known, why=reading.why or _why(reading.kind), evident=True)
    return tuple(found.values())


def evident(views: Sequence[View]) -> tuple[View, ...]:
    """Return the views that undo a disguise which is there, at most ``MAX_EVIDENT``.

    One of each way of reading comes first, so that many of one kind leave room for the others.
    """
    shown = [view for view in views if view.evident]
    seen: dict[str, int] = {}
    ranked = []
    for view in shown:
        way = view.kind.split(">")[0]
        ranked.append((seen.setdefault(way, 0), view))
        seen[way] += 1
    return tuple(view for _, view in sorted(ranked, key=lambda pair: pair[0])[:MAX_EVIDENT])


@lru_cache(maxsize=256)
def _why(kind: str) -> str:
    """Say a kind in words."""
    steps = (step.split("+") for step in kind.split(">"))
    return "; ".join(", ".join(_REMARKS.get(code, f"{code} decoded") for code in codes) for codes in steps)


def _readings(text: str) -> Iterator[_Reading]:
    """Yield every reading, the likelier disguises first."""
    looks = traces.looks(text)
    typed = plain(text)
    folded = fold_spaced(typed)
    yield _Reading("folded", folded, bool(looks), looks)
    deleted = traces.backspaces(text)
    undone = unmask(plain(disguises.without_backspaces(text)) if deleted else typed)
    if undone != typed:
        why = "; ".join(filter(None, ("backspaces applied" if deleted else "", looks)))
        yield _Reading("unmasked", fold_plain(undone), bool(why), why)
    split = disguises.split_words(undone)
    if split != undone:
        yield _Reading("split", fold_plain(split))
    short, there = _traces(folded)
    yield from _undisguised("", folded, short, there)
    joined, apart = prompt_syntax.without_syntax(undone)
    bare = fold_plain(joined)
    if bare != folded:
        syntax = prompt_syntax.traces(undone)
        yield _Reading("unweighted", bare, bool(syntax), syntax)
        if apart != joined:
            yield _Reading("apart", fold_plain(apart), bool(syntax), syntax)
        short, bared = _traces(bare)
        yield from _undisguised(
            "unweighted>", bare, short, bared if syntax or looks or undone != typed else bared - there
        )
    yield from _coded(text, typed)
    yield from _ciphers(text, folded)
    yield _Reading("acrostic", fold_plain(disguises.acrostic(undone)))
    yield _Reading("upside_down", fold_plain(disguises.upside_down(text)), traces.turned(text))
    if "ay" in folded:
        yield _Reading("pig_latin", disguises.pig_latin(folded))


def _traces(folded: str) -> tuple[bool, frozenset[str]]:
    """Return whether there is something to join, and which disguises show."""
    short = disguises.has_short_pieces(folded)
    found = traces.spaced(folded) if short else set()
    return short, frozenset(found | {"leet"} if traces.leet(folded) else found)


def _undisguised(prefix: str, text: str, short: bool, there: frozenset[str]) -> Iterator[_Reading]:
    """Yield a folded text without spacing, leetspeak, repeats and reversal, and without two of them at a time.

    Args:
        prefix: How the text was read.
        text: It.
        short: Whether it has runs of short pieces.
        there: Which disguises show in it.
    """
    yield from _leet(prefix, text, "leet" in there)
    # Halved and doubled are for words that have a double letter themselves.
    runs = disguises.collapsed(text, lambda length: 1, lambda length: (length + 1) // 2, lambda length: 2)
    for kind, reading in zip(("collapsed", "halved", "doubled"), runs, strict=False):
        yield _Reading(prefix + kind, reading, kind != "doubled" and traces.repeated(text))
    yield _Reading(prefix + "reversed", disguises.backwards(text))
    if short:
        yield from _joined(prefix, text, there)
    yield from _joined_leet(prefix + "glued", text, disguises.glued(text), traces.odd_signs(text))


def _leet(prefix: str, text: str, there: bool) -> Iterator[_Reading]:
    shapes = disguises.drawn(text)
    if shapes != text:
        yield _Reading(prefix + "drawn>leet", _one_leet(shapes), traces.drawn(text))
    if not disguises.has_leet(text):
        return
    letters, with_l, digits = disguises.leet(text, disguises.LEET_I, disguises.LEET_L, disguises.LEET_DIGITS_I)
    yield _Reading(prefix + "leet", letters, there)
    yield _Reading(prefix + "leet_l", with_l, there)
    yield _Reading(prefix + "leet_digits", digits)
    yield _Reading(prefix + "leet>reversed", disguises.backwards(letters))
    for one in disguises.collapsed(letters, lambda length: 1):
        yield _Reading(prefix + "leet>collapsed", one, there and traces.repeated(letters))


def _one_leet(text: str) -> str:
    return disguises.leet(text, disguises.LEET_I)[0] if disguises.has_leet(text) else text


def _joined(prefix: str, text: str, there: frozenset[str]) -> Iterator[_Reading]:
    words, letters = disguises.joined_letters(text)
    yield _Reading(prefix + "joined_words", words, "letters" in there)
    yield _Reading(prefix + "joined_pieces", disguises.joined_pieces(text), "pieces" in there)
    yield from _joined_leet(prefix + "joined_letters", text, letters, "letters" in there)
    characters = disguises.joined_characters(text)
    if characters != text:
        spaced = "characters" in there
        with_i, with_l = disguises.leet(characters, disguises.LEET_I, disguises.LEET_L)
        yield _Reading(prefix + "joined_characters>leet", with_i, spaced)
        yield _Reading(prefix + "joined_characters>leet_l", with_l, spaced)


def _joined_leet(kind: str, text: str, joined: str, there: bool) -> Iterator[_Reading]:
    if joined == text:
        return
    yield _Reading(kind, joined, there)
    if disguises.has_leet(joined):
        with_i, with_l = disguises.leet(joined, disguises.LEET_DIGITS_I, disguises.LEET_DIGITS_L)
        yield _Reading(f"{kind}>leet", with_i, there)
        yield _Reading(f"{kind}>leet_l", with_l, there)
    yield _Reading(f"{kind}>reversed", disguises.backwards(joined))


def _coded(text: str, typed: str) -> Iterator[_Reading]:
    """Yield what invisible characters and codes hide, and what codes inside codes hide."""
    hidden = plain(decode.hidden(text))
    if hidden:
        yield from _found("hidden", hidden, decode.is_hidden(text))
        typed = f"{typed}\n{hidden}"
    kinds = []
    for _ in range(MAX_DEPTH):
        kind, read = decode.decode(typed)
        if not kind:
            return
        kinds.append(kind)
        typed = plain(read)
        yield from _found(">".join(kinds), typed, True)


def _found(kind: str, typed: str, there: bool) -> Iterator[_Reading]:
    """Yield a decoded and plain text, and its commonest disguises."""
    undone = unmask(typed)
    joined, apart = prompt_syntax.without_syntax(undone)
    folded = fold_plain(apart)
    yield _Reading(kind, fold_plain(typed), there)
    if joined != apart:
        yield _Reading(kind + ">unweighted", fold_plain(joined), there)
    yield _Reading(kind + ">leet", _one_leet(folded), there and traces.leet(folded))
    if disguises.has_short_pieces(folded):
        letters = disguises.joined_letters(folded)[1]
        yield _Reading(kind + ">joined_letters", letters, there)
    yield _Reading(kind + ">reversed", disguises.backwards(folded))
    yield _Reading(kind + ">rot13", ciphers.rot13(folded))


def _ciphers(text: str, folded: str) -> Iterator[_Reading]:
    # Who writes in cipher does so in ASCII; other letters are a language's own, whose letters may well be unusual.
    way = ciphers.likeliest(folded) if text.isascii() else None
    yield _Reading("rot13", ciphers.rot13(folded))
    yield _Reading("atbash", ciphers.atbash(folded), way == 0)
    if way:
        yield _Reading("caesar", ciphers.shifted(folded, way), True, f"letters shifted by {way}")
