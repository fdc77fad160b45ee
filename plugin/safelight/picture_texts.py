"""Every text that a picture file carries beside its pixels, as channels to judge.

What is covered: the file's name; PNG texts, plain, compressed and international, with their keywords, where A1111 and
ComfyUI keep prompts; EXIF; IPTC; XMP packets, as they stand; comments; any other block that is plainly a text; text
after a picture's end, and after a PNG's also further blocks of text. Where nothing says how a text is encoded it is
read as UTF-16 (by its mark or its NULs), UTF-8 or Latin-1. A NUL inside a text may divide two or hide one word, so the
text is given in both readings.
What is not covered: texts inside binary blocks (a camera's own notes, colour profiles, C2PA manifests), text as hex in
ImageMagick's "Raw profile" beyond the hex itself, and whatever is hidden in pixels.
"""

from __future__ import annotations

import re
import struct
import zlib
from collections.abc import Iterator, Mapping
from itertools import chain

from .errors import InvalidRequest
from .metadata_blocks import exif_texts, iptc_texts, text_if_any, text_of
from .request import MAX_PROMPT_CHARS, check_faithful

MAX_TEXTS = 64
"""Most texts that are read of one file."""

MAX_TOTAL_CHARS = 4 * MAX_PROMPT_CHARS
"""Most characters of all texts of one file together."""

_LONGEST = 4 * MAX_PROMPT_CHARS
"""Bytes that a text of the longest accepted length can take in UTF-8; no more is ever unpacked."""

_PNG = b"\x89PNG\r\n\x1a\n"
_XMP = b"http://ns.adobe.com/xap/1.0/\x00"
_MORE_XMP = b"http://ns.adobe.com/xmp/extension/\x00"
# What stands before the text: a checksum as text, the whole length, and this part's place.
_MORE_XMP_HEAD = 32 + 4 + 4
_NUMBERS = (b"JFIF\x00", b"Adobe\x00")
_NUMBERS_END = 12
_PHOTOSHOP = b"Photoshop 3.0\x00"
_IN_PHOTOSHOP = {0x0404: "iptc", 0x0422: "exif", 0x0424: "xmp"}
# Only these may stand in a channel's name: a keyword that anybody may choose is a text itself.
_KEYWORDS = frozenset(
    "parameters prompt workflow postprocessing extras Title Author Description Copyright Software Disclaimer Warning"
    " Source Comment Artist generation_data dream sd-metadata invokeai_metadata invokeai_graph"
    " invokeai_workflow".split()
)
_PIXELS = frozenset({b"IHDR", b"PLTE", b"IDAT", b"IEND", b"fdAT", b"VP8 ", b"VP8L", b"VP8X", b"ALPH", b"ANMF"})
_TEXT_CHUNK = re.compile(b"tEXt|zTXt|iTXt|eXIf")
# The next marker after compressed data: neither a stuffed zero, nor a restart, nor a filler.
_MARKER = re.compile(rb"\xff+([^\x00\xd0-\xd7\xff])")

_Named = Iterator[tuple[str, str]]


def texts_of_file(name: str, data: bytes) -> Mapping[str, str]:
    """Return every text of a picture file: channel name to text, in the order of the file.

    The channels' names are ours (``file.name``, ``png.parameters``, ``exif.UserComment``, ``xmp`` ...): they hold
    nothing that the file says, so they may stand in a log. A name that comes again is numbered.

    Args:
        name: The file's name, without its folder.
        data: A PNG, JPEG or WebP file.

    Raises:
        InvalidRequest: If it is none of the three, its blocks are damaged, or a text is too long or cannot be read: it
            is refused rather than cut. The message names the channel.
    """
    found: dict[str, str] = {}
    for channel, text in _all_texts(name, data):
        if not text.strip():
            continue
        check_faithful(channel, text)
        if len(text) > MAX_PROMPT_CHARS:
            raise _too_long(channel)
        _keep(found, channel, text)
    return found


