"""A picture that is withheld is found nowhere: not in the answer, and in no file that was written meanwhile."""

from __future__ import annotations

import base64
import io
import tempfile
from pathlib import Path

import pytest
from PIL import Image, UnidentifiedImageError

from fakes import MARKER, FakeGenerator, MarkerScreen, has_marker, sentinel_policy, sentinel_screen
from gateway_server import serving
from safelight.encoding import encode_png


def traces(folder: Path) -> list[str]:
    """Return the files below a folder that hold the marker, as a picture, as raw pixels or as encoded text."""
    raw = bytes(MARKER) * 16
    found = []
    for file in folder.rglob("*"):
        if not file.is_file():
            continue
        data = file.read_bytes()
        shown = False
        try:
            shown = has_marker(Image.open(io.BytesIO(data)))
        except (UnidentifiedImageError, OSError):
            pass
        if shown or raw in data or base64.b64encode(raw)[:40] in data or b"\x89PNG" in data:
            found.append(str(file))
    return found


def test_the_search_itself_finds_what_it_is_for(tmp_path: Path) -> None:
    picture = Image.new("RGB", (64, 64), MARKER)
    (tmp_path / "a.bin").write_bytes(encode_png(picture).data)
    (tmp_path / "b.bin").write_bytes(b"x" * 7 + picture.tobytes())
    (tmp_path / "c.txt").write_bytes(base64.b64encode(picture.tobytes()))
    assert len(traces(tmp_path)) == 3


def test_a_marked_picture_of_four_is_withheld_and_written_nowhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    with (
        serving(
            tmp_path,
            generator=FakeGenerator(spoil=[2]),
            prompt_screens=[sentinel_screen()],
            image_screens=[MarkerScreen()],
            policy=sentinel_policy(),
        ) as served,
        served.client() as client,
    ):
        answer = client.images.with_raw_response.generate(prompt="a cup of tea", n=4, size="64x64")
        pictures = [Image.open(io.BytesIO(base64.b64decode(item.b64_json or ""))) for item in answer.parse().data or []]
        assert len(pictures) == 3
        assert not any(has_marker(picture) for picture in pictures)
        assert answer.headers["x-safelight-withheld"] == "2"
        assert traces(tmp_path) == []
    assert traces(tmp_path) == []
    # The store was there to be searched.
    assert any(file.suffix == ".db" for file in tmp_path.iterdir())
