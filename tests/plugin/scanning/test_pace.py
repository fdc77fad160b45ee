from __future__ import annotations

import asyncio
import selectors
from collections.abc import Awaitable, Callable

import pytest

from safelight.errors import ConfigError
from safelight.scanning.pace import Pace


class Skipping(selectors.SelectSelector):
    """Does not wait, but says how long it would have waited."""

    def __init__(self) -> None:
        super().__init__()
        self.skipped = 0.0

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        self.skipped += timeout or 0.0
        return super().select(0)


class SkippingLoop(asyncio.SelectorEventLoop):
    """An event loop whose clock jumps over every wait."""

    def __init__(self) -> None:
        self._skipping = Skipping()
        super().__init__(self._skipping)

    def time(self) -> float:
        return self._skipping.skipped


def timed(work: Callable[[asyncio.Event], Awaitable[object]]) -> float:
    """Return how many seconds work takes, none of which pass."""
    with asyncio.Runner(loop_factory=SkippingLoop) as runner:

        async def run() -> float:
            await work(asyncio.Event())
            return asyncio.get_running_loop().time()

        return runner.run(run())


def test_calls_a_minute_are_spaced_evenly() -> None:
    pace = Pace(rpm=60)

    async def work(stop: asyncio.Event) -> None:
        await asyncio.gather(*(pace.turn(stop) for _ in range(11)))

    assert timed(work) == pytest.approx(10, abs=0.1)


def test_tokens_a_minute_are_kept_however_much_a_call_takes() -> None:
    pace = Pace(tpm=6_000)

    async def work(stop: asyncio.Event) -> None:
        for tokens in (1_000, 50, 200, 4_750, 1):
            assert await pace.turn(stop)
            pace.spent(tokens)

    # 6,000 tokens before the last call were let go.
    assert timed(work) == pytest.approx(60, abs=0.1)


def test_without_rates_nobody_waits() -> None:
    pace = Pace()

    async def work(stop: asyncio.Event) -> None:
        for _ in range(100):
            assert await pace.turn(stop)
            pace.spent(1_000_000)

    assert timed(work) == 0


def test_an_overload_makes_everybody_wait_longer_each_time_until_an_answer() -> None:
    pace = Pace(first_pause_s=1, longest_pause_s=4)
    waits: list[float] = []

    async def work(stop: asyncio.Event) -> None:
        clock = asyncio.get_running_loop().time
        for _ in range(4):
            before = clock()
            pace.overloaded()
            # Another call that was on its way when the pause began.
            pace.overloaded()
            await pace.turn(stop)
            waits.append(clock() - before)
        pace.answered()
        before = clock()
        pace.overloaded()
        await pace.turn(stop)
        waits.append(clock() - before)

    timed(work)
    assert [round(wait / expected) for wait, expected in zip(waits, (1, 2, 4, 4, 1), strict=True)] == [1] * 5


def test_what_the_provider_asks_for_is_waited() -> None:
    pace = Pace(first_pause_s=1)

    async def work(stop: asyncio.Event) -> None:
        pace.overloaded(120)
        await pace.turn(stop)

    assert timed(work) >= 119.9


def test_a_stop_ends_the_waiting() -> None:
    pace = Pace(rpm=0.001)

    async def work(stop: asyncio.Event) -> None:
        assert await pace.turn(stop)
        waiting = asyncio.create_task(pace.turn(stop))
        await asyncio.sleep(1)
        stop.set()
        assert not await waiting

    assert timed(work) < 2


@pytest.mark.parametrize("rate", [0.0, -1.0, float("nan"), float("inf")])
def test_a_rate_that_is_none_is_refused(rate: float) -> None:
    with pytest.raises(ConfigError, match="--rpm"):
        Pace(rpm=rate)
    with pytest.raises(ConfigError, match="--tpm"):
        Pace(tpm=rate)