def _keep(found: dict[str, str], channel: str, text: str) -> None:
    number, own = 1, channel
    while own in found:
        number += 1
        own = f"{channel}.{number}"
    found[own] = text
    if len(found) > MAX_TEXTS:
        raise InvalidRequest("file", f"carries more than {MAX_TEXTS} texts; remove its metadata")
    if sum(map(len, found.values())) > MAX_TOTAL_CHARS:
        raise InvalidRequest(
            "file", f"carries more than {MAX_TOTAL_CHARS} characters of text in all; remove its metadata"
        )


def _all_texts(name: str, data: bytes) -> _Named:
    yield "file.name", name
    try:
        if data.startswith(_PNG):
            yield from _png_texts(data)
        elif data.startswith(b"\xff\xd8\xff"):
            yield from _jpeg_texts(data)
        elif data.startswith(b"RIFF") and data[8:12] == b"WEBP":
            yield from _webp_texts(data)
        else:
            raise InvalidRequest("file", "is no PNG, JPEG or WebP picture")
    except InvalidRequest:
        raise
    # Of this module, of ``metadata_blocks``, and of decoders; decoders quote what they could not read.
    except (ValueError, struct.error, zlib.error) as error:
        what = str(error) if type(error) is ValueError else "a text in no known encoding"
        raise InvalidRequest("file", f"has damaged metadata ({what}); remove it") from None


def _png_texts(data: bytes) -> _Named:
    place = len(_PNG)
    kind = b""
    while kind != b"IEND":
        size, kind = struct.unpack(">I4s", _part(data, place, 8))
        body = _part(data, place + 8, size)
        # Four bytes of checksum: readers that do not look at it would read the text all the same.
        place += 12 + size
        yield from _png_chunk(kind, body)
    # Some programs read texts there as well.
    while (found := _next_chunk(data, place)) is not None:
        start, kind, body = found
        yield from _if_any("png.after_end", data[place:start])
        place = start + 12 + len(body)
        yield from _png_chunk(kind, body)
    yield from _if_any("png.after_end", data[place:])


def _png_chunk(kind: bytes, body: bytes) -> _Named:
    if kind in (b"tEXt", b"zTXt", b"iTXt"):
        yield from _chunk_texts(kind, body)
    elif kind == b"eXIf":
        yield from _named("exif", exif_texts(body))
    elif kind in (b"iCCP", b"sPLT"):
        yield "png.profile", text_of(body.partition(b"\x00")[0])
    elif kind not in _PIXELS:
        yield from _if_any("png.other", body)


def _next_chunk(data: bytes, place: int) -> tuple[int, bytes, bytes] | None:
    """Return place, kind and body of the next chunk after a picture's end: any at ``place``, or one for texts later."""
    here = [place] if len(data) >= place + 8 and data[place + 4 : place + 8].isalpha() else []
    for start in chain(here, (found.start() - 4 for found in _TEXT_CHUNK.finditer(data, place + 4))):
        size, kind = struct.unpack_from(">I4s", data, start)
        if start + 8 + size <= len(data):
            return start, kind, data[start + 8 : start + 8 + size]
    return None


def _chunk_texts(kind: bytes, body: bytes) -> _Named:
    keyword_bytes, divided, rest = body.partition(b"\x00")
    if not divided:
        raise ValueError("a PNG text without a keyword")
    if kind == b"tEXt" and len(keyword_bytes) < 2:
        # UTF-16 throughout: what looks like the keyword is its first letter.
        yield "png.text", text_of(body)
        return
    keyword = text_of(keyword_bytes)
    channel = "png.text"
    if keyword == "XML:com.adobe.xmp":
        channel = "xmp"
    elif keyword in _KEYWORDS:
        channel = f"png.{keyword}"
    else:
        yield "png.keyword", keyword
    if kind == b"iTXt":
        packed, rest = rest[:1] == b"\x01", rest[2:]
        language, _, rest = rest.partition(b"\x00")
        translated, divided, rest = rest.partition(b"\x00")
        if not divided:
            raise ValueError("an international PNG text without its fields")
        yield "png.language", text_of(language)
        yield "png.translated_keyword", text_of(translated)
        yield channel, text_of(_unpacked(channel, rest) if packed else rest)
    else:
        yield channel, text_of(_unpacked(channel, rest[1:]) if kind == b"zTXt" else rest)


