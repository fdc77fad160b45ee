"""The sentinel, plain and in every disguise, at the doors: refused without a call to the generator."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import openai
import pytest

import safelight
from disguises_of_zorblax import ALL, ORDINARY
from fakes import FakeGenerator, MarkerScreen, make_guard, sentinel_screen
from gateway_server import Served, serving
from safelight.screens.terms import TermsScreen
from tiny_sdxl import tiny_sdxl

PROMPTS = {"plain": "a zorblax in a field", **ALL}
HARMLESS = (ORDINARY.strip().splitlines() if isinstance(ORDINARY, str) else list(ORDINARY))[:20]


@pytest.fixture(scope="module")
def generator() -> FakeGenerator:
    return FakeGenerator()


@pytest.fixture(scope="module")
def served(generator: FakeGenerator, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Served]:
    screens = [TermsScreen(terms=["zorblax"], category="violence")]
    folder: Path = tmp_path_factory.mktemp("disguises")
    with serving(
        folder, generator=generator, prompt_screens=screens, image_screens=[MarkerScreen(category="violence")]
    ) as served:
        yield served


def test_the_gateway_refuses_every_disguise_and_makes_nothing(served: Served, generator: FakeGenerator) -> None:
    with served.client() as client:
        for prompt in PROMPTS.values():
            with pytest.raises(openai.BadRequestError) as error:
                client.images.generate(prompt=prompt, size="64x64")
            assert error.value.code == "moderation_blocked", prompt
    assert generator.requests == []


def test_the_gateway_lets_harmless_prompts_pass(served: Served) -> None:
    with served.client() as client:
        for prompt in HARMLESS:
            assert client.images.generate(prompt=prompt, size="64x64").data, prompt


@pytest.mark.parametrize(("screening", "one_in"), [("before", 1), ("beside", 4)])
def test_the_drop_in_refuses_every_disguise_and_lets_harmless_ones_pass(screening: Any, one_in: int) -> None:
    pipe = safelight.protect(tiny_sdxl(), make_guard(prompt_screens=[sentinel_screen()]), screening=screening)
    ran: Counter[str] = Counter()
    pipe.unet.register_forward_pre_hook(lambda module, args: ran.update(["step"]))
    pipe.vae.decoder.register_forward_pre_hook(lambda module, args: ran.update(["picture"]))
    for prompt in [*PROMPTS.values()][::one_in]:
        assert pipe(prompt, height=64, width=64, num_inference_steps=1).nsfw_content_detected == [True], prompt
    # Beside the judge a step may have begun before it answered; a picture is made of none of them.
    assert ran["picture"] == 0
    assert screening == "beside" or ran["step"] == 0
    for prompt in HARMLESS:
        assert pipe(prompt, height=64, width=64, num_inference_steps=1).nsfw_content_detected == [False], prompt
    assert ran["picture"] == len(HARMLESS)
