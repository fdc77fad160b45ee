"""The first stage: the autoencoder. What it cannot show, the denoiser can never draw."""

from __future__ import annotations

import math
import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from . import workers
from .checkpoints import Average, Checkpoint
from .parts import autoencoder
from .pictures import any_motif, draw

BATCH = 16
STEPS = 1_900
RATE = 2e-3
KL_WEIGHT = 1e-5
"""Keeps the latents near a normal distribution; more of it blurs."""

PICTURES = 16_000
SAVED_EVERY = 100


def rendered(count: int, seed: int) -> torch.Tensor:
    """Return [count, 3, 64, 64] bytes of random pictures."""
    chance = random.Random(seed)
    pictures = np.stack([np.asarray(draw(any_motif(chance), chance)) for _ in range(count)])
    return torch.from_numpy(pictures).permute(0, 3, 1, 2).contiguous()


def as_floats(pictures: torch.Tensor) -> torch.Tensor:
    """Return bytes as floats from -1 to 1."""
    return pictures.float() / 127.5 - 1


def rate_at(step: int, steps: int, *, warm_up: int = 100) -> float:
    """Return the learning rate's share: up during the warm-up, then down along half a cosine to a hundredth."""
    if step < warm_up:
        return (step + 1) / warm_up
    return 0.01 + 0.99 * 0.5 * (1 + math.cos(math.pi * min(1.0, (step - warm_up) / max(1, steps - warm_up))))


def train_autoencoder(
    folder: Path, *, device: str, seed: int, steps: int = STEPS, show: Callable[[int, int, str], None]
) -> Any:
    """Train, or go on, and return the model with averaged weights.

    Args:
        folder: Where the checkpoint is.
        device: ``cpu`` or ``cuda``.
        seed: Seed of the pictures and of everything random.
        steps: Steps of 16 pictures.
        show: Told the steps done, their number, and the loss.
    """
    torch.manual_seed(seed)
    model = autoencoder().to(device)
    average = Average(model, decay=0.995)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=1e-4)
    checkpoint = Checkpoint(folder / "autoencoder.pt", model=model, average=average, optimizer=optimizer)
    done = checkpoint.load()
    pictures = rendered(PICTURES, seed) if done < steps else torch.empty(0)
    # From here on each process takes other pictures.
    torch.manual_seed(seed + 1_000 * (done + 1) + workers.rank())
    for step in range(done, steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * rate_at(step, steps)
        batch = as_floats(pictures[torch.randint(len(pictures), (BATCH // workers.count(),))]).to(device)
        loss = _loss(model, batch)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        workers.average_gradients(model.parameters())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update()
        show(step + 1, steps, f"loss {loss.item():.4f}")
        if (step + 1) % SAVED_EVERY == 0 or step + 1 == steps:
            if workers.rank() == 0:
                checkpoint.save(step + 1)
    average.copy_to(model)
    return model.eval()


def _loss(model: Any, batch: torch.Tensor) -> torch.Tensor:
    latents = model.encode(batch).latent_dist
    back = model.decode(latents.sample()).sample
    # Absolute differences keep edges sharp; squared ones keep large areas true.
    fit = functional.l1_loss(back, batch) + functional.mse_loss(back, batch)
    spread: torch.Tensor = latents.kl().mean() / 64
    return fit + KL_WEIGHT * spread


@torch.no_grad()
def signal_to_noise(model: Any, pictures: torch.Tensor) -> float:
    """Return the peak signal-to-noise ratio of pictures that went through the autoencoder, in decibels."""
    device = next(model.parameters()).device
    errors = []
    for batch in torch.split(as_floats(pictures), 32):
        back = model.decode(model.encode(batch.to(device)).latent_dist.mode()).sample.cpu().clamp(-1, 1)
        errors.append(functional.mse_loss(back, batch).item())
    return -10 * math.log10(np.mean(errors) / 4)
