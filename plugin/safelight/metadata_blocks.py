"""The texts in EXIF and IPTC blocks, and the guesses that old formats leave to whoever reads them.

Everything here raises ValueError, with nothing of the content in its message, for a block that cannot be read.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator

from PIL.ExifTags import GPSTAGS, TAGS

_MAX_DIRECTORIES = 16
_DIRECTORY_TAGS = frozenset({0x014A, 0x8769, 0x8825, 0xA005})
"""SubIFDs, Exif, GPS and interoperability: their values are the places of further directories."""

_GPS = 0x8825
# By Exif 3.0: bytes, ASCII, undefined, and UTF-8.
_BYTE_TYPES = frozenset({1, 2, 7, 129})
_TEXT_TYPES = frozenset({2, 129})
_POINTER_SIZES = {3: 2, 4: 4, 13: 4}
# UserComment, and what the GPS directory calls ProcessingMethod and AreaInformation.
_MARKED = frozenset({0x9286, 0x001B, 0x001C})
# XPTitle, XPComment, XPAuthor, XPKeywords, XPSubject: Windows writes them.
_UTF16 = range(0x9C9B, 0x9CA0)
_IPTC = 0x83BB
_UTF8_MARK = (1, 90)
_MIN_FOUND = 4
_MIN_WIDE = 3
_NUL = "\x00"
_PRINTABLE = [0x20 <= byte < 0x7F for byte in range(256)]

_IPTC_NAMES = {
    5: "ObjectName",
    25: "Keywords",
    40: "SpecialInstructions",
    80: "Byline",
    105: "Headline",
    110: "Credit",
    115: "Source",
    116: "CopyrightNotice",
    120: "Caption",
    122: "Writer",
}


def exif_texts(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield the tag's name and the text of every text in an EXIF block.

    Args:
        data: From its byte-order mark on, with or without the mark of a JPEG segment before it.

    Raises:
        ValueError: If a directory or a text does not lie inside the block, or is in no encoding that it may be in.
    """
    data = data.removeprefix(b"Exif\x00\x00")
    order = {b"II*\x00": "<", b"MM\x00*": ">"}.get(data[:4])
    if order is None:
        raise ValueError("EXIF without a byte order")
    waiting, seen = [(_number(data, 4, order + "I"), False)], set[int]()
    while waiting:
        place, gps = waiting.pop()
        if place == 0 or place in seen:
            continue
        seen.add(place)
        if len(seen) > _MAX_DIRECTORIES:
            raise ValueError("EXIF with too many directories")
        count = _number(data, place, order + "H")
        for entry in range(place + 2, place + 2 + 12 * count, 12):
            tag = _number(data, entry, order + "H")
            if tag in _DIRECTORY_TAGS:
                waiting += [(pointer, tag == _GPS) for pointer in _pointers(data, entry, order)]
            else:
                yield from _entry_texts(tag, data, entry, order, GPSTAGS if gps else TAGS)
        # Some writers leave the place of the next directory out where none follows.
        if place + 2 + 12 * count + 4 <= len(data):
            waiting.append((_number(data, place + 2 + 12 * count, order + "I"), False))


def iptc_texts(data: bytes) -> Iterator[tuple[str, str]]:
    """Yield name and text of every text in an IPTC block.

    Raises:
        ValueError: If a data set does not lie inside the block.
    """
    place = 0
    while place < len(data):
        if data[place] != 0x1C:
            if data[place:].strip(b"\x00"):
                raise ValueError("IPTC without a data set where one begins")
            return
        record, dataset, size = struct.unpack(">BBH", _part(data, place + 1, 4))
        place += 5
        if size & 0x8000:
            # The length itself is as long as these bits say.
            length = size & 0x7FFF
            size = int.from_bytes(_part(data, place, length))
            place += length
        body = _part(data, place, size)
        place += size
        text = text_of(body) if record == 2 and dataset else text_if_any(body)
        if text and (record, dataset) != _UTF8_MARK:
            yield _IPTC_NAMES.get(dataset, f"{record}.{dataset}") if record == 2 else f"{record}.{dataset}", text


def text_of(data: bytes) -> str:
    """Return the text in bytes of which nothing says how they are encoded: UTF-16 if it looks so, UTF-8, else Latin-1.

    Where bytes can be read in two ways, both readings are in the text, one after the other: either could be a disguise.
    """
    wide = _wide_text(data)
    try:
        text = data.decode()
    except UnicodeDecodeError:
        text = data.decode("latin-1")
    if wide is None:
        return _without_nuls(text)
    return wide if _is_surely_wide(data) else f"{wide}\n{text.replace(_NUL, '')}"


