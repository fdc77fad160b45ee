from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from safelight.errors import ConfigError
from safelight.generators import embedded_files
from safelight.generators.embedded import load
from safelight.generators.embedded_files import FOLDER, SHA256, as_source, check_files, sha256_by_name

KNOWN = {"model_index.json": hashlib.sha256(b"{}").hexdigest(), "unet/w.safetensors": hashlib.sha256(b"w").hexdigest()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "unet").mkdir()
    (tmp_path / "model_index.json").write_bytes(b"{}")
    (tmp_path / "unet" / "w.safetensors").write_bytes(b"w")
    (tmp_path / "README.md").write_bytes(b"Nobody reads this but people.")
    return tmp_path


def test_every_file_that_ships_is_pinned_and_nothing_else_is_read() -> None:
    assert dict(SHA256) == sha256_by_name(FOLDER)
    assert {path.suffix for path in FOLDER.rglob("*") if path.is_file()} <= {".json", ".safetensors", ".md"}
    assert sum(name.endswith(".safetensors") for name in SHA256) == 4


def test_it_is_small_enough_for_a_wheel() -> None:
    assert sum(path.stat().st_size for path in FOLDER.rglob("*") if path.is_file()) < 30e6


def test_files_as_they_were_pass(folder: Path) -> None:
    check_files(folder, KNOWN)


def test_one_changed_byte_is_found_and_named(folder: Path) -> None:
    (folder / "unet" / "w.safetensors").write_bytes(b"x")
    with pytest.raises(ConfigError, match=r"generator.use: unet/w.safetensors .* was changed; reinstall"):
        check_files(folder, KNOWN)


def test_a_missing_file_is_found_and_named(folder: Path) -> None:
    (folder / "model_index.json").unlink()
    with pytest.raises(ConfigError, match=r"model_index.json .* is missing; reinstall"):
        check_files(folder, KNOWN)


def test_a_further_file_that_would_be_read_is_found_and_named(folder: Path) -> None:
    (folder / "unet" / "w.safetensors.index.json").write_bytes(b"{}")
    with pytest.raises(
        ConfigError, match=r"unet/w.safetensors.index.json does not belong to the embedded model; delete it"
    ):
        check_files(folder, KNOWN)


def test_a_folder_that_cannot_be_read_is_no_crash(folder: Path) -> None:
    (folder / "unet" / "w.safetensors").unlink()
    (folder / "unet" / "w.safetensors").mkdir()
    with pytest.raises(ConfigError, match=r"w.safetensors cannot be read"):
        check_files(folder, KNOWN)


def test_nothing_is_loaded_from_files_that_are_not_those(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="reinstall Safelight"):
        load(tmp_path)


def test_what_the_command_prints_is_what_stands_in_the_file() -> None:
    assert as_source(sha256_by_name(FOLDER)) in Path(embedded_files.__file__).read_text("utf-8")
