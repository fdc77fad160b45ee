"""Reading text that is written in a code: escapes, number codes, bases (``bases``), Morse, Braille, spelling words.

A decoder replaces, in place, what it can read, and leaves the rest. It believes what it reads only where that is
printable and mostly letters, so that ordinary words, hexadecimal colours or picture sizes are no codes. Nesting of
the cheap escapes ("%2525...") is undone at once; one call of ``decode`` undoes one layer of everything else.

What is not covered: bases between 58 and 85 but 64, compression, ciphers with a key.
"""

from __future__ import annotations

import html
import re
import unicodedata
from collections.abc import Callable, Sequence

from . import bases

_DECIMAL = re.compile(r"(?<![\w.])\d{2,3}(?:[\s,;:/-]++\d{2,3}(?!\d))++(?![\w.])")
_OCTAL_GROUPS = re.compile(r"(?<![\w.])(?:0o?)?[01][0-7]{2}(?:[\s,;:/-]++(?:0o?)?[01][0-7]{2}(?!\d)){4,}+(?![\w.])")
_MORSE = re.compile(r"(?<!\S)[.-]{1,6}(?:(?:\s*+[/|]\s*+|\s++)[.-]{1,6}(?![.-]))++(?!\S)")
_BRAILLE = re.compile("[\u2801-\u28ff]+")
_DIGIT = re.compile(r"[0-9]")

_TAG_RUN = re.compile("[\U000e0020-\U000e007e]+")
_TAGS = {0xE0000 + code: code for code in range(0x20, 0x7F)}
_SELECTORS = re.compile("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,}")
_BITS = re.compile("[\u200b\u200c\u200d\u2060\u2062\u2063\u2064\ufeff]+")
# England, Scotland and Wales: a black flag with "gbeng", "gbsct" or "gbwls" in tags.
_FLAG = re.compile(
    "\U0001f3f4\U000e0067\U000e0062(?:\U000e0065\U000e006e\U000e0067|\U000e0073\U000e0063\U000e0074"
    "|\U000e0077\U000e006c\U000e0073)\U000e007f"
)

_CODE_POINT = re.compile(
    r"\\u\{([0-9a-fA-F]{1,6})\}|[\\%]u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})|(?<!\w)[uU]\+([0-9a-fA-F]{4,6})(?!\w)"
    r"(?:\s(?=[uU]\+))?"
)
_NAME = re.compile(r"\\N\{([A-Za-z0-9 -]{1,88})\}")
_BYTES = re.compile(r"(?:\\x[0-9a-fA-F]{2})+|(?:%[0-9a-fA-F]{2})+|(?:=[0-9A-F]{2}){2,}")
_BYTE_SIGNS = re.compile(r"[%=\\]")
_SOFT_BREAK = re.compile(r"(?<=\w)=\r?\n(?=\w)")
_OCTAL = re.compile(r"(?:\\[0-3]?[0-7]{2}){2,}")
_CSS = re.compile(r"(?:\\0{0,4}[4-7][0-9a-fA-F](?![0-9a-fA-F])(?:[ ](?=\\))?){3,}")
_PUNYCODE = re.compile(r"(?<![A-Za-z0-9-])xn--[A-Za-z0-9-]{1,59}(?![A-Za-z0-9-])", re.IGNORECASE)
# Bounded, unlike html.unescape's own pattern: Python refuses to read a number of thousands of digits.
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});?")

# The order of Braille ASCII, of which only the letters count here: character n stands for U+2800 + n.
_BRAILLE_ORDER = " a1b'k2l@cif/msp\"e3h9o6r^djg>ntq,*5<-u8v.%[$+x!&;:4\\0z7(_?w]#y)="

# Six dots make a letter; other signs, as the one for a capital, are dropped.
_BRAILLE_SIGNS = {0x2800 + at: char if char.isalpha() else "" for at, char in enumerate(_BRAILLE_ORDER)}

_MORSE_LETTERS = dict(
    zip(
        ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. "
        "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----.".split(),
        "abcdefghijklmnopqrstuvwxyz0123456789",
        strict=True,
    )
)
_MORSE_HINT = re.compile(r"[.-][\s/|]+[.-]")
_MORSE_DOTS = re.compile("[·•∙]")
_MORSE_DASHES = re.compile("[–—−‐_]")

_SPELLING = (
    "alfa alpha bravo charlie delta echo foxtrot golf hotel india juliett juliet kilo lima mike november oscar papa "
    "quebec romeo sierra tango uniform victor whiskey whisky x-ray xray yankee zulu"
).split()
_SPELLING_WORD = rf"(?:{'|'.join(sorted(_SPELLING, key=len, reverse=True))})(?![a-z])"
_SPELLING_WORDS = re.compile(_SPELLING_WORD)
_SPELLED = re.compile(rf"(?<![a-z]){_SPELLING_WORD}(?:[^a-z]{{1,8}}{_SPELLING_WORD}){{2,}}")


def decode(text: str) -> tuple[str, str]:
    """Undo one layer of every code that is found.

    Args:
        text: A plain text (``lookalikes.plain``) with its case kept.

    Returns:
        The names of the codes that were found, joined by "+", and the text read so far; the name is empty where
        there is no code.
    """
    names = []
    for name, decoder in _DECODERS:
        read = decoder(text)
        if read != text:
            names.append(name)
            text = read
    return "+".join(names), text


