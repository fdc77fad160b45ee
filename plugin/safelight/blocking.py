"""The guard for code that is not asynchronous: the same methods, blocking."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from functools import partial

from anyio.from_thread import BlockingPortal, start_blocking_portal

from .encoding import Encoded
from .generators import Generator, Progress
from .guard import Admission, Creation, Encoder, Guard, Picture
from .request import GenerationRequest


class BlockingGuard:
    """A guard that can be called from any thread, also from inside a running event loop (a notebook's, say).

    All calls share one event loop in a thread of its own, because the network clients of judges keep their
    connections by loop.

    Args:
        guard: The guard to call. Close this object, or use it as a context manager, to end the thread.
    """

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self._stack = contextlib.ExitStack()
        self._portal: BlockingPortal = self._stack.enter_context(start_blocking_portal())

    def admit(self, request: GenerationRequest) -> Admission:
        """See :meth:`Guard.admit`."""
        return self._portal.call(self.guard.admit, request)

    def inspect(self, admission: Admission, items: Sequence[Encoded]) -> tuple[Picture, ...]:
        """See :meth:`Guard.inspect`."""
        return self._portal.call(self.guard.inspect, admission, items)

    def abandon(self, admission: Admission) -> None:
        """See :meth:`Guard.abandon`."""
        self._portal.call(self.guard.abandon, admission)

    def create(
        self,
        request: GenerationRequest,
        generator: Generator,
        *,
        encode: Encoder,
        progress: Progress = lambda done, total: None,
    ) -> Creation:
        """See :meth:`Guard.create`."""
        return self._portal.call(partial(self.guard.create, request, generator, encode=encode, progress=progress))

    def close(self) -> None:
        """End the thread. Calls under way are waited for."""
        self._stack.close()

    def __enter__(self) -> BlockingGuard:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()
