"""The parts of the model: true classes of Stable Diffusion XL, at the smallest size that draws the small world."""

from __future__ import annotations

from typing import Any

from .pictures import SIDE

TOKEN_LIMIT = 77
"""Tokens of a prompt that CLIP reads, with its two marks."""

LATENT_CHANNELS = 16
"""SDXL has 4 for pictures of 1024 pixels; at 64 pixels the same reduction of 8 leaves 8 x 8 latents, which hold too
little with 4."""

LATENT_SIDE = SIDE // 8

_HIDDEN = (64, 96)
"""Width of the two text encoders. The second one's is also the size of its summary of the prompt."""

_TIME_IDS = 6
_TIME_CHANNELS = 16


def autoencoder() -> Any:
    """Return an untrained ``AutoencoderKL``: [n, 3, 64, 64] in -1 to 1 becomes [n, 16, 8, 8], and back."""
    from diffusers import AutoencoderKL

    return AutoencoderKL(
        in_channels=3,
        out_channels=3,
        latent_channels=LATENT_CHANNELS,
        block_out_channels=(16, 32, 64, 96),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=4,
        sample_size=SIDE,
        # An 8 x 8 picture of latents is small enough for convolutions to see all of it.
        mid_block_add_attention=False,
        force_upcast=False,
    )


def denoiser() -> Any:
    """Return an untrained ``UNet2DConditionModel`` with SDXL's conditioning on text, sizes and crops."""
    from diffusers import UNet2DConditionModel

    return UNet2DConditionModel(
        sample_size=LATENT_SIDE,
        in_channels=LATENT_CHANNELS,
        out_channels=LATENT_CHANNELS,
        block_out_channels=(96, 192),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=sum(_HIDDEN),
        # As in SDXL, these are numbers of heads, in spite of their name.
        attention_head_dim=(3, 6),
        use_linear_projection=True,
        norm_num_groups=16,
        addition_embed_type="text_time",
        addition_time_embed_dim=_TIME_CHANNELS,
        projection_class_embeddings_input_dim=_HIDDEN[1] + _TIME_IDS * _TIME_CHANNELS,
    )


def text_encoders(vocabulary_size: int) -> tuple[Any, Any]:
    """Return two untrained CLIP text encoders; the last two tokens of the vocabulary are its start and end marks."""
    from transformers import CLIPTextConfig, CLIPTextModel, CLIPTextModelWithProjection

    def config(width: int) -> Any:
        return CLIPTextConfig(
            vocab_size=vocabulary_size,
            hidden_size=width,
            intermediate_size=2 * width,
            projection_dim=width,
            num_hidden_layers=2,
            num_attention_heads=4,
            max_position_embeddings=TOKEN_LIMIT,
            bos_token_id=vocabulary_size - 2,
            eos_token_id=vocabulary_size - 1,
            pad_token_id=vocabulary_size - 1,
        )

    return CLIPTextModel(config(_HIDDEN[0])), CLIPTextModelWithProjection(config(_HIDDEN[1]))


def scheduler() -> Any:
    """Return the noise schedule, for training and for drawing.

    The betas are SDXL's. The model learns the velocity, and the noise ends in noise alone (zero terminal SNR, Lin et
    al. 2023): a picture's overall brightness, here a night or a snowfield, is otherwise never quite the text's to say.
    """
    from diffusers import EulerDiscreteScheduler

    return EulerDiscreteScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        prediction_type="v_prediction",
        timestep_spacing="trailing",
        rescale_betas_zero_snr=True,
    )
