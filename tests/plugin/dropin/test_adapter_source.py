from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
import torch

from hub_cache import write_to_cache
from safelight.dropin.adapter_source import Source, source_of_file, source_of_tensors
from safelight.encoding import sha256_hex

BYTES = b"cup"
DIGEST = sha256_hex(BYTES)


def source(given: str | Path, *names: str, subfolder: str | None = None, **more: Any) -> Source:
    return source_of_file(given, names, subfolder=subfolder, **{"revision": None, "cache": None, **more})


@pytest.fixture
def file(tmp_path: Path) -> Path:
    folder = tmp_path / "private" / "sub"
    folder.mkdir(parents=True)
    path = folder / "cup.safetensors"
    path.write_bytes(BYTES)
    return path


def test_a_file_has_its_name_and_digest_and_no_folder(file: Path) -> None:
    expected = Source(file="cup.safetensors", sha256=DIGEST)
    assert source(file) == source(str(file), "other.bin") == expected
    assert expected.name == "cup.safetensors"


def test_a_file_in_a_folder_is_found_as_diffusers_finds_it(file: Path) -> None:
    expected = Source(file="cup.safetensors", sha256=DIGEST)
    assert source(file.parent, "cup.safetensors") == expected
    assert source(file.parent, "not there.bin", "cup.safetensors") == expected
    assert source(file.parents[1], "cup.safetensors", subfolder="sub") == expected
    assert source(file.parents[1], "sub/cup.safetensors") == expected
    (file.parents[1] / "cup.safetensors").write_bytes(b"beside the subfolder")
    assert source(file.parents[1], "cup.safetensors", subfolder="sub").sha256 == sha256_hex(b"beside the subfolder")


def test_of_a_folder_in_which_nothing_was_named_nothing_is_known(file: Path) -> None:
    assert source(file.parent) == Source()


def test_a_file_of_a_repository_has_the_digest_of_the_cached_one(tmp_path: Path) -> None:
    write_to_cache(tmp_path, "owner/name", {"sub/cup.safetensors": BYTES})
    found = source("owner/name", "cup.bin", "cup.safetensors", subfolder="sub", cache=tmp_path)
    assert found == Source("owner/name", "sub/cup.safetensors", sha256=DIGEST)
    assert found.name == "owner/name/sub/cup.safetensors"


def test_a_revision_is_kept_and_is_the_one_that_is_looked_up(tmp_path: Path) -> None:
    write_to_cache(tmp_path, "owner/name", {"cup.bin": b"other"})
    write_to_cache(tmp_path, "owner/name", {"cup.bin": BYTES}, branch="v2", commit="b" * 40)
    assert source("owner/name", "cup.bin", revision="v2", cache=tmp_path) == Source(
        "owner/name", "cup.bin", "v2", DIGEST
    )


def test_a_repository_that_is_not_in_the_cache_has_a_name_and_no_digest(tmp_path: Path) -> None:
    assert source("owner/name", "cup.bin", cache=tmp_path) == Source("owner/name", "cup.bin")
    assert source("owner/name", "cup.bin", "cup.pt", cache=tmp_path) == Source("owner/name")


def test_a_name_that_no_encoding_can_read_is_made_readable(tmp_path: Path) -> None:
    path = Path(os.fsdecode(os.fsencode(tmp_path) + b"/cup\xff.bin"))
    path.write_bytes(BYTES)
    assert source(path) == Source(file="cup?.bin", sha256=DIGEST)


TENSORS: dict[str, Any] = {
    "a": torch.arange(6).reshape(2, 3),
    "b": {"c": torch.ones(2, dtype=torch.bfloat16), "alpha": 4.0},
}


def test_tensors_have_a_digest_that_does_not_hang_on_order_or_layout() -> None:
    again = {"b": dict(reversed(TENSORS["b"].items())), "a": torch.tensor([[0, 3], [1, 4], [2, 5]]).T}
    known = source_of_tensors(TENSORS)
    assert known == source_of_tensors(again)
    assert known is not None
    assert (known.name, len(known.sha256)) == ("", 64)


@pytest.mark.parametrize(
    "other",
    [
        {**TENSORS, "a": torch.arange(6).reshape(3, 2)},
        {**TENSORS, "a": torch.arange(6, dtype=torch.int32).reshape(2, 3)},
        {**TENSORS, "a": torch.arange(1, 7).reshape(2, 3)},
        {**TENSORS, "d": torch.zeros(0)},
        {"a2": TENSORS["a"], "b": TENSORS["b"]},
        TENSORS["a"],
        [TENSORS["a"], TENSORS["b"]],
        {**TENSORS, "b": {**TENSORS["b"], "alpha": 4}},
        torch.tensor(True),
    ],
)
def test_other_tensors_have_another_digest(other: Any) -> None:
    known, second = source_of_tensors(TENSORS), source_of_tensors(other)
    assert known is not None and second is not None
    assert second.sha256 not in ("", known.sha256)


def test_what_cannot_be_hashed_has_no_digest_and_a_files_name_is_no_tensor() -> None:
    assert source_of_tensors({"a": object()}) == Source()
    assert source_of_tensors("owner/name") is None
    assert source_of_tensors(Path("cup.bin")) is None
