"""How many requests may be inside at a time: the next one is turned away at once, rather than left to wait."""

from __future__ import annotations

import math
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager

from PIL import Image

from safelight.generators import Generator, Progress
from safelight.request import GenerationRequest

from .problems import Problem

_LONGEST_WAIT_S = 60
_WEIGHT = 0.2


class Turnstile:
    """Lets in a bounded number of requests, waiting and running ones together. Safe from any thread.

    Args:
        limit: How many.
        clock: Seconds that only go forward.
    """

    def __init__(self, limit: int, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._limit = limit
        self._clock = clock
        self._lock = threading.Lock()
        self._inside = 0
        self._generating = 0
        self._usual_s = 1.0

    def check(self) -> None:
        """Raise the 429 of a full house, before any work is done for the request."""
        # A client that left frees its place, but its generation may run on to the next step: both are counted.
        if max(self._inside, self._generating) >= self._limit:
            raise Problem(
                429,
                "rate_limit_exceeded",
                f"{self._limit} requests are waiting or running already; try again later.",
                type="requests",
                headers={"retry-after": str(self._wait_s())},
            )

    @contextmanager
    def entered(self) -> Iterator[None]:
        """Be inside while the block runs.

        Raises:
            Problem: 429 if the house is full.
        """
        with self._lock:
            self.check()
            self._inside += 1
        started = self._clock()
        try:
            yield
        finally:
            with self._lock:
                self._inside -= 1
                self._usual_s += _WEIGHT * (self._clock() - started - self._usual_s)

    def counting(self, generator: Generator) -> Generator:
        """Return the generator, with its calls counted as long as they really run."""
        return _Counted(generator, self)

    @contextmanager
    def generating(self) -> Iterator[None]:
        """Count one call of a generator."""
        with self._lock:
            self._generating += 1
        try:
            yield
        finally:
            with self._lock:
                self._generating -= 1

    def _wait_s(self) -> int:
        # After the usual time of a request, those that are inside now have left.
        return min(max(math.ceil(self._usual_s), 1), _LONGEST_WAIT_S)


class _Counted:
    """A generator whose running calls a turnstile knows of."""

    def __init__(self, generator: Generator, turnstile: Turnstile) -> None:
        self.name = generator.name
        self.note = generator.note
        self._generator = generator
        self._turnstile = turnstile

    def generate(self, request: GenerationRequest, progress: Progress) -> Sequence[Image.Image]:
        with self._turnstile.generating():
            return self._generator.generate(request, progress)
