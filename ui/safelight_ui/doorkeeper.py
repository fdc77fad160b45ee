"""Stands before Gradio: knows the visitor, hands pictures to their owner only, and closes what the page does not use.

Gradio offers far more addresses than this page needs, among them anonymous uploads and a fetcher of foreign addresses.
What is not listed here does not exist.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, MutableMapping
from pathlib import PurePosixPath
from typing import Any

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import PlainTextResponse

from .pictures import PictureFolder
from .visitors import COOKIE, MAX_AGE_S, Visitors

VISITOR = "safelight.visitor"
"""The key of the ASGI scope under which the visitor's id stands; empty for a client without a valid cookie."""

Scope = MutableMapping[str, Any]
Message = MutableMapping[str, Any]
Receive = Callable[[], Awaitable[Message]]
Send = Callable[[Message], Awaitable[None]]
App = Callable[[Scope, Receive, Send], Awaitable[None]]

_API = "/gradio_api/"
_FILE = "file="
_USED = frozenset({"queue/join", "queue/data", "startup-events", "cancel", "reset"})
_USED_FOLDERS = ("heartbeat/",)
_PAGE_FOLDERS = ("/assets/", "/static/", "/svelte/")
_PAGE_FILES = frozenset({"/", "/config", "/theme.css", "/favicon.ico", "/manifest.json", "/robots.txt"})

# Gradio's page carries inline scripts and styles. Everything else comes from here, and nothing goes anywhere else.
_HEADERS = {
    "content-security-policy": (
        "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
        "img-src 'self' data: blob:; font-src 'self' data:; worker-src 'self' blob:; object-src 'none'; "
        "base-uri 'self'; form-action 'self'; frame-ancestors 'self'"
    ),
    "referrer-policy": "no-referrer",
    "x-content-type-options": "nosniff",
}


class Doorkeeper:
    """ASGI middleware around the page.

    A browser gets its cookie with the page. A client that comes without a valid one shares the history of all such
    clients at its address.

    Args:
        app: What it stands before.
        visitors: Reads and writes the cookie.
        pictures: Knows whose a picture is.
    """

    def __init__(self, app: App, *, visitors: Visitors, pictures: PictureFolder) -> None:
        self._app = app
        self._visitors = visitors
        self._pictures = pictures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, or let it pass with the visitor's id in its scope."""
        if scope["type"] == "websocket":
            await send({"type": "websocket.close", "code": 1008})
            return
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        request = Request(scope)
        visitor = self._visitors.read(request.cookies.get(COOKIE))
        fresh = ""
        if visitor is None and scope["path"] == "/":
            visitor = fresh = self._visitors.fresh()
        scope[VISITOR] = visitor or ""

        async def send_with_headers(message: Message) -> None:
            if message["type"] == "http.response.start":
                headers = MutableHeaders(scope=message)
                headers.update(_HEADERS)
                if fresh:
                    headers.append("set-cookie", self._cookie(fresh, secure=request.url.scheme == "https"))
            await send(message)

        known = self._is_open(scope["path"], scope[VISITOR])
        app: App = self._app if known else PlainTextResponse("Not found", status_code=404)
        await app(scope, receive, send_with_headers)

    def _is_open(self, path: str, visitor: str) -> bool:
        if not path.startswith(_API):
            return path in _PAGE_FILES or path.startswith(_PAGE_FOLDERS)
        rest = path.removeprefix(_API)
        if rest.startswith(_FILE):
            return self._pictures.belongs(PurePosixPath(rest).name, visitor)
        return rest in _USED or rest.startswith(_USED_FOLDERS)

    def _cookie(self, visitor: str, *, secure: bool) -> str:
        flags = "HttpOnly; SameSite=Lax" + ("; Secure" if secure else "")
        return f"{COOKIE}={self._visitors.cookie(visitor)}; Path=/; Max-Age={MAX_AGE_S}; {flags}"
