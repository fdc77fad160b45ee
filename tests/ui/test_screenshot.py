from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from page_fakes import POLICY

ROOT = Path(__file__).parents[2]
SETTINGS = """
[generator]
use = "page_fakes:ObedientGenerator"
[[prompt_screens]]
use = "page_fakes:ObedientScreen"
[[image_screens]]
use = "fakes:MarkerScreen"
[policy]
file = "policy.toml"
"""


def test_the_example_takes_a_picture_of_the_page_with_the_result_on_it(tmp_path: Path) -> None:
    file = tmp_path / "safelight.toml"
    file.write_text(SETTINGS)
    (tmp_path / "policy.toml").write_text(POLICY)
    out = tmp_path / "shots" / "page.png"
    words = [sys.executable, str(ROOT / "examples/screenshot_page.py"), str(out), "--config", str(file)]
    subprocess.run(
        [*words, "--prompt", "a paper boat"],
        env={**os.environ, "PYTHONPATH": str(ROOT / "tests")},
        cwd=tmp_path,
        check=True,
        timeout=120,
    )
    with Image.open(out) as picture:
        assert picture.width == 1280
        red, green, _ = (np.asarray(band, int) for band in picture.convert("RGB").split())
    # The fake's stripes are greener than anything else on the page.
    assert (green > red + 60).sum() > 10_000
    assert not list(tmp_path.glob("*.db"))
