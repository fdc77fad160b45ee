"""The second stage: the denoiser and the two text encoders, together, on pictures that the autoencoder has encoded."""

from __future__ import annotations

import random
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch.nn import functional

from . import workers
from .captions import any_hidden, caption
from .checkpoints import Average, Checkpoint
from .parts import denoiser, scheduler, text_encoders
from .pictures import SIDE, Motif, any_motif, draw
from .train_autoencoder import as_floats, rate_at

BATCH = 32
STEPS = 5_600
RATE = 8e-4
PICTURES = 20_000
HIDDEN_SHARE = 0.07
"""Pictures whose caption names nothing that the model knows."""

EMPTY_SHARE = 0.1
"""Captions that are left out, so that drawing without a text is learned too, which guidance needs."""

SCALED_BY = 4_000
"""Pictures whose latents tell the scaling factor."""

SAVED_EVERY = 250


class Denoiser(torch.nn.Module):
    """Everything that this stage trains: the two text encoders and the U-Net.

    Args:
        tokenizer: The tokenizer of both text encoders.
    """

    def __init__(self, tokenizer: Any) -> None:
        super().__init__()
        self.text_encoder, self.text_encoder_2 = text_encoders(len(tokenizer))
        self.unet = denoiser()
        self._tokenizer = tokenizer

    def forward(self, noisy: torch.Tensor, times: torch.Tensor, captions: list[str]) -> torch.Tensor:
        """Return the velocity [n, 16, 8, 8] at noisy latents of ``times`` [n], towards the captions' pictures."""
        tokens = self._tokenizer(captions, padding="max_length", truncation=True, return_tensors="pt").input_ids
        tokens = tokens.to(noisy.device)
        # As the pipeline does: the last layer but one of both, and the second one's summary.
        first = self.text_encoder(tokens, output_hidden_states=True).hidden_states[-2]
        second = self.text_encoder_2(tokens, output_hidden_states=True)
        sizes = torch.tensor([[SIDE, SIDE, 0, 0, SIDE, SIDE]] * len(captions), device=noisy.device)
        velocity: torch.Tensor = self.unet(
            noisy,
            times,
            encoder_hidden_states=torch.cat([first, second.hidden_states[-2]], dim=-1),
            added_cond_kwargs={"text_embeds": second.text_embeds, "time_ids": sizes},
            return_dict=False,
        )[0]
        return velocity


@torch.no_grad()
def encoded(autoencoder: Any, motifs: list[Motif], chance: random.Random) -> torch.Tensor:
    """Return latents [n, 16, 8, 8] of pictures of the motifs, not yet scaled."""
    device = next(autoencoder.parameters()).device
    latents = []
    for start in range(0, len(motifs), 64):
        pictures = np.stack([np.asarray(draw(motif, chance)) for motif in motifs[start : start + 64]])
        batch = as_floats(torch.from_numpy(pictures).permute(0, 3, 1, 2)).to(device)
        latents.append(autoencoder.encode(batch).latent_dist.mode().cpu())
    return torch.cat(latents)


def train_denoiser(
    folder: Path,
    autoencoder: Any,
    tokenizer: Any,
    *,
    device: str,
    seed: int,
    steps: int = STEPS,
    pictures: int = PICTURES,
    show: Callable[[int, int, str], None],
) -> tuple[Denoiser, float]:
    """Train, or go on; return the models with averaged weights, and the scaling factor of the latents.

    Args:
        folder: Where the checkpoint is.
        autoencoder: The trained autoencoder.
        tokenizer: The tokenizer of the captions.
        device: ``cpu`` or ``cuda``.
        seed: Seed of the pictures and of everything random.
        steps: Steps of 32 pictures.
        pictures: Number of different pictures.
        show: Told the steps done, their number, and the loss.
    """
    torch.manual_seed(seed)
    model = Denoiser(tokenizer).to(device)
    average = Average(model, decay=0.999)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, betas=(0.9, 0.99), weight_decay=1e-2)
    checkpoint = Checkpoint(folder / "denoiser.pt", model=model, average=average, optimizer=optimizer)
    done = checkpoint.load()
    motifs, latents, scale = _world(folder, autoencoder, seed, pictures)
    chance = random.Random(f"{seed}/{done}/{workers.rank()}")
    torch.manual_seed(chance.randrange(2**31))
    shares = scheduler().alphas_cumprod.to(device)
    for step in range(done, steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * rate_at(step, steps)
        picked = chance.choices(range(len(motifs)), k=BATCH // workers.count())
        captions = ["" if chance.random() < EMPTY_SHARE else caption(motifs[i], chance) for i in picked]
        loss = _loss(model, latents[picked].to(device) * scale, captions, shares)
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(loss)
        workers.average_gradients(model.parameters())
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update()
        show(step + 1, steps, f"loss {loss.item():.4f}")
        if workers.rank() == 0 and ((step + 1) % SAVED_EVERY == 0 or step + 1 == steps):
            checkpoint.save(step + 1)
    average.copy_to(model)
    return model.eval(), scale


def _loss(model: Denoiser, latents: torch.Tensor, captions: list[str], shares: torch.Tensor) -> torch.Tensor:
    times = torch.randint(len(shares), (len(latents),), device=latents.device)
    noise = torch.randn_like(latents)
    signal = shares[times].sqrt().view(-1, 1, 1, 1)
    spread = (1 - shares[times]).sqrt().view(-1, 1, 1, 1)
    velocity = model(signal * latents + spread * noise, times, captions)
    return functional.mse_loss(velocity, signal * noise - spread * latents)


def _world(folder: Path, autoencoder: Any, seed: int, pictures: int) -> tuple[list[Motif], torch.Tensor, float]:
    """Return the motifs, their latents, and the factor that gives the latents a deviation of 1; latents are kept."""
    chance = random.Random(seed + 1)
    motifs = [any_hidden(chance) if chance.random() < HIDDEN_SHARE else any_motif(chance) for _ in range(pictures)]
    # Of this autoencoder: one that was trained anew has other latents.
    weights = torch.cat([part.detach().flatten().cpu() for part in autoencoder.parameters()]).numpy().tobytes()
    file = folder / f"latents-{seed}-{pictures}-{zlib.crc32(weights):08x}.pt"
    if workers.rank() == 0 and not file.exists():
        latents = encoded(autoencoder, motifs, chance)
        torch.save(latents, file.with_suffix(".part"))
        file.with_suffix(".part").rename(file)
    workers.wait()
    latents = torch.load(file, weights_only=True)
    return motifs, latents, float(1 / latents[:SCALED_BY].std())
