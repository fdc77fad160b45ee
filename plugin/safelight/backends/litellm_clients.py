"""LiteLLM's HTTP connections, closed when the event loop that opened them ends."""

from __future__ import annotations

import asyncio
import inspect
import weakref
from collections.abc import AsyncGenerator
from typing import Any

_closers: weakref.WeakKeyDictionary[asyncio.AbstractEventLoop, AsyncGenerator[None, None]] = weakref.WeakKeyDictionary()


async def close_with_loop(litellm: Any) -> None:
    """See to it that the running loop's connections are closed when the loop ends. Cheap to call again.

    LiteLLM keeps its clients by event loop and closes them only when the process ends, in another loop. A program
    that runs one loop after another would leave sockets open.
    """
    loop = asyncio.get_running_loop()
    if loop not in _closers:
        closer = _closer(litellm, loop)
        _closers[loop] = closer
        # A loop that ends (asyncio.run, uvicorn, pytest) closes the asynchronous generators that were started in it.
        await anext(closer)


async def _closer(litellm: Any, loop: asyncio.AbstractEventLoop) -> AsyncGenerator[None, None]:
    try:
        yield
    finally:
        _closers.pop(loop, None)
        cache = litellm.in_memory_llm_clients_cache
        mine = [key for key in tuple(cache.cache_dict) if str(key).endswith(f"-{id(loop)}")]
        for key in mine:
            # Taken out, so that a later loop at the same address does not get a closed client.
            client = cache.cache_dict.pop(key)
            cache.ttl_dict.pop(key, None)
            close = getattr(client, "aclose", None) or getattr(client, "close", None)
            closing = close() if close else None
            if inspect.isawaitable(closing):
                await closing
