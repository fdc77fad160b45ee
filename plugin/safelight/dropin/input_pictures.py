"""Reads the pictures of a call: copies to pass on, and what the model will see of them.

diffusers prepares pictures in ``VaeImageProcessor``: PIL pictures are turned to RGB or grey; arrays are taken for
height x width x channels and tensors for channels x height x width, with values from 0 to 1, or from -1 to 1 where any
value that it is handed together is negative. The copies can be read in one way only: they hold nothing below 0.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..channel_table import ADAPTER_PICTURES, MASKS, NUMBERED_PICTURES, PICTURES, closed
from ..errors import InvalidRequest, UnjudgedChannel

Texts = Mapping[str, str]
Images = tuple[Image.Image, ...]

_SLACK = 1 / 510
"""What rounding may add to a range: half a level of 8 bits."""

_DEEPEST = 2
"""Lists in a list: one for each prompt or adapter, of one picture for each ControlNet or reference."""

_RANGES = "values must be from 0 to 1 (or from -1 to 1 together), as floating-point numbers; or pass a PIL picture"


@dataclass(frozen=True, slots=True)
class InputPictures:
    """The value of one picture parameter.

    Args:
        passed: A copy to pass on, laid out as it was given.
        items: What the model will see, in RGB, by the value's outermost entries: of a list its entries, of an array or
            tensor its pictures. Latents show nothing: an entry of a list is empty then, and a tensor has none.
        origins: The texts that sealed latents among it were made from.
    """

    passed: Any
    items: tuple[Images, ...]
    origins: tuple[Texts, ...] = ()


@dataclass(frozen=True, slots=True)
class PictureReader:
    """Reads the value of one picture parameter.

    Args:
        name: The parameter's.
        latents: Whether plain latents may stand in a picture's place.
        latent_channels: How many channels the pipeline's latents have, where that is known. A tensor of as many is
            taken for latents, as the pipeline takes it, even if it could be a picture.
        by_pipeline_alone: Whether the pipeline prepares its pictures without diffusers' ``VaeImageProcessor``. Those
            that do all read a PIL picture alike, and nothing else.
    """

    name: str
    latents: bool = False
    latent_channels: int | None = None
    by_pipeline_alone: bool = False

    def read(self, value: Any) -> InputPictures:
        """Read a picture, a list of pictures, or a list of such lists.

        Raises:
            InvalidRequest: If it has no form of which it is known what the model will see.
            UnjudgedChannel: If it is latents that nobody has judged.
        """
        return self._read(value, 0)

    def _read(self, value: Any, depth: int) -> InputPictures:
        if not isinstance(value, list | tuple):
            return self._read_together([value], alone=True)
        if not value or depth == _DEEPEST:
            raise self._wrong("must be a picture, a list of pictures, or a list of such lists")
        if not any(isinstance(item, list | tuple) for item in value):
            return self._read_together(value, alone=False)
        parts = [self._read(item, depth + 1) for item in value]
        items = tuple(tuple(image for item in part.items for image in item) for part in parts)
        return InputPictures([part.passed for part in parts], items, tuple(o for part in parts for o in part.origins))

    def _read_together(self, values: Sequence[Any], *, alone: bool) -> InputPictures:
        """Read what one image processor is handed together: it tells the range of all by the lowest value."""
        from torch import Tensor

        origins: tuple[Texts, ...] = ()
        copies: list[Any]
        shown: list[Images]
        if all(isinstance(value, Image.Image) for value in values):
            copies = [self._plain(value) for value in values]
            shown = [(copy.convert("RGB"),) for copy in copies]
        elif self._read_elsewhere():
            raise self._wrong("must be a PIL picture or lists of them; it is not known what is seen of another form")
        elif all(isinstance(value, np.ndarray) for value in values):
            copies = [np.array(value) for value in values]
            copies, shown = self._read_numbers(copies, alone)
        elif all(isinstance(value, Tensor) for value in values):
            if any(self._are_latents(value) for value in values):
                copies, shown, origins = self._read_latents(values)
            else:
                copies, shown = self._read_numbers([plain_copy(self.name, value) for value in values], alone)
        else:
            raise self._wrong("must be PIL pictures, NumPy arrays or tensors, all of one kind")
        if alone:
            # Of a batch in one array each picture is an entry.
            return InputPictures(copies[0], tuple((image,) for image in shown[0]), origins)
        return InputPictures(copies, tuple(shown), origins)

    def _read_elsewhere(self) -> bool:
        """Return whether it is not known what the model will see of numbers."""
        own = self.by_pipeline_alone and self.name not in MASKS | NUMBERED_PICTURES
        return own or self.name in ADAPTER_PICTURES

    def _plain(self, image: Image.Image) -> Image.Image:
        """Return a copy that is grey or RGB: what a mode hides besides (transparency, a palette) is shown or gone."""
        if image.mode in ("I", "F") or image.mode.startswith("I;"):
            raise self._wrong(f"of mode {image.mode} has no known range; convert it to RGB or L")
        if min(image.size) < 1:
            raise self._wrong("has no pixels")
        try:
            if image.has_transparency_data:
                # In two steps, because Pillow warns of a direct one.
                image = image.convert("RGBA")
            plain = image.convert("L" if image.mode in ("1", "L") else "RGB")
        except (OSError, ValueError, SyntaxError, EOFError) as error:
            raise self._wrong(f"is no whole picture that can be turned into RGB ({type(error).__name__})") from None
        plain.info = {}
        return plain

    def _are_latents(self, tensor: Any) -> bool:
        if is_sealed(tensor):
            return True
        channels = tensor.shape[-3] if tensor.ndim in (3, 4) else 0
        # The first dimension of three may count masks.
        return self.name not in MASKS and channels > 0 and (channels not in (1, 3) or channels == self.latent_channels)

    def _read_latents(self, values: Sequence[Any]) -> tuple[list[Any], list[Images], tuple[Texts, ...]]:
        copies: list[Any] = []
        origins: list[Texts] = []
        for value in values:
            if self.name in MASKS:
                raise UnjudgedChannel(self.name, "cannot be latents")
            if is_sealed(value):
                plain, texts = unsealed(value)
                copies.append(plain)
                origins += texts
            elif self._are_latents(value) and self.latents:
                copies.append(plain_copy(self.name, value))
            elif self._are_latents(value):
                raise UnjudgedChannel(self.name, f"has as many channels as latents; {closed('latents')}")
            else:
                raise self._wrong("must be pictures or latents, not both")
        return copies, [() for _ in copies], tuple(origins)

    def _read_numbers(self, copies: list[Any], alone: bool) -> tuple[list[Any], list[Images]]:
        """Bring arrays or tensors into the range from 0 to 1, and return them with what they show."""
        for copy in copies:
            if "float" not in str(copy.dtype):
                raise self._wrong(f"is of {copy.dtype}; {_RANGES}")
        # Of the shape first: what has no pixels has no lowest value.
        batches = [self._batch(_numpy(copy), not isinstance(copy, np.ndarray), alone) for copy in copies]
        low, high = (float(pick([pick(batch) for batch in batches])) for pick in (np.min, np.max))
        lowest = -_SLACK if self.name in MASKS else -1 - _SLACK
        if not (lowest <= low and high <= 1 + _SLACK):
            raise self._wrong(_RANGES)
        for copy in copies:
            # In place: where its numbers lie in memory decides how a model rounds.
            if low < 0 and self.name not in MASKS:
                copy += 1
                copy /= 2
            if low < -1 or high > 1 or (low < 0 and self.name in MASKS):
                copy[...] = copy.clip(0, 1)
        batches = [self._batch(_numpy(copy), not isinstance(copy, np.ndarray), alone) for copy in copies]
        return copies, [tuple(_picture(pixels) for pixels in batch) for batch in batches]

    def _batch(self, pixels: np.ndarray[Any, Any], channels_first: bool, alone: bool) -> np.ndarray[Any, Any]:
        """Return a view: number x height x width x channels, as ``VaeImageProcessor`` takes the dimensions."""
        mask = self.name in MASKS
        if pixels.ndim == 2 and (mask or not channels_first):
            pixels = pixels[None, ..., None]
        elif alone and _are_masks(self.name, pixels.shape, channels_first):
            pixels = pixels[..., None]
        elif pixels.ndim in (3, 4):
            pixels = np.moveaxis(pixels, -3, -1) if channels_first else pixels
            pixels = pixels if pixels.ndim == 4 else pixels[None]
        if pixels.ndim != 4 or not pixels.size or pixels.shape[-1] not in ((1,) if mask else (1, 3)):
            order = "channels x height x width" if channels_first else "height x width x channels"
            raise self._wrong(
                f"must be {order}, or a batch of these, with {'1 channel' if mask else '1 or 3 channels'}"
            )
        return pixels

    def _wrong(self, problem: str) -> InvalidRequest:
        return InvalidRequest(self.name, problem)


def entries(name: str, value: Any) -> int:
    """Return how many entries the value of a parameter has that may belong to one prompt or one row each.

    Args:
        name: The parameter's. Of pictures, only a batch has several: three dimensions are those of one.
        value: What is passed on: a list, an array, a tensor or anything else.
    """
    if isinstance(value, list):
        return len(value)
    shape: tuple[int, ...] = tuple(getattr(value, "shape", ()))
    if name in PICTURES and len(shape) != 4 and not _are_masks(name, shape, not isinstance(value, np.ndarray)):
        return 1
    return shape[0] if shape else 1


def _are_masks(name: str, shape: Sequence[int], channels_first: bool) -> bool:
    """Return whether three dimensions are several masks. As an array, three or four columns are one picture's."""
    return name in MASKS and len(shape) == 3 and (channels_first or shape[-1] not in (1, 3, 4))


