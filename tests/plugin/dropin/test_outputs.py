from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import torch
from diffusers.pipelines.stable_diffusion_xl import StableDiffusionXLPipelineOutput

from safelight.dropin.outputs import Ruled, answer, as_tuple, blurred, encoded, finite
from safelight.errors import GenerationFailed
from safelight.policy import Action, Decision, Reason
from safelight.verdict import Stage

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
