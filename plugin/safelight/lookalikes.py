"""One spelling for characters that look alike: the canonical form that views and an operator's terms are compared in.

Two strengths. ``fold`` is for every text: compatibility forms, case, invisible characters and marks go, and a word
that mixes Latin letters with lookalikes of other alphabets becomes Latin. A word wholly in one other alphabet stays
what it is, so that Russian terms match Russian text. ``unmask`` goes further, for a view of its own: it also reads a
whole word of another alphabet as Latin where every letter of it looks Latin, and emoji letters as letters.

The tables are Unicode's: character properties and names from ``unicodedata``, and the list of confusable characters
(UTS #39) as the package ``confusable-homoglyphs`` ships it; here is only what both leave out.
"""

from __future__ import annotations

import json
import re
import unicodedata
from functools import cache, lru_cache
from importlib import resources

# Longest replacement of one character under NFKC. Only a few Arabic ligatures and squared words are longer (one of
# them 18 characters), and a text of them would push everything else over the limits of a view.
_MAX_SPREAD = 4

# Longest run of combining marks on one base that is kept. No living orthography needs more, and Python's
# normalisation sorts a run in quadratic time.
_MAX_MARKS = 4

# Rounds of folding until nothing changes; two suffice for all but a handful of characters.
_MAX_ROUNDS = 5

_WHITE_CONTROLS = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85")
_ASCII_CONTROLS = {code: None for code in (*range(32), 127) if chr(code) not in _WHITE_CONTROLS}

# Default-ignorable characters that are letters or marks by category, so that the category alone does not tell.
_IGNORABLE = frozenset("\u034f\u115f\u1160\u17b4\u17b5\u3164\uffa0") | {chr(c) for c in range(0x180B, 0x1810)}

# Symbols after a word that NFKC would glue to it as letters, and a blank that is no white space.
_BLANKS = frozenset("™℠℡\u2800")

_LATIN_NAMES = {
    "AE": "ae", "OE": "oe", "ALPHA": "a", "SCHWA": "e", "ESH": "s", "EZH": "z", "ENG": "n", "GAMMA": "y",
    "IOTA": "i", "UPSILON": "u", "PHI": "o", "KRA": "k", "WYNN": "p", "ETH": "d", "THORN": "th", "OMEGA": "w",
}  # fmt: skip

# Letters that people read as Latin ones and Unicode's list, which is about exact likeness, gives as something else.
_READ_AS = {
    **dict(zip("βζδελμξπωθφψχγκ", "bzdeluenwooyxyk", strict=True)),
    **dict(zip("ΛΔΞΠΩΣΘΦΨΓΙ", "AAENOEOOYRI", strict=True)),
    **dict(zip("бгдлцчшщъьэжю", "brdluywwbbexu", strict=True)),
    **dict(zip("БГДЛЦЧШЩЪЬЭЖІЗИЯ", "BRDLUYWWBBEXIENR", strict=True)),
    **dict(zip("₳₿฿₵₫₣₲₭₦₱₮₩₴₡", "abbcdfgknptwsc", strict=True)),
}


def fold(text: str) -> str:
    """Return the form that texts and terms are compared in; white space is single and trimmed.

    It is idempotent, and empty only where there was nothing visible but underscores.
    """
    return collapse_space(fold_spaced(text))


def fold_spaced(text: str) -> str:
    """Return the folded text with its white space and underscores as they were."""
    for _ in range(_MAX_ROUNDS):
        folded = plain(text).casefold()
        if folded.isascii() or folded == text:
            return folded
        text = folded
    return text


def collapse_space(text: str) -> str:
    """Return the text with every run of white space and underscores as one space, trimmed."""
    return " ".join(text.replace("_", " ").split())


def plain(text: str) -> str:
    """Return the text without invisible characters, stray marks and mixed alphabets; case and white space are kept."""
    if text.isascii():
        return text.translate(_ASCII_CONTROLS)
    # Marks go before and after: before, because normalising sorts them; after, because it splits them off.
    visible = _without_marks("".join(map(_visible, text)))
    spread = _without_marks(unicodedata.normalize("NFKD", visible))
    return re.sub(r"\S+", _one_alphabet, unicodedata.normalize("NFC", spread))


def unmask(text: str) -> str:
    """Return a plain text with each word read as Latin that can be so as a whole, and emoji letters as letters."""
    return text if text.isascii() else re.sub(r"\S+", _all_latin, text)


def _one_alphabet(match: re.Match[str]) -> str:
    word = match[0]
    if word.isascii():
        return word
    letters = [_letter(char) for char in word]
    if any(letter.isascii() and letter.isalpha() for letter in letters):
        # Symbols are left alone here: a flag beside a word is no part of it.
        letters = [_lookalike(letter) if letter.isalpha() and not _is_latin(letter) else letter for letter in letters]
    return "".join(letters)


