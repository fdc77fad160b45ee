"""``POST /v1/images/generations``: one request, from its body to its answer."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Coroutine
from functools import partial
from typing import Any

from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from safelight.config import Runtime
from safelight.encoding import ENCODERS, Encoded
from safelight.errors import SafelightError
from safelight.guard import Encoder

from .answers import answer
from .body import parse_object, read_body
from .keys import authenticate
from .parameters import Asked, read_parameters
from .problems import Problem, Reply, problem_of
from .repeats import Repeats
from .shelf import Shelf
from .turnstile import Turnstile

# nginx's word for a client that closed its connection; nobody reads the answer, but the log shows it.
_LEFT = Reply(499, b"")


class Generations:
    """Answers requests for pictures.

    Args:
        runtime: Guard, generator and store.
        models: The model ids that clients may name.
        turnstile: Bounds how many requests are inside.
        shelf: Keeps pictures for clients that want links.
        repeats: Remembers answers for clients that may ask twice.
    """

    def __init__(
        self, runtime: Runtime, *, models: Collection[str], turnstile: Turnstile, shelf: Shelf, repeats: Repeats
    ) -> None:
        self._runtime = runtime
        self._models = models
        self._turnstile = turnstile
        self._shelf = shelf
        self._repeats = repeats
        self._generator = turnstile.counting(runtime.generator)

    async def __call__(self, request: Request) -> Response:
        """Answer one request.

        Raises:
            Problem: If it is turned away before it is worked on.
            StoreUnavailable: If the key cannot be looked up.
        """
        # Before the body and the key: turning away must cost nothing when there is much to turn away.
        self._turnstile.check()
        try:
            body = await read_body(request)
        except ClientDisconnect:
            return _LEFT.response()
        key = await authenticate(request, self._runtime.store)
        work = partial(self._answer, request, body, key.id)
        repeat = request.headers.get("idempotency-key")
        reply = await (work() if repeat is None else self._repeats.once(key.id, repeat, body, work))
        return reply.response()

    async def _answer(self, request: Request, body: bytes, key_id: str) -> Reply:
        try:
            asked = read_parameters(parse_object(body), principal_id=key_id, models=self._models)
            with self._turnstile.entered():
                return await _while_connected(request, self._make(asked, str(request.base_url)))
        except Problem as problem:
            return problem.reply()
        except SafelightError as error:
            runtime = self._runtime
            return problem_of(
                error,
                runtime.guard.policy,
                appeal=runtime.settings.gateway.appeal,
                retry_after_s=runtime.retry_after_s,
            ).reply()

    async def _make(self, asked: Asked, base_url: str) -> Reply:
        guard = self._runtime.guard
        creation = await guard.create(asked.request, self._generator, encode=_encoder(asked))

        def link(picture: Encoded) -> str:
            return base_url.rstrip("/") + self._shelf.put(picture)

        return await asyncio.to_thread(answer, creation, asked, link=link)


async def _while_connected(request: Request, work: Coroutine[Any, Any, Reply]) -> Reply:
    """Return what the work returns; if the client leaves first, or we are cancelled, the work is cancelled."""
    working = asyncio.create_task(work)
    watching = asyncio.create_task(_left(request))
    try:
        await asyncio.wait((working, watching), return_when=asyncio.FIRST_COMPLETED)
        return working.result() if working.done() else _LEFT
    finally:
        working.cancel()
        watching.cancel()
        # The guard settles the turn before it lets go.
        await asyncio.gather(working, watching, return_exceptions=True)


async def _left(request: Request) -> None:
    # The body was read to its end, so the only news there can be is that the client has gone.
    while (await request.receive())["type"] != "http.disconnect":
        pass


def _encoder(asked: Asked) -> Encoder:
    encode = ENCODERS[asked.output_format]
    return encode if asked.compression is None else partial(encode, quality=asked.compression)
