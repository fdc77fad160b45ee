"""Time that a test moves on."""

from __future__ import annotations

import asyncio


class Clock:
    """Seconds that never go backwards by themselves; sleeping on them takes no time."""

    def __init__(self) -> None:
        self.now = 1_000.0
        self.slept: list[float] = []

    def __call__(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds
        await asyncio.sleep(0)
