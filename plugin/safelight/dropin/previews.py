"""Half-made pictures: when they are looked at, and how a running pipeline's latents are shown."""

from __future__ import annotations

import inspect
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from PIL import Image

from ..errors import ConfigError

if TYPE_CHECKING:
    import torch

_LARGEST = 512
"""Longest side of what is shown, in pixels; image screens look at less."""

_UNPACKED_BY = {"self", "latents", "height", "width", "vae_scale_factor"}


@dataclass(frozen=True, slots=True)
class Previews:
    """A look at pictures while they are made, to stop early what the finished picture would be blocked for.

    A look only ever stops a picture. One that finds nothing lets nothing out: the finished picture is screened too.

    Args:
        at: After which shares of the steps, each between 0 and 1. Before about 0.4 there is little to see.
        decoder: A small decoder of the pipeline's latents, such as diffusers' ``AutoencoderTiny`` with weights for
            this model: something with ``decode(latents).sample``. By default colours are read off the latents by a
            linear map that is fitted to the pipeline's own VAE, at an eighth of the picture's size.
    """

    at: Sequence[float] = (0.4, 0.6)
    decoder: Any = None

    def __post_init__(self) -> None:
        """Refuse what would look at nothing.

        Raises:
            ConfigError: If a value is out of range or of the wrong kind.
        """
        shares = [self.at] if isinstance(self.at, int | float) else self.at
        if not isinstance(shares, list | tuple) or not shares or not all(_is_share(share) for share in shares):
            raise ConfigError(f"previews.at: must be shares of the steps, between 0 and 1, not {self.at!r}")
        if self.decoder is not None and not callable(getattr(self.decoder, "decode", None)):
            raise ConfigError("previews.decoder: must have a method decode(latents), as AutoencoderTiny has")
        object.__setattr__(self, "at", tuple(float(share) for share in shares))


def due(previews: Previews, step: int, total: int) -> bool:
    """Return whether a step is the first one by which one of the shares is done. The last step never is.

    Args:
        previews: When to look.
        step: Steps done before this one.
        total: Steps in all.
    """
    return step + 1 < total and any(step < share * total <= step + 1 for share in previews.at)


def check_previews(pipe: Any, previews: Previews) -> None:
    """Refuse a pipeline whose half-made pictures could not be shown; make ready what showing them needs.

    Raises:
        ConfigError: If its latents cannot be read, or the decoder is of no use for them.
    """
    if not isinstance(previews, Previews):
        raise ConfigError(f"previews: must be a safelight.Previews, not {type(previews).__name__}")
    unpack = getattr(pipe, "_unpack_latents", None)
    known = unpack is not None and set(inspect.signature(unpack).parameters) <= _UNPACKED_BY
    if hasattr(pipe, "_pack_latents") and not known:
        raise ConfigError(f"previews: {type(pipe).__name__} packs its latents in a way that is not known here")
    if previews.decoder is None:
        from .latent_colours import latent_colours

        latent_colours(pipe)
        return
    vae = getattr(pipe, "vae", None)
    if vae is not None and getattr(previews.decoder, "decoder", previews.decoder) is getattr(vae, "decoder", vae):
        raise ConfigError("previews.decoder: is the pipeline's own, which waits for the judges; pass another")
    channels = [getattr(getattr(part, "config", None), "latent_channels", None) for part in (vae, previews.decoder)]
    if None not in channels and channels[0] != channels[1]:
        raise ConfigError(f"previews.decoder: reads {channels[1]} channels, and the pipeline has {channels[0]}")


def preview_pictures(
    pipe: Any,
    latents: torch.Tensor,
    previews: Previews,
    *,
    height: int | None,
    width: int | None,
    before: torch.Tensor | None = None,
    step: int | None = None,
    total: int | None = None,
) -> list[Image.Image]:
    """Return a small RGB picture of every row of latents, as the pipeline foresees it.

    Args:
        pipe: The running pipeline, after a step.
        latents: As the step left them, packed or not.
        previews: By what to show them.
        height: Of the finished picture, in pixels, or None for the pipeline's own default.
        width: Likewise.
        before: The latents as the step found them. Without them the pictures are blurred.
        step: Steps done before this one.
        total: Steps in all.

    Raises:
        ConfigError: As ``check_previews``, for a VAE that was put in since.
    """
    # Imported here: whoever imports safelight need not have torch.
    import torch

    from .denoised import without_noise
    from .latent_colours import latent_colours

    with torch.no_grad():
        grid = _grid(pipe, latents, height, width)
        earlier = None if before is None or before.shape != latents.shape else _grid(pipe, before, height, width)
        scheduler = getattr(pipe, "scheduler", None)
        grid = without_noise(scheduler, grid, earlier, index=_index(scheduler, step, total))
        shown = latent_colours(pipe).show(grid) if previews.decoder is None else _decoded(previews.decoder, grid)
        return [_picture(row) for row in shown]


def _grid(pipe: Any, latents: torch.Tensor, height: int | None, width: int | None) -> torch.Tensor:
    """Return latents as batch x channels x rows x columns."""
    if latents.ndim == 3:
        unit = 2 * pipe.vae_scale_factor
        rows = _rows(latents.shape[1], (height or 1) / (width or height or 1))
        given = {"height": rows * unit, "width": latents.shape[1] // rows * unit}
        taken = inspect.signature(pipe._unpack_latents).parameters
        if "vae_scale_factor" in taken:
            given["vae_scale_factor"] = pipe.vae_scale_factor
        latents = pipe._unpack_latents(latents, **given)
    # A picture of a model that knows videos is a video of one frame.
    return latents[:, :, 0] if latents.ndim == 5 else latents


def _rows(cells: int, ratio: float) -> int:
    """Return into how many rows so many cells fall for a picture of this ratio, whatever its size was rounded to."""
    wholes = [rows for rows in range(1, cells + 1) if cells % rows == 0]
    return min(wholes, key=lambda rows: abs(math.log(rows * rows / cells / ratio)))


def _index(scheduler: Any, step: int | None, total: int | None) -> int | None:
    """Return which of the scheduler's steps comes next."""
    index = getattr(scheduler, "step_index", None)
    if index is not None:
        return int(index)
    steps = getattr(scheduler, "timesteps", None)
    # A pipeline that starts from a picture leaves the first steps out.
    return None if step is None or total is None or steps is None else len(steps) - total + step + 1


def _decoded(decoder: Any, latents: torch.Tensor) -> torch.Tensor:
    from .latent_colours import unscaled

    like = next(decoder.parameters(), latents) if hasattr(decoder, "parameters") else latents
    shown: torch.Tensor = decoder.decode(unscaled(latents, getattr(decoder, "config", None)).to(like)).sample
    return shown


def _picture(row: torch.Tensor) -> Image.Image:
    levels = row.float().nan_to_num(0.0).add(1).mul(127.5).round().clamp(0, 255).byte()
    picture = Image.fromarray(levels.permute(1, 2, 0).cpu().numpy())
    picture.thumbnail((_LARGEST, _LARGEST))
    return picture


def _is_share(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 < value < 1
