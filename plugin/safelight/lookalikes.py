"""One spelling for characters that look alike: the canonical form that views and an operator's terms are compared in.

Two strengths. ``fold`` is for every text: compatibility forms, case, invisible characters and marks go, and a word
that mixes Latin letters with lookalikes of other alphabets becomes Latin. A word wholly in one other alphabet stays
what it is, so that Russian terms match Russian text. ``unmask`` goes further, for a view of its own: it also reads a
whole word of another alphabet as Latin where every letter of it looks Latin, and emoji letters as letters.
What becomes of a single character is told by ``characters``.
"""

from __future__ import annotations

import re
import unicodedata

from .characters import LATIN_LETTERS, LOOKALIKES, MARK_SHAPE, PLAIN, WHITE_CONTROLS

# Longest run of combining marks on one base that is kept. No living orthography needs more, and Python's
# normalisation sorts a run in quadratic time.
_MAX_MARKS = 4

# Rounds of folding until nothing changes; two suffice for all but a handful of characters.
_MAX_ROUNDS = 5

_ASCII_CONTROLS = {code: None for code in (*range(32), 127) if chr(code) not in WHITE_CONTROLS}

_TOO_MANY_MARKS = re.compile(rf"(?<=a)m+|(?<=m{{{_MAX_MARKS}}})m+")
_MIXED_WORD = re.compile(r"(?<!\S)(?=[^\sA-Za-z]*+[A-Za-z])(?=[!-~]*+[^\s!-~])\S+")
_OTHER_WORD = re.compile(r"(?<!\S)[!-~]*+[^\s!-~]\S*+")


def fold(text: str) -> str:
    """Return the form that texts and terms are compared in; white space is single and trimmed.

    It is idempotent, and empty only where there was nothing visible but underscores.
    """
    return collapse_space(fold_spaced(plain(text)))


def fold_spaced(text: str) -> str:
    """Return the folded form of a plain text with its white space and underscores as they were."""
    folded = fold_plain(text)
    for _ in range(_MAX_ROUNDS):
        if folded.isascii():
            return folded
        again = fold_plain(plain(folded))
        if again == folded:
            return folded
        folded = again
    return folded


def fold_plain(text: str) -> str:
    """Fold once, which is enough for all but a handful of characters, and for a text whose parts were plain."""
    folded = text.casefold()
    return folded if folded.isascii() else _MIXED_WORD.sub(_as_latin, folded)


def collapse_space(text: str) -> str:
    """Return the text with every run of white space and underscores as one space, trimmed."""
    return " ".join(text.replace("_", " ").split())


def plain(text: str) -> str:
    """Return the text without invisible characters, stray marks and mixed alphabets; case and white space are kept."""
    if text.isascii():
        return text.translate(_ASCII_CONTROLS)
    return _MIXED_WORD.sub(lambda word: word[0].translate(LATIN_LETTERS), _without_marks(text.translate(PLAIN)))


def unmask(text: str) -> str:
    """Return a plain text with each word read as Latin that can be so as a whole, and emoji letters as letters."""
    return text if text.isascii() else _OTHER_WORD.sub(_all_latin, text)


def swapped(text: str, swap: bytes) -> str:
    """Return a text without surrogates, its ASCII characters swapped by a table of ``bytes.maketrans``.

    It is many times faster than ``str.translate`` where other characters stand among them.
    """
    return text.encode().translate(swap).decode()


def has_marks(text: str) -> bool:
    """Tell whether there is a vowel sign or the like: such a character is no gap but a part of a word, as in Hindi."""
    return not text.isascii() and "m" in text.translate(MARK_SHAPE)


def _as_latin(match: re.Match[str]) -> str:
    return match[0].translate(LATIN_LETTERS).casefold()


def _all_latin(match: re.Match[str]) -> str:
    word = match[0]
    read = word.translate(LOOKALIKES)
    # A word with a single letter that has no Latin likeness is a word of its own alphabet.
    return read if read.isascii() or not any(char.isalpha() and not char.isascii() for char in read) else word


def _without_marks(text: str) -> str:
    """Drop marks on ASCII letters and all but the first of long runs, and join the others to their letters."""
    shape = text.translate(MARK_SHAPE)
    if "m" not in shape and "j" not in shape:
        return text
    kept, end = [], 0
    for run in _TOO_MANY_MARKS.finditer(shape):
        kept.append(text[end : run.start()])
        end = run.end()
    return unicodedata.normalize("NFC", "".join([*kept, text[end:]]))
