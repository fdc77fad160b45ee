"""A real Stable Diffusion XL pipeline, small and untrained: every part of the true one, 1.3 million parameters.

For tests of what goes in and out, where the quickest picture is the best. It makes coloured noise, a different one for
each prompt and seed. Where it matters what a picture shows, use ``trained_sdxl``.
"""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL, EulerDiscreteScheduler, StableDiffusionXLPipeline, UNet2DConditionModel
from tokenizers.pre_tokenizers import ByteLevel
from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection, CLIPTokenizer

WEIGHTS_SEED = 3
TOKEN_LIMIT = 77
"""Tokens of a prompt that CLIP reads, with its two marks; a token is one byte here."""

_HIDDEN = (32, 64)
"""Width of the two text encoders. The second one's is also the size of its summary of the prompt."""

_TIME_IDS = 6
_TIME_CHANNELS = 8


def tiny_sdxl() -> StableDiffusionXLPipeline:
    """Return a new pipeline on one thread, without a progress bar. Two of them have the same weights."""
    torch.set_num_threads(1)
    pipe = build()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def build() -> StableDiffusionXLPipeline:
    """Return the pipeline, in float32 on the CPU. The random state of torch is left as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(WEIGHTS_SEED)
        parts = {
            "text_encoder": CLIPTextModel(_text_config(_HIDDEN[0])),
            "text_encoder_2": CLIPTextModelWithProjection(_text_config(_HIDDEN[1])),
            "unet": _unet(),
            "vae": _vae(),
        }
    _strengthen(parts["unet"], parts["vae"])
    # Numbers of the scheduler as in SDXL base 1.0.
    scheduler = EulerDiscreteScheduler(
        beta_start=0.00085, beta_end=0.012, beta_schedule="scaled_linear", steps_offset=1, timestep_spacing="leading"
    )
    for part in parts.values():
        part.eval()
    return StableDiffusionXLPipeline(
        **parts, tokenizer=_tokenizer(), tokenizer_2=_tokenizer(), scheduler=scheduler, add_watermarker=False
    )


def _vocabulary() -> list[str]:
    # Every byte, inside a word and at its end: no text is out of vocabulary, in whatever script.
    letters = sorted(ByteLevel.alphabet())
    return [*letters, *(letter + "</w>" for letter in letters), "<|startoftext|>", "<|endoftext|>"]


def _tokenizer() -> Any:
    vocabulary = {token: number for number, token in enumerate(_vocabulary())}
    return CLIPTokenizer(vocab=vocabulary, merges=[], model_max_length=TOKEN_LIMIT)


def _text_config(width: int) -> Any:
    size = len(_vocabulary())
    return CLIPTextConfig(
        vocab_size=size,
        hidden_size=width,
        intermediate_size=2 * width,
        projection_dim=width,
        num_hidden_layers=2,
        num_attention_heads=4,
        max_position_embeddings=TOKEN_LIMIT,
        bos_token_id=size - 2,
        eos_token_id=size - 1,
        pad_token_id=size - 1,
    )


def _unet() -> Any:
    return UNet2DConditionModel(
        sample_size=32,
        in_channels=4,
        out_channels=4,
        block_out_channels=(32, 64),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=sum(_HIDDEN),
        attention_head_dim=(4, 8),
        use_linear_projection=True,
        norm_num_groups=8,
        addition_embed_type="text_time",
        addition_time_embed_dim=_TIME_CHANNELS,
        projection_class_embeddings_input_dim=_HIDDEN[1] + _TIME_IDS * _TIME_CHANNELS,
    )


def _vae() -> Any:
    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=4,
        # Four blocks halve a side three times: the scale factor of 8 that SDXL has.
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=256,
        scaling_factor=0.13025,
        force_upcast=False,
    )


def _strengthen(unet: Any, vae: Any) -> None:
    """Scale some of the random weights: as they are drawn, a prompt hardly shows in a picture, nor does any colour."""
    with torch.no_grad():
        unet.add_embedding.linear_1.weight *= 4
        unet.add_embedding.linear_2.weight *= 4
        unet.conv_out.weight *= 6
        vae.decoder.conv_out.weight *= 2
