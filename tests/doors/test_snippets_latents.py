"""Base and refiner, and other chains that stay in latent space: from guarded pipeline to guarded pipeline only."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from diffusers import AutoPipelineForImage2Image, StableDiffusionXLInpaintPipeline

import tiny_pipelines
from fakes import FakeJudge, make_guard
from safelight import protect
from safelight.errors import ContentBlocked, UnjudgedChannel
from snippets import FORBIDDEN, PROMPT, arrays, build, guarded, is_black, kept_plain, kept_sealed, same, seed
from tiny_pipelines import BUILDERS, inputs, mask, photo, size

STEPS = {"num_inference_steps": 5}
Pair = tuple[Any, Any]


def pair(*, cls: Any = None) -> Pair:
    """Return a base and a refiner that shares its autoencoder and second text encoder."""
    base = tiny_pipelines.sdxl_inpaint() if cls else tiny_pipelines.sdxl()
    refiner = tiny_pipelines.refiner(base)
    if cls:
        refiner = cls(**refiner.components, requires_aesthetics_score=True, add_watermarker=False)
        refiner.set_progress_bar_config(disable=True)
    return base, refiner


def both_guarded(pipes: Pair, **protecting: Any) -> Pair:
    own = make_guard()
    base, refiner = (protect(pipe, own, **protecting) for pipe in pipes)
    return base, refiner


def ensemble(pipes: Pair, prompt: Any, refined: Any = None, **more: Any) -> Any:
    base, refiner = pipes
    image = base(
        prompt=prompt, denoising_end=0.8, output_type="latent", generator=seed(), **STEPS, **size(), **more
    ).images
    return refiner(
        prompt=refined or prompt, denoising_start=0.8, image=image, generator=seed(1), **STEPS, **more
    ).images


def refined_whole(pipes: Pair, prompt: Any, refined: Any = None) -> Any:
    base, refiner = pipes
    image = base(prompt=prompt, output_type="latent", generator=seed(), **STEPS, **size()).images[0]
    return refiner(prompt=refined or prompt, image=image[None, :], generator=seed(1), **STEPS).images


def inpainted(pipes: Pair, prompt: Any, refined: Any = None) -> Any:
    base, refiner = pipes
    masked = {"mask_image": mask(), **STEPS, **size()}
    image = base(
        prompt=prompt, image=photo(), denoising_end=0.6, output_type="latent", generator=seed(), **masked
    ).images
    return refiner(prompt=refined or prompt, image=image, denoising_start=0.6, generator=seed(1), **masked).images


WAYS = {
    "ensemble of denoisers": (ensemble, None),
    "refined when whole": (refined_whole, None),
    "ensemble of inpainters": (inpainted, StableDiffusionXLInpaintPipeline),
}


@pytest.mark.parametrize("way", WAYS)
def test_base_and_refiner_make_the_plain_pair_s_picture(way: str) -> None:
    run, cls = WAYS[way]
    plain = run(pair(cls=cls), PROMPT)[0]
    ours = run(both_guarded(pair(cls=cls)), PROMPT)[0]
    assert np.array_equal(np.asarray(ours), np.asarray(plain))
    assert not is_black(plain)


@pytest.mark.parametrize("way", WAYS)
def test_base_and_refiner_show_nothing_where_either_prompt_is_blocked(way: str) -> None:
    run, cls = WAYS[way]
    pipes = both_guarded(pair(cls=cls))
    assert is_black(run(pipes, FORBIDDEN))
    assert is_black(run(pipes, PROMPT, FORBIDDEN))
    # Whatever it is refined as: no picture is made of what the base's prompt asked for.
    with pytest.raises(ContentBlocked):
        run(both_guarded(pipes, on_block="raise"), FORBIDDEN, PROMPT)
    assert not is_black(run(both_guarded(pipes), PROMPT))


def test_a_refiner_asks_the_judge_about_the_words_of_its_base_too() -> None:
    judge = FakeJudge()
    base, refiner = (protect(pipe, make_guard(prompt_screens=[judge])) for pipe in pair())
    refined_whole((base, refiner), "a boat", "a fine drawing")
    assert [dict(request.texts) for request, _ in judge.seen] == [
        {"prompt": "a boat"},
        {"prompt": "a fine drawing", "image.prompt": "a boat"},
    ]


def test_latents_come_in_a_tuple_too() -> None:
    def run(pipes: Pair) -> Any:
        (latents,) = pipes[0](PROMPT, output_type="latent", return_dict=False, generator=seed(), **STEPS, **size())
        return pipes[1](PROMPT, image=latents, return_dict=False, generator=seed(1), **STEPS)[0]

    assert np.array_equal(arrays(run(both_guarded(pair()))), arrays(run(pair())))


def test_base_and_refiner_with_several_pictures() -> None:
    plain = ensemble(pair(), PROMPT, num_images_per_prompt=2)
    ours = ensemble(both_guarded(pair()), PROMPT, num_images_per_prompt=2)
    assert np.array_equal(arrays(ours), arrays(plain))
    assert len(ours) == 2


def test_one_blocked_prompt_of_a_list_is_black_after_the_refiner_too() -> None:
    images = ensemble(both_guarded(pair()), ["a cup", FORBIDDEN, "a boat"])
    assert [is_black(image) for image in images] == [False, True, False]


def test_latents_are_not_to_be_read_nor_decoded_nor_given_to_a_plain_pipeline() -> None:
    base, refiner = pair()
    base = guarded(base)
    latents = base(PROMPT, output_type="latent", generator=seed(), **STEPS, **size()).images
    assert latents.shape == (1, 4, 8, 8)
    for read in (latents.numpy, latents.tolist, latents.sum, lambda: latents - latents):
        with pytest.raises(UnjudgedChannel):
            read()
    with pytest.raises(UnjudgedChannel):
        base.vae.decode(latents / base.vae.config.scaling_factor)
    with pytest.raises(UnjudgedChannel):
        refiner(PROMPT, image=latents, **STEPS)


def test_a_chain_from_image_to_image_to_image() -> None:
    def chain(pipes: list[Any], prompt: str) -> Any:
        first, second, third = pipes
        image = first(prompt, image=photo(), output_type="latent", generator=seed(), **STEPS).images[0]
        image = second(f"comic, {prompt}", image=image, output_type="latent", generator=seed(), **STEPS).images[0]
        return third(f"pixels, {prompt}", image=image, generator=seed(), **STEPS).images[0]

    def pipes() -> list[Any]:
        return [build("sd15_img2img") for _ in range(3)]

    plain = chain(pipes(), PROMPT)
    own = make_guard()
    ours = [protect(pipe, own) for pipe in pipes()]
    assert np.array_equal(np.asarray(chain(ours, PROMPT)), np.asarray(plain))
    assert is_black(chain(ours, FORBIDDEN))


def test_a_chain_from_inpainting_over_from_pipe() -> None:
    def chain(pipe: Any, guard: Any, prompt: str) -> Any:
        image = pipe(
            prompt=prompt, image=photo(), mask_image=mask(), output_type="latent", generator=seed(), **STEPS, **size()
        ).images
        following = AutoPipelineForImage2Image.from_pipe(pipe)
        following.set_progress_bar_config(disable=True)
        following = protect(following, guard) if guard else following
        return following(prompt=prompt, image=image, generator=seed(1), **STEPS).images[0]

    plain = chain(build("sdxl_inpaint"), None, PROMPT)
    own = make_guard()
    ours = protect(build("sdxl_inpaint"), own)
    assert np.array_equal(np.asarray(chain(ours, own, PROMPT)), np.asarray(plain))
    assert is_black(chain(ours, own, FORBIDDEN))


@pytest.mark.parametrize("name", BUILDERS)
def test_blocked_latents_are_as_large_as_those_that_would_have_been_made(name: str) -> None:
    plain = kept_plain(name)(**inputs(name), output_type="latent").images
    ours = guarded(kept_sealed(name))(**inputs(name, prompt=FORBIDDEN), output_type="latent")
    assert (ours.nsfw_content_detected, ours.images.shape, ours.images.dtype) == ([True], plain.shape, plain.dtype)


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3", "flux"])
def test_latents_of_ones_own_are_refused_until_they_are_allowed(name: str) -> None:
    shape = {"sd3": (1, 16, 8, 8), "flux": (1, 16, 64)}.get(name, (1, 4, 8, 8))

    def start(pipe: Any, prompt: str) -> Any:
        return pipe(**inputs(name, prompt=prompt), latents=torch.randn(shape, generator=seed())).images

    with pytest.raises(UnjudgedChannel, match="latents.*allow"):
        start(guarded(kept_sealed(name)), PROMPT)
    same(name, start, allow={"latents"})


@pytest.mark.parametrize("name", ["sd15", "sdxl", "flux"])
def test_embeddings_of_a_prompt_are_refused_until_they_are_allowed(name: str) -> None:
    def weighted(pipe: Any, prompt: str) -> Any:
        asked = inputs(name)
        del asked["prompt"]
        if name == "sd15":
            words, negative = pipe.encode_prompt(prompt, "cpu", 1, True)
            embeddings = {"prompt_embeds": words * 1.1, "negative_prompt_embeds": negative}
        elif name == "sdxl":
            names = ("prompt_embeds", "negative_prompt_embeds", "pooled_prompt_embeds", "negative_pooled_prompt_embeds")
            embeddings = dict(zip(names, pipe.encode_prompt(prompt), strict=True))
        else:
            words, pooled, _ = pipe.encode_prompt(prompt, None, max_sequence_length=32)
            embeddings = {"prompt_embeds": words, "pooled_prompt_embeds": pooled}
        return pipe(**asked, **embeddings, generator=seed()).images

    with pytest.raises(UnjudgedChannel, match="prompt_embeds.*embeddings"):
        weighted(guarded(kept_sealed(name)), PROMPT)
    same(name, weighted, allow={"embeddings"})
