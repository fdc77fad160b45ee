"""A call of each class, as diffusers documents it: guarded it gives what it gave, and nothing that is blocked."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest
import torch

import safelight
import tiny_pipelines
from fakes import MARKER, SENTINEL, MarkerScreen, make_guard
from safelight.errors import ContentBlocked
from snippets import (
    FORBIDDEN,
    PROMPT,
    arrays,
    guarded,
    is_black,
    kept_plain,
    kept_sealed,
    same,
    seed,
    withheld,
)
from tiny_pipelines import BUILDERS, TEXT_TO_IMAGE, inputs, photo


def given(name: str, prompt: Any, **more: Any) -> dict[str, Any]:
    return inputs(name, prompt=prompt) | more


@cache
def plain_output(name: str, *, output_type: str, return_dict: bool) -> Any:
    asked = given(name, PROMPT, output_type=output_type, return_dict=return_dict)
    return kept_plain(name)(**asked, generator=seed())


@pytest.mark.parametrize("name", BUILDERS)
def test_every_class_makes_its_own_pictures_in_every_form(name: str) -> None:
    for output_type in ("pil", "np", "pt"):
        # The tuple in one of them: it has as many parts as ever.
        form: dict[str, Any] = {"output_type": output_type, "return_dict": output_type != "pt"}
        plain = plain_output(name, **form)
        ours = guarded(kept_sealed(name))(**given(name, PROMPT, **form), generator=seed())
        assert (type(ours), len(ours)) == (type(plain), len(plain))
        assert type(ours[0]) is type(plain[0])
        assert np.array_equal(arrays(ours), arrays(plain))


@pytest.mark.parametrize("name", BUILDERS)
def test_every_class_shows_black_in_every_form_where_the_prompt_is_blocked(name: str) -> None:
    for output_type in ("pil", "np", "pt"):
        plain = plain_output(name, output_type=output_type, return_dict=True)
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