def hidden(text: str) -> str:
    """Return what invisible characters of a raw text spell: tag letters, bytes in variation selectors, bits."""
    if text.isascii():
        return ""
    tags = [run.translate(_TAGS) for run in _TAG_RUN.findall(text)]
    selected = [bases.believed(bytes(map(_selector_byte, run)), letters=1) or "" for run in _SELECTORS.findall(text)]
    return " ".join(" ".join([*tags, *selected, *bases.from_signs("".join(_BITS.findall(text)))]).split())


def is_hidden(text: str) -> bool:
    """Tell whether a raw text has more tag letters than those of the three flags that are written with them."""
    return not text.isascii() and bool(hidden(_FLAG.sub("", text)))


def _selector_byte(char: str) -> int:
    return ord(char) - 0xFE00 if char <= "\ufe0f" else ord(char) - 0xE0100 + 16


def _code_points(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        code = int(next(filter(None, match.groups())), 16)
        # A surrogate alone is no character; a pair of them is read below, from UTF-16.
        return chr(code) if code < 0x110000 else match[0]

    if "\\" not in text and "%" not in text and "+" not in text:
        return text
    text = _NAME.sub(_named, text)
    read_text = _CODE_POINT.sub(read, text)
    if read_text is text or read_text.isascii():
        return read_text
    return read_text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _named(match: re.Match[str]) -> str:
    try:
        return unicodedata.lookup(match[1])
    except KeyError:
        return match[0]


def _escaped_bytes(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        data = bytes.fromhex(re.sub(r"\\x|[%=]", "", match[0]))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    if not _BYTE_SIGNS.search(text):
        return text
    text = _SOFT_BREAK.sub("", text)
    # "%2525...257a" in one go, however deep it is.
    return _BYTES.sub(read, re.sub(r"%(?:25)+(?=[0-9a-fA-F]{2})", "%", text))


def _octal(text: str) -> str:
    if "\\" not in text:
        return text
    return _OCTAL.sub(lambda match: "".join(chr(int(code, 8)) for code in match[0].split("\\")[1:]), text)


def _css(text: str) -> str:
    if "\\" not in text:
        return text
    return _CSS.sub(lambda match: "".join(chr(int(code, 16)) for code in match[0].split("\\")[1:]), text)


def _punycode(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        try:
            return match[0][4:].encode("ascii").decode("punycode")
        except UnicodeError:
            return match[0]

    return _PUNYCODE.sub(read, text) if "--" in text else text


def _entities(text: str) -> str:
    if "&" not in text:
        return text
    # "&amp;amp;...#122;" in one go, however deep it is.
    flat = re.sub(r"&(?:(?:amp|AMP|#38|#[xX]26);)+(?=#?[A-Za-z0-9])", "&", text)
    return _ENTITY.sub(lambda match: html.unescape(match[0]), flat)


def _braille(text: str) -> str:
    return text if text.isascii() else _BRAILLE.sub(lambda match: match[0].translate(_BRAILLE_SIGNS), text)


def _spelled(text: str) -> str:
    small = text.lower()
    # Looking for the words in a row takes long, counting them does not.
    if sum(map(small.count, _SPELLING)) < 3 or len(small) != len(text):
        return text
    kept, end = [], 0
    for match in _SPELLED.finditer(small):
        kept += [text[end : match.start()], "".join([word[0] for word in _SPELLING_WORDS.findall(match[0])])]
        end = match.end()
    return "".join([*kept, text[end:]])


def _morse(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        words = re.split(r"\s*[/|]\s*|\s{2,}|\n", match[0])
        letters = [[_MORSE_LETTERS.get(sign) for sign in word.split()] for word in words]
        if sum(map(len, letters)) < 3 or any(None in word for word in letters):
            return match[0]
        return " ".join("".join(filter(None, word)) for word in letters)

    signs = _MORSE_DASHES.sub("-", _MORSE_DOTS.sub(".", text))
    if not _MORSE_HINT.search(signs):
        return text
    read_text = _MORSE.sub(read, signs)
    return text if read_text == signs else read_text


def _decimal(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        codes = [int(code) for code in re.findall(r"\d+", match[0])]
        # "65, 70, 75" may be sizes or years of age; words have four letters and hardly anything but letters.
        chars = "".join(map(chr, codes))
        plausible = len(codes) >= 3 and all(char.isalpha() or char in " -'" for char in chars)
        return chars if plausible and max(codes) < 256 else match[0]

    return _DECIMAL.sub(read, text) if _DIGIT.search(text) else text


def _octal_groups(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        chars = "".join(chr(int(code, 8)) for code in re.findall(r"[01][0-7]{2}", match[0]))
        return chars if all(char.isalpha() or char in " -'" for char in chars) else match[0]

    return _OCTAL_GROUPS.sub(read, text) if _DIGIT.search(text) else text


# From the most particular to the most general: what reads as binary is also hexadecimal, and that also base64.
_DECODERS: Sequence[tuple[str, Callable[[str], str]]] = (
    ("unicode", _code_points),
    ("css", _css),
    ("bytes", _escaped_bytes),
    ("octal", _octal),
    ("html", _entities),
    ("punycode", _punycode),
    ("braille", _braille),
    ("nato", _spelled),
    ("morse", _morse),
    ("binary", bases.binary),
    ("decimal", _decimal),
    ("octal_groups", _octal_groups),
    ("hex", bases.hexadecimal),
    ("base32", bases.base32),
    ("base64", bases.base64_),
    ("base58", bases.base58),
    ("uuencode", bases.uuencode),
    ("base85", bases.base85),
)
