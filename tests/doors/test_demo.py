"""``safelight demo`` as somebody runs it: one process, both doors, every part real."""

from __future__ import annotations

import base64
import io
import os
import re
import signal
import subprocess
import sys
from pathlib import Path

import httpx
import openai
from PIL import Image

from safelight.generators.embedded_words import EXAMPLES
from seen_colours import leading


def start(folder: Path) -> tuple[subprocess.Popen[str], str]:
    environ = os.environ | {"SAFELIGHT_GATEWAY_PORT": "0", "SAFELIGHT_UI_PORT": "0"}
    demo = subprocess.Popen(
        [sys.executable, "-m", "safelight", "demo"], cwd=folder, env=environ, stdout=subprocess.PIPE, text=True
    )
    said = ""
    assert demo.stdout is not None
    while "Ctrl+C" not in said:
        line = demo.stdout.readline()
        assert line, said
        said += line
    return demo, said


def found(pattern: str, text: str) -> str:
    match = re.search(pattern, text)
    assert match, text
    return match[1]


def test_the_demo_serves_both_doors_says_what_runs_and_ends_when_told(tmp_path: Path) -> None:
    demo, said = start(tmp_path)
    try:
        page, api = found(r"the page +(\S+)", said), found(r"the images endpoint +(\S+)", said)
        key = found(r"an API key for it +(\S+)", said)
        for part in ("sentence_head", "open_nsfw, image_safety", "simple pictures", "GEMINI_API_KEY", "needs a GPU"):
            assert part in said
        transport = httpx.HTTPTransport(retries=20)
        with openai.OpenAI(base_url=api, api_key=key, http_client=httpx.Client(transport=transport)) as client:
            answer = client.images.generate(prompt="a red teapot on a table", size="384x256")
        assert answer.data and answer.data[0].b64_json
        picture = Image.open(io.BytesIO(base64.b64decode(answer.data[0].b64_json)))
        assert (picture.format, picture.size) == ("PNG", (384, 256))
        assert leading(picture) == "red"
        with httpx.Client(transport=transport) as client:
            shown = client.get(page)
        assert shown.status_code == 200
        for part in ("Safelight", "What it can draw", *EXAMPLES):
            assert part in shown.text
    finally:
        demo.send_signal(signal.SIGTERM)
        code = demo.wait(30)
        assert demo.stdout is not None
        demo.stdout.close()
    assert code == 0
