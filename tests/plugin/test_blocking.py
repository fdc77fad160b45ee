from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from fakes import ALICE, SENTINEL, FakeGenerator, make_guard
from safelight.blocking import BlockingGuard
from safelight.encoding import encode_png
from safelight.errors import ContentBlocked
from safelight.request import GenerationRequest

SCRIPT = """
import sys
sys.path.insert(0, sys.argv[1])
from fakes import ALICE, make_guard
from safelight.blocking import BlockingGuard
from safelight.request import GenerationRequest
kept = BlockingGuard(make_guard())
kept.admit(GenerationRequest("a cup of tea", ALICE))
print("done", flush=True)
"""


def test_it_does_what_the_guard_does() -> None:
    with BlockingGuard(make_guard()) as guard:
        creation = guard.create(GenerationRequest("a cup of tea", ALICE), FakeGenerator(), encode=encode_png)
        assert len(creation.released) == 1
        with pytest.raises(ContentBlocked):
            guard.admit(GenerationRequest(SENTINEL, ALICE))


async def test_it_can_be_called_inside_a_running_loop() -> None:
    with BlockingGuard(make_guard()) as guard:
        assert guard.admit(GenerationRequest("a cup of tea", ALICE)).decision.allows


def test_closing_twice_does_no_harm() -> None:
    guard = BlockingGuard(make_guard())
    guard.close()
    guard.close()


def test_a_program_that_leaves_one_open_ends() -> None:
    tests = Path(__file__).parent.parent
    # The limit is no claim about speed: without the fix this never ends.
    ended = subprocess.run(
        [sys.executable, "-W", "error", "-c", SCRIPT, str(tests)],
        capture_output=True,
        text=True,
        timeout=60,
        check=True,
    )
    assert ended.stdout == "done\n"
    assert ended.stderr == ""
