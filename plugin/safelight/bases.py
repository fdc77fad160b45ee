"""Reading bytes that are written in a number base: binary to base 85, and uuencode.

Each function replaces, in place, the tokens that it can read. It believes what it reads only where that is printable
and mostly letters, so that ordinary words, hexadecimal colours or picture sizes are no codes. The larger the base, the
more words could be numbers in it, and the stricter is the belief.
"""

from __future__ import annotations

import base64
import binascii
import re
import unicodedata

_B64 = r"[A-Za-z0-9+/_-]"
_BASE64 = re.compile(rf"(?<![A-Za-z0-9+/=]){_B64}{{4,}}+(?:\r?\n{_B64}{{4,}}+)*+={{0,2}}")
_BASE64_LINE = re.compile(rf"{_B64}{{4,}}+={{0,2}}")
_BASE64_HINT = re.compile(r"[A-Z0-9+/_=\n]")
_CAPITAL = re.compile(r"[A-Z]")
_BASE32 = re.compile(r"(?<![A-Za-z0-9])(?:[A-Z2-7]{8,}+|[a-z2-7]{8,}+)={0,6}(?![A-Za-z0-9])")
_ASCII32 = re.compile("[a-p][abefijmnqruvyz].[a-hq-x][acegikmoqsuwy].[abcdijklqrstyz]")
_BASE58 = re.compile(
    r"(?<![A-Za-z0-9])(?=[a-z0-9]*+[A-Z])(?=\S[A-Z0-9]*+[a-z])[1-9A-HJ-NP-Za-km-z]{8,128}(?![A-Za-z0-9])"
)
_BASE85 = re.compile(r"(?<!\S)(?=[A-Za-z0-9]*+[!-/:-@\[-`{-~])[!-~]{8,512}?(?=\s|$|~>)")
_INNER_SIGN = re.compile(r"[!-/:-@\[-`{-~]\w")
_NO_SMALL_LETTERS = re.compile(r"[!-`]{5}")
_UUENCODED = re.compile(r"(?<!\S)[!-M][!-`]{4,60}(?!\S)")
_SEPARATORS = r"[\s,;:_-]*+"
_HEX = re.compile(
    rf"(?<![A-Za-z0-9])(?:0x|\\x)?+[0-9a-fA-F]{{2}}(?:{_SEPARATORS}(?:0x|\\x)?+[0-9a-fA-F]{{2}})++(?![A-Za-z0-9])"
)
_BINARY = re.compile(r"(?<![A-Za-z0-9])(?:0b)?+[01]{7,}+(?:[\s,;:_-]++(?:0b)?+[01]{7,8}+)*+(?![A-Za-z0-9])")
_MIN_SMALL = 16
_DIGIT = re.compile(r"[0-9]")

_TO_INT32 = str.maketrans("abcdefghijklmnopqrstuvwxyz234567", "0123456789abcdefghijklmnopqrstuv")
_VALUES58 = {char: at for at, char in enumerate("123456789ABCDEFGHJKLMNPQRSTUVWXYZabcdefghijkmnopqrstuvwxyz")}
_BITS_SWAPPED = {ord("0"): "1", ord("1"): "0"}


def believed(data: bytes, *, letters: int = 3) -> str | None:
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


def binary(text: str) -> str:
    """Read bits in groups of seven or eight, or without groups."""

    def read(match: re.Match[str]) -> str:
        groups = re.findall("[01]+", match[0].replace("0b", " "))
        width = 7 if all(len(group) == 7 for group in groups) or sum(map(len, groups)) % 8 else 8
        if len(groups) > 1:
            groups = [group.zfill(width) for group in groups]
        return from_bits("".join(groups), width) or match[0]

    return _BINARY.sub(read, text) if "01" in text or "10" in text else text


def from_bits(bits: str, width: int) -> str | None:
    """Return the text that bits spell, ``width`` of them a byte, or None."""
    if not bits or len(bits) % width:
        return None
    return believed(bytes(int(bits[at : at + width], 2) for at in range(0, len(bits), width)))


def from_signs(signs: str) -> list[str]:
    """Return what two kinds of signs spell as bits, read in both ways."""
    kinds = sorted(set(signs))
    if len(kinds) != 2 or len(signs) < 16:
        return []
    bits = signs.translate({ord(kinds[0]): "0", ord(kinds[1]): "1"})
    return [read for way in (bits, bits.translate(_BITS_SWAPPED)) if (read := from_bits(way, 8))]


