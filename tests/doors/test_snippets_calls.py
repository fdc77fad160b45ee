"""The calls that diffusers documents, with their options: guarded they give what they gave, but nothing blocked."""

from __future__ import annotations

from typing import Any

import pytest
from diffusers.utils import make_image_grid
from PIL import Image

from snippets import PROMPT, Snippet, guarded, kept_sealed, same, seed, withheld
from tiny_pipelines import mask, photo, size

STEPS = {"num_inference_steps": 2}
SMALL = STEPS | size()

CALLS: dict[str, tuple[str, Snippet]] = {
    "positional prompt": ("sdxl", lambda pipe, prompt: pipe(prompt, generator=seed(), **SMALL).images[0]),
    "negative prompt and guidance": (
        "sdxl",
        lambda pipe, prompt: pipe(
            prompt=prompt, negative_prompt="blurry", guidance_scale=7.5, generator=seed(), **SMALL
        ).images[0],
    ),
    "a prompt for each text encoder": (
        "sdxl",
        lambda pipe, prompt: pipe(
            prompt="a cup", prompt_2=prompt, negative_prompt="rain", negative_prompt_2="snow", generator=seed(), **SMALL
        ).images[0],
    ),
    "cropped image generation": (
        "sdxl",
        lambda pipe, prompt: pipe(prompt=prompt, crops_coords_top_left=(256, 0), generator=seed(), **SMALL).images[0],
    ),
    "size conditioning": (
        "sdxl",
        lambda pipe, prompt: pipe(
            prompt=prompt,
            negative_original_size=(512, 512),
            negative_crops_coords_top_left=(0, 0),
            negative_target_size=(1024, 1024),
            original_size=(128, 64),
            target_size=(64, 64),
            generator=seed(),
            **SMALL,
        ).images[0],
    ),
    "guidance rescale and clip skip": (
        "sdxl",
        lambda pipe, prompt: pipe(prompt, guidance_rescale=0.7, clip_skip=1, generator=seed(), **SMALL).images[0],
    ),
    "strength and guidance": (
        "sdxl_img2img",
        lambda pipe, prompt: pipe(
            prompt, image=photo(), strength=0.8, guidance_scale=10.5, num_inference_steps=3, generator=seed()
        ).images[0],
    ),
    "a mask in colour": (
        "sdxl_inpaint",
        lambda pipe, prompt: pipe(
            prompt=prompt,
            image=photo().convert("RGB"),
            mask_image=mask().convert("RGB"),
            strength=0.85,
            guidance_scale=12.5,
            num_inference_steps=3,
            generator=seed(),
            **size(),
        ).images[0],
    ),
    "a padded mask crop": (
        "sdxl_inpaint",
        lambda pipe, prompt: pipe(
            prompt=prompt,
            image=photo(128),
            mask_image=mask(128),
            padding_mask_crop=8,
            strength=0.7,
            generator=seed(),
            **SMALL,
        ).images[0],
    ),
    "inpaint over a blurred mask": (
        "sd15_inpaint",
        lambda pipe, prompt: pipe(
            prompt=prompt,
            image=photo(),
            mask_image=pipe.mask_processor.blur(mask(), blur_factor=3),
            generator=seed(),
            **SMALL,
        ).images[0],
    ),
    "canny image and its weight": (
        "sdxl_controlnet",
        lambda pipe, prompt: pipe(
            prompt,
            negative_prompt="low quality",
            image=photo(),
            controlnet_conditioning_scale=0.5,
            control_guidance_end=0.8,
            generator=seed(),
            **STEPS,
        ).images[0],
    ),
    "guess mode": (
        "sd15_controlnet",
        lambda pipe, prompt: pipe(
            prompt, image=photo(), guess_mode=True, guidance_scale=3.0, generator=seed(), **STEPS
        ).images[0],
    ),
    "three prompts of stable diffusion 3": (
        "sd3",
        lambda pipe, prompt: pipe(
            prompt="a cup",
            prompt_2="a saucer",
            prompt_3=prompt,
            negative_prompt="",
            guidance_scale=7.0,
            max_sequence_length=32,
            generator=seed(),
            **SMALL,
        ).images[0],
    ),
    "schnell": (
        "flux",
        lambda pipe, prompt: pipe(
            prompt=prompt, guidance_scale=0.0, max_sequence_length=32, generator=seed(), **SMALL
        ).images[0],
    ),
    "true guidance of flux": (
        "flux",
        lambda pipe, prompt: pipe(
            prompt="a cup",
            prompt_2=prompt,
            negative_prompt="rain",
            true_cfg_scale=4.0,
            max_sequence_length=32,
            generator=seed(),
            **SMALL,
        ).images[0],
    ),
    "text to image to image": ("sdxl_img2img", lambda pipe, prompt: _twice(pipe, prompt)),
}


def _twice(pipe: Any, prompt: str) -> Any:
    first = pipe(prompt, image=photo(), num_inference_steps=3, strength=0.7, generator=seed()).images[0]
    second = pipe(prompt, image=first, num_inference_steps=3, strength=0.7, generator=seed()).images[0]
    return [second, *make_image_grid([first, second], rows=1, cols=2).split()]


@pytest.mark.parametrize("label", CALLS)
def test_a_documented_call_gives_the_plain_pipelines_picture(label: str) -> None:
    same(*CALLS[label])


@pytest.mark.parametrize("label", CALLS)
def test_a_documented_call_shows_nothing_that_is_blocked(label: str) -> None:
    withheld(*CALLS[label])


def test_guess_mode_needs_no_prompt() -> None:
    same(
        "sd15_controlnet",
        lambda pipe, prompt: pipe(
            "", image=photo(), guess_mode=True, guidance_scale=3.0, generator=seed(), **STEPS
        ).images[0],
    )


def test_a_picture_may_be_saved_and_shown_as_ever(tmp_path: Any) -> None:
    image = guarded(kept_sealed("sdxl"))(PROMPT, **SMALL).images[0]
    image.save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as read:
        assert read.size == (64, 64)
