"""The parts of very small, untrained pipelines, built in memory from a fixed seed: two builds have the same weights.

Text encoders, tokenizers and the 4-channel autoencoder are those of ``tiny_sdxl``; what other families have and
SDXL has not is made here. Pictures of 64 x 64 pixels are 8 x 8 latents in all of them.
"""

from __future__ import annotations

import warnings
from string import ascii_letters, digits, punctuation
from typing import Any

import torch
from diffusers import (
    AutoencoderKL,
    ControlNetModel,
    FluxControlNetModel,
    FluxTransformer2DModel,
    SD3Transformer2DModel,
    UNet2DConditionModel,
)
from diffusers.pipelines.stable_diffusion.safety_checker import StableDiffusionSafetyChecker
from transformers import (
    CLIPConfig,
    CLIPImageProcessor,
    CLIPTextModelWithProjection,
    CLIPVisionConfig,
    CLIPVisionModelWithProjection,
    T5Config,
    T5EncoderModel,
    T5Tokenizer,
)

SEED = 5
CLIP_WIDTHS = (32, 64)
"""Of the two text encoders of ``tiny_sdxl``."""
T5_WIDTH = sum(CLIP_WIDTHS)
"""SD 3 sets the two CLIP encoders' texts side by side and then among T5's."""
EYE = 32
"""Side in pixels, and width, of what looks at pictures."""

_TIME_CHANNELS = 8
_REFINER_TIME_IDS = 5
_LATENT_CHANNELS = 16
_HEADS = {"num_attention_heads": 2, "attention_head_dim": 16}


def seeded(make: Any, *args: Any, **named: Any) -> Any:
    """Make a module with the same weights each time, and leave torch's random state as it was."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(SEED)
        made = make(*args, **named)
    return made.eval() if isinstance(made, torch.nn.Module) else made


def unet(*, in_channels: int = 4) -> Any:
    """Return the model of a Stable Diffusion 1.5; one of an inpainting checkpoint has 9 input channels."""
    return _stronger(seeded(UNet2DConditionModel, **_blocks(in_channels), cross_attention_dim=CLIP_WIDTHS[0]))


def refiner_unet() -> Any:
    """Return the model of an SDXL refiner, which reads the second text encoder alone and an aesthetic score."""
    summary = CLIP_WIDTHS[1]
    return _stronger(
        seeded(
            UNet2DConditionModel,
            **_blocks(4),
            cross_attention_dim=summary,
            use_linear_projection=True,
            addition_embed_type="text_time",
            addition_time_embed_dim=_TIME_CHANNELS,
            projection_class_embeddings_input_dim=summary + _REFINER_TIME_IDS * _TIME_CHANNELS,
        )
    )


def _blocks(in_channels: int) -> dict[str, Any]:
    return {
        "sample_size": 8,
        "in_channels": in_channels,
        "out_channels": 4,
        "block_out_channels": (32, 64),
        "layers_per_block": 1,
        "down_block_types": ("DownBlock2D", "CrossAttnDownBlock2D"),
        "up_block_types": ("CrossAttnUpBlock2D", "UpBlock2D"),
        "attention_head_dim": (4, 8),
        "norm_num_groups": 8,
    }


def _stronger(model: Any) -> Any:
    # As they are drawn, random weights hardly move a picture.
    with torch.no_grad():
        model.conv_out.weight *= 6
        for name, weight in model.named_parameters():
            if "attn2.to_" in name and name.endswith("weight"):
                weight *= 4
    return model


def controlnet(model: Any) -> Any:
    """Return a ControlNet for a U-Net, one that shows: a fresh one's last layers are nothing but zeros."""
    net = seeded(ControlNetModel.from_unet, model, conditioning_embedding_out_channels=(8, 16, 16, 16))
    return _filled(net)


def flux_controlnet(model: Any) -> Any:
    """Return a ControlNet for a Flux transformer, one that shows."""
    names = "in_channels attention_head_dim num_attention_heads joint_attention_dim pooled_projection_dim"
    same = {name: getattr(model.config, name) for name in (*names.split(), "guidance_embeds", "axes_dims_rope")}
    with warnings.catch_warnings():
        # diffusers' own: it imports a layer from the layer's old place.
        warnings.simplefilter("ignore", FutureWarning)
        return _filled(seeded(FluxControlNetModel, num_layers=1, num_single_layers=0, **same))


