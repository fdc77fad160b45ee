"""The drop-in on a model that draws what it is told to: what a guarded call gives out is what was asked for."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import AutoPipelineForImage2Image
from PIL import Image

import safelight
from fakes import POLICY, SENTINEL, make_guard, sentinel_screen
from safelight.dropin.previews import Previews
from safelight.guard import Guard
from safelight.policy import Policy
from safelight.verdict import Stage, Verdict
from seen_colours import leading, shares
from trained_sdxl import DRAWN, trained_sdxl


class Keeping:
    """An image screen that keeps what it is shown, and finds something in pictures of one leading colour."""

    name = "keeping"

    def __init__(self, *, finds: str = "") -> None:
        self.finds = finds
        self.seen: list[Image.Image] = []

    async def screen_images(self, images: Sequence[Image.Image], request: Any, history: Any) -> Sequence[Verdict]:
        self.seen += images
        return [Verdict(self.name, Stage.IMAGE, {"sentinel": float(leading(image) == self.finds)}) for image in images]


def guard(screen: Keeping, *, concepts: str = "[]") -> Guard:
    policy = Policy.parse(POLICY.replace("[categories", f"[guidance]\nconcepts = {concepts}\n[categories", 1))
    return make_guard(prompt_screens=[sentinel_screen()], image_screens=[screen], policy=policy)


def seeded(count: int) -> list[torch.Generator]:
    return [torch.Generator().manual_seed(place) for place in range(count)]


def test_of_a_batch_each_picture_is_its_own_prompts_and_a_blocked_ones_is_black() -> None:
    pipe = safelight.protect(trained_sdxl(), guard(Keeping()))
    output = pipe(["a red apple", f"a {SENTINEL}", "a blue car"], generator=seeded(3), **DRAWN)
    assert output.nsfw_content_detected == [False, True, False]
    assert (leading(output.images[0]), leading(output.images[2])) == ("red", "blue")
    assert output.images[1].getextrema() == ((0, 0),) * 3


def test_what_a_picture_shows_decides_whether_it_leaves_and_not_what_was_said() -> None:
    pipe = safelight.protect(trained_sdxl(), guard(Keeping(finds="red")), on_block="blur")
    output = pipe(["an apple, red", "a blue car"], generator=seeded(2), **DRAWN)
    assert output.nsfw_content_detected == [True, False]
    # Its mood is left of it.
    assert leading(output.images[0]) == "red"
    assert leading(output.images[1]) == "blue"


def test_safety_guidance_leads_a_picture_away_from_what_it_would_have_shown() -> None:
    # Apples are red or green where nobody says.
    asked: dict[str, Any] = {"prompt": ["an apple"] * 3, **DRAWN}
    plain = trained_sdxl()(**asked, generator=seeded(3)).images
    pipe = safelight.protect(trained_sdxl(), guard(Keeping(), concepts='["red"]'), guidance="safety")
    led = pipe(**asked, generator=seeded(3)).images
    before, after = (sum(shares(picture)["red"] for picture in pictures) for pictures in (plain, led))
    assert before > 0.5
    assert after < before / 3


def test_a_preview_looks_like_the_picture_that_it_becomes() -> None:
    screen = Keeping()
    pipe = safelight.protect(trained_sdxl(), guard(screen), previews=Previews(at=(0.6,)))
    output = pipe(["a red apple", "a blue boat on the sea"], generator=seeded(2), **DRAWN)
    small = [np.asarray(image, float) for image in screen.seen if image.size == (8, 8)]
    whole = [np.asarray(image.reduce(8), float) for image in output.images]
    assert len(small) == 2
    for place in (0, 1):
        off = [np.abs(small[place] - other).mean() for other in whole]
        assert off[place] < off[1 - place] / 2


def test_an_input_picture_gives_its_layout_and_the_prompt_its_colour() -> None:
    apple = trained_sdxl()("a red apple", generator=seeded(1), **DRAWN).images[0]
    pipe = safelight.protect(AutoPipelineForImage2Image.from_pipe(trained_sdxl()), guard(Keeping()))
    pipe.set_progress_bar_config(disable=True)
    size = {name: value for name, value in DRAWN.items() if name not in ("height", "width")}
    output = pipe("a green apple", image=apple, strength=0.8, generator=seeded(1), **size)
    assert leading(output.images[0]) == "green"
