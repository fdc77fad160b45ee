"""The guard for code that is not asynchronous: the same methods, blocking."""

from __future__ import annotations

import asyncio
import threading
import weakref
from collections.abc import Coroutine, Sequence
from concurrent.futures import Future
from typing import Any, TypeVar

from .creation import Admission, Creation, Picture, Reservation
from .encoding import Encoded
from .errors import ScreeningUnavailable
from .generators import Generator, Progress
from .guard import Encoder, Guard
from .request import GenerationRequest

_T = TypeVar("_T")

_ENDING_S = 5.0
"""Seconds that the work under way has to settle its turns when a guard's thread is ended."""


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
        # When nobody holds this object any more, or the program ends: whichever comes first.
        self._end = weakref.finalize(self, _end, self._loop, self._thread)

    def admit(self, request: GenerationRequest) -> Admission:
        """See :meth:`Guard.admit`."""
        return self._wait(self.guard.admit(request))

    def inspect(self, admission: Admission, items: Sequence[Encoded]) -> tuple[Picture, ...]:
        """See :meth:`Guard.inspect`."""
        return self._wait(self.guard.inspect(admission, items))

    def abandon(self, given: Admission | Reservation) -> None:
        """See :meth:`Guard.abandon`."""
        self._wait(self.guard.abandon(given))

    def reserve(self, request: GenerationRequest) -> Reservation:
        """See :meth:`Guard.reserve`."""
        return self._wait(self.guard.reserve(request))

    def start(self, work: Coroutine[Any, Any, _T]) -> Future[_T]:
        """Have one of the guard's coroutines run beside the caller, and return its future.

        Cancelling that cancels the work.

        Raises:
            ScreeningUnavailable: If this guard's thread has ended.
        """
        if not self._thread.is_alive():
            work.close()
            raise ScreeningUnavailable("this guard's thread has ended, or belongs to the process before a fork")
        return asyncio.run_coroutine_threadsafe(work, self._loop)

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
        self._end()

    def _wait(self, work: Coroutine[Any, Any, _T]) -> _T:
        future = self.start(work)
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


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    async def finish() -> None:
        # Clients of judges close their connections when their loop says that it ends.
        await loop.shutdown_asyncgens()
        # Whoever waits for one of these would wait for ever.
        tasks = asyncio.all_tasks() - {asyncio.current_task()}
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=_ENDING_S)
        loop.stop()

    asyncio.run_coroutine_threadsafe(finish(), loop)
    # A collection of garbage may run in the loop's own thread, which then ends by itself.
    if thread is not threading.current_thread():
        thread.join()
        loop.close()
