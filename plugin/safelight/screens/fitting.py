"""Pictures of any shape made fit for a model that reads squares, without leaving any part of them out."""

from __future__ import annotations

from PIL import Image


def fitted_size(width: int, height: int, side: int) -> tuple[int, int]:
    """Return the largest size of the same shape inside a square, at least one pixel each way.

    Args:
        width: The picture's, in pixels, at least 1.
        height: The same.
        side: The square's side in pixels.
    """
    scale = min(side / width, side / height)
    return max(1, min(side, round(width * scale))), max(1, min(side, round(height * scale)))


def paste_centred(picture: Image.Image, canvas: Image.Image) -> Image.Image:
    """Return the canvas with the picture in its middle; an odd pixel of margin goes right and below."""
    canvas.paste(picture, ((canvas.width - picture.width) // 2, (canvas.height - picture.height) // 2))
    return canvas


def letterboxed(
    picture: Image.Image, side: int, *, canvas: int, fill: tuple[int, int, int], resample: Image.Resampling
) -> Image.Image:
    """Return a square of one colour with the whole picture in its middle.

    Args:
        picture: An RGB picture of any size.
        side: The picture's longer side in the result, in pixels.
        canvas: The result's side in pixels, at least ``side``.
        fill: The colour of the margin, each part 0..255.
        resample: How the picture is resized.
    """
    small = picture.resize(fitted_size(*picture.size, side), resample)
    return paste_centred(small, Image.new("RGB", (canvas, canvas), fill))
