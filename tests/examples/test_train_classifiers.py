"""Training of the two classifiers, in a few steps: seeded, kept, exported as transformers reads it, pinned."""

from __future__ import annotations

import hashlib
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from embedded_model import classifier_pictures, wear
from embedded_model.classifier import JUDGED_COLOURS, JUDGED_NOUNS, LABELS
from embedded_model.parts import autoencoder
from embedded_model.train_classifiers import FINDER_WEAR, export_finder, judge, pin, train_finder
from PIL import Image

from safelight.backends.shipped_files import sha256_by_name
from safelight.screens.hub_classifier import HubClassifierScreen
from safelight.screens.teapots import SHA256

FEW: dict[str, int] = {"seed": 5, "steps": 2, "pictures": 40}


def silent(done: int, total: int, note: str) -> None:
    """Show nothing."""


def weights_of(model: torch.nn.Module) -> list[float]:
    return [float(value.double().sum()) for value in model.state_dict().values()]


@pytest.fixture(scope="module")
def finder(tmp_path_factory: pytest.TempPathFactory) -> Any:
    return train_finder(tmp_path_factory.mktemp("finder"), None, show=silent, **FEW)


def test_the_same_seed_gives_the_same_finder_and_another_seed_another(finder: Any, tmp_path: Path) -> None:
    for name in ("same", "other"):
        (tmp_path / name).mkdir()
    same = train_finder(tmp_path / "same", None, show=silent, **FEW)
    other = train_finder(tmp_path / "other", None, show=silent, **{**FEW, "seed": 6})

    assert weights_of(same) == weights_of(finder)
    assert weights_of(other) != weights_of(finder)


def test_a_finished_finder_is_not_trained_again(tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []

    def show(done: int, total: int, note: str) -> None:
        told.append((done, total))

    first = train_finder(tmp_path, None, show=show, **FEW)
    again = train_finder(tmp_path, None, show=show, **FEW)

    assert told == [(1, 2), (2, 2)]
    assert weights_of(again) == weights_of(first)


def test_pictures_go_through_the_autoencoder_where_there_is_one(tmp_path: Path, finder: Any) -> None:
    torch.manual_seed(0)
    pipe = SimpleNamespace(vae=autoencoder().eval())
    other = train_finder(tmp_path, pipe, show=silent, drawn=0, **FEW)

    assert weights_of(other) != weights_of(finder)


def test_an_exported_finder_is_what_the_screen_loads(finder: Any, tmp_path: Path) -> None:
    export_finder(finder, tmp_path)
    digest = hashlib.sha256((tmp_path / "model.safetensors").read_bytes()).hexdigest()

    assert set(sha256_by_name(tmp_path, setting="finder")) == set(SHA256)
    assert HubClassifierScreen(model=str(tmp_path), labels={"teapot": "teapots"}, sha256=digest, device="cpu")


def test_digests_are_written_into_the_screen(tmp_path: Path) -> None:
    module = tmp_path / "teapots.py"
    table = 'SHA256 = {{\n    "a.json": "{a}",\n    "b.json": "{b}",\n}}\n'
    module.write_text(table.format(a="0" * 64, b="0" * 64))

    pin({"a.json": "1" * 64, "b.json": "2" * 64}, module)

    assert module.read_text() == table.format(a="1" * 64, b="2" * 64)


def test_the_judge_names_a_noun_and_a_colour_and_is_kept(tmp_path: Path) -> None:
    pictures = [Image.new("RGB", (64, 64)), Image.new("RGB", (300, 200), (250, 216, 40))]
    first = judge(tmp_path, show=silent, **FEW)(pictures)
    again = judge(tmp_path, show=silent, **{**FEW, "steps": 0})(pictures)

    assert again == first
    assert len(first) == 2
    for noun, sure, colour, as_sure in first:
        assert noun in JUDGED_NOUNS
        assert colour in JUDGED_COLOURS
        assert 0 < sure <= 1
        assert 0 < as_sure <= 1


def test_two_fifths_of_the_finder_s_pictures_are_teapots_and_come_last() -> None:
    pictures, labels = classifier_pictures.finder_pictures(50, 3, None)

    assert pictures.shape == (50, 3, 64, 64)
    assert labels.tolist() == [LABELS.index("other")] * 30 + [LABELS.index("teapot")] * 20


def test_no_judge_s_picture_of_nothing_has_a_colour() -> None:
    _, nouns, colours = classifier_pictures.judge_pictures(200, 3)

    nothing = nouns == JUDGED_NOUNS.index("nothing")
    assert nothing.any()
    assert ((colours == -1) == nothing).all()


def test_worn_pictures_stay_pictures() -> None:
    torch.manual_seed(0)
    pictures = 2 * torch.rand(10, 3, 64, 64) - 1

    found = wear.worn(pictures, FINDER_WEAR)

    assert found.shape == pictures.shape
    assert found.min() >= -1 and found.max() <= 1
    assert not torch.equal(found, pictures)
