"""Pictures to bytes and back: what is delivered is what is screened.

An :class:`Encoded` holds the bytes that would leave together with the picture that those very bytes show. A lossy
format is therefore decoded again before anybody judges it. No output carries text, EXIF or a colour profile of the
input.
"""

from __future__ import annotations

import hashlib
import io
import struct
import zlib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import numpy as np
from PIL import Image

try:
    from isal.isal_zlib import compress as _deflate
except ImportError:
    # Only the gateway's extra installs isal; without it the same pictures take some three times as long.
    from zlib import compress as _deflate

MAX_SIDE = 4_096
"""Longest side of a picture that :func:`decode_picture` accepts, in pixels."""

MAX_BYTES = 64 * 2**20
"""Longest file that :func:`decode_picture` accepts; 4096 x 4096 pixels take 48 MiB if they do not compress at all."""

_FORMATS = ("PNG", "JPEG", "WEBP")
_PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
_UP = 2


@dataclass(frozen=True, slots=True)
class Encoded:
    """A picture as it would be delivered.

    Args:
        data: The bytes.
        image: What the bytes show, in RGB.
        media_type: Of the bytes, for example ``image/png``.
    """

    # Not in its repr: that may reach a log, and pixels may not.
    data: bytes = field(repr=False)
    image: Image.Image
    media_type: str


def encode_png(image: Image.Image) -> Encoded:
    """Encode losslessly: one row filter and a light compression, tens of times cheaper than Pillow's default.

    Args:
        image: Of any mode; it is delivered, and shown to the screens, as RGB.

    Raises:
        ValueError: If a side is zero.
    """
    image = _plain_rgb(image)
    pixels = np.asarray(image)
    rows = np.empty((image.height, 1 + 3 * image.width), np.uint8)
    # Each row is stored as its difference, modulo 256, from the row above; the one above the first is black.
    rows[:, 0] = _UP
    flat = pixels.reshape(image.height, -1)
    rows[0, 1:] = flat[0]
    np.subtract(flat[1:], flat[:-1], out=rows[1:, 1:])
    # Bit depth 8, colour type 2 (RGB), the only compression and filter methods, no interlacing.
    header = struct.pack(">IIBBBBB", image.width, image.height, 8, 2, 0, 0, 0)
    parts = (_chunk(b"IHDR", header), _chunk(b"IDAT", _deflate(rows, 1)), _chunk(b"IEND", b""))
    return Encoded(_PNG_SIGNATURE + b"".join(parts), image, "image/png")


def encode_jpeg(image: Image.Image, *, quality: int = 95) -> Encoded:
    """Encode as JPEG.

    Args:
        image: Of any mode.
        quality: 0 to 100.

    Raises:
        ValueError: If a side is zero, or the quality is out of range.
    """
    # Pillow takes a quality of 0 for "not given".
    return _lossy(image, "JPEG", max(1, _checked(quality)))


def encode_webp(image: Image.Image, *, quality: int = 95) -> Encoded:
    """Encode as lossy WebP.

    Args:
        image: Of any mode.
        quality: 0 to 100.

    Raises:
        ValueError: If a side is zero, or the quality is out of range.
    """
    return _lossy(image, "WEBP", _checked(quality))


def encode_raw(image: Image.Image) -> Encoded:
    """Return the pixels with their size before them: something to hash where the picture is not sent as a file."""
    image = _plain_rgb(image)
    data = f"RGB {image.width} {image.height}\n".encode() + image.tobytes()
    return Encoded(data, image, "application/octet-stream")


ENCODERS: Mapping[str, Callable[..., Encoded]] = {"png": encode_png, "jpeg": encode_jpeg, "webp": encode_webp}
"""By the names that the images API uses for ``output_format``."""


def sha256_hex(data: bytes) -> str:
    """Return the SHA-256 of bytes, 64 lower-case hexadecimal digits."""
    return hashlib.sha256(data).hexdigest()


def decode_picture(data: bytes, *, max_bytes: int = MAX_BYTES, max_side: int = MAX_SIDE) -> Image.Image:
    """Return the one still RGB picture in a PNG, JPEG or WebP file that nobody vouches for.

    Args:
        data: The file.
        max_bytes: Longer is refused unread.
        max_side: Larger is refused after reading the header, before any pixel is decoded.

    Raises:
        ValueError: If it is none, is too large, moves, or is damaged. The message holds nothing of the content.
    """
    if len(data) > max_bytes:
        raise ValueError(f"has {len(data)} bytes; at most {max_bytes} are read")
    try:
        with Image.open(io.BytesIO(data), formats=_FORMATS) as opened:
            _check_header(opened, max_side)
            opened.load()
            return _plain_rgb(opened)
    # All of these are raised by Pillow's decoders on damaged files.
    except (OSError, SyntaxError, EOFError, struct.error, zlib.error, Image.DecompressionBombError) as error:
        raise ValueError(f"is no whole PNG, JPEG or WebP picture ({type(error).__name__})") from None


def shows_nothing(image: Image.Image) -> bool:
    """Return whether a picture is one colour all over, which no generator means: a model of NaN gives a black one.

    Args:
        image: In RGB. A single pixel is too little to tell.
    """
    pixels = np.asarray(image if image.mode == "RGB" else image.convert("RGB"))
    # Almost every picture tells in its first row, and a look at all of it takes milliseconds.
    return max(image.size) > 1 and bool((pixels[0] == pixels[0, 0]).all()) and bool((pixels == pixels[0, 0]).all())


def _check_header(opened: Image.Image, max_side: int) -> None:
    if not 0 < min(opened.size) <= max(opened.size) <= max_side:
        raise ValueError(f"has {opened.width}x{opened.height} pixels; at most {max_side} a side are read")
    if getattr(opened, "n_frames", 1) != 1:
        raise ValueError("has more than one frame, and only one would be looked at")


def _plain_rgb(image: Image.Image) -> Image.Image:
    """Return the picture as RGB without metadata: the object itself where it already is."""
    if min(image.size) < 1:
        raise ValueError(f"a picture of {image.width}x{image.height} pixels cannot be delivered")
    if type(image) is Image.Image and image.mode == "RGB" and not image.info:
        return image
    if image.mode.startswith("I;16"):
        # Pillow's own conversion cuts every level above 255 off: a whole picture becomes plain white.
        image = Image.fromarray((np.asarray(image).astype(np.float32) / 257).round().astype(np.uint8))
    if image.mode in ("I", "F"):
        raise ValueError(f"a picture of mode {image.mode} has no known range; convert it to 8 bits a channel")
    if image.has_transparency_data:
        # In two steps, because Pillow warns of a direct one.
        image = image.convert("RGBA")
    plain = image.convert("RGB")
    # Pillow's writers put a comment or colour profile found here into the output.
    plain.info = {}
    return plain


def _chunk(kind: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(body, zlib.crc32(kind)))


def _lossy(image: Image.Image, form: str, quality: int) -> Encoded:
    buffer = io.BytesIO()
    # Method 2 takes half the time of WebP's default for one per cent more bytes; JPEG knows no method.
    _plain_rgb(image).save(buffer, form, quality=quality, method=2)
    with Image.open(buffer, formats=(form,)) as shown:
        return Encoded(buffer.getvalue(), _plain_rgb(shown), f"image/{form.lower()}")


def _checked(quality: int) -> int:
    if not 0 <= quality <= 100:
        raise ValueError(f"quality must be from 0 to 100, not {quality!r}")
    return quality
