"""What the two benchmarks of the drop-in share: judges that take a given time, rows and rounds, and their printing."""

from __future__ import annotations

import asyncio
import gc
import hashlib
import random
import time
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from unittest.mock import patch

import torch
from PIL import Image

from safelight.dropin.beside import Beside
from safelight.guard import Guard
from safelight.policy import Policy
from safelight.request import GenerationRequest, Turn
from safelight.store.sqlite import SQLiteStore
from safelight.verdict import Stage, Verdict

GOAL_OVERHEAD, GOAL_ALLOW, GOAL_BLOCK = 1.03, 0.1, 1.5
PLAIN, AGAIN, CALLBACK = "plain", "plain, another pipeline", "plain, empty step callback"
GUARDED = "guarded, instant screens"
PROMPT = "a cup of tea on a wooden table, morning light"

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
        under: Makes what the call is made under.
    """

    name: str
    pipe: Any
    share: float = 0.0
    blocks: bool = False
    work: Work | None = None
    arguments: Mapping[str, Any] = field(default_factory=dict)
    under: Callable[[], AbstractContextManager[object]] = nullcontext


@dataclass(frozen=True, slots=True)
class Took:
    """What a call took, in seconds.

    Args:
        wall: Until it returned.
        cpu: Of the whole process.
        judge: How long its judge was told to take.
        idle: Until the device had nothing left to do.
        stood: For how long the pipeline stood still because a ruling was not there.
    """

    wall: float
    cpu: float
    judge: float = 0.0
    idle: float = 0.0
    stood: float = 0.0


Rounds = Sequence[Mapping[str, Took]]
"""One entry a round: each row's time by its name."""


@contextmanager
def standstill() -> Iterator[list[float]]:
    """Collect for how long a pipeline stands still because a ruling is not there. Load from elsewhere is not in it."""
    found: list[float] = []
    plain = Beside.wait

    def wait(beside: Beside) -> None:
        begun = time.perf_counter()
        try:
            plain(beside)
        finally:
            found.append(time.perf_counter() - begun)

    with patch.object(Beside, "wait", wait):
        yield found


def timed(row: Row, judge: TimedJudge, *, plain_s: float, size: Mapping[str, Any], wait: Callable[[], object]) -> Took:
    """Make a call and return what it took. ``wait`` waits until the device has nothing left to do."""
    judge.seconds, judge.blocks, judge.work = row.share * plain_s, row.blocks, row.work
    generator = torch.Generator().manual_seed(0)
    gc.collect()
    with row.under(), standstill() as stood:
        wait()
        wall, cpu = time.perf_counter(), time.process_time()
        row.pipe(PROMPT, generator=generator, **size, **row.arguments)
        took = time.perf_counter() - wall, time.process_time() - cpu
        wait()
    return Took(*took, judge.seconds, time.perf_counter() - wall, sum(stood))


def measured(
    plain: Row,
    rows: Sequence[Row],
    judge: TimedJudge,
    *,
    rounds: int,
    size: Mapping[str, Any],
    wait: Callable[[], object] = lambda: None,
) -> Rounds:
    """Time all rows in every round. A judge's time is a share of the least that a plain call has taken so far."""
    gc.collect()
    # What is there already is none of the calls' business: to look through it for garbage takes longer than a call.
    gc.freeze()
    # What is made once is paid for here.
    for row in rows:
        timed(row, judge, plain_s=0, size=size, wait=wait)
    plain_s = min(timed(plain, judge, plain_s=0, size=size, wait=wait).wall for _ in range(3))
    dice = random.Random(0)
    found: list[dict[str, Took]] = []
    for _ in range(rounds):
        shuffled = dice.sample(rows, len(rows))
        found.append({row.name: timed(row, judge, plain_s=plain_s, size=size, wait=wait) for row in shuffled})
        plain_s = min(plain_s, found[-1][PLAIN].wall, found[-1][AGAIN].wall)
    return found


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
    print(
        f"\n{'a judge that allows':32} {'takes':>7}  {'more / its time':24} {'stands still / its time':24} CPU / plain"
    )
    for row in rows:
        pairs = [(found[row.name], baseline(found)) for found in rounds]
        takes = median(own.judge for own, _ in pairs) * 1e3
        more = spread((own.wall - plain.wall) / own.judge for own, plain in pairs)
        stood = spread(own.stood / own.judge for own, _ in pairs)
        cpu = spread(own.cpu / plain.cpu for own, plain in pairs)
        print(f"{row.name:32} {takes:4.0f} ms  {more:24} {stood:24} {cpu}")
    print(f"goal: at most {GOAL_ALLOW} at 25, 50 and 90%; at 130% {0.3 / 1.3:.2f} whatever is done")


def report_block(rounds: Rounds, rows: Sequence[Row], step_s: float) -> None:
    """Print how long after a judge's answer a blocked call returns."""
    print(f"\n{'a judge that blocks':32} {'takes':>7}  {'later than it, ms':24} {'in steps':22} CPU / plain")
    for row in rows:
        takes = median(found[row.name].judge for found in rounds) * 1e3
        late = [found[row.name].wall - found[row.name].judge for found in rounds]
        steps = spread((after / step_s for after in late), 2)
        cpu = spread(found[row.name].cpu / baseline(found).cpu for found in rounds)
        print(f"{row.name:32} {takes:4.0f} ms  {spread((after * 1e3 for after in late), 1):24} {steps:22} {cpu}")
    print(f"goal: at most {GOAL_BLOCK} steps later; a step is {step_s * 1e3:.1f} ms")