def hexadecimal(text: str) -> str:
    """Read pairs of hexadecimal digits, alone or in a row."""

    def read(match: re.Match[str]) -> str:
        digits = re.sub(r"0x|\\x|[\s,;:_-]", "", match[0])
        return believed(bytes.fromhex(digits)) or match[0]

    # No letter of any alphabet is written without a digit.
    return _HEX.sub(read, text) if _DIGIT.search(text) else text


def base32(text: str) -> str:
    """Read base32 in capitals or small letters."""
    return _BASE32.sub(lambda match: _from_base32(match[0].rstrip("=").lower()) or match[0], text)


def _from_base32(digits: str) -> str | None:
    # Letters alone are most likely a word. Each byte of ASCII begins with a 0, which half the digits beside it lack.
    if digits.isalpha() and not _ASCII32.match(digits):
        return None
    count = len(digits) * 5 // 8
    # Digits that are left over carry no byte.
    number = int(digits.translate(_TO_INT32), 32) >> (len(digits) * 5 - count * 8)
    data = number.to_bytes(count, "big")
    return _surely(data) if digits.isalpha() else believed(data)


def base58(text: str) -> str:
    """Read base58, as Bitcoin writes it, in tokens of capitals and small letters."""

    def read(match: re.Match[str]) -> str:
        number = 0
        for char in match[0]:
            number = number * 58 + _VALUES58[char]
        return _surely(number.to_bytes((number.bit_length() + 7) // 8, "big")) or match[0]

    return _BASE58.sub(read, text) if _CAPITAL.search(text, 1) else text


def base64_(text: str) -> str:
    """Read base64 and its form for addresses, with or without padding, on one line or several."""

    def read(match: re.Match[str]) -> str:
        whole = _from_base64("".join(match[0].split()))
        if whole or "\n" not in match[0]:
            return whole or match[0]
        return _BASE64_LINE.sub(lambda line: _from_base64(line[0]) or line[0], match[0])

    # Small letters alone are read only where they are long; the first letter of a prompt is a capital anyway.
    possible = _BASE64_HINT.search(text, 1) or max(map(len, text.split()), default=0) >= _MIN_SMALL
    return _BASE64.sub(read, text) if possible else text


def _from_base64(token: str) -> str | None:
    digits = token.rstrip("=").translate({ord("-"): "+", ord("_"): "/"})
    # Small letters alone are a word, far more likely than bytes; "Y2F0" is none.
    if digits[1:].islower() and digits.isalpha() and len(digits) < _MIN_SMALL:
        return None
    # One digit too many carries no byte.
    digits = digits[:-1] if len(digits) % 4 == 1 else digits
    return believed(base64.b64decode(digits + "=" * (-len(digits) % 4)))


def base85(text: str) -> str:
    """Read Ascii85, as Adobe writes it, and base85, as git writes it."""

    def read(match: re.Match[str]) -> str:
        for decoder in (base64.a85decode, base64.b85decode):
            try:
                found = _surely(decoder(match[0].removeprefix("<~")))
            except ValueError:
                continue
            if found:
                return found
        return match[0]

    return _BASE85.sub(read, text) if _INNER_SIGN.search(text) else text


def uuencode(text: str) -> str:
    """Read lines of uuencode that stand alone between white space; the first sign of each must tell its length."""

    def read(match: re.Match[str]) -> str:
        line = match[0]
        length = (ord(line[0]) - 32) & 63
        # Signs for nothing but zeros are blanks, and those at the end are gone.
        if not length or not length * 4 // 3 <= len(line) <= (length + 2) // 3 * 4 + 1:
            return line
        try:
            return _surely(binascii.a2b_uu(line)) or line
        except binascii.Error:
            return line

    return _UUENCODED.sub(read, text) if _NO_SMALL_LETTERS.search(text) else text


def _surely(data: bytes) -> str | None:
    """Believe only what is at least six characters and nine tenths of it letters and single spaces."""
    text = believed(data, letters=6)
    return text if text and sum(char.isalpha() or char == " " for char in text) * 10 >= len(text) * 9 else None
