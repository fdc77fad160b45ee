"""A true AutoencoderKL whose encoder tells colours linearly, as a trained one nearly does; a random one tells none."""

from __future__ import annotations

from typing import Any

import torch
from diffusers import AutoencoderKL

_LEVELS = 4
"""Halved three times: a latent stands for 8 x 8 pixels."""


def linear_vae(*, channels: int = 4, **config: Any) -> AutoencoderKL:
    """Return one that mixes the mean colour of every 8 x 8 pixels into its latents. Its decoder is untrained.

    Args:
        channels: Of the latents.
        config: More of the VAE's configuration, for example ``scaling_factor``.
    """
    with torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.manual_seed(7)
        vae = AutoencoderKL(
            latent_channels=channels,
            block_out_channels=(8,) * _LEVELS,
            down_block_types=("DownEncoderBlock2D",) * _LEVELS,
            up_block_types=("UpDecoderBlock2D",) * _LEVELS,
            layers_per_block=1,
            norm_num_groups=4,
            use_quant_conv=False,
            use_post_quant_conv=False,
            **config,
        ).eval()
        encoder = vae.encoder
        mixing = torch.randn(2 * channels, 3)
        _set(encoder.conv_in, {(1, 1): torch.eye(8, 3)})
        for block in (*encoder.down_blocks, encoder.mid_block):
            for resnet in block.resnets:
                # Nothing is left but the way round it.
                _set(resnet.conv2, {})
        for block in encoder.down_blocks[:-1]:
            _set(block.downsamplers[0].conv, {(row, column): torch.eye(8) / 4 for row in (0, 1) for column in (0, 1)})
        attention = encoder.mid_block.attentions[0].to_out[0]
        attention.weight.zero_()
        attention.bias.zero_()
        encoder.conv_norm_out = encoder.conv_act = torch.nn.Identity()
        _set(encoder.conv_out, {(1, 1): torch.cat([mixing, torch.zeros(2 * channels, 5)], 1)})
        encoder.conv_out.bias.copy_(torch.randn(2 * channels))
    return vae


def _set(convolution: Any, taps: dict[tuple[int, int], torch.Tensor]) -> None:
    convolution.weight.zero_()
    convolution.bias.zero_()
    for (row, column), matrix in taps.items():
        convolution.weight[:, :, row, column] = matrix
