from __future__ import annotations

import stat
from collections.abc import Iterator

import pytest

from safelight_ui.pictures import PictureFolder
from safelight_ui.visitors import Visitors


@pytest.fixture
def pictures() -> Iterator[PictureFolder]:
    folder = PictureFolder(Visitors(bytes(32)))
    yield folder
    folder.close()


def test_a_picture_is_written_as_it_is(pictures: PictureFolder) -> None:
    assert pictures.write(b"released", "alice").read_bytes() == b"released"


def test_the_folder_can_be_read_by_nobody_else(pictures: PictureFolder) -> None:
    assert stat.S_IMODE(pictures.path.stat().st_mode) == 0o700


def test_a_picture_belongs_to_its_visitor_only(pictures: PictureFolder) -> None:
    name = pictures.write(b"x", "alice").name
    assert pictures.belongs(name, "alice")
    assert not pictures.belongs(name, "bob")
    assert not pictures.belongs(name, "")


@pytest.mark.parametrize("name", ["", ".png", "-.png", "a-b.png", "a.png", "äöü-ß.png", "../page.db"])
def test_a_name_that_nobody_gave_belongs_to_nobody(pictures: PictureFolder, name: str) -> None:
    assert not pictures.belongs(name, "alice")


def test_a_renamed_picture_belongs_to_nobody(pictures: PictureFolder) -> None:
    name = pictures.write(b"x", "alice").name
    assert not pictures.belongs(name.removesuffix(".png"), "alice")
    assert not pictures.belongs("0" + name[1:] if name[0] != "0" else "1" + name[1:], "alice")


def test_the_same_picture_twice_has_two_names(pictures: PictureFolder) -> None:
    assert pictures.write(b"x", "alice") != pictures.write(b"x", "alice")


def test_closing_removes_every_picture_and_may_be_repeated(pictures: PictureFolder) -> None:
    pictures.write(b"x", "alice")
    pictures.close()
    pictures.close()
    assert not pictures.path.exists()


def test_what_cannot_be_written_is_said(pictures: PictureFolder) -> None:
    pictures.close()
    with pytest.raises(FileNotFoundError):
        pictures.write(b"x", "alice")
