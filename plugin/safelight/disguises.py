"""Undoing what people do to a word so that a list does not find it: each function takes a text and returns one reading.

All are linear in the text, return it unchanged where their disguise is absent, and expect a text whose lookalikes are
folded already (``lookalikes``). Where a disguise has several readings of one place, the result holds them one after the
other; that is why a reading may be longer than its text, at most four times.
"""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Callable, Iterable, Mapping

# Longest run of fragments that is also read without its first or last ones. Longer ones carry no single word.
_MAX_RUN = 40

# Fewest letters of an acrostic. Shorter ones spell words by chance: "come along, then" would be a cat.
_MIN_ACROSTIC = 5

_LETTER = r"[^\W_]"
_GAP = r"[\W_]++"
_LETTERS = re.compile(rf"(?<!{_LETTER}){_LETTER}(?!{_LETTER})(?:{_GAP}{_LETTER}(?!{_LETTER})){{2,}}")
_PIECES = re.compile(rf"(?<!{_LETTER}){_LETTER}{{1,2}}(?!{_LETTER})(?:{_GAP}{_LETTER}{{1,2}}(?!{_LETTER})){{2,}}")
_CHARACTERS = re.compile(r"(?<!\S)\S(?:\s++\S(?!\S)){2,}")
_INNER_PUNCTUATION = re.compile(rf"(?<={_LETTER})(?:[^\w\s]|_)++(?={_LETTER})")

_LEET_DIGITS = {"0": "o", "2": "z", "3": "e", "4": "a", "5": "s", "6": "g", "7": "t", "8": "b", "9": "g"}
_LEET_SYMBOLS = {"@": "a", "$": "s", "€": "e", "£": "l", "¥": "y", "¢": "c", "§": "s", "+": "t", "#": "h"}
LEET_I = str.maketrans(_LEET_DIGITS | _LEET_SYMBOLS | {"1": "i", "!": "i", "¡": "i", "|": "l"})
LEET_L = str.maketrans(_LEET_DIGITS | _LEET_SYMBOLS | {"1": "l", "!": "l", "¡": "i", "|": "i", "6": "b", "9": "q"})
LEET_DIGITS_I = str.maketrans(_LEET_DIGITS | {"1": "i"})
LEET_DIGITS_L = str.maketrans(_LEET_DIGITS | {"1": "l", "6": "b", "9": "q"})
_LEET_WORD = re.compile(r"(?<!\S)[^\s0-9@$€£¥¢§+#!¡|]*+[0-9@$€£¥¢§+#!¡|]\S*+")
_DRAWN = {
    "|-|": "h", "|_|": "u", "|\\|": "n", "|\\/|": "m", "/\\/\\": "m", "\\/\\/": "w", "/-\\": "a", "/\\": "a",
    "\\/": "v", "|3": "b", "|)": "d", "|>": "p", "|<": "k", "|_": "l", "|=": "f", "()": "o", "[]": "o", "><": "x",
    "}{": "x", "vv": "w",
}  # fmt: skip
_DRAWN_LETTERS = re.compile("|".join(re.escape(shape) for shape in sorted(_DRAWN, key=len, reverse=True)))

# Three of a letter in a row, or two doubled letters in one word.
_REPEATS = re.compile(r"([^\W\d_])\1(?:\1|[^\W\d_]*?([^\W\d_])\2)")

_UPSIDE_DOWN = dict(zip("ɐqɔpǝɟƃɓɥᴉıɾʞɯudbɹʇnʌʍʎ", "abcdefgghiijkmnpqrtuvwy", strict=True))
_TURNED = frozenset(char for char in _UPSIDE_DOWN if not char.isascii())

_SPECIAL_TOKEN = re.compile(r"<\|[^|<>]{0,64}\|>|</?(?:s|pad|unk|bos|eos|cls|sep|mask)>|<\w{1,20}:[^<>]{0,200}>", re.I)
_WEIGHT = re.compile(
    r":{1,2}[ ]?[+-]?(?:\d{1,4}(?:\.\d{0,8})?|\.\d{1,8})(?=\s*[)\]}>,|])"
    r"|::[ ]?[+-]?(?:\d{1,4}(?:\.\d{0,8})?|\.\d{1,8})?"
    r"|(?<=[)\]])[+-]?(?:\d(?:\.\d{1,8})?|[+-]{1,8})(?=[\s,()\[\]]|$)"
    r"|(?<=\w)(?:\+{1,8}|-{1,8})(?=[\s,)\]]|$)"
)
_KEYWORD = re.compile(r"(?<!\s)\s*+(?<!\w)(?:AND|BREAK|ADDCOMM|ADDROW|ADDCOL|ADDBASE)(?!\w)\s*+")
_BRACKETS = re.compile(r"\\?[()\[\]{}<>]")


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


def without_weights(text: str, gap: str) -> str:
    """Put ``gap`` for syntax that weights, schedules or loads something, and for a text encoder's special tokens."""
    for pattern in (_SPECIAL_TOKEN, _WEIGHT, _KEYWORD, _BRACKETS):
        text = pattern.sub(gap, text)
    return text


