"""Reading text that is written in a code: escapes, number codes, base64 and the like, Morse, Braille, spelling words.

A decoder replaces, in place, what it can read, and leaves the rest. It believes what it reads only where that is
printable and mostly letters, so that ordinary words, hexadecimal colours or picture sizes are no codes. Nesting of
the cheap escapes ("%2525...") is undone at once; one call of ``decode`` undoes one layer of everything else.

What is not covered: base58, base85 and larger bases, uuencode, compression, ciphers with a key.
"""

from __future__ import annotations

import base64
import binascii
import html
import re
import unicodedata
from collections.abc import Callable, Sequence

_B64 = r"[A-Za-z0-9+/_-]"
_BASE64 = re.compile(rf"(?<![A-Za-z0-9+/=]){_B64}{{4,}}+(?:\r?\n{_B64}{{4,}}+)*+={{0,2}}")
_BASE64_LINE = re.compile(rf"{_B64}{{4,}}+={{0,2}}")
_BASE32 = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z2-7]{8,}+|[a-z2-7]{8,}+)={0,6}(?![A-Za-z0-9])")
_SEPARATORS = r"[\s,;:_-]*+"
_HEX = re.compile(
    rf"(?<![A-Za-z0-9])(?:0x|\\x)?+[0-9a-fA-F]{{2}}(?:{_SEPARATORS}(?:0x|\\x)?+[0-9a-fA-F]{{2}})++(?![A-Za-z0-9])"
)
_BINARY = re.compile(r"(?<![A-Za-z0-9])(?:0b)?+[01]{7,}+(?:[\s,;:_-]++(?:0b)?+[01]{7,8}+)*+(?![A-Za-z0-9])")
_DECIMAL = re.compile(r"(?<![\w.])\d{2,3}(?:[\s,;:/-]++\d{2,3}(?!\d))++(?![\w.])")
_MORSE = re.compile(r"(?<!\S)[.-]{1,6}(?:(?:\s*+[/|]\s*+|\s++)[.-]{1,6}(?![.-]))++(?!\S)")
_BRAILLE = re.compile("[\u2801-\u28ff]+")

_CODE_POINT = re.compile(
    r"\\u\{([0-9a-fA-F]{1,6})\}|[\\%]u([0-9a-fA-F]{4})|\\U([0-9a-fA-F]{8})|(?<!\w)[uU]\+([0-9a-fA-F]{4,6})(?!\w)"
    r"(?:\s(?=[uU]\+))?"
)
_BYTES = re.compile(r"(?:\\x[0-9a-fA-F]{2})+|(?:%[0-9a-fA-F]{2})+|(?:=[0-9A-F]{2}){2,}")
_OCTAL = re.compile(r"(?:\\[0-3]?[0-7]{2}){2,}")
# Bounded, unlike html.unescape's own pattern: Python refuses to read a number of thousands of digits.
_ENTITY = re.compile(r"&(?:#\d{1,7}|#[xX][0-9a-fA-F]{1,6}|[A-Za-z][A-Za-z0-9]{1,31});?")

# The order of Braille ASCII, of which only the letters count here: character n stands for U+2800 + n.
_BRAILLE_ORDER = " a1b'k2l@cif/msp\"e3h9o6r^djg>ntq,*5<-u8v.%[$+x!&;:4\\0z7(_?w]#y)="

_MORSE_LETTERS = dict(
    zip(
        ".- -... -.-. -.. . ..-. --. .... .. .--- -.- .-.. -- -. --- .--. --.- .-. ... - ..- ...- .-- -..- -.-- --.. "
        "----- .---- ..--- ...-- ....- ..... -.... --... ---.. ----.".split(),
        "abcdefghijklmnopqrstuvwxyz0123456789",
        strict=True,
    )
)
_MORSE_SIGNS = str.maketrans({"·": ".", "•": ".", "∙": ".", "–": "-", "—": "-", "−": "-", "‐": "-", "_": "-"})

