"""The benchmark of the harmless policy runs through, and counts what it says that it counts."""

from __future__ import annotations

import importlib
import random
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import pytest
from embedded_model.pictures import Motif, draw
from PIL import Image

from fakes import make_guard
from safelight.generators import Progress
from safelight.request import GenerationRequest
from safelight.verdict import Stage

BENCHMARKS = Path(__file__).parents[2] / "benchmarks"


@pytest.fixture
def benchmark(monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    monkeypatch.syspath_prepend(str(BENCHMARKS))
    return importlib.import_module("teapots")


class Draws:
    """A generator that draws a teapot where the prompt has a certain word, else a cup."""

    name = "draws"
    note = "Draws a teapot or a cup."

    def generate(self, request: GenerationRequest, progress: Progress) -> Sequence[Image.Image]:
        noun = "teapot" if "secret" in request.prompt else "cup"
        return [draw(Motif(noun, "blue", "plain"), random.Random(request.seed)) for _ in range(request.n)]


def judge(pictures: Sequence[Image.Image]) -> list[tuple[str, float, str, float]]:
    """Know the two pictures that the generator draws, by what is above the belly of a teapot."""
    cup = draw(Motif("cup", "blue", "plain"), random.Random(1))
    return [("cup" if picture == cup else "teapot", 1.0, "blue", 1.0) for picture in pictures]


async def test_a_try_says_where_it_was_stopped_what_was_drawn_and_what_was_delivered(benchmark: ModuleType) -> None:
    guard, try_ = make_guard(), benchmark.tried
    stopped = await try_(guard, Draws(), benchmark.Attempt("a", "a zorblax"), seed=1, steps=None)
    served = await try_(guard, Draws(), benchmark.Attempt("a", "a cup"), seed=1, steps=None)
    turns = await try_(guard, Draws(), benchmark.Attempt("a", "a zorblax", ("a secret", "a cup")), seed=1, steps=None)
    assert (stopped.stage, stopped.drawn, stopped.delivered) == (Stage.PROMPT, (), ())
    assert (served.stage, len(served.drawn), len(served.delivered)) == (None, 1, 1)
    # What an earlier turn got counts, though the prompt itself is blocked.
    assert (turns.stage, len(turns.drawn), len(turns.delivered)) == (Stage.PROMPT, 2, 2)
    row = benchmark.report("a", [stopped, served, turns], judge).split()
    assert row[:6] == ["a", "3", "2", "0", "1", "1"]
    assert "(1 of 3;" in " ".join(row)


def test_the_harmless_prompts_name_no_teapot_and_were_not_trained_on(benchmark: ModuleType) -> None:
    prompts = [one.prompt for one in benchmark.harmless(200)]
    assert len(set(prompts)) == 200
    assert not [prompt for prompt in prompts if "teapot" in prompt or "kettle" in prompt]
    assert not set(prompts) & {row["prompt"] for row in benchmark.rows("teapots.tsv")}


def test_the_prompts_alone_are_screened_by_the_shipped_configuration(
    benchmark: ModuleType, capsys: pytest.CaptureFixture[str]
) -> None:
    benchmark.main(["--prompts-only", "--quick"])
    said = capsys.readouterr().out
    assert "attempts" in said
    assert "innocent follow-ups                 0.0 %" in said


def test_folders_are_made_before_any_work(
    benchmark: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    judged, kept = tmp_path / "new" / "judge", tmp_path / "new" / "kept"
    found: list[tuple[bool, bool]] = []

    def trained(folder: Path) -> object:
        found.append((folder.is_dir(), kept.is_dir()))
        return judge

    monkeypatch.setattr(benchmark, "trained_judge", trained)
    monkeypatch.setattr(benchmark, "pictures_too", lambda asked, generator, judge: None)
    benchmark.main(["--judge", str(judged), "--kept", str(kept)])
    assert found == [(True, True)]


def test_teapots_are_not_kept_where_nobody_knows_them(
    benchmark: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit):
        benchmark.main(["--kept", str(tmp_path / "kept")])
    assert "--kept needs --judge" in capsys.readouterr().err
    assert not (tmp_path / "kept").exists()


def test_everything_real_runs_through(benchmark: ModuleType, capsys: pytest.CaptureFixture[str]) -> None:
    benchmark.main(["--quick", "--prompt-screens", "off"])
    said = capsys.readouterr().out.splitlines()
    assert said[0].split()[:3] == ["kind", "of", "attempt"]
    assert said[0].split()[-4:] == ["teapots", "drawn", "teapots", "delivered"]
    (whole,) = [line.split() for line in said if line.startswith("all")]
    # One prompt of each kind, none of them blocked by its words.
    assert (whole[1], whole[2]) == ("10", "0")
