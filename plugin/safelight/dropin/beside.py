"""A pipeline at work while the judges of its prompts are still reading.

The pipeline asks here before every step, after it, and before it decodes. A step costs time and shows nothing, so steps
may run ahead of the judge; pixels are only made of latents whose prompt was allowed.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator, Mapping
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, Protocol

from ..blocking import BlockingGuard
from ..creation import Admission, Reservation
from ..errors import ContentBlocked, ScreeningUnavailable
from ..policy import Decision


class Stopped(Exception):
    """The pipeline is stopped; the rulings say why. It never leaves the drop-in."""


@dataclass(slots=True)
class Awaited:
    """One prompt of a call, whose ruling is on its way.

    Args:
        reservation: Its turn.
        ruling: The ruling of its judges, once they were asked.
    """

    reservation: Reservation
    ruling: Future[Admission] | None = None

    def failure(self) -> BaseException | None:
        """Return why the prompt was not admitted, or None where it was, or where nobody knows yet."""
        ruling = self.ruling
        if ruling is None or not ruling.done():
            return None
        return ScreeningUnavailable("the screening was ended") if ruling.cancelled() else ruling.exception()

    def outcome(self) -> BaseException | None:
        """Wait for the ruling; return why the prompt was not admitted, or None where it was.

        It raises nothing: an error that is raised holds the frames it went through, and they the call and all it has.
        """
        if self.ruling is not None:
            wait([self.ruling])
        return self.failure()

    def abandon(self, guard: BlockingGuard) -> None:
        """Settle the turn of a call that ends without pictures. A block that was ruled stays one."""
        if self.ruling is not None:
            self.ruling.cancel()
        guard.abandon(self.reservation)


class Look(Protocol):
    """Looks at half-made pictures while the pipeline goes on."""

    def __call__(self, latents: Any, step: int, total: int) -> Mapping[int, Future[tuple[Decision | None, ...]]]:
        """Return, where a look is due, for each prompt's place the rulings on its pictures that will be known."""
        ...


class Beside:
    """One run of a pipeline. It has one row of latents a picture, the pictures of a prompt beside one another.

    Args:
        awaited: The prompts that are run, by their places in the call.
        each: Pictures made for each of them.
        stop_at_once: Whether one blocked prompt stops the others.
        look: Looks at half-made pictures, or None.
    """

    def __init__(
        self, awaited: Mapping[int, Awaited], *, each: int, stop_at_once: bool = False, look: Look | None = None
    ) -> None:
        self._awaited = awaited
        self._each = each
        self._stop_at_once = stop_at_once
        self._look = look
        self._looks: list[Mapping[int, Future[tuple[Decision | None, ...]]]] = []
        self._previewed: dict[tuple[int, int], Decision] = {}
        self._blanked: set[int] = set()
        self._steps: deque[Any] = deque(maxlen=3)

    @property
    def previewed(self) -> Mapping[tuple[int, int], Decision]:
        """The rulings that blocked half-made pictures, by place and number of the picture."""
        return self._previewed

    def before_step(self) -> None:
        """Stop before a step is spent on what is known to be blocked."""
        self._stop_if_vain()

    def before_decode(self) -> None:
        """Wait for every ruling; stop if latents of a blocked picture would become pixels."""
        self.wait()
        if not self._blocked_rows() <= self._blanked:
            raise Stopped

    def after_step(self, latents: Any, step: int, total: int | None) -> Any:
        """Return the latents to go on with. After the last step, wait: those of blocked pictures are then empty.

        Args:
            latents: One row a picture, of any shape.
            step: Steps done before this one.
            total: Steps in all, or None where the pipeline does not tell.
        """
        self._keep_pace(latents)
        if total is None or step + 1 < total:
            if self._look is not None and total is not None:
                self._looks.append(self._look(latents, step, total))
            self._stop_if_vain()
            return latents
        self.wait()
        rows = self._blocked_rows()
        if not rows or latents.shape[0] != len(self._awaited) * self._each:
            # What cannot be told apart by rows is stopped before it is decoded.
            return latents
        self._blanked = rows
        latents = latents.clone()
        latents[sorted(rows)] = 0
        return latents

    def wait(self) -> None:
        """Wait until every prompt is ruled on, or until it is known that going on is vain."""
        while pending := [ruling for ruling in self._rulings() if not ruling.done()]:
            self._stop_if_vain()
            wait(pending, return_when=FIRST_COMPLETED)
        self._stop_if_vain()

    def close(self) -> None:
        """Let go of the looks that were not waited for."""
        for futures in self._looks:
            for future in futures.values():
                future.cancel()

    def _rulings(self) -> Iterator[Future[Admission]]:
        for item in self._awaited.values():
            if item.ruling is not None:
                yield item.ruling

    def is_vain(self) -> bool:
        """Return whether nothing that the run makes may be shown, as far as is known by now."""
        self._note_looks()
        failures = [failure for item in self._awaited.values() if (failure := item.failure()) is not None]
        if any(self._stop_at_once or not isinstance(failure, ContentBlocked) for failure in failures):
            return True
        return len(self._blocked_rows()) == len(self._awaited) * self._each

    def _stop_if_vain(self) -> None:
        if self.is_vain():
            raise Stopped

    def _note_looks(self) -> None:
        for futures in self._looks:
            for place, future in futures.items():
                # A look that failed says nothing: the finished picture is screened in any case.
                if future.done() and not future.cancelled() and future.exception() is None:
                    for number, decision in enumerate(future.result()):
                        if decision is not None:
                            self._previewed.setdefault((place, number), decision)

    def _blocked_rows(self) -> set[int]:
        rows: set[int] = set()
        for order, (place, item) in enumerate(self._awaited.items()):
            first = order * self._each
            if isinstance(item.failure(), ContentBlocked):
                rows |= set(range(first, first + self._each))
            rows |= {first + number for number in range(self._each) if (place, number) in self._previewed}
        return rows

    def _keep_pace(self, latents: Any) -> None:
        """Keep Python at most two steps ahead of a GPU while a ruling is awaited: a stop would come late."""
        if latents.device.type != "cuda" or all(ruling.done() for ruling in self._rulings()):
            return
        from torch import cuda

        event: Any = cuda.Event()  # type: ignore[no-untyped-call]
        event.record(cuda.current_stream(latents.device))
        self._steps.append(event)
        if len(self._steps) == self._steps.maxlen:
            self._steps[0].synchronize()
