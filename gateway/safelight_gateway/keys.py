"""Who is asking: the API key of a request."""

from __future__ import annotations

import asyncio

from starlette.requests import Request

from safelight.store import APIKey, Store

from .problems import Problem

_MAX_TOKEN_CHARS = 256


async def authenticate(request: Request, store: Store) -> APIKey:
    """Return the key in ``Authorization: Bearer`` or ``api-key``.

    Raises:
        Problem: 401, the same whether the key is missing, unknown or revoked.
        StoreUnavailable: If the store does not answer.
    """
    # A missing key is looked up too: it takes as long as a wrong one.
    key = await asyncio.to_thread(store.find_key, _token(request))
    if key is None:
        raise Problem(
            401,
            "invalid_api_key",
            "A valid API key is needed, as 'Authorization: Bearer sl-...'.",
            headers={"www-authenticate": "Bearer"},
        )
    return key


def _token(request: Request) -> str:
    scheme, _, token = request.headers.get("authorization", "").partition(" ")
    if scheme.lower() != "bearer":
        token = request.headers.get("api-key", "")
    token = token.strip()
    return token if len(token) <= _MAX_TOKEN_CHARS else ""
