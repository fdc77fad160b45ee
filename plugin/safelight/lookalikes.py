"""One spelling for characters that look alike: the canonical form that views and an operator's terms are compared in.

Two strengths. ``fold`` is for every text: compatibility forms, case, invisible characters and marks go, and a word
that mixes Latin letters with lookalikes of other alphabets becomes Latin. A word wholly in one other alphabet stays
what it is, so that Russian terms match Russian text. ``unmask`` goes further, for a view of its own: it also reads a
whole word of another alphabet as Latin where every letter of it looks Latin, and emoji letters as letters.

The tables are Unicode's: character properties and names from ``unicodedata``, and the list of confusable characters
(UTS #39) as the package ``confusable-homoglyphs`` ships it; here is only what both leave out. Each character is worked
out when it is first met and then kept, so that a text is translated at the speed of ``str.translate``.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Mapping
from functools import cache
from importlib import resources

# Most characters that a table keeps, some three megabytes: more than living texts use, fewer than Unicode has.
MAX_TABLE = 32_768

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

# Unicode's Default_Ignorable_Code_Point, but for what is told by its category, Cf. A test holds it equal to the
# property as Unicode publishes it.
_IGNORABLE_RANGES = (
    (0x034F, 0x034F), (0x115F, 0x1160), (0x17B4, 0x17B5), (0x180B, 0x180F), (0x2065, 0x2065), (0x3164, 0x3164),
    (0xFE00, 0xFE0F), (0xFFA0, 0xFFA0), (0xFFF0, 0xFFF8), (0xE0000, 0xE0FFF),
)  # fmt: skip
_IGNORABLE = frozenset(chr(code) for first, last in _IGNORABLE_RANGES for code in range(first, last + 1))

# Outlined letters and digits, in Unicode since version 16; the data of Python 3.11 to 3.13 is older.
OUTLINED = dict(zip(map(chr, range(0x1CCD6, 0x1CCFA)), "ABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789", strict=True))

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


# Names of scripts whose words stand beside Latin ones without a gap, and whose letters would look like strokes of them.
_UNSPACED = ("CJK", "HANGUL", "HIRAGANA", "IDEOGRAPHIC", "KATAKANA")

_TOO_MANY_MARKS = re.compile(rf"(?<=a)m+|(?<=m{{{_MAX_MARKS}}})m+")
_MIXED_WORD = re.compile(r"(?<!\S)(?=[^\sA-Za-z]*+[A-Za-z])(?=[!-~]*+[^\s!-~])\S+")
_OTHER_WORD = re.compile(r"(?<!\S)[!-~]*+[^\s!-~]\S*+")


class Table(dict[int, str]):
    """A table for ``str.translate`` that works out what a character becomes when it first meets it.

    Args:
        work_out: A character to what stands in its place.
    """

    def __init__(self, work_out: Callable[[str], str]) -> None:
        super().__init__()
        self._work_out = work_out

    def __missing__(self, code: int) -> str:
        if len(self) >= MAX_TABLE:
            self.clear()
        self[code] = read = self._work_out(chr(code))
        return read


def table(letters: Mapping[str, str]) -> Table:
    """Return a table that keeps what is not among ``letters``; a plain mapping is slow to say so, by an exception."""
    return Table(lambda char: letters.get(char, char))


def fold(text: str) -> str:
    """Return the form that texts and terms are compared in; white space is single and trimmed.

    It is idempotent, and empty only where there was nothing visible but underscores.
    """
    return collapse_space(fold_spaced(text))


def fold_spaced(text: str) -> str:
    """Return the folded text with its white space and underscores as they were."""
    for _ in range(_MAX_ROUNDS):
        if text.isascii():
            return text.translate(_ASCII_CONTROLS).lower()
        folded = _MIXED_WORD.sub(_as_latin, _without_marks(text.translate(_FOLDED)))
        if folded.isascii() or folded == text:
            return folded
        text = folded
    return text


def fold_plain(text: str) -> str:
    """Return the folded form of a text that was plain before something was taken out of it or put into it."""
    folded = text.casefold()
    return folded if folded.isascii() else _MIXED_WORD.sub(_as_latin, folded)


def collapse_space(text: str) -> str:
    """Return the text with every run of white space and underscores as one space, trimmed."""
    return " ".join(text.replace("_", " ").split())


def plain(text: str) -> str:
    """Return the text without invisible characters, stray marks and mixed alphabets; case and white space are kept."""
    if text.isascii():
        return text.translate(_ASCII_CONTROLS)
    return _MIXED_WORD.sub(lambda word: word[0].translate(_LATIN_LETTERS), _without_marks(text.translate(_PLAIN)))


def unmask(text: str) -> str:
    """Return a plain text with each word read as Latin that can be so as a whole, and emoji letters as letters."""
    return text if text.isascii() else _OTHER_WORD.sub(_all_latin, text)


def undecorated(char: str) -> str:
    """Return the ASCII letters that a character of any script or emoji looks like, else the character."""
    return char.translate(_LOOKALIKES)


def is_invisible(char: str) -> bool:
    """Tell a character that shows nothing where it stands: a control, or what Unicode lets a font ignore."""
    return (
        unicodedata.category(char) in ("Cc", "Cf", "Cs") or char in _IGNORABLE or "\U000e0000" <= char <= "\U000e0fff"
    )


def _as_latin(match: re.Match[str]) -> str:
    return match[0].translate(_LATIN_FOLDED)


def _all_latin(match: re.Match[str]) -> str:
    word = match[0]
    read = word.translate(_LOOKALIKES)
    # A word with a single letter that has no Latin likeness is a word of its own alphabet.
    return read if read.isascii() or not any(char.isalpha() and not char.isascii() for char in read) else word


def _plain(char: str) -> str:
    """Return one character in its compatibility form, without the marks that it carries, and as an ASCII letter."""
    spread = unicodedata.normalize("NFKD", _visible(char))
    return unicodedata.normalize("NFC", "".join(map(_visible, spread))).translate(_LETTERS)


def _folded(read: str) -> str:
    for _ in range(_MAX_ROUNDS):
        read = "".join(map(_plain, read)).casefold()
    return read


def _visible(char: str) -> str:
    """Return what stays of one character before normalising: itself, a blank, a dot or nothing."""
    if char in _WHITE_CONTROLS or char in _BLANKS:
        return char if char in _WHITE_CONTROLS else " "
    if is_invisible(char) or _is_stray_mark(char):
        return ""
    if char in OUTLINED:
        return OUTLINED[char]
    return "·" if len(unicodedata.normalize("NFKC", char)) > _MAX_SPREAD else char


def _is_stray_mark(char: str) -> bool:
    """Tell a mark that decorates any script, or that Hebrew and Arabic are usually written without."""
    if unicodedata.category(char) not in ("Mn", "Me"):
        return False
    name = unicodedata.name(char, "")
    # The Japanese voicing marks make other letters, as か and が are.
    return name.startswith(("COMBINING", "HEBREW", "ARABIC")) and "KATAKANA" not in name


def has_marks(text: str) -> bool:
    """Tell whether there is a vowel sign or the like: such a character is no gap but a part of a word, as in Hindi."""
    return not text.isascii() and "m" in text.translate(_MARK_SHAPE)


def _without_marks(text: str) -> str:
    """Drop marks on ASCII letters and all but the first of long runs, and join the others to their letters."""
    shape = text.translate(_MARK_SHAPE)
    if "m" not in shape and "j" not in shape:
        return text
    kept, end = [], 0
    for run in _TOO_MANY_MARKS.finditer(shape):
        kept.append(text[end : run.start()])
        end = run.end()
    return unicodedata.normalize("NFC", "".join([*kept, text[end:]]))


def _mark_shape(char: str) -> str:
    if unicodedata.category(char)[0] == "M":
        return "m"
    # The parts of a Hangul syllable join as well.
    if "\u1100" <= char <= "\u11ff":
        return "j"
    return "a" if char.isascii() and char.isalnum() else "."


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


def _latin_letter(char: str) -> str:
    """Read a letter beside Latin ones; symbols are left alone here: a flag beside a word is no part of it."""
    if char.isascii() or not char.isalpha():
        return char
    name = unicodedata.name(char, "")
    # Latin letters that are nobody's disguise, as the German sharp s is not the Greek beta, and scripts that are
    # written beside Latin words without a space.
    return char if "LATIN" in name or name.startswith(_UNSPACED) else _lookalike(char)


def _lookalike(char: str) -> str:
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


_PLAIN = Table(_plain)
_FOLDED = Table(_folded)
_MARK_SHAPE = Table(_mark_shape)
_LETTERS = Table(_letter)
_LATIN_LETTERS = Table(_latin_letter)
_LATIN_FOLDED = Table(lambda char: _folded(_latin_letter(char)))
_LOOKALIKES = Table(_lookalike)