def split_words(text: str) -> str:
    """Put a space where a word changes from small to capital letters, or between letters and digits."""
    return re.sub(r"(?<=[^\W\d_])(?=\d)|(?<=\d)(?=[^\W\d_])|(?<=[a-z])(?=[A-Z])", " ", text)


def joined_letters(text: str) -> str:
    """Join runs of single letters, whatever stands between them."""
    return _LETTERS.sub(lambda match: _joined(match[0], 1), text)


def joined_words(text: str) -> str:
    """Join runs of single letters, where gaps that are wider than the run's usual one part words."""
    return _LETTERS.sub(_joined_in_words, text)


def joined_pieces(text: str) -> str:
    """Join runs of at least three pieces of one or two letters that have five letters together."""
    return _PIECES.sub(lambda match: _joined(match[0], 2), text)


def joined_characters(text: str) -> str:
    """Join runs of single characters of any kind between white space, for symbols that stand for letters."""
    return _CHARACTERS.sub(lambda match: _readings(match[0].split(), lead=1), text)


def glued(text: str) -> str:
    """Remove punctuation between letters, where no white space is beside it."""
    return _INNER_PUNCTUATION.sub(lambda match: match[0] if _has_mark(match[0]) else "", text)


def leet(text: str, table: Mapping[int, str]) -> str:
    """Read digits and symbols as letters, by a table, in words that have a letter too."""
    return _LEET_WORD.sub(lambda match: _leet_word(match[0], table), text)


def drawn(text: str) -> str:
    """Read letters drawn with several characters, such as |-| for h."""
    return _DRAWN_LETTERS.sub(lambda match: _DRAWN[match[0]], text)


def collapsed(text: str, length: Callable[[int], int]) -> str:
    """Shorten runs of one letter, in words that have three in a row or two doubled ones.

    Args:
        text: What to shorten.
        length: A run's length, 2 or more, to the length that stays. An ordinary double letter makes no suspicious
            word: "good" stays, whatever a list says.
    """
    if not _REPEATS.search(text):
        return text
    return re.sub(r"[^\W\d_]{4,}", lambda match: _shortened(match[0], length), text)


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
    found = [_initials(lines)]
    for sentence in re.split(r"[.!?\n]", text):
        words = re.findall(r"[^\W\d_]+", sentence)
        found.append(_initials(words))
        found += [_initials(run) for run in _capitalised_runs(words)]
    return " ".join(dict.fromkeys(letters for letters in found if len(letters) >= _MIN_ACROSTIC))


def _has_mark(text: str) -> bool:
    """Tell whether there is a vowel sign or the like: then it is no gap but a part of a word, as in Hindi."""
    return not text.isascii() and any(unicodedata.category(char)[0] == "M" for char in text)


def _joined(run: str, widest: int) -> str:
    pieces = re.findall(_LETTER + "+", run)
    if _has_mark(run) or (widest > 1 and sum(map(len, pieces)) < 5):
        return run
    return _readings(pieces, lead=widest)


def _readings(pieces: list[str], *, lead: int) -> str:
    """Join a run, also without up to ``lead`` first pieces and without its last: an article may stand beside a word."""
    if len(pieces) > _MAX_RUN:
        return "".join(pieces)
    ends = (len(pieces), len(pieces) - 1)
    readings = ["".join(pieces[start:end]) for end in ends for start in range(lead + 1)]
    return " ".join(reading for reading in readings if len(reading) >= 3)


def _joined_in_words(match: re.Match[str]) -> str:
    run = match[0]
    gaps = re.findall(_GAP, run)
    if _has_mark(run):
        return run
    usual = Counter(gaps).most_common(1)[0][0]
    return re.sub(_GAP, lambda gap: " " if _is_wider(gap[0], usual) else "", run)


def _is_wider(gap: str, usual: str) -> bool:
    return len(gap) > len(usual) or ("\n" in gap and "\n" not in usual)


def _leet_word(word: str, table: Mapping[int, str]) -> str:
    # A closing exclamation mark is punctuation; inside a word it is a letter.
    core = word.rstrip("!?.,;:)]}'\"")
    if not any(char.isalpha() for char in core):
        return word
    return core.translate(table) + word[len(core) :]


def _shortened(word: str, length: Callable[[int], int]) -> str:
    runs = [match.end() - match.start() for match in re.finditer(r"(.)\1+", word)]
    if len(runs) < 2 and max(runs, default=0) < 3:
        return word
    return re.sub(r"(.)\1+", lambda match: match[1] * length(len(match[0])), word)


def _from_pig_latin(match: re.Match[str]) -> str:
    stem = match[0][:-2]
    consonants = len(stem) - len(stem.rstrip("bcdfghjklmnpqrstvwxyz"))
    moved = [stem[-count:] + stem[:-count] for count in range(1, min(consonants, 3) + 1) if count < len(stem)]
    # A word that began with a vowel got "way" or "yay".
    return " ".join([*moved, stem[:-1]] if stem[-1] in "wy" else moved) or match[0]


def _capitalised_runs(words: Iterable[str]) -> Iterable[list[str]]:
    run: list[str] = []
    for word in words:
        if word[0].isupper():
            run.append(word)
        elif run:
            yield run
            run = []
    if run:
        yield run


def _initials(words: Iterable[str]) -> str:
    return "".join(next((char for char in word if char.isalnum()), "") for word in words)
