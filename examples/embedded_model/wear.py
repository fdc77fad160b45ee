"""What may become of a picture before a classifier sees it: moved, turned, warped, blurred, tinted, noisy, squeezed."""

from __future__ import annotations

import io
import math
import random
from dataclasses import dataclass
from typing import Any

import torch
from PIL import Image
from torch.nn import functional


@dataclass(frozen=True, slots=True)
class Wear:
    """How far pictures are changed, at most.

    Args:
        zoom: The smallest and the largest scale of what is in the picture.
        shift: As a share of the picture's side.
        tilt: Turn in degrees.
        stretch: Height to width, as a share, so 0.2 is 20 % taller or flatter.
        warp: How far points move that lie close to each other, as a share of the side.
        turned: Share of pictures in any of the eight ways to lay a square down.
        mixed_up: Share of pictures whose red, green and blue change places, which gives other colours.
        tint: Change of each channel's strength, as a share.
        noise: Deviation of each pixel, in -1..1.
        least: The fewest pixels a side that a blurred picture is reduced to.
    """

    zoom: tuple[float, float]
    shift: float
    tilt: float
    stretch: float
    warp: float
    turned: float = 0.0
    mixed_up: float = 0.0
    tint: float = 0.06
    noise: float = 0.06
    least: int = 24


def worn(pictures: torch.Tensor, wear: Wear) -> torch.Tensor:
    """Return [n, 3, side, side] in -1 to 1, each picture changed by torch's random numbers."""
    found = _moved(pictures, wear)
    found = _blurred(found, wear.least)
    if wear.turned:
        found = _turned(found, wear.turned)
    if wear.mixed_up:
        found = _mixed_up(found, wear.mixed_up)
    gain = 1 + wear.tint * (2 * torch.rand(len(found), 3, 1, 1) - 1)
    light = wear.tint * (2 * torch.rand(len(found), 1, 1, 1) - 1)
    # Squared, so that most pictures have little of it.
    grain = wear.noise * torch.rand(len(found), 1, 1, 1) ** 2
    return (found * gain + light + grain * torch.randn_like(found)).clamp(-1, 1)


def _moved(pictures: torch.Tensor, wear: Wear) -> torch.Tensor:
    count = len(pictures)
    low, high = (math.log(end) for end in wear.zoom)
    scale = torch.exp(low + (high - low) * torch.rand(count))
    stretch = torch.exp(math.log1p(wear.stretch) * (2 * torch.rand(count) - 1) / 2)
    angle = math.radians(wear.tilt) * (2 * torch.rand(count) - 1)
    across, down = 1 / (scale * stretch), stretch / scale
    matrix = torch.zeros(count, 2, 3)
    matrix[:, 0, 0], matrix[:, 0, 1] = angle.cos() * across, -angle.sin() * down
    matrix[:, 1, 0], matrix[:, 1, 1] = angle.sin() * across, angle.cos() * down
    matrix[:, :, 2] = 2 * wear.shift * (2 * torch.rand(count, 2) - 1)
    grid = functional.affine_grid(matrix, list(pictures.shape), align_corners=False)
    # A coarse field made smooth: neighbours move nearly together.
    coarse = wear.warp * 2 * torch.randn(count, 2, 5, 5) * torch.rand(count, 1, 1, 1)
    field = functional.interpolate(coarse, size=pictures.shape[-2:], mode="bicubic", align_corners=True)
    return functional.grid_sample(
        pictures, grid + field.permute(0, 2, 3, 1), padding_mode="border", align_corners=False
    )


def _blurred(pictures: torch.Tensor, least: int) -> torch.Tensor:
    """Reduce two of five parts of the batch to some size between ``least`` and all, and enlarge them again."""
    parts = list(pictures.chunk(5))
    side = pictures.shape[-1]
    for i in range(min(2, len(parts))):
        small = int(torch.randint(least, side + 1, ()))
        reduced = functional.interpolate(parts[i], size=(small, small), mode="area")
        parts[i] = functional.interpolate(reduced, size=(side, side), mode="bicubic", align_corners=False)
    return torch.cat(parts)


def _turned(pictures: torch.Tensor, share: float) -> torch.Tensor:
    found = pictures.clone()
    for quarters in range(4):
        for mirrored in (False, True):
            chosen = torch.rand(len(found)) < share / 8
            turned = torch.rot90(found[chosen], quarters, (2, 3))
            found[chosen] = turned.flip(3) if mirrored else turned
    return found


def _mixed_up(pictures: torch.Tensor, share: float) -> torch.Tensor:
    found = pictures.clone()
    chosen = torch.rand(len(found)) < share
    found[chosen] = found[chosen][:, torch.randperm(3)]
    return found


def squeezed(picture: Image.Image, chance: random.Random) -> Image.Image:
    """Return the picture after a JPEG file of some quality between 30 and 90."""
    file = io.BytesIO()
    picture.save(file, "JPEG", quality=chance.randint(30, 90))
    return Image.open(file).convert("RGB")


@torch.no_grad()
def through(autoencoder: Any, pictures: torch.Tensor, *, noise: float, mixed: float = 0.0) -> torch.Tensor:
    """Return pictures that went through the autoencoder as drawn ones do: a little blurred, a little malformed.

    Args:
        autoencoder: The pipeline's.
        pictures: [n, 3, 64, 64] in -1 to 1.
        noise: The most noise on the latents, in their own deviations; each picture gets some share of it.
        mixed: The most of another picture's latents in a picture's.
    """
    found = []
    # A third faster on a CPU.
    autoencoder.to(memory_format=torch.channels_last)
    for part in torch.split(pictures, 64):
        latents = autoencoder.encode(part).latent_dist.mode()
        shape = (len(part), 1, 1, 1)
        other = mixed * torch.rand(shape)
        latents = (1 - other) * latents + other * latents[torch.randperm(len(part))]
        latents = latents + noise * torch.rand(shape) * latents.std() * torch.randn_like(latents)
        found.append(autoencoder.decode(latents).sample.clamp(-1, 1))
    return torch.cat(found)
