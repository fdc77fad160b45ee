"""Pictures as a pipeline makes them: read for the screens, withheld where that was ruled, returned as was asked."""

from __future__ import annotations

import sys
from collections.abc import Collection, Sequence
from dataclasses import dataclass, fields, is_dataclass
from typing import Any

import numpy as np
from PIL import Image

from ..encoding import Encoded, encode_raw
from ..errors import GenerationFailed
from ..policy import Decision, Reason
from ..verdict import Stage
from .choices import OnBlock

_CELLS = 8
"""A blurred picture is drawn from this many colours a side: its mood is left of it, and no thing."""

_OURS = ("images", "nsfw_content_detected")
"""The fields of an output that are filled anew."""

Array = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Ruled:
    """One place of a call's answer.

    Args:
        decision: What was ruled.
        image: The picture as the pipeline made it, or None where none was made, or none that may be shown.
        screened: The same as the screens saw it, in RGB, or None.
    """

    decision: Decision
    image: Any = None
    screened: Image.Image | None = None


def pictures_of(output: Any, count: int) -> list[Any]:
    """Return what a pipeline made, as a list of NumPy arrays or tensors: floats from 0 to 1.

    Raises:
        GenerationFailed: If there are not ``count`` pictures.
    """
    images = list(getattr(output, "images", ()))
    if len(images) != count:
        raise GenerationFailed(f"the pipeline made {len(images)} pictures instead of the {count} asked")
    return [_floats(image) if isinstance(image, Image.Image) else image for image in images]


def finite(images: Sequence[Any]) -> list[Any]:
    """Return pictures; one of NaN is black instead.

    A guard withholds a black picture by itself, as the fault that it is, and the others are not lost.

    Raises:
        GenerationFailed: If none has finite numbers, or one is neither grey nor RGB.
    """
    if not all(_array(image).shape[-1] in (1, 3) for image in images):
        # An alpha channel would leave without anybody having looked at it.
        raise GenerationFailed("the pipeline made a picture that is neither grey nor RGB")
    whole = [bool(np.isfinite(_array(image)).all()) for image in images]
    if images and not any(whole):
        raise GenerationFailed("the pipeline made a picture that holds no finite numbers")
    return [image if fine else black(image) for image, fine in zip(images, whole, strict=True)]


def encoded(image: Any, output_type: str) -> Encoded:
    """Return what is delivered, as bytes to prove it by, and the picture that it shows.

    Args:
        image: Floats from 0 to 1: an array of height x width x channels, or a tensor with the channels first.
        output_type: ``pil``, ``np`` or ``pt``.
    """
    shown = pil(image)
    if output_type == "pil":
        return encode_raw(shown)
    array = np.ascontiguousarray(_array(image))
    head = f"{output_type} {array.dtype} {array.shape}\n".encode()
    return Encoded(head + array.tobytes(), shown.convert("RGB"), "application/octet-stream")


def pil(image: Any) -> Image.Image:
    """Return a picture as diffusers would: rounded the same way, so that it is the same bit for bit."""
    pixels = (_array(image) * 255).round().clip(0, 255).astype("uint8")
    return Image.fromarray(pixels[..., 0] if pixels.shape[-1] == 1 else pixels)


def black(image: Any) -> Any:
    """Return a black picture of the same size, type and place. Not by multiplication: NaN times nothing is NaN."""
    if isinstance(image, np.ndarray):
        return np.zeros_like(image)
    return image.new_zeros(image.shape)


def blurred(image: Any) -> Any:
    """Return what is left of a picture when it is drawn from 8 x 8 colours, of the same size, type and place."""
    shown = pil(image)
    small = shown.resize((_CELLS, _CELLS), Image.Resampling.BOX)
    pixels = np.asarray(small.resize(shown.size, Image.Resampling.BICUBIC), dtype="float32") / 255
    pixels = pixels[..., None] if pixels.ndim == 2 else pixels
    if isinstance(image, np.ndarray):
        return pixels.astype(image.dtype)
    from torch import from_numpy

    return from_numpy(pixels).permute(2, 0, 1).to(image.device, image.dtype)


def made_like(pipe: Any, *, decoded: bool) -> tuple[Any, Any]:
    """Return the dtype and the device of the tensors that a pipeline would return.

    Args:
        pipe: The pipeline.
        decoded: Whether pictures (``pt``) are meant, and not latents.
    """
    from torch import float16, float32

    from .seals import denoisers

    vae: Any = getattr(pipe, "vae", None)
    model = vae if decoded and vae is not None else denoisers(pipe)[0]
    dtype = getattr(model, "dtype", float32)
    if model is vae and dtype == float16 and hasattr(pipe, "upcast_vae") and vae.config.get("force_upcast"):
        # SDXL's autoencoder overflows in half precision, so its pipelines decode in single.
        dtype = float32
    return dtype, getattr(pipe, "_execution_device", None)


def blank(size: tuple[int, int], output_type: str, *, dtype: Any = None, device: Any = None) -> Any:
    """Return a black picture for a call in which none was made.

    Args:
        size: Height and width in pixels.
        output_type: ``pil``, ``np`` or ``pt``.
        dtype: Of a tensor; arrays are always float32.
        device: Of a tensor.
    """
    if output_type != "pt":
        return np.zeros((*size, 3), dtype="float32")
    from torch import zeros

    return zeros(3, *size, dtype=dtype, device=device)