def text_if_any(data: bytes) -> str | None:
    """Return the text in bytes that may be one or something else, or None where they are no text of a few letters."""
    if len(data.strip(b"\x00")) < _MIN_FOUND:
        return None
    wide = _wide_text(data)
    if wide is not None and _is_text(wide):
        return text_of(data)
    try:
        text = data.strip(b"\x00").decode()
    except UnicodeDecodeError:
        return None
    return _without_nuls(text) if _is_text(text) else None


def _is_text(text: str) -> bool:
    # Numbers in bytes are full of them. A text may hold some: backspaces are a disguise.
    return 4 * sum(char < " " and char not in "\t\r\n" for char in text) <= len(text)


def _wide_text(data: bytes) -> str | None:
    """Return the text in bytes that look like UTF-16: by a mark, or by NULs at every other place."""
    if data[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return _without_nuls(data.decode("utf-16", errors="replace"))
    # The most likely letters have a NUL before them in one order, and after them in the other.
    before, after = data[::2].count(0), data[1::2].count(0)
    most, least = max(before, after), min(before, after)
    if most < _MIN_WIDE or 8 * most < len(data) // 2 or 4 * least > most:
        return None
    return _without_nuls(data.decode("utf-16-be" if before > after else "utf-16-le", errors="replace"))


def _is_surely_wide(data: bytes) -> bool:
    """Return whether no two bytes of UTF-16 could be two letters of a plain text as well."""
    return len(data) % 2 == 0 and not any(
        _PRINTABLE[one] and _PRINTABLE[two] for one, two in zip(data[::2], data[1::2], strict=True)
    )


def _without_nuls(text: str) -> str:
    """Return a text without NULs: they divide texts, and they hide words, so both readings are given."""
    text = text.strip(_NUL)
    return f"{text.replace(_NUL, chr(10))}\n{text.replace(_NUL, '')}" if _NUL in text else text


def _entry_texts(tag: int, data: bytes, entry: int, order: str, names: dict[int, str]) -> Iterator[tuple[str, str]]:
    kind, count = struct.unpack(order + "HI", _part(data, entry + 2, 6))
    if kind not in _BYTE_TYPES:
        return
    body = _part(data, entry + 8 if count <= 4 else _number(data, entry + 8, order + "I"), count)
    name = names.get(tag, f"0x{tag:04X}")
    if tag == _IPTC:
        yield from iptc_texts(body)
    elif tag in _MARKED:
        yield from ((name, text) for text in _marked(body))
    elif tag in _UTF16:
        yield from ((name, text) for text in _utf16(body))
    elif kind in _TEXT_TYPES:
        yield name, text_of(body)
    elif (found := text_if_any(body)) and not found.isdecimal():
        # Digits are the versions of formats.
        yield name, found


def _marked(body: bytes) -> list[str]:
    """Return the readings of a text that says in eight bytes how it is encoded."""
    mark, rest = body[:8], body[8:]
    if mark == b"UNICODE\x00":
        return _utf16(rest)
    if mark == b"JIS\x00\x00\x00\x00\x00":
        return [rest.strip(b"\x00").decode("iso2022_jp")]
    return [text_of(rest if mark in (b"ASCII\x00\x00\x00", b"\x00" * 8) else body)]


def _utf16(body: bytes) -> list[str]:
    """Return the likely readings of UTF-16 of either byte order; programs write both, whatever the block's own is."""
    if body[:2] in (b"\xff\xfe", b"\xfe\xff"):
        return [_without_nuls(body.decode("utf-16"))]
    readings = []
    for order in ("utf-16-le", "utf-16-be"):
        try:
            readings.append(_without_nuls(body.decode(order)))
        except UnicodeDecodeError:
            continue
    if not readings:
        raise ValueError("a text that says it is UTF-16, and is not")
    # The wrong order makes rare signs of Latin letters. Where neither reading is Latin, both are kept.
    latin = [text for text in readings if 2 * sum(char < "\u0250" for char in text) >= len(text)]
    return latin or readings


def _pointers(data: bytes, entry: int, order: str) -> tuple[int, ...]:
    kind, count = struct.unpack(order + "HI", _part(data, entry + 2, 6))
    size = _POINTER_SIZES.get(kind)
    if size is None or count > _MAX_DIRECTORIES:
        raise ValueError("EXIF with a directory at no place")
    place = entry + 8 if size * count <= 4 else _number(data, entry + 8, order + "I")
    return struct.unpack(f"{order}{count}{'H' if size == 2 else 'I'}", _part(data, place, size * count))


def _number(data: bytes, place: int, form: str) -> int:
    number: int = struct.unpack(form, _part(data, place, struct.calcsize(form)))[0]
    return number


def _part(data: bytes, place: int, size: int) -> bytes:
    part = data[place : place + size]
    if len(part) != size:
        raise ValueError("a value that lies outside of its block")
    return part
