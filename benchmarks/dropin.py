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
import asyncio
import gc
import hashlib
import logging
import os
import random
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch
from PIL import Image

import safelight
from safelight.dropin.previews import Previews
from safelight.generators.tiny_sdxl import build
from safelight.guard import Guard
from safelight.policy import Policy
from safelight.request import GenerationRequest, Turn
from safelight.store.sqlite import SQLiteStore
from safelight.verdict import Stage, Verdict

GOAL_OVERHEAD, GOAL_ALLOW, GOAL_BLOCK = 1.03, 0.1, 1.5
PARTS = ("overhead", "allow", "block", "small")
PROMPT = "a cup of tea on a wooden table, morning light"
SDXL_MS = 1471
"""SDXL of 30 steps at 1024 x 1024 on one H100, as NVIDIA publishes it with the TensorRT weights."""

POLICY = Policy.parse("""
version = 1
name = "benchmark"
[categories."teapots"]
title = "Teapots"
description = "Teapots of any kind."
advice = "Ask for a cup."
thresholds = { prompt = 0.5, image = 0.5 }
""")

Work = Callable[[float], None]


def busy_in_c(seconds: float) -> None:
    """Use so much CPU time of this thread, outside Python."""
    block, end = b"\0" * 2**20, time.thread_time() + seconds
    while time.thread_time() < end:
        hashlib.sha256(block)


def busy_in_python(seconds: float) -> None:
    """Use so much CPU time of this thread, in Python."""
    end = time.thread_time() + seconds
    while time.thread_time() < end:
        sum(range(1000))


@dataclass(slots=True)
class TimedJudge:
    """A prompt screen that takes as long as it is told, and finds what it is told.

    Args:
        seconds: How long it takes.
        blocks: Whether it then finds something.
        work: What it does in that time, in a thread; by default it waits.
    """

    seconds: float = 0.0
    blocks: bool = False
    work: Work | None = None
    name: str = "judge"

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        """Take the time, and answer."""
        if self.work is not None:
            await asyncio.to_thread(self.work, self.seconds)
        elif self.seconds:
            await asyncio.sleep(self.seconds)
        return Verdict(self.name, Stage.PROMPT, {"teapots": float(self.blocks)})


class ClearPictures:
    """An image screen that finds nothing, at once."""

    name = "pictures"

    async def screen_images(
        self, images: Sequence[Image.Image], request: GenerationRequest, history: Sequence[Turn]
    ) -> Sequence[Verdict]:
        """Find nothing."""
        return [Verdict(self.name, Stage.IMAGE, {"teapots": 0.0}) for _ in images]


def a_guard(judge: TimedJudge, folder: str) -> Guard:
    """Return a guard that asks the judge and writes into a file."""
    store = SQLiteStore(Path(folder) / "turns.db")
    return Guard(POLICY, store, prompt_screens=[judge], image_screens=[ClearPictures()])


@dataclass(frozen=True, slots=True)
class Row:
    """One thing that is timed.

    Args:
        name: As printed.
        pipe: What is called.
        share: The judge's time, as a share of the plain call's.
        blocks: Whether the judge blocks.
        work: What the judge does in that time.
        arguments: More of the call.
    """

    name: str
    pipe: Any
    share: float = 0.0
    blocks: bool = False
    work: Work | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Took:
    """How long a call took, in seconds; and how long its judge was told to take."""

    wall: float
    cpu: float
    judge: float = 0.0


Rounds = Sequence[Mapping[str, Took]]
"""One entry a round: each row's time by its name."""


def timed(row: Row, judge: TimedJudge, *, plain_s: float, size: Mapping[str, Any]) -> Took:
    """Make a call and return what it took."""
    judge.seconds, judge.blocks, judge.work = row.share * plain_s, row.blocks, row.work
    generator = torch.Generator().manual_seed(0)
    gc.collect()
    wall, cpu = time.perf_counter(), time.process_time()
    row.pipe(PROMPT, generator=generator, **size, **row.arguments)
    return Took(time.perf_counter() - wall, time.process_time() - cpu, judge.seconds)


def measured(plain: Row, rows: Sequence[Row], judge: TimedJudge, *, rounds: int, size: Mapping[str, Any]) -> Rounds:
    """Time all rows in every round. A judge's time is a share of the least that the plain call took beforehand."""
    # What is made once is paid for here.
    for row in rows:
        timed(row, judge, plain_s=0, size=size)
    plain_s = min(timed(plain, judge, plain_s=0, size=size).wall for _ in range(3))
    dice = random.Random(0)
    return [
        {row.name: timed(row, judge, plain_s=plain_s, size=size) for row in dice.sample(rows, len(rows))}
        for _ in range(rounds)
    ]


def baseline(found: Mapping[str, Took]) -> Took:
    """Return what the plain calls of a round took, on average."""
    one, two = found[PLAIN], found[AGAIN]
    return Took((one.wall + two.wall) / 2, (one.cpu + two.cpu) / 2)


def least(rounds: Rounds, kind: str, *names: str) -> float:
    """Return the least that any of the rows took, in seconds of ``wall`` or ``cpu``."""
    return min(float(getattr(found[name], kind)) for found in rounds for name in names)


def spread(values: Iterable[float], digits: int = 3) -> str:
    """Return the median, and the quartiles in brackets."""
    known = list(values)
    low, middle, high = quantiles(known, n=4, method="inclusive") if len(known) > 1 else known * 3
    return f"{middle:.{digits}f} ({low:.{digits}f} to {high:.{digits}f})"


