"""Undoing what people do to a word so that a list does not find it: each function takes a text and returns one reading.

All are linear in the text, return it unchanged where their disguise is absent, and expect a text whose lookalikes are
folded already (``lookalikes``). Where a disguise has several readings of one place, the result holds them one after the
other; that is why a reading may be longer than its text, at most four times.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Iterable, Sequence

from .lookalikes import has_marks, swapped

# Longest run of fragments that is also read without its first or last ones. Longer ones carry no single word.
_MAX_RUN = 40

# Fewest letters of an acrostic. Shorter ones spell words by chance: "come along, then" would be a cat.
_MIN_ACROSTIC = 5

_SENTENCE_END = re.compile(r"[.!?\n]")
_WORD = re.compile(r"[^\W\d_]+")
_CAPITALS = re.compile(r"[A-Z]{5,}")

_LETTER = r"[^\W_]"
_GAP = r"[\W_]++"
_LETTERS = re.compile(rf"((?<!{_LETTER}){_LETTER}(?!{_LETTER})(?:{_GAP}{_LETTER}(?!{_LETTER})){{2,}})")
_PIECES = re.compile(rf"((?<!{_LETTER}){_LETTER}{{1,2}}(?!{_LETTER})(?:{_GAP}{_LETTER}{{1,2}}(?!{_LETTER})){{2,}})")
_GAPS = re.compile(rf"({_GAP})")
_PIECE = re.compile(rf"{_LETTER}+")
_CHARACTERS = re.compile(r"(?<!\S)\S(?:\s++\S(?!\S)){2,}")
_INNER_PUNCTUATION = re.compile(rf"(?<={_LETTER})(?:[^\w\s]|_)++(?={_LETTER})")

_SIGN_BEFORE_LETTER = re.compile(r"[^A-Za-z0-9\s]\w")
_WORD_CHANGES = re.compile(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|(?<=[a-z])(?=[A-Z])")
_DIGIT_OR_CAPITAL = re.compile(r"[0-9A-Z]")

_LEET_SYMBOLS = (("€", "e"), ("£", "l"), ("¥", "y"), ("¢", "c"), ("§", "s"), ("¡", "i"))
LEET_I = bytes.maketrans(b"0123456789@$+#!|", b"oizeasgtbgasthil")
LEET_L = bytes.maketrans(b"0123456789@$+#!|", b"olzeasbtbqasthli")
LEET_DIGITS_I = bytes.maketrans(b"0123456789", b"oizeasgtbg")
LEET_DIGITS_L = bytes.maketrans(b"0123456789", b"olzeasbtbq")
_LEET_SIGN = re.compile(r"[0-9@$€£¥¢§+#!¡|]")
_LEET_SIGNS = frozenset("0123456789@$€£¥¢§+#!¡|")
_CLOSING = "!?.,;:)]}'\""
_SPACE = re.compile(r"(\s+)")
_ANY_LETTER = re.compile(r"[^\W\d_]")
_DRAWN = {
    "|-|": "h", "|_|": "u", "|\\|": "n", "|\\/|": "m", "/\\/\\": "m", "\\/\\/": "w", "/-\\": "a", "/\\": "a",
    "\\/": "v", "|3": "b", "|)": "d", "|>": "p", "|<": "k", "|_": "l", "|=": "f", "()": "o", "[]": "o", "><": "x",
    "}{": "x", "vv": "w",
}  # fmt: skip
_DRAWN_LETTERS = re.compile("|".join(re.escape(shape) for shape in sorted(_DRAWN, key=len, reverse=True)))

# Three of a letter in a row, or two doubled letters in one word.
_LONG_WORD = re.compile(r"([^\W\d_]{4,})")
_RUN = re.compile(r"(.)\1+")
_TWICE = re.compile(r"([^\W\d_])\1")
_REPEATS = re.compile(r"([^\W\d_])\1(?:\1|[^\W\d_]*?([^\W\d_])\2)")

_UPSIDE_DOWN = dict(zip("ɐqɔpǝɟƃɓɥᴉıɾʞɯudbɹʇnʌʍʎ", "abcdefgghiijkmnpqrtuvwy", strict=True))
_TURNED = frozenset(char for char in _UPSIDE_DOWN if not char.isascii())


def without_backspaces(text: str) -> str:
    """Apply each backspace or delete character to what stands before it."""
    if "\b" not in text and "\x7f" not in text:
        return text
    kept: list[str] = []
    for char in text:
        if char not in "\b\x7f":
            kept.append(char)
        elif kept:
            kept.pop()
    return "".join(kept)


def split_words(text: str) -> str:
    """Put a space where a word changes from small to capital letters, or between letters and digits."""
    # The first letter of a prompt is no change.
    return text if text.isascii() and not _DIGIT_OR_CAPITAL.search(text, 1) else _WORD_CHANGES.sub(" ", text)


def has_short_pieces(text: str) -> bool:
    """Tell whether three pieces of at most two letters, or three single signs, stand in a row: else none is joined."""
    return _in_a_row(_PIECE.findall(text), 2) or _in_a_row(text.split(), 1)


def joined_letters(text: str) -> tuple[str, str]:
    """Join runs of single letters, whatever stands between them.

    Returns:
        The text with each run as one word for each gap that is wider than the run's usual one, and with each run as a
        single word.
    """
    words, letters = _LETTERS.split(text), _LETTERS.split(text)
    marked = len(words) > 1 and has_marks(text)
    for at in range(1, len(words), 2):
        if not (marked and has_marks(words[at])):
            pieces = _GAPS.split(words[at])
            letters[at] = _readings(pieces[::2], lead=1)
            words[at] = _parted(pieces)
    return "".join(words), "".join(letters)


def joined_pieces(text: str) -> str:
    """Join runs of at least three pieces of one or two letters that have five letters together."""
    runs = _PIECES.split(text)
    marked = len(runs) > 1 and has_marks(text)
    for at in range(1, len(runs), 2):
        pieces = _GAPS.split(runs[at])[::2]
        if sum(map(len, pieces)) >= 5 and not (marked and has_marks(runs[at])):
            runs[at] = _readings(pieces, lead=2)
    return "".join(runs)


def joined_characters(text: str) -> str:
    """Join runs of single characters of any kind between white space, for symbols that stand for letters."""
    return _CHARACTERS.sub(lambda match: _readings(match[0].split(), lead=1), text)


def glued(text: str) -> str:
    """Remove punctuation between letters, where no white space is beside it."""
    if text.isascii() and not _SIGN_BEFORE_LETTER.search(text):
        return text
    if not has_marks(text):
        return _INNER_PUNCTUATION.sub("", text)
    return _INNER_PUNCTUATION.sub(lambda match: match[0] if has_marks(match[0]) else "", text)


def has_leet(text: str) -> bool:
    """Tell whether there is a digit or sign that ``leet`` could read."""
    return bool(_LEET_SIGN.search(text))


def leet(text: str, *tables: bytes) -> Sequence[str]:
    """Read digits and symbols as letters in words that have a letter too, once by each table."""
    pieces = _SPACE.split(text)
    found = [at for at, word in enumerate(pieces) if not _LEET_SIGNS.isdisjoint(word) and _ANY_LETTER.search(word)]
    # A closing exclamation mark is punctuation; inside a word it is a letter.
    words = [pieces[at].rstrip(_CLOSING) for at in found]
    ends = [pieces[at][len(word) :] for at, word in zip(found, words, strict=True)]
    joined = "\0".join(words)
    for sign, letter in _LEET_SYMBOLS:
        joined = joined.replace(sign, letter)
    readings = []
    for table in tables:
        for at, word, end in zip(found, swapped(joined, table).split("\0"), ends, strict=False):
            pieces[at] = word + end
        readings.append("".join(pieces))
    return readings


def drawn(text: str) -> str:
    """Read letters drawn with several characters, such as |-| for h."""
    return _DRAWN_LETTERS.sub(lambda match: _DRAWN[match[0]], text)


def collapsed(text: str, *lengths: Callable[[int], int]) -> Sequence[str]:
    """Shorten runs of one letter, in words that have three in a row or two doubled ones.

    Args:
        text: What to shorten.
        lengths: A run's length, 2 or more, to the length that stays. An ordinary double letter makes no suspicious
            word: "good" stays, whatever a list says.

    Returns:
        One reading for each of ``lengths``, or nothing where there is no such word.
    """
    pieces = _LONG_WORD.split(text) if _TWICE.search(text) else []
    repeated = [(at, pieces[at]) for at in range(1, len(pieces), 2) if _REPEATS.search(pieces[at])]
    readings = []
    for length in lengths if repeated else ():
        for at, word in repeated:
            pieces[at] = _RUN.sub(lambda run, length=length: run[1] * length(len(run[0])), word)
        readings.append("".join(pieces))
    return readings


def backwards(text: str) -> str:
    """Return the text from its end to its beginning."""
    return text[::-1]


def upside_down(text: str) -> str:
    """Read a text written with turned letters from its end."""
    if _TURNED.isdisjoint(text):
        return ""
    return "".join(_UPSIDE_DOWN.get(char, char) for char in reversed(text))


def pig_latin(text: str) -> str:
    """Move the consonants before a final "ay" back to the front, in each way that is possible."""
    return re.sub(r"(?<![a-z])[a-z]{2,40}ay(?![a-z])", _from_pig_latin, text)


def acrostic(text: str) -> str:
    """Return the first letters of lines, of the words of each sentence, and of capitalised words in a row."""
    lines = [line for line in text.splitlines() if line.strip()]
    found = ["".join(next(filter(str.isalnum, line), "") for line in lines)] if len(lines) >= _MIN_ACROSTIC else []
    for sentence in _SENTENCE_END.split(text):
        initials = "".join([word[0] for word in _WORD.findall(sentence)])
        found.append(initials)
        found += _CAPITALS.findall(initials)
    return " ".join(dict.fromkeys(letters for letters in found if len(letters) >= _MIN_ACROSTIC))


def _in_a_row(pieces: Iterable[str], longest: int) -> bool:
    run = 0
    for piece in pieces:
        run = run + 1 if len(piece) <= longest else 0
        if run == 3:
            return True
    return False


def _readings(pieces: list[str], *, lead: int) -> str:
    """Join a run, also without up to ``lead`` first pieces and without its last: an article may stand beside a word."""
    if len(pieces) > _MAX_RUN:
        return "".join(pieces)
    ends = (len(pieces), len(pieces) - 1)
    readings = ["".join(pieces[start:end]) for end in ends for start in range(lead + 1)]
    return " ".join(reading for reading in readings if len(reading) >= 3)


def _parted(pieces: list[str]) -> str:
    """Join letters that stand in turn with gaps, and put a space for each gap that is wider than the usual one."""
    gaps = pieces[1::2]
    if gaps.count(gaps[0]) < len(gaps):
        usual = Counter(gaps).most_common(1)[0][0]
        gaps = [" " if _is_wider(gap, usual) else "" for gap in gaps]
        pieces[1::2] = gaps
        return "".join(pieces)
    return "".join(pieces[::2])


def _is_wider(gap: str, usual: str) -> bool:
    return len(gap) > len(usual) or ("\n" in gap and "\n" not in usual)


def _from_pig_latin(match: re.Match[str]) -> str:
    stem = match[0][:-2]
    consonants = len(stem) - len(stem.rstrip("bcdfghjklmnpqrstvwxyz"))
    moved = [stem[-count:] + stem[:-count] for count in range(1, min(consonants, 3) + 1) if count < len(stem)]
    # A word that began with a vowel got "way" or "yay".
    return " ".join([*moved, stem[:-1]] if stem[-1] in "wy" else moved) or match[0]
