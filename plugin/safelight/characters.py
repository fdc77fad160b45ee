"""What becomes of one character: its plain form, and the Latin letter that it looks like.

The tables are Unicode's: character properties and names from ``unicodedata``, and the list of confusable characters
(UTS #39) as the package ``confusable-homoglyphs`` ships it; here is only what both leave out. Each character is worked
out when it is first met and then kept, so that a text is translated at the speed of ``str.translate``.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Callable, Iterator
from functools import cache
from importlib import resources

# Most characters that a table keeps, some three megabytes: more than living texts use, fewer than Unicode has.
MAX_TABLE = 32_768

# Longest replacement of one character under NFKC. Only a few Arabic ligatures and squared words are longer (one of
# them 18 characters), and a text of them would push everything else over the limits of a view.
_MAX_SPREAD = 4

WHITE_CONTROLS = frozenset("\t\n\v\f\r\x1c\x1d\x1e\x1f\x85")

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

_SPECIAL = _IGNORABLE | _BLANKS | OUTLINED.keys()

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

# Names of which a Latin letter can be read, or another character without its hooks and strokes.
_TELLING = re.compile("LATIN|SQUARED|REGIONAL| WITH ")


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


def is_invisible(char: str) -> bool:
    """Tell a character that shows nothing where it stands: a control, or what Unicode lets a font ignore."""
    return (
        unicodedata.category(char) in ("Cc", "Cf", "Cs") or char in _IGNORABLE or "\U000e0000" <= char <= "\U000e0fff"
    )


def _plain(char: str) -> str:
    """Return one character in its compatibility form, without the marks that it carries, and as an ASCII letter."""
    if unicodedata.category(char)[0] in "LNPS" and char not in _SPECIAL and not unicodedata.decomposition(char):
        return _letter(char)
    spread = unicodedata.normalize("NFKD", _visible(char))
    return unicodedata.normalize("NFC", "".join(map(_visible, spread))).translate(_LETTERS)


def _visible(char: str) -> str:
    """Return what stays of one character before normalising: itself, a blank, a dot or nothing."""
    if char in WHITE_CONTROLS or char in _BLANKS:
        return char if char in WHITE_CONTROLS else " "
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
    name = unicodedata.name(char, "")
    if not _TELLING.search(name):
        return ""
    name = name.partition(" WITH ")[0]
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
    return char if "LATIN" in name or name.startswith(_UNSPACED) else char.translate(LOOKALIKES)


def _lookalike(char: str) -> str:
    if char.isascii():
        return char
    if char in _READ_AS:
        return _READ_AS[char]
    if (
        char not in _confusables()
        and not unicodedata.decomposition(char)
        and not _TELLING.search(unicodedata.name(char, ""))
    ):
        # Most characters look like nothing else.
        return _letter(char)
    for likeness in _likenesses(char):
        bare = [c for c in unicodedata.normalize("NFKD", likeness) if unicodedata.category(c)[0] != "M"]
        read = "".join(_READ_AS.get(c) or _named_letter(c) or _letter(c) if not c.isascii() else c for c in bare)
        if read.isascii() and read.isalnum():
            return read
    return char


def _likenesses(char: str) -> Iterator[str]:
    yield from _confusables().get(char, ())
    yield char
    yield _undecorated(char)


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


PLAIN = Table(_plain)
MARK_SHAPE = Table(_mark_shape)
_LETTERS = Table(_letter)
LATIN_LETTERS = Table(_latin_letter)
LOOKALIKES = Table(_lookalike)