class StepClock:
    """A step callback that does nothing but note the time."""

    def __init__(self) -> None:
        self.at: list[float] = []

    def __call__(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        """Note the time."""
        self.at.append(time.perf_counter())
        return {}

    def step_s(self) -> float:
        """Return the median time from one step's end to the next one's, and forget all."""
        steps = [after - before for before, after in zip(self.at, self.at[1:], strict=False)]
        self.at.clear()
        # Between two calls lies more than a step; the median does not mind.
        return median(steps)


PLAIN, AGAIN, CALLBACK = "plain", "plain, another pipeline", "plain, empty step callback"
GUARDED = "guarded, instant screens"


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


def report_overhead(rounds: Rounds, rows: Sequence[Row]) -> None:
    """Print what guarding costs where the judge takes no time."""
    print(
        f"\n{'screens that take no time':28} {'wall / plain':22} {'least':6} {'CPU / plain':22} {'least':6} CPU ms more"
    )
    for row in rows:
        pairs = [(found[row.name], found[PLAIN] if row.name == AGAIN else baseline(found)) for found in rounds]
        wall, cpu = spread(own.wall / plain.wall for own, plain in pairs), spread(o.cpu / p.cpu for o, p in pairs)
        leasts = [least(rounds, kind, row.name) / least(rounds, kind, PLAIN, AGAIN) for kind in ("wall", "cpu")]
        more = spread(((own.cpu - plain.cpu) * 1e3 for own, plain in pairs), 1)
        print(f"{row.name:28} {wall:22} {leasts[0]:<6.3f} {cpu:22} {leasts[1]:<6.3f} {more}")
    print(f"goal: {GUARDED} / plain at most {GOAL_OVERHEAD}")


def report_allow(rounds: Rounds, rows: Sequence[Row]) -> None:
    """Print how much of a judge's time is added to that of a call, where it allows."""
    print(f"\n{'a judge that allows':28} {'takes':>7}  {'more / its time':24} {'least':7} CPU / plain")
    for row in rows:
        pairs = [(found[row.name], baseline(found)) for found in rounds]
        takes = rounds[0][row.name].judge
        more = spread((own.wall - plain.wall) / takes for own, plain in pairs)
        fewest = (least(rounds, "wall", row.name) - least(rounds, "wall", PLAIN, AGAIN)) / takes
        cpu = spread(own.cpu / plain.cpu for own, plain in pairs)
        print(f"{row.name:28} {takes * 1e3:4.0f} ms  {more:24} {fewest:<7.3f} {cpu}")
    print(
        f"goal: at most {GOAL_ALLOW} at 25, 50 and 90%; a judge of 130% adds {0.3 / 1.3:.2f} of itself whatever is done"
    )


def report_block(rounds: Rounds, rows: Sequence[Row], step_s: float) -> None:
    """Print how long after a judge's answer a blocked call returns."""
    print(f"\n{'a judge that blocks':28} {'takes':>7}  {'later than it, ms':24} {'in steps':22} CPU / plain")
    for row in rows:
        takes = rounds[0][row.name].judge
        late = [found[row.name].wall - takes for found in rounds]
        steps = spread((after / step_s for after in late), 2)
        cpu = spread(found[row.name].cpu / baseline(found).cpu for found in rounds)
        print(f"{row.name:28} {takes * 1e3:4.0f} ms  {spread((after * 1e3 for after in late), 1):24} {steps:22} {cpu}")
    print(f"goal: at most {GOAL_BLOCK} steps later; a step is {step_s * 1e3:.1f} ms")


def report_small(bench: Bench, rounds: int) -> None:
    """Print what guarding costs in milliseconds: of a call, of a step, and of a picture's pixels."""
    rows = [bench.plain, Row(AGAIN, bench.again), Row(GUARDED, bench.beside)]
    print(f"\nCPU ms that guarding adds, by calls of 64 x 64, {rounds} rounds; by the least times in brackets")

    def more(name: str, steps: int) -> float:
        size = {"height": 64, "width": 64, "num_inference_steps": steps}
        found = measured(bench.plain, rows, bench.judge, rounds=rounds, size=size)
        middle = median(times[GUARDED].cpu - baseline(times).cpu for times in found) * 1e3
        fewest = (least(found, "cpu", GUARDED) - least(found, "cpu", PLAIN, AGAIN)) * 1e3
        print(f"  {name:52} {middle:6.2f} ({fewest:.2f})")
        return fewest

    more("a call of 1 step", 1)
    more("a call of 31 steps", 31)
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
        parts = {"overhead": bench.overhead(), "allow": bench.allow(), "block": bench.block()}
        wanted = [name for name in parts if name in given.parts]
        if wanted:
            rows = {row.name: row for name in ("overhead", *wanted) for row in parts[name]}
            if "overhead" not in wanted:
                rows = {name: row for name, row in rows.items() if name in (PLAIN, AGAIN, CALLBACK) or row.share}
            print(f"load {os.getloadavg()[0]:.1f} on {os.cpu_count()} cores before", end="", flush=True)
            rounds = measured(bench.plain, list(rows.values()), bench.judge, rounds=given.rounds, size=size)
            print(f", {os.getloadavg()[0]:.1f} after; {given.rounds} rounds: median (quartiles)")
            plain = [baseline(found) for found in rounds]
            wall, cpu = (spread([getattr(took, kind) * 1e3 for took in plain], 0) for kind in ("wall", "cpu"))
            print(f"plain, {given.size} x {given.size}, {given.steps} steps: {wall} ms wall, {cpu} ms CPU")
            step_s = bench.clock.step_s()
            reports = {
                "overhead": lambda: report_overhead(rounds, parts["overhead"]),
                "allow": lambda: report_allow(rounds, parts["allow"]),
                "block": lambda: report_block(rounds, parts["block"], step_s),
            }
            for name in wanted:
                reports[name]()
        if "small" in given.parts:
            report_small(bench, 3 * given.rounds)


if __name__ == "__main__":
    main()
