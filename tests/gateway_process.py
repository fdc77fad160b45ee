"""The command ``safelight gateway`` in a process of its own, over fakes and a real store, for tests."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path

import httpx

from safelight.store.sqlite import SQLiteStore

TESTS = Path(__file__).parent

CONFIG = """
prompt_screens = [{{use = "gateway_fakes:WordScreen"}}]
image_screens = [{{use = "gateway_fakes:MarkerScreen"}}]
[generator]
use = "gateway_fakes:{generator}"
[store]
url = "sqlite:///{store}"
"""


def configured(folder: Path, generator: str = "Painter") -> tuple[Path, str]:
    """Return a configuration file, and the token of a key in its store."""
    store = SQLiteStore(folder / "store.db")
    _, token = store.create_key("tests", at=datetime.now(UTC))
    store.close()
    file = folder / "safelight.toml"
    file.write_text(CONFIG.format(generator=generator, store=folder / "store.db"), "utf-8")
    return file, token


def command(file: Path, *arguments: str) -> list[str]:
    return [sys.executable, "-m", "safelight", "--config", str(file), "gateway", *arguments]


def environment() -> dict[str, str]:
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("SAFELIGHT_", "GEMINI_"))}
    return kept | {"PYTHONPATH": os.pathsep.join((str(TESTS), *filter(None, [kept.get("PYTHONPATH")])))}


@contextmanager
def started(file: Path) -> Iterator[tuple[subprocess.Popen[str], str]]:
    """Run the command on a free port, and yield the process with its address."""
    process = subprocess.Popen(
        command(file, "--port", "0"), env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )
    try:
        assert process.stdout is not None
        found = re.search(r"http://127\.0\.0\.1:\d+", process.stdout.readline())
        assert found, process.communicate()
        _await_ready(found[0])
        yield process, found[0]
    finally:
        with process:
            process.kill()


def ended(process: subprocess.Popen[str]) -> tuple[str, str]:
    """Wait for a process, and return what it wrote since its first line, to either stream."""
    process.wait(30)
    # Not communicate(): it would pass over what the first readline() took into the buffer.
    assert process.stdout is not None and process.stderr is not None
    return process.stdout.read(), process.stderr.read()


def _await_ready(address: str) -> None:
    until = time.monotonic() + 20
    while True:
        try:
            if httpx.get(f"{address}/readyz", timeout=5).status_code == 200:
                return
        except httpx.TransportError:
            pass
        assert time.monotonic() < until, "the gateway did not get ready"
        time.sleep(0.02)
