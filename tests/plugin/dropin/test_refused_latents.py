from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

import numpy as np
import pytest
import torch

import safelight
from fakes import SENTINEL, make_guard
from safelight.dropin.refused_latents import refused_places
from safelight.dropin.sealed import SealedTensor
from safelight.policy import Action, Decision, Reason
from safelight.verdict import Stage
from tiny_pipelines import refiner, sdxl

FIRST = Decision(
    id="dec_1",
    request_id="req_1",
    stage=Stage.PROMPT,
    action=Action.BLOCK,
    reason=Reason.CATEGORY,
    categories=("sentinel",),
    policy="p",
    verdicts=(),
    created=datetime(2026, 1, 1, tzinfo=UTC),
)
SECOND = replace(FIRST, id="dec_2")

FORMS: dict[str, Callable[[torch.Tensor], Any]] = {
    "whole": lambda t: t,
    "pictures": lambda t: [t[place] for place in range(len(t))],
    "unbound": lambda t: list(t.unbind()),
    "batches of one": lambda t: [t[place : place + 1] for place in range(len(t))],
    "two batches": lambda t: list(t.chunk(2)),
    "tuple": lambda t: tuple(t),
    "lists in a list": lambda t: [[row] for row in t],
}


def latents(*refused: Decision | None) -> SealedTensor:
    """Return latents of a row a prompt: zeros where it was refused."""
    made = torch.ones(len(refused), 4, 8, 8)
    for place, decision in enumerate(refused):
        if decision is not None:
            made[place] = 0
    return SealedTensor(made, (), [decision for decision in refused if decision is not None])


@pytest.mark.parametrize("form", FORMS)
def test_a_prompt_is_refused_for_its_own_latents_and_not_for_its_neighbours(form: str) -> None:
    given = FORMS[form](latents(FIRST, None, None, SECOND))
    assert refused_places({"image": given}, 4) == {0: FIRST, 3: SECOND}
    # Two pictures for each of two prompts: neither is refused for one of its two.
    assert refused_places({"image": given}, 2) == {}


def test_latents_of_several_calls_stand_in_one_list() -> None:
    given = [latents(None, FIRST)[0], latents(SECOND, None)[0], latents(None)[0]]
    assert refused_places({"image": given}, 3) == {1: FIRST}
    assert refused_places({"image": [latents(FIRST), latents(None), latents(SECOND)]}, 3) == {0: FIRST, 2: SECOND}


def test_one_pictures_latents_are_for_every_prompt() -> None:
    for given in (latents(FIRST), latents(FIRST)[0], [latents(FIRST)[0]], [latents(FIRST)]):
        assert refused_places({"image": given}, 3) == {0: FIRST, 1: FIRST, 2: FIRST}
    assert refused_places({"image": latents(FIRST, None)[1]}, 3) == {}


def test_packed_latents_have_a_row_a_prompt() -> None:
    packed = latents(None, FIRST, None).flatten(2)
    assert packed.ndim == 3
    assert refused_places({"latents": packed}, 3) == {1: FIRST}


def test_plain_latents_of_zeros_are_nobodys_refusal() -> None:
    assert refused_places({"latents": torch.zeros(2, 4, 8, 8)}, 2) == {}
    assert refused_places({"image": [torch.zeros(4, 8, 8), latents(FIRST)[0]]}, 2) == {1: FIRST}
    assert refused_places({"image": latents(None), "prompt": ["a cup"], "generator": None}, 1) == {}


@pytest.fixture(scope="module")
def half() -> tuple[Any, torch.Tensor]:
    guard = make_guard()
    base = safelight.protect(sdxl(), guard)
    made = base([SENTINEL, "a boat"], output_type="latent", height=64, width=64, num_inference_steps=2).images
    return safelight.protect(refiner(base), guard), made


@pytest.mark.filterwarnings("ignore:Passing `image` as a list of 4d:FutureWarning")
@pytest.mark.parametrize("form", ["whole", "pictures", "unbound", "batches of one", "two batches"])
def test_a_refiner_refines_the_allowed_latents_of_a_list(half: tuple[Any, torch.Tensor], form: str) -> None:
    second, made = half
    output = second(["a cup", "a boat"], image=FORMS[form](made), num_inference_steps=4, strength=0.5)
    assert output.nsfw_content_detected == [True, False]
    assert [bool(np.asarray(image).any()) for image in output.images] == [False, True]
