"""The third stage: the trained parts as a pipeline's folder, in float16, as the package ships it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import torch

from .parts import scheduler
from .train_denoiser import Denoiser


def pipeline(autoencoder: Any, model: Denoiser, tokenizer: Any, scale: float) -> Any:
    """Return the trained parts as a ``StableDiffusionXLPipeline``.

    Args:
        autoencoder: The trained autoencoder.
        model: The trained denoiser with its text encoders.
        tokenizer: The tokenizer of both.
        scale: What latents are multiplied by before noise is put on them.
    """
    from diffusers import StableDiffusionXLPipeline

    autoencoder.register_to_config(scaling_factor=scale)
    return StableDiffusionXLPipeline(
        vae=autoencoder,
        text_encoder=model.text_encoder,
        text_encoder_2=model.text_encoder_2,
        tokenizer=tokenizer,
        tokenizer_2=tokenizer,
        unet=model.unet,
        scheduler=scheduler(),
        # The empty caption was trained, so an empty text is encoded like any other.
        force_zeros_for_empty_prompt=False,
        add_watermarker=False,
    )


def export(pipe: Any, folder: Path) -> None:
    """Save the pipeline in float16 safetensors."""
    parts = [part for part in pipe.components.values() if isinstance(part, torch.nn.Module)]
    for part in parts:
        # Not the pipeline's own ``to``: it warns of parts that were better kept in float32 even where there are none.
        torch.nn.Module.to(part, torch.float16)
    pipe.save_pretrained(folder, safe_serialization=True)
    for part in parts:
        torch.nn.Module.to(part, torch.float32)
    for file in folder.rglob("*.safetensors"):
        # They are written for their owner alone; in a package everybody reads them.
        file.chmod(0o644)


def megabytes(folder: Path) -> float:
    """Return the size of the folder's files, in millions of bytes."""
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file()) / 1e6
