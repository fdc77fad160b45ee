from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.pipelines.stable_diffusion_xl import StableDiffusionXLPipelineOutput
from diffusers.utils import BaseOutput

import safelight
from fakes import SENTINEL, MarkerScreen, make_guard
from safelight.dropin.outputs import (
    Ruled,
    answer,
    as_tuple,
    blank,
    blurred,
    encoded,
    finite,
    made_like,
    no_latents,
    only_ours,
    own_flags,
)
from safelight.dropin.sealed import SealedTensor
from safelight.errors import GenerationFailed
from safelight.policy import Action, Decision, Reason
from safelight.verdict import Stage, Verdict
from tiny_pipelines import BUILDERS, flux, inputs, sdxl

BLOCKED = Decision(
    id="dec_1",
    request_id="req_1",
    stage=Stage.IMAGE,
    action=Action.BLOCK,
    reason=Reason.CATEGORY,
    categories=("sentinel",),
    policy="p",
    verdicts=(),
    created=datetime(2026, 1, 1, tzinfo=UTC),
)
ALLOWED = replace(BLOCKED, action=Action.ALLOW, reason=Reason.CLEAR, categories=())


def picture() -> np.ndarray[Any, Any]:
    """Return a bright left half and a dark right one, with a fine line across both."""
    array = np.full((64, 48, 3), 0.2, dtype="float32")
    array[:, :24] = 0.9
    array[31:33] = (1, 0, 1)
    return array


def shown(decision: Decision, on_block: Any, output_type: str = "np") -> Any:
    image = torch.from_numpy(picture()).permute(2, 0, 1) if output_type == "pt" else picture()
    output = StableDiffusionXLPipelineOutput(images=[])
    return answer(output, [Ruled(decision, image)], [0], blank=None, output_type=output_type, on_block=on_block).images[
        0
    ]


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_a_blurred_picture_keeps_its_mood_and_loses_what_is_in_it(output_type: str) -> None:
    found = shown(BLOCKED, "blur", output_type)
    array = np.asarray(found.permute(1, 2, 0) if output_type == "pt" else found, dtype="float32")
    array = array / 255 if output_type == "pil" else array
    assert array.shape == (64, 48, 3)
    assert array[10, 5].mean() > 0.8
    assert array[10, 42].mean() < 0.3
    # The line is two pixels of 64: of its colour an eighth of the height has a quarter.
    assert np.abs(array[32, 5] - (1, 0, 1)).max() > 0.5


def test_a_blur_is_drawn_from_no_more_than_64_colours() -> None:
    noise = np.random.default_rng(0).random((64, 64, 3), dtype="float32")
    cells = noise.reshape(8, 8, 8, 8, 3).mean(axis=(1, 3))
    again = np.kron(cells, np.ones((8, 8, 1), dtype="float32"))
    # Whatever lies inside a cell, its mean is all that counts, but for rounding to 8 bits twice.
    assert np.abs(blurred(noise) - blurred(again)).max() < 5 / 255


@pytest.mark.parametrize(
    "decision",
    [
        replace(BLOCKED, reason=Reason.RESTRICTED),
        replace(BLOCKED, reason=Reason.SCREENING_UNAVAILABLE),
        replace(BLOCKED, reason=Reason.GENERATION_FAILED),
    ],
)
def test_nothing_is_shown_of_the_gravest_category_nor_of_what_nobody_could_judge(decision: Decision) -> None:
    assert shown(decision, "blur").max() == 0


def test_without_blur_a_blocked_picture_is_black_and_an_allowed_one_untouched() -> None:
    assert shown(BLOCKED, "black").max() == 0
    assert np.array_equal(shown(ALLOWED, "blur"), picture())


def test_the_output_keeps_its_fields_and_its_arity() -> None:
    output = answer(
        StableDiffusionXLPipelineOutput(images=[]),
        [Ruled(ALLOWED, picture()), Ruled(BLOCKED)],
        [0],
        blank=np.zeros((64, 48, 3), "float32"),
        output_type="np",
        on_block="black",
    )
    assert list(output.keys()) == ["images"]
    assert output.nsfw_content_detected == [False, True]
    assert [decision.action for decision in output.decisions] == [Action.ALLOW, Action.BLOCK]
    assert len(as_tuple(output)) == 1


def test_an_array_is_proven_by_its_numbers_and_not_by_what_they_round_to() -> None:
    one = picture()
    other = one + np.float32(1e-4)
    assert encoded(one, "pil").data == encoded(other, "pil").data
    assert encoded(one, "np").data != encoded(other, "np").data


def test_a_picture_with_an_alpha_channel_is_none() -> None:
    with pytest.raises(GenerationFailed, match="neither grey nor RGB"):
        finite([np.zeros((8, 8, 4))])


@dataclass
class ShowingPipelineOutput(BaseOutput):  # type: ignore[misc]
    """The output of a custom pipeline that shows more than its pictures."""

    images: Any
    previews: Any = None
    nsfw_content_detected: Any = None


class ShowingPipeline(StableDiffusionXLPipeline):  # type: ignore[misc]
    flags: Any = None

    def __call__(self, prompt: str, num_inference_steps: int = 2, output_type: str = "pil", **more: Any) -> Any:
        """Return every picture twice, and flags of some form."""
        size = {"height": 64, "width": 64, "num_inference_steps": num_inference_steps}
        images = super().__call__(prompt, output_type=output_type, **size).images
        return ShowingPipelineOutput(images, previews=list(images), nsfw_content_detected=self.flags)


