"""From the page's fields to the guard and back: the one handler behind the Create button."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import gradio as gr

from safelight import (
    ContentBlocked,
    Creation,
    GenerationFailed,
    GenerationRequest,
    InvalidRequest,
    Principal,
    SafelightError,
    ScreeningUnavailable,
)
from safelight.config import Runtime
from safelight.encoding import encode_png

from .doorkeeper import VISITOR
from .notices import WORKING, Notices
from .pictures import PictureFolder

MAX_PICTURES = 4
MAX_RANDOM_SEED = 2**31 - 1
"""Drawn seeds stay below it: JavaScript keeps whole numbers only up to 2**53, and people copy short ones better."""

Outcome = tuple[Any, Any, Any]
"""What the page shows next: the gallery, the status card, the seed field."""


@dataclass(frozen=True, slots=True)
class Creating:
    """Handles Create.

    Args:
        runtime: What was configured.
        pictures: Where released pictures go.
        notices: Writes the cards.
    """

    runtime: Runtime
    pictures: PictureFolder
    notices: Notices

    async def create(
        self,
        prompt: str | None,
        negative_prompt: str | None,
        count: int,
        seed: int | None,
        randomise: bool,
        width: int | None,
        height: int | None,
        steps: int | None,
        guidance_scale: float | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  # Gradio finds it by its default
    ) -> AsyncIterator[Outcome]:
        """Clear the page, conduct the request, and show what came of it.

        Args:
            prompt: What the picture shows.
            negative_prompt: What it avoids.
            count: Pictures wanted, 1 to ``MAX_PICTURES``.
            seed: Used unless ``randomise``; None draws one.
            randomise: Draw a seed.
            width: Pixels, or None for the model's own.
            height: Pixels, or None for the model's own.
            steps: Denoising steps, or None for the model's own.
            guidance_scale: Or None for the model's own.
            request: Who asks.
            progress: The bar.
        """
        yield [], WORKING, gr.skip()
        used_seed = secrets.randbelow(MAX_RANDOM_SEED) if randomise or seed is None else seed
        try:
            asked = GenerationRequest(
                prompt=prompt or "",
                principal=_principal(request),
                negative_prompt=negative_prompt or None,
                width=width,
                height=height,
                steps=steps,
                guidance_scale=guidance_scale,
                seed=used_seed,
                n=_checked(count),
            )
            yield await self._shown(asked, used_seed, progress)
        except SafelightError as error:
            yield [], self._explained(error), gr.skip()

    async def _shown(self, asked: GenerationRequest, seed: int, progress: gr.Progress) -> Outcome:
        progress(0, desc="Reading the prompt")

        def report(done: int, total: int) -> None:
            if done < total:
                progress((done, total), desc="Making the picture")
            else:
                progress(1.0, desc="Looking at the picture")

        creation = await self.runtime.guard.create(asked, self.runtime.generator, encode=encode_png, progress=report)
        files = await asyncio.to_thread(self._written, creation, asked.principal.person)
        gallery = gr.Gallery(value=files, columns=min(len(files), 2))
        return gallery, self.notices.released(creation, seed), seed

    def _written(self, creation: Creation, visitor: str) -> list[tuple[str, str]]:
        try:
            return [
                (str(self.pictures.write(picture.encoded.data, visitor)), f"Picture {place + 1}")
                for place, picture in enumerate(creation.pictures)
                if picture.encoded is not None
            ]
        except OSError as error:
            raise GenerationFailed("the page could not keep the picture") from error

    def _explained(self, error: SafelightError) -> str:
        if isinstance(error, InvalidRequest):
            return self.notices.invalid(error)
        if isinstance(error, ContentBlocked):
            return self.notices.refused(error.decision)
        if isinstance(error, ScreeningUnavailable):
            return self.notices.unavailable(error.decision)
        return self.notices.failed()


def _principal(request: gr.Request) -> Principal:
    asking = request.request
    if asking is None:
        # Gradio rebuilds requests without their origin in some set-ups; nobody is served whom we cannot tell apart.
        raise InvalidRequest("visitor", "cannot be told; reload the page")
    host = asking.client.host if asking.client else "unknown"
    return Principal(id=f"page:{host}", person=asking.scope[VISITOR])


def _checked(count: int) -> int:
    if not isinstance(count, int) or not 1 <= count <= MAX_PICTURES:
        raise InvalidRequest("n", f"must be a whole number from 1 to {MAX_PICTURES}")
    return count