def _unpacked(channel: str, data: bytes) -> bytes:
    unpacking = zlib.decompressobj()
    text = unpacking.decompress(data, _LONGEST + 1)
    if len(text) > _LONGEST:
        raise _too_long(channel)
    if not unpacking.eof:
        raise ValueError("a compressed text that breaks off")
    return text


def _jpeg_texts(data: bytes) -> _Named:
    place = 2
    while True:
        found = _MARKER.match(data, place)
        if found is None:
            raise ValueError("a JPEG without a marker where one begins")
        marker, place = found[1][0], found.end()
        if marker == 0xD9:
            break
        if marker in (0x01, 0xD8):
            continue
        size = struct.unpack(">H", _part(data, place, 2))[0]
        if size < 2:
            raise ValueError("a JPEG segment of no length")
        body = _part(data, place + 2, size - 2)
        place += size
        if marker == 0xFE:
            yield "jpeg.comment", text_of(body)
        elif 0xE0 <= marker <= 0xEF:
            yield from _segment_texts(body)
        elif marker == 0xDA:
            following = _MARKER.search(data, place)
            if following is None:
                raise ValueError("a JPEG without an end")
            place = following.start()
    yield from _if_any("jpeg.after_end", data[place:])


def _segment_texts(body: bytes) -> _Named:
    if body.startswith(b"Exif\x00"):
        yield from _named("exif", exif_texts(body))
    elif body.startswith(_XMP):
        yield "xmp", text_of(body.removeprefix(_XMP))
    elif body.startswith(_MORE_XMP):
        yield "xmp.more", text_of(body[len(_MORE_XMP) + _MORE_XMP_HEAD :])
    elif body.startswith(_PHOTOSHOP):
        yield from _photoshop_texts(body.removeprefix(_PHOTOSHOP))
    elif body.startswith(_NUMBERS):
        # Their first bytes are numbers, which can look like letters of UTF-16.
        yield from _if_any("jpeg.other", body[:_NUMBERS_END].replace(b"\x00", b"\x01") + body[_NUMBERS_END:])
    else:
        yield from _if_any("jpeg.other", body)


def _photoshop_texts(data: bytes) -> _Named:
    place = 0
    while data[place:].strip(b"\x00"):
        number, name_size = struct.unpack(">4xHB", _part(data, place, 7))
        yield "photoshop.name", text_of(_part(data, place + 7, name_size))
        # Name and content are each filled up to an even length; a name's counts the byte before it.
        place += 7 + name_size + (name_size + 1) % 2
        size = struct.unpack(">I", _part(data, place, 4))[0]
        body = _part(data, place + 4, size)
        place += 4 + size + size % 2
        form = _IN_PHOTOSHOP.get(number)
        if form == "iptc":
            yield from _named("iptc", iptc_texts(body))
        elif form == "exif":
            yield from _named("exif", exif_texts(body))
        elif form == "xmp":
            yield "xmp", text_of(body)
        else:
            yield from _if_any("photoshop.other", body)


def _webp_texts(data: bytes) -> _Named:
    end = 8 + struct.unpack("<I", _part(data, 4, 4))[0]
    place = 12
    while place + 8 <= end:
        kind, size = struct.unpack("<4sI", _part(data, place, 8))
        body = _part(data, place + 8, size)
        place += 8 + size + size % 2
        if kind == b"EXIF":
            yield from _named("exif", exif_texts(body))
        elif kind == b"XMP ":
            yield "xmp", text_of(body)
        elif kind not in _PIXELS:
            yield from _if_any("webp.other", body)
    yield from _if_any("webp.after_end", data[place:])


def _named(family: str, texts: _Named) -> _Named:
    return ((f"{family}.{name}", text) for name, text in texts)


def _if_any(channel: str, body: bytes) -> _Named:
    text = text_if_any(body)
    if text:
        yield channel, text


def _part(data: bytes, place: int, size: int) -> bytes:
    part = data[place : place + size]
    if len(part) != size:
        raise ValueError("a block that breaks off")
    return part


def _too_long(channel: str) -> InvalidRequest:
    return InvalidRequest(
        channel, f"has more than {MAX_PROMPT_CHARS} characters, and no more are read; remove the file's metadata"
    )
