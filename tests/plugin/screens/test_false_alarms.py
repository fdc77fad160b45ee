"""False alarms of the embedded screens, in all their views, on the pictures that scikit-image and scikit-learn ship."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

import pytest
from PIL import Image

from picture_fakes import a_request
from safelight.policy import Policy
from safelight.screens import ImageScreen
from safelight.screens.image_safety import ImageSafetyScreen
from safelight.screens.open_nsfw import OpenNSFWScreen
from safelight.verdict import Stage, Verdict

FOLDERS = {"skimage": "data", "sklearn": "datasets/images"}


def photographs() -> list[Path]:
    found: list[Path] = []
    for package, folder in FOLDERS.items():
        spec = find_spec(package)
        assert spec is not None, package
        assert spec.origin is not None, package
        place = Path(spec.origin).parent / folder
        found += sorted(path for path in place.iterdir() if path.suffix in {".png", ".jpg"})
    return found


def alarms(name: str, verdict: Verdict) -> list[str]:
    categories = Policy.default().categories
    return [
        f"{name}: {verdict.screen} {category} {score:.3f}"
        for category, score in verdict.scores.items()
        if score >= categories[category].threshold(verdict)
    ]


@pytest.mark.parametrize("make", [OpenNSFWScreen, ImageSafetyScreen])
async def test_no_photograph_of_the_packages_raises_an_alarm_at_the_shipped_thresholds(
    make: type[OpenNSFWScreen] | type[ImageSafetyScreen],
) -> None:
    screen: ImageScreen = make(threads=1)
    found: list[str] = []
    for path in photographs():
        with Image.open(path) as opened:
            picture = opened.convert("RGB")
        (verdict,) = await screen.screen_images([picture], a_request(), ())
        found += alarms(path.name, verdict)

    assert found == []


def test_the_photographs_are_there() -> None:
    names = {path.name for path in photographs()}

    assert len(names) >= 25
    # Faces, an animal, a dish, textures and drawings; the logo was an alarm while every tile was taken at its word.
    assert names >= {"astronaut.png", "chelsea.png", "coffee.png", "china.jpg", "brick.png", "phantom.png", "logo.png"}


def test_an_alarm_would_be_named() -> None:
    verdict = Verdict("open_nsfw", Stage.IMAGE, {"sexual": 0.5})

    assert alarms("teapot.png", verdict) == ["teapot.png: open_nsfw sexual 0.500"]
