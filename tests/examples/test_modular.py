"""The example of a guarded modular pipeline, run as a user would."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import pytest
from PIL import Image

from fakes import POLICY, SENTINEL
from seen_colours import leading

EXAMPLE = Path(__file__).parents[2] / "examples" / "modular.py"

CONFIG = f"""
[[prompt_screens]]
use = "terms"
terms = ["{SENTINEL}"]
category = "sentinel"
[[image_screens]]
use = "fakes:MarkerScreen"
[policy]
file = "policy.toml"
[store]
url = "sqlite:///FOLDER/example.db"
"""


def test_a_blocked_prompt_of_several_leaves_a_black_picture(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "policy.toml").write_text(POLICY)
    config = tmp_path / "safelight.toml"
    config.write_text(CONFIG.replace("FOLDER", str(tmp_path)))
    spec = importlib.util.spec_from_file_location("example_modular", EXAMPLE)
    assert spec is not None and spec.loader is not None
    example = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(example)
    example.main(["a blue car", f"a {SENTINEL}", "--out", str(tmp_path / "out"), "--config", str(config)])
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(":")[1].split()[0] for line in lines] == ["allow", "block"]
    car, black = (Image.open(tmp_path / "out" / f"{place}.png") for place in (0, 1))
    assert leading(car) == "blue"
    assert black.getextrema() == ((0, 0),) * 3
