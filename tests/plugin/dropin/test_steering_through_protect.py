"""Safety guidance and previews as a caller has them: through ``protect()``, on tiny pipelines."""

from __future__ import annotations

import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxPipeline
from diffusers.callbacks import SDXLCFGCutoffCallback
from PIL import Image

import safelight
import tiny_pipelines
from fakes import POLICY, FakeJudge, make_guard
from linear_vae import linear_vae
from safelight.dropin.previews import Previews
from safelight.errors import ConfigError, ContentBlocked, InvalidRequest
from safelight.guard import Guard
from safelight.policy import Policy, Reason
from safelight.verdict import Stage, Verdict
from tiny_sdxl import tiny_sdxl

CONCEPTS = "teapots, kettles"
SIZE = {"height": 64, "width": 64, "num_inference_steps": 2}


def policy(concepts: str = '["teapots", "kettles"]') -> Policy:
    return Policy.parse(POLICY.replace("[categories", f"[guidance]\nconcepts = {concepts}\n[categories", 1))


class Sizes:
    """An image screen that finds something in pictures of some width, and keeps the sizes that it saw."""

    name = "sizes"

    def __init__(self, *finds: int) -> None:
        self.finds = finds
        self.seen: list[tuple[int, int]] = []

    async def screen_images(self, images: Sequence[Image.Image], request: Any, history: Any) -> Sequence[Verdict]:
        self.seen += [image.size for image in images]
        return [Verdict(self.name, Stage.IMAGE, {"sentinel": float(image.width in self.finds)}) for image in images]


def guard(screen: Any = None, **more: Any) -> Guard:
    return make_guard(image_screens=[screen or Sizes()], policy=policy(), **more)


def seeded() -> torch.Generator:
    return torch.Generator().manual_seed(0)


def picture(pipe: Any, **arguments: Any) -> np.ndarray[Any, Any]:
    return np.asarray(pipe(**{"prompt": "a cup", **SIZE, **arguments}, generator=seeded()).images[0])


def test_without_guidance_the_picture_is_the_plain_one_bit_for_bit() -> None:
    plain = picture(tiny_sdxl())
    assert np.array_equal(picture(safelight.protect(tiny_sdxl(), guard())), plain)


def test_with_guidance_it_is_the_one_that_the_concepts_as_negative_prompt_make() -> None:
    steered = picture(safelight.protect(tiny_sdxl(), guard(), guidance="safety"))
    assert np.array_equal(steered, picture(tiny_sdxl(), negative_prompt=CONCEPTS))
    assert not np.array_equal(steered, picture(tiny_sdxl()))


def test_a_batch_is_steered_with_each_prompts_own_negatives() -> None:
    pipe = safelight.protect(tiny_sdxl(), guard(), guidance="safety")
    output = pipe(["a cup", "a boat"], negative_prompt=["fog", ""], generator=[seeded(), seeded()], **SIZE)
    alone = picture(tiny_sdxl(), prompt="a boat", negative_prompt=CONCEPTS).astype(int)
    assert np.abs(np.asarray(output.images[1], dtype=int) - alone).max() <= 1


def test_judges_and_records_see_the_callers_words_and_not_the_concepts() -> None:
    judge = FakeJudge()
    pipe = safelight.protect(tiny_sdxl(), guard(prompt_screens=[judge]), guidance="safety")
    pipe("a cup", negative_prompt="fog", **SIZE)
    assert dict(judge.seen[0][0].texts) == {"prompt": "a cup", "negative_prompt": "fog"}


@pytest.mark.parametrize(("arguments", "named"), [({"guidance_scale": 1.0}, "guidance_scale")])
def test_a_call_that_cannot_be_steered_is_refused_and_the_next_one_works(arguments: Any, named: str) -> None:
    pipe = safelight.protect(tiny_sdxl(), guard(), guidance="safety")
    with pytest.raises(InvalidRequest, match=named):
        pipe("a cup", **SIZE, **arguments)
    assert pipe("a cup", **SIZE).nsfw_content_detected == [False]


def test_a_cutoff_of_guidance_in_the_midst_of_a_call_is_refused() -> None:
    pipe = safelight.protect(tiny_sdxl(), guard(), guidance="safety")
    with pytest.raises(InvalidRequest, match="turned off during the call"):
        pipe("a cup", **SIZE, callback_on_step_end=SDXLCFGCutoffCallback(cutoff_step_ratio=0.5))


def test_flux_is_steered_where_its_true_guidance_is_on() -> None:
    pipe = safelight.protect(tiny_pipelines.flux(), guard(), guidance="safety")
    assert type(pipe).__name__ == FluxPipeline.__name__
    with pytest.raises(InvalidRequest, match="true_cfg_scale"):
        pipe("a cup", **SIZE)
    steered = picture(pipe, true_cfg_scale=4.0)
    assert np.array_equal(steered, picture(tiny_pipelines.flux(), true_cfg_scale=4.0, negative_prompt=CONCEPTS))


def test_concepts_that_do_not_fit_are_refused_when_the_pipeline_is_guarded() -> None:
    long = make_guard(image_screens=[Sizes()], policy=policy(f'["{"x" * 100}"]'))
    with pytest.raises(ConfigError, match=r"guidance\.concepts"):
        safelight.protect(tiny_sdxl(), long, guidance="safety")


def previewed(screen: Sizes, previews: Previews, **more: Any) -> tuple[Any, Guard]:
    pipe, own = tiny_sdxl(), guard(screen)
    pipe.vae = linear_vae(scaling_factor=0.13)
    return safelight.protect(pipe, own, previews=previews, **more), own


def test_a_look_that_finds_nothing_replaces_no_look_at_the_finished_picture() -> None:
    screen = Sizes(64)
    pipe, _ = previewed(screen, Previews(at=(0.5,)))
    output = pipe("a cup", **SIZE | {"num_inference_steps": 4})
    assert output.nsfw_content_detected == [True]
    assert screen.seen[-1] == (64, 64)


def _about_pictures(own: Guard) -> list[Any]:
    return [decision for decision in own.store.decisions() if decision.stage is Stage.IMAGE]


def test_what_a_look_blocks_is_stopped_early_and_recorded() -> None:
    screen, steps = Sizes(8), []
    pipe, own = previewed(screen, Previews(at=(0.2,)))
    pipe.unet.register_forward_pre_hook(lambda module, args: steps.append(1))

    def wait(running: Any, step: int, timestep: Any, tensors: Any) -> dict[str, Any]:
        # The look is made beside the steps, and these are faster than any thread.
        until = time.monotonic() + 10
        while step >= 3 and time.monotonic() < until:
            time.sleep(0.02)
            if _about_pictures(own):
                break
        return {}

    output = pipe("a cup", **SIZE | {"num_inference_steps": 15}, callback_on_step_end=wait)
    assert len(steps) < 15
    assert set(screen.seen) == {(8, 8)}
    assert (output.nsfw_content_detected, output.decisions[0].reason) == ([True], Reason.CATEGORY)
    assert list(output.decisions) == _about_pictures(own)
    assert output.images[0].getextrema() == ((0, 0),) * 3


def test_a_blocked_picture_is_raised_where_that_was_asked_though_a_look_found_nothing() -> None:
    pipe, _ = previewed(Sizes(64), Previews(), on_block="raise")
    with pytest.raises(ContentBlocked, match="image"):
        pipe("a cup", **SIZE)
