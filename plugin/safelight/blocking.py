"""The guard for code that is not asynchronous: the same methods, blocking."""

from __future__ import annotations

import asyncio
import atexit
import threading
import weakref
from collections.abc import Coroutine, Sequence
from typing import Any, TypeVar

from .encoding import Encoded
from .generators import Generator, Progress
from .guard import Admission, Creation, Encoder, Guard, Picture
from .request import GenerationRequest

_T = TypeVar("_T")


class BlockingGuard:
    """A guard that can be called from any thread, also from inside a running event loop (a notebook's, say).

    All calls share one event loop in a thread of its own, because the network clients of judges keep their
    connections by loop.

    Args:
        guard: The guard to call. Close this object, or use it as a context manager, to end the thread; the end of
            the program does it too.
    """

    def __init__(self, guard: Guard) -> None:
        self.guard = guard
        self._loop = asyncio.new_event_loop()
        # A daemon: a program that ends must not wait for a loop that nobody will call again.
        self._thread = threading.Thread(target=self._loop.run_forever, name="safelight-guard", daemon=True)
        self._thread.start()
        atexit.register(_close, weakref.ref(self))

    def admit(self, request: GenerationRequest) -> Admission:
        """See :meth:`Guard.admit`."""
        return self._wait(self.guard.admit(request))

    def inspect(self, admission: Admission, items: Sequence[Encoded]) -> tuple[Picture, ...]:
        """See :meth:`Guard.inspect`."""
        return self._wait(self.guard.inspect(admission, items))

    def abandon(self, admission: Admission) -> None:
        """See :meth:`Guard.abandon`."""
        self._wait(self.guard.abandon(admission))

    def create(
        self,
        request: GenerationRequest,
        generator: Generator,
        *,
        encode: Encoder,
        progress: Progress = lambda done, total: None,
    ) -> Creation:
        """See :meth:`Guard.create`."""
        return self._wait(self.guard.create(request, generator, encode=encode, progress=progress))

    def close(self) -> None:
        """End the thread. Calling it twice does no harm."""
        if self._loop.is_closed():
            return
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        future = asyncio.run_coroutine_threadsafe(work, self._loop)
        try:
            return future.result()
        except BaseException:
            # Ctrl+C in the caller's thread: nobody waits for the answer any more. Cancelling what is done is nothing.
            future.cancel()
            raise

    def __enter__(self) -> BlockingGuard:
        return self

    def __exit__(self, *exc: object) -> None:
        self.close()


def _close(reference: weakref.ref[BlockingGuard]) -> None:
    guard = reference()
    if guard is not None:
        guard.close()
