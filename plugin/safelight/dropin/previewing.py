"""Has the image screens look at half-made pictures while the pipeline goes on making them."""

from __future__ import annotations

from collections.abc import Mapping
from concurrent.futures import Future
from typing import Any

from ..blocking import BlockingGuard
from ..encoding import encode_raw
from ..policy import Decision
from .beside import Awaited
from .previews import Previews, due, preview_pictures


class PreviewLook:
    """Looks at every picture of a run at the steps that were asked for.

    Args:
        pipe: The pipeline.
        previews: At which steps, and how latents become small pictures.
        guard: What screens.
        awaited: The prompts of the run, by their places in the call.
        each: Pictures made for each of them.
        size: Height and width in pixels that were asked for, or None.
    """

    def __init__(
        self,
        pipe: Any,
        previews: Previews,
        guard: BlockingGuard,
        awaited: Mapping[int, Awaited],
        *,
        each: int,
        size: tuple[int | None, int | None],
    ) -> None:
        self._pipe = pipe
        self._previews = previews
        self._guard = guard
        self._awaited = dict(awaited)
        self._each = each
        self._size = size
        self._before: Any = None

    def __call__(self, latents: Any, step: int, total: int) -> Mapping[int, Future[tuple[Decision | None, ...]]]:
        """Return, where a look is due, the rulings that will be known of each prompt's pictures."""
        before, self._before = self._before, latents
        if not due(self._previews, step, total) or latents.shape[0] != len(self._awaited) * self._each:
            return {}
        height, width = self._size
        pictures = preview_pictures(
            self._pipe, latents, self._previews, height=height, width=width, before=before, step=step, total=total
        )
        items = [encode_raw(picture) for picture in pictures]
        return {
            place: self._guard.start(
                self._guard.guard.preview(item.reservation, items[order * self._each : (order + 1) * self._each])
            )
            for order, (place, item) in enumerate(self._awaited.items())
        }
