"""What guarding a pipeline costs, and how much of a judge's time it hides: a tiny SDXL on one thread.

    python benchmarks/dropin.py [--rounds 9] [--size 256] [--steps 30] [--parts overhead allow block small]

Everything is interleaved in one run, in another order in each round, and compared with two calls of the plain pipeline
in the same round, because times of different runs say nothing about one another on a shared machine. Printed are the
median of the rounds, in brackets the quartiles, and beside them the same of the least times, which other people's load
disturbs least. CPU time is that of the whole process, judges and store included. The store is a SQLite file, as a user
has it. Judges and image screens find what they are told to and take no longer than they are told to: what is measured
is what the drop-in adds to them.

A judge waits as one does that asks over a network. Two rows have one that keeps a core busy, in C code (as a local
model does) and in Python: such a judge takes from the pipeline what it uses itself, where there is no free core.
"""

from __future__ import annotations

import argparse
import logging
import os
import sys
import tempfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from dropin_rows import (
    AGAIN,
    CALLBACK,
    GUARDED,
    PLAIN,
    Row,
    StepClock,
    TimedJudge,
    a_guard,
    baseline,
    busy_in_c,
    busy_in_python,
    measured,
    report_allow,
    report_block,
    report_overhead,
    spread,
)

# The untrained model is that of the tests.
sys.path.append(str(Path(__file__).parents[1] / "tests"))
import safelight
from safelight.dropin.previews import Previews
from tiny_sdxl import build

PARTS = ("overhead", "allow", "block", "small")
SDXL_MS = 1471
"""SDXL of 30 steps at 1024 x 1024 on one H100, as NVIDIA publishes it with the TensorRT weights."""


class Bench:
    """The pipelines, and the rows that are timed with them."""

    def __init__(self, folder: str) -> None:
        self.judge = TimedJudge()
        self.clock = StepClock()
        guard = a_guard(self.judge, folder)
        self.beside = safelight.protect(a_pipe(), guard)
        self.before = safelight.protect(a_pipe(), guard, screening="before")
        self.previews = safelight.protect(a_pipe(), guard, previews=Previews())
        self.plain, self.again = Row(PLAIN, a_pipe()), a_pipe()

    def overhead(self) -> list[Row]:
        """Return rows whose judge takes no time."""
        callback = {"callback_on_step_end": self.clock, "callback_on_step_end_tensor_inputs": []}
        return [
            self.plain,
            Row(AGAIN, self.again),
            Row(CALLBACK, self.plain.pipe, arguments=callback),
            Row(GUARDED, self.beside),
            Row("guarded, judges before", self.before),
            Row("guarded, two previews", self.previews),
        ]

    def allow(self) -> list[Row]:
        """Return rows whose judge takes its time and allows."""
        return [
            *(Row(f"judge of {share:.0%}", self.beside, share) for share in (0.25, 0.5, 0.9, 1.3)),
            Row("judge of 50%, before", self.before, 0.5),
            Row("judge of 50%, busy in C", self.beside, 0.5, work=busy_in_c),
            Row("judge of 50%, busy in Python", self.beside, 0.5, work=busy_in_python),
        ]

    def block(self) -> list[Row]:
        """Return rows whose judge takes its time and blocks."""
        return [
            *(Row(f"block after {share:.0%}", self.beside, share, blocks=True) for share in (0.0, 0.25, 0.5, 0.9, 1.3)),
            Row("block after 50%, before", self.before, 0.5, blocks=True),
        ]


def a_pipe() -> Any:
    """Return a new tiny SDXL without a progress bar."""
    pipe = build()
    pipe.set_progress_bar_config(disable=True)
    return pipe


def report_times(bench: Bench, wanted: Sequence[str], *, rounds: int, size: Mapping[str, int]) -> None:
    """Time the rows of the parts that are wanted, and what they are compared with, and print them."""
    parts = {"overhead": bench.overhead(), "allow": bench.allow(), "block": bench.block()}
    rows = {row.name: row for name in ("overhead", *wanted) for row in parts[name]}
    if "overhead" not in wanted:
        rows = {name: row for name, row in rows.items() if row not in parts["overhead"][3:]}
    print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before", end="", flush=True)
    found = measured(bench.plain, list(rows.values()), bench.judge, rounds=rounds, size=size)
    print(f", {os.getloadavg()[0]:.1f} after; {rounds} rounds: median (quartiles)")
    plain = [baseline(times) for times in found]
    wall, cpu = (spread([getattr(took, kind) * 1e3 for took in plain], 0) for kind in ("wall", "cpu"))
    side, steps = size["height"], size["num_inference_steps"]
    print(f"plain, {side} x {side}, {steps} steps: {wall} ms wall, {cpu} ms CPU")
    if "overhead" in wanted:
        report_overhead(found, parts["overhead"])
    if "allow" in wanted:
        report_allow(found, parts["allow"])
    if "block" in wanted:
        report_block(found, parts["block"], bench.clock.step_s())


def report_small(bench: Bench, rounds: int) -> None:
    """Print what guarding costs in milliseconds: of a call, of a step, and of a picture's pixels."""
    rows = [bench.plain, Row(AGAIN, bench.again), Row(GUARDED, bench.beside)]
    print(f"\nCPU ms that guarding adds to calls of 64 x 64, {rounds} rounds: median (quartiles)")

    def more(name: str, steps: int) -> float:
        size = {"height": 64, "width": 64, "num_inference_steps": steps}
        found = measured(bench.plain, rows, bench.judge, rounds=rounds, size=size)
        added = [(times[GUARDED].cpu - baseline(times).cpu) * 1e3 for times in found]
        print(f"  {name:52} {spread(added, 1)}")
        return median(added)

    more("a call of 1 step", 1)
    more("a call of 11 steps", 11)
    shown = (torch.rand(1, 3, 1024, 1024) * 2 - 1,)
    for pipe in (bench.plain.pipe, bench.again, bench.beside):
        # What a model takes for so many pixels would drown what is asked here.
        pipe.vae.decode = lambda latents, **named: shown
    whole = more("a call of 1 step that ends in 1024 x 1024 pixels", 1)
    print(f"  the last is {whole / SDXL_MS:.2%} of the {SDXL_MS} ms that SDXL takes on a GPU")


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--rounds", type=int, default=9)
    parser.add_argument("--size", type=int, default=256, help="side of the picture, in pixels")
    parser.add_argument("--steps", type=int, default=30)
    parser.add_argument("--parts", nargs="+", choices=PARTS, default=PARTS)
    given = parser.parse_args()
    torch.set_num_threads(1)
    # Every refusal would be a line.
    logging.getLogger("safelight").setLevel(logging.CRITICAL)
    size = {"height": given.size, "width": given.size, "num_inference_steps": given.steps}
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench(folder)
        wanted = [name for name in PARTS[:3] if name in given.parts]
        if wanted:
            report_times(bench, wanted, rounds=given.rounds, size=size)
        if "small" in given.parts:
            report_small(bench, 3 * given.rounds)


if __name__ == "__main__":
    main()
