"""What half-made latents are about to become: the picture in them, without the noise that is still on it."""

from __future__ import annotations

import math
from typing import Any

import torch
from torch.nn import functional

_LARGEST_CELL = 8


def without_noise(
    scheduler: Any, latents: torch.Tensor, before: torch.Tensor | None = None, *, index: int | None = None
) -> torch.Tensor:
    """Return an estimate of the finished latents.

    Latents are a picture plus noise, in proportions that the scheduler knows. Two of them, a step apart, have picture
    and noise in common and tell one from the other: that gives what the model itself foresees. Schedulers that add
    fresh noise in every step have no noise in common, which shows in the roughness of the result; then, and for
    latents alone, noise is taken out by averaging over squares.

    Args:
        scheduler: That of the pipeline.
        latents: As they are now: batch x channels x height x width.
        before: As they were a step ago.
        index: Which of the scheduler's steps comes next; None where nobody knows, and the latents come back as they
            are.
    """
    latents = latents.float()
    now = _level(scheduler, index) if index is not None else None
    if now is None or index is None or not now[0] > 0:
        return latents
    signal, noise = now
    noisy = latents / signal
    earlier = _level(scheduler, index - 1) if before is not None and index > 0 else None
    if before is not None and earlier is not None:
        apart = earlier[0] * noise - signal * earlier[1]
        if abs(apart) > 1e-6:
            common = (before.float() * noise - latents * earlier[1]) / apart
            if _roughness(common) < _roughness(noisy):
                return common
    return _smoothed(noisy, noise / signal)


def _level(scheduler: Any, index: int) -> tuple[float, float] | None:
    """Return how much of the latents before a step is picture, and how much is noise; both of unit size."""
    sigmas = getattr(scheduler, "sigmas", None)
    if sigmas is not None:
        return _level_of(scheduler, float(sigmas[index])) if index < len(sigmas) else None
    kept = getattr(scheduler, "alphas_cumprod", None)
    if kept is None:
        return None
    steps = scheduler.timesteps
    share = float(kept[int(steps[index])] if index < len(steps) else kept[0])
    return math.sqrt(share), math.sqrt(1 - share)


def _level_of(scheduler: Any, sigma: float) -> tuple[float, float]:
    started = getattr(scheduler, "init_noise_sigma", None)
    config = scheduler.config
    if started is None or config.get("use_flow_sigmas") or config.get("prediction_type") == "flow_prediction":
        return 1 - sigma, sigma
    if float(started) != 1:
        # Euler's kind: noise is piled on the picture.
        return 1.0, sigma
    signal = 1 / math.sqrt(1 + sigma * sigma)
    return signal, sigma * signal


def _roughness(latents: torch.Tensor) -> float:
    return float((latents[..., 1:] - latents[..., :-1]).abs().mean())


def _smoothed(noisy: torch.Tensor, sigma: float) -> torch.Tensor:
    # The mean of n x n cells has an n-th of the noise: no more of it than of the picture.
    cell = min(max(math.ceil(sigma), 1), _LARGEST_CELL, *noisy.shape[-2:])
    means = functional.avg_pool2d(noisy, cell, ceil_mode=True) / (1 + (sigma / cell) ** 2)
    return functional.interpolate(means, size=noisy.shape[-2:], mode="bilinear") if cell > 1 else means