def showing(**screens: Any) -> Any:
    pipe = ShowingPipeline(**sdxl().components, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    return safelight.protect(pipe, make_guard(**screens))


class Strict(MarkerScreen):
    async def screen_images(self, images: Any, request: Any, history: Any) -> Any:
        return [Verdict(self.name, Stage.IMAGE, {"sentinel": 1.0}) for _ in images]


def test_nothing_leaves_in_another_field_of_the_output() -> None:
    secret = picture()
    output = ShowingPipelineOutput([secret], previews=[secret], nsfw_content_detected=[False])
    output.latents = secret
    filled = answer(output, [Ruled(BLOCKED, secret)], [0], blank=None, output_type="np", on_block="black")
    assert filled is output
    assert list(output.keys()) == ["images", "nsfw_content_detected"]
    assert output["images"] is output.images
    assert output["nsfw_content_detected"] == output.nsfw_content_detected == [True]
    assert (output.previews, output.latents) == (None, None)
    assert not any(secret is value for value in output.to_tuple())
    assert as_tuple(output) == (output.images, None, [True])


def test_what_is_no_dataclass_is_emptied_as_well() -> None:
    assert vars(only_ours(SimpleNamespace(images=1, previews=2))) == {"images": 1, "previews": None}
    assert only_ours(StableDiffusionXLPipelineOutput(images=[1])).to_tuple() == ([1],)


def test_a_custom_pipelines_other_field_does_not_leave_a_guarded_call() -> None:
    pipe = showing(image_screens=[Strict()])
    output = pipe("a boat")
    assert np.asarray(output.images[0]).max() == 0
    assert output.previews is None
    assert "previews" not in output
    images, previews, flags = pipe("a boat", return_dict=False)
    assert np.asarray(images[0]).max() == 0
    assert (previews, flags) == (None, [True])
    output = pipe("a boat", output_type="latent")
    assert isinstance(output.images, SealedTensor)
    assert output.previews is None
    assert "previews" not in output
    assert pipe("a boat", output_type="latent", return_dict=False)[1:] == (None, [False])


@pytest.mark.parametrize("output_type", ["pt", "latent"])
def test_a_blocked_prompts_black_picture_is_of_the_pipelines_own_dtype(output_type: str) -> None:
    pipe = sdxl()
    pipe.to(dtype=torch.bfloat16)
    safelight.protect(pipe, make_guard(), screening="before")
    assert pipe(**inputs("sdxl", prompt=SENTINEL), output_type=output_type).images.dtype == torch.bfloat16


@pytest.mark.parametrize("flags", [True, [True], torch.tensor([True])])
def test_a_custom_pipelines_flags_may_have_any_form(flags: Any) -> None:
    pipe = showing()
    pipe.flags = flags
    assert pipe("a boat").nsfw_content_detected == [flags is not True]


@pytest.mark.parametrize(
    ("flags", "found"),
    [
        ([True, False], [True, False]),
        (np.array([True, False]), [True, False]),
        (torch.tensor([False, True]), [False, True]),
        (None, [False, False]),
        (True, [False, False]),
        (torch.tensor(True), [False, False]),
        ([True], [False, False]),
    ],
)
def test_a_models_own_flags_are_read_where_there_is_one_a_picture(flags: Any, found: list[bool]) -> None:
    output = ShowingPipelineOutput([picture()] * 2, nsfw_content_detected=flags)
    assert own_flags(output, 2) == found
    ruled = [Ruled(ALLOWED, picture())] * 2
    answer(output, ruled, [0, 1], blank=None, output_type="np", on_block="black")
    assert output.nsfw_content_detected == found


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3", "flux"])
def test_what_was_never_made_is_of_the_kind_that_the_pipeline_makes(name: str, dtype: torch.dtype) -> None:
    pipe = BUILDERS[name]()
    pipe.to(dtype=dtype)
    made = pipe(**inputs(name), output_type="latent").images
    latents = no_latents(pipe, (64, 64), 1)
    assert (latents.shape, latents.dtype, latents.device) == (made.shape, made.dtype, made.device)
    made = pipe(**inputs(name), output_type="pt").images
    own, device = made_like(pipe, decoded=True)
    shown = blank((64, 64), "pt", dtype=own, device=device)
    assert (shown[None].shape, shown.dtype, shown.device) == (made.shape, made.dtype, made.device)


@pytest.mark.filterwarnings("ignore:.*upcast_vae:FutureWarning")
def test_an_autoencoder_that_overflows_in_half_precision_makes_pictures_in_single() -> None:
    pipe = sdxl()
    pipe.vae.register_to_config(force_upcast=True)
    pipe.to(dtype=torch.float16)
    assert made_like(pipe, decoded=True)[0] == pipe(**inputs("sdxl"), output_type="pt").images.dtype == torch.float32
    assert made_like(pipe, decoded=False)[0] == torch.float16


@pytest.mark.parametrize("height", [64, 72, 88])
@pytest.mark.parametrize("output_type", ["pil", "latent"])
def test_a_picture_that_was_never_made_is_as_large_as_the_pipeline_rounds_it(height: int, output_type: str) -> None:
    asked = inputs("flux") | {"height": height, "output_type": output_type}
    pipe = flux()
    made = pipe(**asked).images[0]
    safelight.protect(pipe, make_guard(), screening="before")
    never = pipe(**asked | {"prompt": SENTINEL}).images[0]
    assert (never.size if output_type == "pil" else never.shape) == (made.size if output_type == "pil" else made.shape)
