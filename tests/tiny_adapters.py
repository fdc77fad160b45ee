"""Small add-ons in files, as their makers publish them: LoRAs, learned words and IP-Adapters for the tiny pipelines.

Each is random, the same at every writing, and strong enough to show in the picture.
"""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import torch
from diffusers.utils import convert_state_dict_to_diffusers
from peft import LoraConfig, get_peft_model_state_dict
from safetensors.torch import save_file

import tiny_parts as parts

IP_TOKENS = 4
"""As many words as an IP-Adapter makes of a picture."""


def write_lora(
    folder: Path,
    pipe: Any,
    *,
    name: str = "pytorch_lora_weights.safetensors",
    text_encoder: bool = False,
    seed: int = 7,
) -> Path:
    """Write a LoRA for a pipeline's model, and if asked for its first text encoder; return the folder.

    It is loaded with ``pipe.load_lora_weights(folder, weight_name=name)``.
    """
    model = "unet" if hasattr(pipe, "unet") else "transformer"
    layers = {f"{model}_lora_layers": _layers(getattr(pipe, model), ["to_q", "to_k", "to_v"], seed)}
    if text_encoder:
        found = _layers(pipe.text_encoder, ["q_proj", "k_proj", "v_proj", "out_proj"], seed)
        layers["text_encoder_lora_layers"] = convert_state_dict_to_diffusers(found)
    type(pipe).save_lora_weights(folder, weight_name=name, **layers)
    return folder


def _layers(model: Any, targets: list[str], seed: int) -> dict[str, torch.Tensor]:
    # PEFT changes the model that it is shown.
    model = deepcopy(model)
    model.add_adapter(LoraConfig(r=2, lora_alpha=2, target_modules=targets))
    noise = torch.Generator().manual_seed(seed)
    weights = get_peft_model_state_dict(model)
    return {name: torch.randn(value.shape, generator=noise) for name, value in weights.items()}


def write_inversion(folder: Path, token: str = "<shard>", *, width: int = parts.CLIP_WIDTHS[0]) -> Path:
    """Write a learned word for one text encoder; return the file, for ``pipe.load_textual_inversion(file)``."""
    path = folder / "learned_embeds.safetensors"
    save_file({token: _noise(width, seed=11)}, path)
    return path


def write_sdxl_inversion(folder: Path) -> Path:
    """Write a learned word for both encoders of SDXL, under the two names that such files use."""
    path = folder / "sdxl_embeds.safetensors"
    small, large = parts.CLIP_WIDTHS
    save_file({"clip_l": _noise(small, seed=11), "clip_g": _noise(large, seed=12)}, path)
    return path


def write_ip_adapter(folder: Path, pipe: Any, *, subfolder: str, name: str) -> Path:
    """Write an IP-Adapter and its image encoder for a pipeline with a U-Net; return the folder.

    It is loaded with ``pipe.load_ip_adapter(folder, subfolder=subfolder, weight_name=name)``.
    """
    (folder / subfolder).mkdir(parents=True, exist_ok=True)
    parts.image_encoder().save_pretrained(folder / subfolder / "image_encoder")
    whole = ip_adapter_weights(pipe.unet)
    flat = {f"{part}.{key}": value for part, weights in whole.items() for key, value in weights.items()}
    save_file(flat, folder / subfolder / name)
    return folder


def ip_adapter_weights(unet: Any) -> dict[str, dict[str, torch.Tensor]]:
    """Return the weights of an IP-Adapter that fits a U-Net."""
    width = unet.config.cross_attention_dim
    projection = {
        "proj.weight": _noise(IP_TOKENS * width, parts.EYE, seed=13),
        "proj.bias": torch.zeros(IP_TOKENS * width),
        "norm.weight": torch.ones(width),
        "norm.bias": torch.zeros(width),
    }
    attention: dict[str, torch.Tensor] = {}
    # Every attention has a number; those that look at words are the odd ones.
    for number, name in enumerate(unet.attn_processors):
        if number % 2:
            # The rows of a key are as many as the layer is wide.
            rows = unet.get_submodule(name.removesuffix(".processor")).to_k.weight.shape[0]
            attention |= {f"{number}.to_{part}_ip.weight": _noise(rows, width, seed=number) for part in "kv"}
    return {"image_proj": projection, "ip_adapter": attention}


def _noise(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed)) / 2
