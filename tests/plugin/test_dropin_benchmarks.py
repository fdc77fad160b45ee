"""The two benchmarks of the drop-in run through; what they print of a loaded machine is nobody's failure."""

from __future__ import annotations

import gc
import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch

PARTS = ("overhead", "allow", "block")
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture(autouse=True)
def left_as_it_was(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """Undo what a script may do to its own process."""
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    logger, threads = logging.getLogger("safelight"), torch.get_num_threads()
    level = logger.level
    yield
    logger.setLevel(level)
    torch.set_num_threads(threads)
    gc.unfreeze()
    # As it is for every test.
    gc.collect()
    gc.freeze()


def run(monkeypatch: pytest.MonkeyPatch, capsys: Any, name: str, *arguments: str) -> str:
    monkeypatch.setattr(sys, "argv", [name, *arguments])
    importlib.import_module(name).main()
    return str(capsys.readouterr().out)


def test_the_one_for_the_cpu_compares_every_row(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    printed = run(monkeypatch, capsys, "dropin", "--rounds", "1", "--size", "64", "--steps", "2", "--parts", *PARTS)
    assert printed.count("goal: ") == 3
    for row in ("guarded, instant screens", "judge of 90%", "busy in Python", "block after 130%"):
        assert row in printed


def test_the_one_for_a_gpu_runs_through_on_a_tiny_model(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    printed = run(monkeypatch, capsys, "dropin_gpu", "--tiny")
    for row in ("block after 50%, not kept pace", "guarded, two previews", "models offloaded", "that was allowed"):
        assert row in printed


def test_the_one_for_a_gpu_says_what_is_missing(monkeypatch: pytest.MonkeyPatch, capsys: Any) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    with pytest.raises(SystemExit) as ended:
        run(monkeypatch, capsys, "dropin_gpu")
    assert ended.value.code == 2
    assert "no CUDA GPU here" in capsys.readouterr().err
