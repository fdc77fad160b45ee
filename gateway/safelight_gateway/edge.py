"""The outermost layer: every request gets an id, a line in the log, and an answer, whatever happens inside."""

from __future__ import annotations

import logging
import secrets
import time
import traceback
from urllib.parse import quote

from starlette.datastructures import MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from .problems import unexpected

logger = logging.getLogger("safelight_gateway")


class Edge:
    """Wraps an ASGI app.

    The log names method, path, status and time, and never a query, a header or a body: links are secrets, and so are
    keys and prompts.
    """

    def __init__(self, app: ASGIApp) -> None:
        self._app = app

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        started = time.perf_counter()
        request_id = "req_" + secrets.token_hex(16)
        status = 0

        async def mark(message: Message) -> None:
            nonlocal status, request_id
            if message["type"] == "http.response.start":
                status = message["status"]
                headers = MutableHeaders(scope=message)
                # The guard's own id, where the request got that far.
                request_id = headers.setdefault("x-request-id", request_id)
                headers["openai-processing-ms"] = str(round((time.perf_counter() - started) * 1000))
                headers["x-content-type-options"] = "nosniff"
            await send(message)

        try:
            await self._app(scope, receive, mark)
        # The one broad catch of the gateway: a traceback's values could carry a prompt to the log or the client.
        except Exception as error:
            logger.error("%s: %s at %s", request_id, type(error).__name__, _where(error))
            if not status:
                await unexpected().reply().response()(scope, receive, mark)
        ms = (time.perf_counter() - started) * 1000
        # Quoted: a decoded path may hold line breaks, and a line of a log is one line.
        logger.info("%s %s %s %d %.0f ms", request_id, quote(scope["method"]), quote(scope["path"]), status, ms)


def _where(error: Exception) -> str:
    frames = traceback.extract_tb(error.__traceback__)
    return f"{frames[-1].filename}:{frames[-1].lineno}" if frames else "an unknown place"
