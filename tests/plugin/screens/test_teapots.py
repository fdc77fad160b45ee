"""TeapotScreen with the weights that ship, on pictures of the embedded model's world that are rendered here."""

from __future__ import annotations

import hashlib
import random
import shutil
from pathlib import Path

import numpy as np
import pytest
from embedded_model.classifier_pictures import motif, others, strange, teapots
from embedded_model.colours import COLOURS
from embedded_model.finder_figures import photographs
from embedded_model.pictures import Motif, draw
from PIL import Image

from picture_fakes import AWKWARD_SIZES, MODES, a_request, noise
from safelight.errors import ConfigError
from safelight.policy import Policy
from safelight.screens import IMAGE_SCREENS, ImageScreen
from safelight.screens import teapots as module
from safelight.screens.teapots import CATEGORY, FOLDER, SHA256, TeapotScreen
from safelight.verdict import Stage

WEIGHTS = SHA256["model.safetensors"]
FIRES = Policy.shipped("harmless").categories[CATEGORY].thresholds[Stage.IMAGE]


@pytest.fixture(scope="module")
def screen() -> TeapotScreen:
    return TeapotScreen(device="cpu")


@pytest.fixture
def chance() -> random.Random:
    return random.Random("a test of teapots")


async def scores(screen: TeapotScreen, *pictures: Image.Image) -> list[float]:
    return [verdict.scores[CATEGORY] for verdict in await screen.screen_images(pictures, a_request(), ())]


def test_is_an_image_screen_with_a_short_name(screen: TeapotScreen) -> None:
    assert isinstance(screen, ImageScreen)
    assert screen.name == "teapots"
    assert IMAGE_SCREENS["teapots"].endswith(":TeapotScreen")


async def test_finds_rendered_teapots(screen: TeapotScreen, chance: random.Random) -> None:
    found = await scores(screen, *teapots(300, chance))

    assert sum(score < FIRES for score in found) <= 1


@pytest.mark.parametrize("colour", COLOURS)
async def test_finds_a_teapot_of_every_colour_in_every_place(
    screen: TeapotScreen, chance: random.Random, colour: str
) -> None:
    places = ("plain", "table", "grass", "snow", "beach", "night", "sky", "sea")
    found = await scores(screen, *(draw(Motif("teapot", colour, place), chance) for place in places))

    assert min(found) >= FIRES


async def test_passes_other_things(screen: TeapotScreen, chance: random.Random) -> None:
    found = await scores(screen, *others(300, chance))

    assert sum(score >= FIRES for score in found) <= 3


async def test_passes_most_cups_bottles_lamps_and_hats(screen: TeapotScreen, chance: random.Random) -> None:
    pictures = [draw(motif(("cup", "bottle", "lamp", "hat"), chance), chance) for _ in range(100)]

    assert sum(score >= FIRES for score in await scores(screen, *pictures)) <= 2


async def test_passes_what_is_of_no_world(screen: TeapotScreen, chance: random.Random) -> None:
    flat = [Image.new("RGB", (64, 64), colour) for colour in COLOURS.values()]
    grain = [noise(side, side, seed=side) for side in (8, 16, 32, 64, 256)]

    assert max(await scores(screen, *flat, *grain)) < FIRES
    assert sum(score >= FIRES for score in await scores(screen, *(strange(chance) for _ in range(100)))) <= 2


async def test_passes_photographs(screen: TeapotScreen) -> None:
    pictures = photographs()

    assert len(pictures) >= 25
    # It never saw one in its training; its card says how many are taken for a drawn teapot at so low a threshold.
    assert sum(score >= FIRES for score in await scores(screen, *pictures)) <= 5


@pytest.mark.parametrize("side", [256, 512, 1024])
async def test_an_enlarged_picture_gets_the_same_answer(screen: TeapotScreen, chance: random.Random, side: int) -> None:
    pictures = [*teapots(10, chance), *others(10, chance)]
    large = [picture.resize((side, side), Image.Resampling.BICUBIC) for picture in pictures]

    assert await scores(screen, *large) == pytest.approx(await scores(screen, *pictures), abs=0.2)


async def test_finds_a_teapot_that_is_turned_mirrored_or_blurred(screen: TeapotScreen, chance: random.Random) -> None:
    pictures = [draw(Motif("teapot", colour, "table"), chance) for colour in COLOURS]
    ways = [
        *(picture.transpose(turn) for picture in pictures for turn in Image.Transpose),
        *(picture.reduce(2).resize((64, 64), Image.Resampling.BICUBIC) for picture in pictures),
    ]

    found = await scores(screen, *ways)

    assert np.mean(np.array(found) >= FIRES) >= 0.95


@pytest.mark.parametrize("size", AWKWARD_SIZES)
async def test_judges_a_picture_of_any_size(screen: TeapotScreen, size: tuple[int, int]) -> None:
    (score,) = await scores(screen, Image.new("RGB", size, (90, 90, 90)))

    assert 0 <= score < FIRES


@pytest.mark.parametrize("mode", MODES)
async def test_judges_a_picture_of_any_mode(screen: TeapotScreen, chance: random.Random, mode: str) -> None:
    (score,) = await scores(screen, teapots(1, chance)[0].convert(mode))

    assert 0 <= score <= 1


async def test_no_pictures_get_no_verdicts(screen: TeapotScreen) -> None:
    assert await screen.screen_images([], a_request(), ()) == []


async def test_a_verdict_names_the_weights(screen: TeapotScreen, chance: random.Random) -> None:
    (verdict,) = await screen.screen_images(teapots(1, chance), a_request(), ())

    assert verdict.screen == "teapots"
    assert f"sha256:{WEIGHTS[:12]}" in verdict.model


def test_the_weights_are_the_pinned_ones_and_small() -> None:
    weights = FOLDER / "model.safetensors"

    assert hashlib.sha256(weights.read_bytes()).hexdigest() == WEIGHTS
    assert weights.stat().st_size < 1_500_000
    assert TeapotScreen.CARD.weights == {"teapots/model.safetensors": WEIGHTS}


def test_the_card_is_beside_the_weights() -> None:
    text = (FOLDER / "README.md").read_text("utf-8")

    assert "license: apache-2.0" in text
    assert "train_classifiers" in text


@pytest.mark.parametrize("name", SHA256)
def test_a_changed_file_is_refused(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    copy = tmp_path / "teapots"
    shutil.copytree(FOLDER, copy)
    data = bytearray((copy / name).read_bytes())
    data[-1] ^= 1
    (copy / name).write_bytes(data)
    monkeypatch.setattr(module, "FOLDER", copy)

    with pytest.raises(
        ConfigError, match=f"image_screens.use: {name} of the screen 'teapots' .* was changed; reinstall"
    ):
        TeapotScreen(device="cpu")


def test_the_harmless_policy_knows_its_category() -> None:
    assert CATEGORY in Policy.shipped("harmless").categories