def unsealed(sealed: Any) -> tuple[Any, tuple[Texts, ...]]:
    """Return a plain copy of a sealed tensor, and the texts that it was made from."""
    from .sealed import unseal

    return unseal(sealed).clone(), tuple(sealed.origins)


def is_sealed(value: Any) -> bool:
    """Return whether a value is a tensor that left a guarded pipeline unread."""
    from .sealed import SealedTensor

    return isinstance(value, SealedTensor)


def plain_copy(name: str, value: Any) -> Any:
    """Return a copy of an array or tensor that nobody else holds.

    Raises:
        InvalidRequest: If it is neither, or of a kind that could answer two readers differently.
    """
    from torch import Tensor, strided

    if isinstance(value, np.ndarray) and value.dtype != object:
        return np.array(value)
    if type(value) is not Tensor or value.is_meta or value.layout is not strided:
        raise InvalidRequest(name, f"must be a plain tensor, not {type(value).__name__}")
    return value.detach().clone()


def _numpy(value: Any) -> np.ndarray[Any, Any]:
    array: np.ndarray[Any, Any] = value if isinstance(value, np.ndarray) else value.float().cpu().numpy()
    return array


def _picture(pixels: np.ndarray[Any, Any]) -> Image.Image:
    levels = (pixels * 255).round().astype(np.uint8)
    return Image.fromarray(np.repeat(levels, 3, axis=2) if levels.shape[2] == 1 else levels)