def _is_latin(letter: str) -> bool:
    """Tell ASCII, and Latin letters that are nobody's disguise, as the German sharp s is not the Greek beta."""
    return letter.isascii() or "LATIN" in unicodedata.name(letter[0], "")


def _all_latin(match: re.Match[str]) -> str:
    word = match[0]
    read = "".join(_lookalike(char) for char in word)
    # A word with a single letter that has no Latin likeness is a word of its own alphabet.
    return read if not any(char.isalpha() and not char.isascii() for char in read) else word


@lru_cache(maxsize=16_384)
def _visible(char: str) -> str:
    """Return what stays of one character before normalising: itself, a blank, a dot or nothing."""
    kind = unicodedata.category(char)
    if char in _WHITE_CONTROLS or char in _BLANKS:
        return char if char in _WHITE_CONTROLS else " "
    if kind in ("Cc", "Cf", "Cs") or char in _IGNORABLE or _is_selector(char) or _is_stray_mark(char):
        return ""
    return "·" if len(unicodedata.normalize("NFKC", char)) > _MAX_SPREAD else char


def _is_selector(char: str) -> bool:
    return "\ufe00" <= char <= "\ufe0f" or "\U000e0000" <= char <= "\U000e0fff"


def _is_stray_mark(char: str) -> bool:
    """Tell a mark that decorates any script, or that Hebrew and Arabic are usually written without."""
    if unicodedata.category(char) not in ("Mn", "Me"):
        return False
    name = unicodedata.name(char, "")
    # The Japanese voicing marks make other letters, as か and が are.
    return name.startswith(("COMBINING", "HEBREW", "ARABIC")) and "KATAKANA" not in name


def _without_marks(text: str) -> str:
    """Drop marks on Latin letters, marks that belong to no script, and long runs of any."""
    kept: list[str] = []
    run, latin = 0, False
    for char in text:
        if unicodedata.category(char)[0] != "M":
            run, latin = 0, char.isascii() and char.isalnum()
        else:
            run += 1
            if latin or run > _MAX_MARKS or not _visible(char):
                continue
        kept.append(char)
    return "".join(kept)


@lru_cache(maxsize=16_384)
def _letter(char: str) -> str:
    """Return the ASCII letter or digit that a Latin letter or a digit of any script stands for, else the character."""
    if char.isascii():
        return char
    digit = unicodedata.decimal(char, None)
    if digit is not None:
        return str(digit)
    return (_named_letter(char) or char) if char.isalpha() else char


def _named_letter(char: str) -> str:
    """Read the letter off a character's name, as in LATIN LETTER SMALL CAPITAL R or ... LETTER O WITH STROKE."""
    name = unicodedata.name(char, "").partition(" WITH ")[0]
    start, _, last = name.rpartition(" ")
    if start.endswith("SHARP"):
        # The German sharp s is no s; folding the case makes it two.
        return ""
    if "LATIN" not in start and not start.startswith(("REGIONAL INDICATOR", "NEGATIVE SQUARED", "SQUARED")):
        return ""
    if "SQUARED" in start and last.isascii() and last.isalpha() and len(last) <= 4:
        return last.lower()
    letter = last if len(last) == 1 and last.isascii() and last.isalpha() else _LATIN_NAMES.get(last, "")
    return letter.upper() if "LATIN CAPITAL" in start else letter.lower()


@lru_cache(maxsize=16_384)
def _lookalike(char: str) -> str:
    """Return the ASCII letters that a character of any script or emoji looks like, else the character."""
    if char.isascii():
        return char
    if char in _READ_AS:
        return _READ_AS[char]
    for likeness in (*_confusables().get(char, ()), char, _undecorated(char)):
        bare = [c for c in unicodedata.normalize("NFKD", likeness) if unicodedata.category(c)[0] != "M"]
        read = "".join(_READ_AS.get(c) or _named_letter(c) or _letter(c) if not c.isascii() else c for c in bare)
        if read.isascii() and read.isalnum():
            return read
    return char


def _undecorated(char: str) -> str:
    """Return the letter without its hooks and strokes, where Unicode has no decomposition, as the Cyrillic ones."""
    name, decorated, _ = unicodedata.name(char, "").partition(" WITH ")
    try:
        base = unicodedata.lookup(name) if decorated else ""
    except KeyError:
        return ""
    return _confusables().get(base, (base,))[0]


@cache
def _confusables() -> dict[str, tuple[str, ...]]:
    """Read Unicode's list: a character to the shapes it is confusable with. Only a text beyond ASCII needs it."""
    table = resources.files("confusable_homoglyphs") / "confusables.json"
    return {
        char: tuple(likeness["c"] for likeness in likenesses)
        for char, likenesses in json.loads(table.read_text("ascii")).items()
        if not char.isascii()
    }
