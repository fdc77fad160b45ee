"""Reads colours off latents without a decoder: a linear map, fitted to a VAE by showing it a few dozen pictures."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import product
from typing import Any
from weakref import WeakKeyDictionary

import torch
from torch.nn import functional

from ..errors import ConfigError

_CELLS = 8
"""Latents along a side of a picture that is shown."""

_BATCH = 8

_RIDGE = 1e-4
"""Keeps channels that hardly tell of colours out of the map: noise on them would be shown as colours."""

_known: WeakKeyDictionary[Any, LatentColours] = WeakKeyDictionary()


@dataclass(frozen=True, slots=True, eq=False)
class LatentColours:
    """A linear map from latents to colours.

    Args:
        weights: Channels x 3.
        bias: 3.
    """

    weights: torch.Tensor
    bias: torch.Tensor

    def show(self, latents: torch.Tensor) -> torch.Tensor:
        """Return colours, about -1 to 1, of batch x 3 x height x width, for latents as a pipeline has them."""
        weights, bias = self.weights.to(latents.device), self.bias.to(latents.device)
        return torch.einsum("bchw,cr->brhw", latents.float(), weights) + bias[:, None, None]


def latent_colours(pipe: Any) -> LatentColours:
    """Return the map for a pipeline's VAE. It is fitted once for each VAE; only its encoder is used.

    Raises:
        ConfigError: If the VAE cannot encode pictures, or makes no finite latents of them.
    """
    vae = getattr(pipe, "vae", None)
    if not callable(getattr(vae, "encode", None)):
        raise ConfigError(f"previews: {type(pipe).__name__} has no VAE that could encode; pass Previews(decoder=...)")
    if vae not in _known:
        _known[vae] = _fitted(pipe, vae)
    return _known[vae]


def unscaled(latents: torch.Tensor, config: Any) -> torch.Tensor:
    """Return a pipeline's latents as a VAE of this configuration takes and gives them."""
    factor, offset = _scale(config, latents)
    restored: torch.Tensor = latents * factor + offset
    return restored


def _scale(config: Any, like: torch.Tensor) -> tuple[Any, Any]:
    factor = 1 / (getattr(config, "scaling_factor", None) or 1.0)
    means, spreads = getattr(config, "latents_mean", None), getattr(config, "latents_std", None)
    if means is None or spreads is None:
        return factor, getattr(config, "shift_factor", None) or 0.0
    shaped = [like.new_tensor(values).view(1, -1, 1, 1) for values in (means, spreads)]
    return shaped[1] * factor, shaped[0]


@torch.no_grad()
def _fitted(pipe: Any, vae: Any) -> LatentColours:
    if any(isinstance(module, torch.nn.Conv3d) for module in vae.modules()):
        raise ConfigError("previews: this VAE is made for videos; pass Previews(decoder=...)")
    shown = _pictures(_CELLS * getattr(pipe, "vae_scale_factor", 8))
    with _able_to_encode(vae):
        place = {"device": _device(pipe, vae), "dtype": next(vae.parameters()).dtype}
        latents = torch.cat([_latents(vae.encode(part.to(**place))) for part in torch.split(shown, _BATCH)])
    factor, offset = _scale(vae.config, latents)
    latents = (latents - offset) / factor
    if not bool(latents.isfinite().all()):
        raise ConfigError("previews: the VAE's encoder gives no finite numbers; pass Previews(decoder=...)")
    colours = functional.adaptive_avg_pool2d(shown, latents.shape[-2:])
    return _least_squares(*(values.permute(0, 2, 3, 1).flatten(0, 2).double() for values in (latents, colours)))


def _least_squares(latents: torch.Tensor, colours: torch.Tensor) -> LatentColours:
    around, about = latents.mean(0), colours.mean(0)
    spread = (latents - around).T @ (latents - around)
    ridge = _RIDGE * spread.diagonal().mean() * torch.eye(len(spread), dtype=spread.dtype)
    weights = torch.linalg.solve(spread + ridge, (latents - around).T @ (colours - about))
    return LatentColours(weights.float(), (about - around @ weights).float())


def _latents(encoded: Any) -> torch.Tensor:
    # The most probable ones: drawing would move torch's random state.
    if hasattr(encoded, "latent_dist"):
        found: torch.Tensor = encoded.latent_dist.mode()
    else:
        found = encoded.latents if hasattr(encoded, "latents") else encoded.latent
    return found.float().cpu()


@contextmanager
def _able_to_encode(vae: Any) -> Iterator[None]:
    """Have a half-precision VAE that would overflow compute in single precision, and leave it as it was."""
    first = next(vae.parameters())
    device, dtype = first.device, first.dtype
    upcast = dtype is torch.float16 and getattr(vae.config, "force_upcast", False) and device.type != "meta"
    if upcast:
        vae.to(torch.float32)
    try:
        yield
    finally:
        if upcast:
            vae.to(dtype)
        # An offload hook brought it to the accelerator, where it would take up room.
        if next(vae.parameters()).device != device and device.type != "meta":
            vae.to(device)


def _device(pipe: Any, vae: Any) -> Any:
    hooked = any(hasattr(module, "_hf_hook") for module in vae.modules())
    return pipe._execution_device if hooked else next(vae.parameters()).device


def _pictures(side: int) -> torch.Tensor:
    """Return pictures, -1 to 1: the pure colours, slopes from one colour to another, soft blots, and patchwork."""
    drawn = torch.Generator().manual_seed(0)
    pure = torch.tensor(list(product((-1.0, 1.0), repeat=3)))[:, :, None, None].expand(-1, -1, side, side)
    made = [
        functional.interpolate(torch.rand((6, 3, *size), generator=drawn) * 2 - 1, size=(side, side), mode=mode)
        for size, mode in (((1, 2), "bilinear"), ((2, 1), "bilinear"), ((3, 3), "bilinear"), ((4, 4), "nearest"))
    ]
    return torch.cat([pure, *made])
