"""From the page's fields to the guard and back: the one handler behind the Create button."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import AsyncIterator
from dataclasses import dataclass
from ipaddress import ip_address, ip_network
from typing import Any, TypeVar

import gradio as gr

from safelight import (
    ContentBlocked,
    CoolDown,
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

_N = TypeVar("_N", int, float)

TENANT = "page"
"""The page's visitors share budgets and memory among themselves: what strangers do there stops no holder of a key."""

MAX_PICTURES = 4
MAX_RANDOM_SEED = 2**31 - 1
"""Drawn seeds stay below it: JavaScript keeps whole numbers only up to 2**53, and people copy short ones better."""

Shown = tuple[Any, Any, Any]
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
        seed: str | None,
        randomise: bool,
        width: str | None,
        height: str | None,
        steps: str | None,
        guidance_scale: str | None,
        request: gr.Request,
        progress: gr.Progress = gr.Progress(),  # noqa: B008  # Gradio finds it by its default
    ) -> AsyncIterator[Shown]:
        """Clear the page, conduct the request, and show what came of it.

        Args:
            prompt: What the picture shows.
            negative_prompt: What it avoids.
            count: Pictures wanted, 1 to ``MAX_PICTURES``.
            seed: Used unless ``randomise``; empty draws one.
            randomise: Draw a seed.
            width: Pixels; empty for the model's own, as in the next three.
            height: Pixels.
            steps: Denoising steps.
            guidance_scale: How closely the prompt is followed.
            request: Who asks.
            progress: The bar.
        """
        yield [], WORKING, gr.skip()
        try:
            given = None if randomise else _number("seed", seed, int)
            asked = GenerationRequest(
                prompt=prompt or "",
                principal=_principal(request),
                negative_prompt=negative_prompt or None,
                width=_number("width", width, int),
                height=_number("height", height, int),
                steps=_number("steps", steps, int),
                guidance_scale=_number("guidance_scale", guidance_scale, float),
                seed=secrets.randbelow(MAX_RANDOM_SEED) if given is None else given,
                n=_checked(count),
            )
            yield await self._shown(asked, progress)
        except SafelightError as error:
            yield [], self._explained(error), gr.skip()

    async def _shown(self, asked: GenerationRequest, progress: gr.Progress) -> Shown:
        progress(0, desc="Reading the prompt")

        def report(done: int, total: int) -> None:
            if done < total:
                progress((done, total), desc="Making the picture")
            else:
                progress(1.0, desc="Looking at the picture")

        creation = await self.runtime.guard.create(asked, self.runtime.generator, encode=encode_png, progress=report)
        files = await asyncio.to_thread(self._written, creation, asked.principal.person)
        return files, self.notices.released(creation), str(asked.seed)

    def _written(self, creation: Creation, visitor: str) -> list[tuple[str, str | None]]:
        """Hand the released pictures over, and return their files with captions where there is more than one."""
        several = len(creation.pictures) > 1
        try:
            return [
                (str(self.pictures.write(picture.encoded.data, visitor)), f"Picture {place + 1}" if several else None)
                for place, picture in enumerate(creation.pictures)
                if picture.encoded is not None
            ]
        except OSError as error:
            raise GenerationFailed("the page could not keep the picture") from error

    def _explained(self, error: SafelightError) -> str:
        if isinstance(error, InvalidRequest):
            return self.notices.invalid(error)
        if isinstance(error, ContentBlocked):
            return self.notices.refused(error.decision, error.left)
        if isinstance(error, CoolDown):
            return self.notices.paused(error)
        if isinstance(error, ScreeningUnavailable):
            return self.notices.unavailable(error.decision)
        return self.notices.failed()


def _principal(request: gr.Request) -> Principal:
    asking = request.request
    if asking is None:
        # Gradio rebuilds requests without their origin in some set-ups; nobody is served whom we cannot tell apart.
        raise InvalidRequest("visitor", "cannot be told; reload the page")
    host = asking.client.host if asking.client else "unknown"
    network, local = _network(host)
    # Whoever sits at this very machine is no stranger.
    return Principal(id=f"page:{network}", person=asking.scope[VISITOR], tenant=TENANT, anonymous=not local)


def _network(host: str) -> tuple[str, bool]:
    """Return what stands for an address in a budget, and whether it is this machine's own.

    An IPv6 customer commonly has a whole /64 to pick addresses from, so the prefix counts.
    """
    try:
        address = ip_address(host.partition("%")[0])
    except ValueError:
        return host, False
    mapped = getattr(address, "ipv4_mapped", None)
    if mapped is not None:
        address = mapped
    if address.version == 6 and not address.is_loopback:
        return str(ip_network(f"{address}/64", strict=False)), False
    return str(address), address.is_loopback


def _number(field: str, text: str | None, kind: type[_N]) -> _N | None:
    """Read what was typed; nothing typed means None. Numbers come as text because a number field shows nothing as 0."""
    if text is None or not text.strip():
        return None
    try:
        return kind(text.strip())
    except ValueError:
        raise InvalidRequest(field, "must be a number" if kind is float else "must be a whole number") from None


def _checked(count: int) -> int:
    if not isinstance(count, int) or not 1 <= count <= MAX_PICTURES:
        raise InvalidRequest("n", f"must be a whole number from 1 to {MAX_PICTURES}")
    return count