def _filled(net: Any) -> Any:
    noise = torch.Generator().manual_seed(SEED)
    with torch.no_grad():
        for name, weight in net.named_parameters():
            if not weight.any():
                weight.normal_(std=0.5, generator=noise)
            elif "cond_embedding" in name:
                weight *= 2
    return net


def sd3_transformer() -> Any:
    return seeded(
        SD3Transformer2DModel,
        sample_size=8,
        in_channels=_LATENT_CHANNELS,
        out_channels=_LATENT_CHANNELS,
        num_layers=2,
        joint_attention_dim=T5_WIDTH,
        caption_projection_dim=32,
        pooled_projection_dim=sum(CLIP_WIDTHS),
        pos_embed_max_size=32,
        **_HEADS,
    )


def flux_transformer() -> Any:
    """Return a transformer as that of FLUX.1 dev, which is told the guidance as a number."""
    return seeded(
        FluxTransformer2DModel,
        in_channels=4 * _LATENT_CHANNELS,
        num_layers=1,
        num_single_layers=1,
        joint_attention_dim=T5_WIDTH,
        pooled_projection_dim=CLIP_WIDTHS[0],
        guidance_embeds=True,
        axes_dims_rope=(4, 6, 6),
        **_HEADS,
    )


def wide_vae() -> Any:
    """Return the autoencoder that SD 3 and Flux share the form of: 16 channels."""
    vae = seeded(
        AutoencoderKL,
        latent_channels=_LATENT_CHANNELS,
        # Four blocks halve a side three times.
        block_out_channels=(8, 16, 16, 16),
        down_block_types=("DownEncoderBlock2D",) * 4,
        up_block_types=("UpDecoderBlock2D",) * 4,
        layers_per_block=1,
        norm_num_groups=8,
        sample_size=64,
        scaling_factor=0.3611,
        shift_factor=0.1159,
        use_quant_conv=False,
        use_post_quant_conv=False,
        force_upcast=False,
    )
    with torch.no_grad():
        vae.decoder.conv_out.weight *= 2
    return vae


def projected(encoder: Any) -> Any:
    """Return a text encoder of the same form with the projection that SD 3's first one has."""
    return seeded(CLIPTextModelWithProjection, encoder.config)


def t5() -> Any:
    sizes = {"d_kv": 16, "d_ff": 64, "num_layers": 2, "num_heads": 2}
    # The words' embeddings alone are drawn at a size that shows.
    return seeded(T5EncoderModel, T5Config(vocab_size=len(_t5_words()), d_model=T5_WIDTH, **sizes))


def t5_tokenizer() -> Any:
    """Return a true T5 tokenizer whose pieces are single characters; beyond ASCII all are one unknown piece."""
    return T5Tokenizer(vocab=_t5_words(), extra_ids=0, model_max_length=512)


def _t5_words() -> list[tuple[str, float]]:
    marks = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0)]
    return [*marks, *((letter, -2.0) for letter in "▁" + ascii_letters + digits + punctuation)]


def image_encoder() -> Any:
    """Return what an IP-Adapter looks with."""
    return seeded(CLIPVisionModelWithProjection, CLIPVisionConfig(**_eye(), projection_dim=EYE))


def feature_extractor() -> Any:
    return CLIPImageProcessor(size={"shortest_edge": EYE}, crop_size={"height": EYE, "width": EYE})


def safety_checker(*, flags: bool = False) -> Any:
    """Return the checker of Stable Diffusion 1.5, which finds its concepts in no picture, or in every one."""
    checker = seeded(StableDiffusionSafetyChecker, CLIPConfig(vision_config=_eye(), projection_dim=EYE))
    with torch.no_grad():
        # A cosine is above -1 always, and above 1 never.
        checker.concept_embeds_weights.fill_(-2 if flags else 2)
        checker.special_care_embeds_weights.fill_(2)
    return checker


def _eye() -> dict[str, Any]:
    sizes = {"image_size": EYE, "patch_size": 16, "hidden_size": EYE, "intermediate_size": EYE}
    return {**sizes, "num_hidden_layers": 1, "num_attention_heads": 2}
