"""The calls that diffusers documents, for each class: guarded they give what they gave, and nothing that is blocked."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers.utils import make_image_grid
from PIL import Image

import safelight
import tiny_pipelines
from fakes import MARKER, SENTINEL, MarkerScreen, make_guard
from safelight.errors import ContentBlocked
from snippets import (
    FORBIDDEN,
    PROMPT,
    Snippet,
    arrays,
    guarded,
    is_black,
    kept_plain,
    kept_sealed,
    same,
    seed,
    withheld,
)
from tiny_pipelines import BUILDERS, TEXT_TO_IMAGE, inputs, mask, photo, size

STEPS = {"num_inference_steps": 2}
SMALL = STEPS | size()


def given(name: str, prompt: Any, **more: Any) -> dict[str, Any]:
    return inputs(name, prompt=prompt) | more


@pytest.mark.parametrize("name", BUILDERS)
def test_every_class_makes_its_own_pictures_in_every_form(name: str) -> None:
    for output_type in ("pil", "np", "pt"):
        plain = kept_plain(name)(**given(name, PROMPT), generator=seed(), output_type=output_type)
        ours = guarded(kept_sealed(name))(**given(name, PROMPT), generator=seed(), output_type=output_type)
        assert type(ours) is type(plain)
        assert type(ours.images) is type(plain.images)
        assert np.array_equal(arrays(ours), arrays(plain))


@pytest.mark.parametrize("name", BUILDERS)
def test_every_class_shows_black_in_every_form_where_the_prompt_is_blocked(name: str) -> None:
    for output_type in ("pil", "np", "pt"):
        plain = kept_plain(name)(**given(name, PROMPT), output_type=output_type)
        ours = guarded(kept_sealed(name))(**given(name, FORBIDDEN), output_type=output_type)
        assert (type(ours), ours.nsfw_content_detected) == (type(plain), [True])
        assert type(ours.images) is type(plain.images)
        assert [one.shape for one in arrays(ours)] == [one.shape for one in arrays(plain)]
        assert is_black(ours)


@pytest.mark.parametrize("name", BUILDERS)
def test_every_class_raises_where_that_is_asked_for_and_works_afterwards(name: str) -> None:
    pipe = guarded(kept_sealed(name), on_block="raise")
    with pytest.raises(ContentBlocked):
        pipe(**given(name, FORBIDDEN))
    assert not is_black(pipe(**given(name, "a boat")))


@pytest.mark.parametrize("name", BUILDERS)
def test_every_class_keeps_its_tuple(name: str) -> None:
    plain = kept_plain(name)(**given(name, PROMPT), generator=seed(), return_dict=False)
    ours = guarded(kept_sealed(name))(**given(name, PROMPT), generator=seed(), return_dict=False)
    assert (type(ours), len(ours)) == (tuple, len(plain))
    assert np.array_equal(np.asarray(ours[0][0]), np.asarray(plain[0][0]))


WITH_PICTURES = [name for name in BUILDERS if name not in TEXT_TO_IMAGE]


@pytest.mark.parametrize("name", WITH_PICTURES)
def test_a_marked_input_picture_is_blocked_before_any_step_is_taken(name: str) -> None:
    marked = photo()
    marked.paste(MARKER, (16, 16, 48, 48))
    pipe = kept_sealed(name)
    steps: list[int] = []
    model = pipe.unet if hasattr(pipe, "unet") else pipe.transformer
    watch = model.register_forward_pre_hook(lambda module, args: steps.append(1))
    asked = given(name, PROMPT)
    picture = "image" if "image" in asked else "control_image"
    output = guarded(pipe)(**asked | {picture: marked})
    watch.remove()
    assert (output.nsfw_content_detected, steps) == ([True], [])
    assert is_black(output)


SD_CALLS: dict[str, tuple[str, Snippet]] = {
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


@pytest.mark.parametrize("label", SD_CALLS)
def test_a_documented_call_gives_the_plain_pipelines_picture(label: str) -> None:
    same(*SD_CALLS[label])


@pytest.mark.parametrize("label", SD_CALLS)
def test_a_documented_call_shows_nothing_that_is_blocked(label: str) -> None:
    withheld(*SD_CALLS[label])


def test_guess_mode_needs_no_prompt() -> None:
    same(
        "sd15_controlnet",
        lambda pipe, prompt: pipe(
            "", image=photo(), guess_mode=True, guidance_scale=3.0, generator=seed(), **STEPS
        ).images[0],
    )


@pytest.mark.parametrize("name", TEXT_TO_IMAGE)
def test_a_seed_of_the_whole_process_gives_the_same_picture(name: str) -> None:
    def seeded(pipe: Any, prompt: str) -> Any:
        torch.manual_seed(7)
        first = pipe(**given(name, prompt)).images
        return [*first, *pipe(**given(name, prompt), generator=torch.manual_seed(8)).images]

    same(name, seeded)


@pytest.mark.parametrize("name", TEXT_TO_IMAGE)
def test_a_generator_is_used_up_as_the_plain_pipeline_uses_it_up(name: str) -> None:
    def again(pipe: Any, prompt: str) -> Any:
        generator = seed(3)
        return [pipe(**given(name, prompt), generator=generator).images for _ in range(2)]

    same(name, again)


@pytest.mark.parametrize("name", TEXT_TO_IMAGE)
def test_lists_of_prompts_of_seeds_and_several_pictures_each(name: str) -> None:
    def batch(pipe: Any, prompt: str) -> Any:
        generators = [seed(number) for number in range(4)]
        prompts = [prompt + end for end in (", highly realistic", ", artsy")]
        return pipe(**given(name, prompts), generator=generators, num_images_per_prompt=2).images

    same(name, batch)
    withheld(name, batch)


@pytest.mark.parametrize("name", BUILDERS)
def test_one_blocked_prompt_of_a_list_leaves_the_others_their_places(name: str) -> None:
    pipe = guarded(kept_sealed(name))
    asked = given(name, ["a cup", f"a {SENTINEL}", "a boat"])
    for picture in ("image", "mask_image", "control_image"):
        if picture in asked:
            asked[picture] = [asked[picture]] * 3
    output = pipe(**asked, generator=[seed(1), seed(2), seed(3)])
    assert output.nsfw_content_detected == [False, True, False]
    assert [is_black(image) for image in output.images] == [False, True, False]
    # What the others are does not hang on what was blocked beside them, but for the order of a batch's sums.
    alone = kept_plain(name)(**given(name, "a boat"), generator=seed(3), output_type="np").images[0]
    assert np.allclose(np.asarray(output.images[2]) / 255, alone, atol=0.01)


def test_a_picture_that_is_blocked_is_black_among_the_others() -> None:
    class Second(MarkerScreen):
        async def screen_images(self, images: Any, request: Any, history: Any) -> Any:
            spoiled = [image.copy() for image in images]
            spoiled[1].paste(MARKER, (0, 0, 32, 32))
            return await super().screen_images(spoiled, request, history)

    own = make_guard(image_screens=[Second()])
    images = safelight.protect(kept_sealed("flux"), own)(**given("flux", PROMPT), num_images_per_prompt=3).images
    assert [is_black(image) for image in images] == [False, True, False]


@pytest.mark.parametrize("make", ["sd15", "sd15_img2img", "sd15_inpaint", "sd15_controlnet"])
def test_the_pipelines_own_checker_works_beside_the_guard(make: str) -> None:
    lenient, strict = (getattr(tiny_pipelines, make)(checker=flags) for flags in (False, True))
    plain = getattr(tiny_pipelines, make)(checker=False)(**given(make, PROMPT), generator=seed())
    allowed = guarded(lenient)(**given(make, PROMPT), generator=seed())
    assert np.array_equal(np.asarray(allowed.images[0]), np.asarray(plain.images[0]))
    assert allowed.nsfw_content_detected == [False]
    blocked = guarded(lenient)(**given(make, FORBIDDEN), generator=seed())
    assert (blocked.nsfw_content_detected, is_black(blocked)) == ([True], True)
    # Its checker's finding stays a finding; the picture is black already when the guard looks.
    flagged = guarded(strict)(**given(make, [PROMPT, PROMPT]) | _doubled(make), generator=[seed(), seed(1)])
    assert (flagged.nsfw_content_detected, is_black(flagged)) == ([True, True], True)


def _doubled(name: str) -> dict[str, Any]:
    asked = inputs(name)
    return {key: [asked[key]] * 2 for key in ("image", "mask_image") if key in asked}


def test_a_picture_may_be_saved_and_shown_as_ever(tmp_path: Any) -> None:
    image = guarded(kept_sealed("sdxl"))(PROMPT, **SMALL).images[0]
    image.save(tmp_path / "out.png")
    with Image.open(tmp_path / "out.png") as read:
        assert read.size == (64, 64)