_SPELLING = (
    "alfa alpha bravo charlie delta echo foxtrot golf hotel india juliett juliet kilo lima mike november oscar papa "
    "quebec romeo sierra tango uniform victor whiskey whisky x-ray xray yankee zulu"
).split()
_SPELLING_WORD = rf"(?:{'|'.join(sorted(_SPELLING, key=len, reverse=True))})(?![A-Za-z])"
_SPELLED = re.compile(rf"(?<![A-Za-z]){_SPELLING_WORD}(?:[^A-Za-z]{{1,8}}{_SPELLING_WORD}){{2,}}", re.IGNORECASE)

_ROT13 = str.maketrans("abcdefghijklmnopqrstuvwxyz", "nopqrstuvwxyzabcdefghijklm")
_ATBASH = str.maketrans("abcdefghijklmnopqrstuvwxyz", "zyxwvutsrqponmlkjihgfedcba")


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


def rot13(text: str) -> str:
    """Shift the letters of a folded text by thirteen."""
    return text.translate(_ROT13)


def atbash(text: str) -> str:
    """Mirror the alphabet of a folded text: a is z, b is y."""
    return text.translate(_ATBASH)


def hidden(text: str) -> str:
    """Return what invisible characters of a raw text spell: tag letters, bytes in variation selectors, bits."""
    if text.isascii():
        return ""
    tags = "".join(chr(ord(char) - 0xE0000) if "\U000e0020" <= char <= "\U000e007e" else " " for char in text)
    runs = re.findall("[\ufe00-\ufe0f\U000e0100-\U000e01ef]{2,}", text)
    selected = [_believed(bytes(map(_selector_byte, run)), letters=1) or "" for run in runs]
    return " ".join([*tags.split(), *filter(None, selected), *_invisible_bits(text)])


def _selector_byte(char: str) -> int:
    return ord(char) - 0xFE00 if char <= "\ufe0f" else ord(char) - 0xE0100 + 16


def _invisible_bits(text: str) -> list[str]:
    """Read two kinds of invisible characters as bits, in both ways."""
    signs = [char for char in text if char in "\u200b\u200c\u200d\u2060\u2062\u2063\u2064\ufeff"]
    kinds = sorted(set(signs))
    if len(kinds) != 2 or len(signs) < 16:
        return []
    bits = "".join("01"[sign == kinds[1]] for sign in signs)
    return [read for way in (bits, bits.translate({48: 49, 49: 48})) if (read := _from_bits(way, 8))]


def _believed(data: bytes, *, letters: int = 3) -> str | None:
    """Return bytes as text where they are one: printable, with enough letters, and half of it letters."""
    if data[1:2] == b"\0":
        data = data.replace(b"\0", b"")
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError:
        return None
    known = sum(char.isalnum() or char in " =%&#;\\+/.-" for char in text)
    if any(unicodedata.category(char) in ("Cc", "Cn", "Co") and char not in "\t\r\n" for char in text):
        return None
    return text if sum(map(str.isalnum, text)) >= letters and known * 2 >= len(text) else None


def _from_bits(bits: str, width: int) -> str | None:
    if not bits or len(bits) % width:
        return None
    return _believed(bytes(int(bits[at : at + width], 2) for at in range(0, len(bits), width)))