def no_latents(pipe: Any, size: tuple[int, int], count: int) -> Any:
    """Return latents of zeros for a call in which none were made, such as the pipeline's would be.

    Args:
        pipe: The pipeline.
        size: Height and width in pixels.
        count: Pictures asked for.
    """
    from torch import zeros

    factor = int(getattr(pipe, "vae_scale_factor", 8))
    height, width = (side // factor for side in size)
    channels = int(getattr(getattr(getattr(pipe, "vae", None), "config", None), "latent_channels", 4))
    # Flux reads latents in patches of 2 x 2.
    packed = hasattr(pipe, "_pack_latents")
    shape = ((height // 2) * (width // 2), channels * 4) if packed else (channels, height, width)
    dtype, device = made_like(pipe, decoded=False)
    return zeros(count, *shape, dtype=dtype, device=device)


def spread_rows(made: Any, places: Sequence[int], admitted: Collection[int], *, each: int, count: int) -> Any:
    """Return latents of all prompts of a call: those made for admitted ones at their places, zeros elsewhere.

    Args:
        made: The latents that the pipeline returned, one row a picture.
        places: The prompts that they were made for, in order.
        admitted: Those of them that were admitted.
        each: Pictures made for each.
        count: Prompts of the call.
    """
    latents = made.new_zeros((count * each, *made.shape[1:]))
    for order, place in enumerate(places):
        if place in admitted:
            latents[place * each : (place + 1) * each] = made[order * each : (order + 1) * each]
    return latents


def answer(
    output: Any, ruled: Sequence[Ruled], made: Sequence[int], *, blank: Any, output_type: str, on_block: OnBlock
) -> Any:
    """Fill a pipeline's own output object: every picture at its place, the withheld ones black or blurred.

    Args:
        output: What the pipeline returned, or an empty object of its output class.
        ruled: One entry a picture of the call, in order.
        made: For each picture that the pipeline made, its place among ``ruled``.
        blank: A black picture, for places whose own was never made.
        output_type: ``pil``, ``np`` or ``pt``.
        on_block: What stands at a withheld picture's place.
    """
    images = [_delivered(item, blank, on_block, output_type) for item in ruled]
    # A picture that failed is as black as one that was blocked; only this tells them apart.
    flags = [not item.decision.allows and not item.decision.is_fault for item in ruled]
    for own, place in zip(own_flags(output, len(made)), made, strict=True):
        flags[place] = flags[place] or own
    only_ours(output)
    output.images = _as_asked(images, output_type)
    output.nsfw_content_detected = flags
    output.decisions = tuple(item.decision for item in ruled)
    return output


def own_flags(output: Any, count: int) -> list[bool]:
    """Return for each picture of an output whether the model's own checker flagged it; False where that is not told.

    Args:
        output: What the pipeline returned.
        count: How many pictures it made.
    """
    flags: Any = getattr(output, "nsfw_content_detected", None)
    # A checker of the caller's own may return an array or a tensor; some classes have one bool for all.
    flags = flags.tolist() if hasattr(flags, "tolist") else flags
    if not isinstance(flags, list | tuple) or len(flags) != count:
        return [False] * count
    return [bool(flag) for flag in flags]


def only_ours(output: Any) -> Any:
    """Empty all of an output but the pictures and their flags, and return it: what else it holds nobody looked at."""
    if isinstance(output, dict):
        # diffusers' outputs hold every value twice, and forget the second one of None.
        kept = {name: output[name] for name in _OURS if name in output}
        output.clear()
        for name, value in kept.items():
            output[name] = value
    named = [field.name for field in fields(output)] if is_dataclass(output) else []
    for name in {*named, *vars(output)} - set(_OURS):
        setattr(output, name, None)
    return output


def as_tuple(output: Any) -> tuple[Any, ...]:
    """Return what the pipeline would have with ``return_dict=False``: as many values as its output class has."""
    return tuple(getattr(output, field.name) for field in fields(output))


def empty_output(cls: type[Any]) -> Any:
    """Return an empty object of a pipeline's output class, which its module imports."""
    from diffusers.utils import BaseOutput

    for parent in cls.__mro__:
        for found in vars(sys.modules[parent.__module__]).values():
            if isinstance(found, type) and issubclass(found, BaseOutput) and found.__name__.endswith("PipelineOutput"):
                return found(**{field.name: [] for field in fields(found)})
    raise GenerationFailed(f"{cls.__name__} has no output class that could carry a blocked picture")


def _delivered(item: Ruled, blank: Any, on_block: OnBlock, output_type: str) -> Any:
    if output_type == "pil" and item.screened is not None and item.decision.allows and item.image.shape[-1] == 3:
        # The very picture that was looked at, and no second turning of numbers into colours.
        return item.screened
    return _shown(item, blank, on_block)


def _shown(item: Ruled, blank: Any, on_block: OnBlock) -> Any:
    decision = item.decision
    if item.image is None:
        return blank
    if decision.allows:
        return item.image
    # Nothing at all is shown of the gravest category, nor of what nobody could judge.
    may_blur = decision.stage is Stage.IMAGE and not decision.is_fault and decision.reason is not Reason.RESTRICTED
    return blurred(item.image) if on_block == "blur" and may_blur else black(item.image)


def _array(image: Any) -> Array:
    """Return a picture as float height x width x channels, whether it came as NumPy or as a tensor."""
    if isinstance(image, np.ndarray):
        return image
    array: Array = image.detach().float().cpu().permute(1, 2, 0).numpy()
    return array


def _floats(image: Image.Image) -> Array:
    pixels = np.asarray(image, dtype="float32") / 255
    return pixels[..., None] if pixels.ndim == 2 else pixels


def _as_asked(images: list[Any], output_type: str) -> Any:
    if output_type == "pil":
        return [image if isinstance(image, Image.Image) else pil(image) for image in images]
    if isinstance(images[0], np.ndarray):
        # Older pipelines give arrays where tensors were asked for.
        return np.stack(images)
    from torch import stack

    return stack(images)