def _code_points(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        code = int(next(filter(None, match.groups())), 16)
        # A surrogate alone is no character; a pair of them is read below, from UTF-16.
        return chr(code) if code < 0x110000 else match[0]

    if "u" not in text and "U" not in text:
        return text
    read_text = _CODE_POINT.sub(read, text)
    if read_text is text or read_text.isascii():
        return read_text
    return read_text.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")


def _escaped_bytes(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        data = bytes.fromhex(re.sub(r"\\x|[%=]", "", match[0]))
        try:
            return data.decode("utf-8")
        except UnicodeDecodeError:
            return data.decode("latin-1")

    # "%2525...257a" in one go, however deep it is.
    return _BYTES.sub(read, re.sub(r"%(?:25)+(?=[0-9a-fA-F]{2})", "%", text))


def _octal(text: str) -> str:
    return _OCTAL.sub(lambda match: "".join(chr(int(code, 8)) for code in match[0].split("\\")[1:]), text)


def _entities(text: str) -> str:
    if "&" not in text:
        return text
    # "&amp;amp;...#122;" in one go, however deep it is.
    flat = re.sub(r"&(?:(?:amp|AMP|#38|#[xX]26);)+(?=#?[A-Za-z0-9])", "&", text)
    return _ENTITY.sub(lambda match: html.unescape(match[0]), flat)


def _braille(text: str) -> str:
    # Six dots make a letter; other signs, as the one for a capital, are dropped.
    signs = {0x2800 + at: char if char.isalpha() else "" for at, char in enumerate(_BRAILLE_ORDER)}
    return _BRAILLE.sub(lambda match: match[0].translate(signs), text)


def _spelled(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        return "".join(word[0] for word in re.findall(_SPELLING_WORD, match[0], re.IGNORECASE))

    return _SPELLED.sub(read, text)


def _morse(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        words = re.split(r"\s*[/|]\s*|\s{2,}|\n", match[0])
        letters = [[_MORSE_LETTERS.get(sign) for sign in word.split()] for word in words]
        if sum(map(len, letters)) < 3 or any(None in word for word in letters):
            return match[0]
        return " ".join("".join(filter(None, word)) for word in letters)

    signs = text.translate(_MORSE_SIGNS)
    read_text = _MORSE.sub(read, signs)
    return text if read_text == signs else read_text


def _binary(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        groups = re.findall("[01]+", match[0].replace("0b", " "))
        width = 7 if all(len(group) == 7 for group in groups) or sum(map(len, groups)) % 8 else 8
        if len(groups) > 1:
            groups = [group.zfill(width) for group in groups]
        return _from_bits("".join(groups), width) or match[0]

    return _BINARY.sub(read, text)


def _decimal(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        codes = [int(code) for code in re.findall(r"\d+", match[0])]
        # "65, 70, 75" may be sizes or years of age; words have four letters and hardly anything but letters.
        chars = "".join(map(chr, codes))
        plausible = len(codes) >= 3 and all(char.isalpha() or char in " -'" for char in chars)
        return chars if plausible and max(codes) < 256 else match[0]

    return _DECIMAL.sub(read, text)


def _hex(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        digits = re.sub(r"0x|\\x|[\s,;:_-]", "", match[0])
        return _believed(bytes.fromhex(digits)) or match[0]

    return _HEX.sub(read, text)


def _base32(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        digits = match[0].rstrip("=").upper()
        try:
            return _believed(base64.b32decode(digits + "=" * (-len(digits) % 8))) or match[0]
        except binascii.Error:
            return match[0]

    return _BASE32.sub(read, text)


def _base64(text: str) -> str:
    def read(match: re.Match[str]) -> str:
        whole = _from_base64("".join(match[0].split()))
        if whole or "\n" not in match[0]:
            return whole or match[0]
        return _BASE64_LINE.sub(lambda line: _from_base64(line[0]) or line[0], match[0])

    return _BASE64.sub(read, text)


def _from_base64(token: str) -> str | None:
    digits = token.rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    # Small letters alone are a word, far more likely than bytes; "Y2F0" is none.
    if digits[1:].islower() and digits.isalpha() and len(digits) < 16:
        return None
    # One digit too many carries no byte.
    digits = digits[:-1] if len(digits) % 4 == 1 else digits
    return _believed(base64.b64decode(digits + "=" * (-len(digits) % 4)))


# From the most particular to the most general: what reads as binary is also hexadecimal, and that also base64.
_DECODERS: Sequence[tuple[str, Callable[[str], str]]] = (
    ("unicode", _code_points),
    ("bytes", _escaped_bytes),
    ("octal", _octal),
    ("html", _entities),
    ("braille", _braille),
    ("nato", _spelled),
    ("morse", _morse),
    ("binary", _binary),
    ("decimal", _decimal),
    ("hex", _hex),
    ("base32", _base32),
    ("base64", _base64),
)
