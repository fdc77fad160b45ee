from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from safelight_ui.doorkeeper import VISITOR, Doorkeeper, Message, Receive, Scope, Send
from safelight_ui.pictures import PictureFolder
from safelight_ui.visitors import COOKIE, Visitors

VISITORS = Visitors(bytes(32))


class Inner:
    """An app that answers 200 to everything, and keeps the scopes that came through."""

    def __init__(self) -> None:
        self.scopes: list[Scope] = []

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.scopes.append(scope)
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"inner"})


@pytest.fixture
def pictures() -> Iterator[PictureFolder]:
    folder = PictureFolder(VISITORS)
    yield folder
    folder.close()


async def ask(
    pictures: PictureFolder, path: str, cookie: str | None = None, *, scheme: str = "http", kind: str = "http"
) -> tuple[Inner, list[Message]]:
    inner, sent = Inner(), list[Message]()
    headers = [(b"host", b"example.org")] + ([(b"cookie", f"{COOKIE}={cookie}".encode())] if cookie else [])
    scope = {"type": kind, "method": "GET", "path": path, "scheme": scheme, "headers": headers, "query_string": b""}

    async def receive() -> Message:
        raise AssertionError("nothing is read here")

    async def send(message: Message) -> None:
        sent.append(message)

    await Doorkeeper(inner, visitors=VISITORS, pictures=pictures)(scope, receive, send)
    return inner, sent


def header(sent: list[Message], name: str) -> str:
    found: dict[str, Any] = {key.decode(): value.decode() for key, value in sent[0]["headers"]}
    return str(found.get(name, ""))


async def test_the_page_brings_a_cookie_that_scripts_and_other_sites_cannot_use(pictures: PictureFolder) -> None:
    inner, sent = await ask(pictures, "/")
    cookie = header(sent, "set-cookie")
    value = cookie.removeprefix(f"{COOKIE}=").split(";")[0]
    assert VISITORS.read(value) == inner.scopes[0][VISITOR]
    assert "HttpOnly" in cookie and "SameSite=Lax" in cookie and "Path=/" in cookie
    assert "Secure" not in cookie
    assert "Secure" in header((await ask(pictures, "/", scheme="https"))[1], "set-cookie")


async def test_a_good_cookie_is_kept(pictures: PictureFolder) -> None:
    visitor = Visitors.fresh()
    inner, sent = await ask(pictures, "/", VISITORS.cookie(visitor))
    assert inner.scopes[0][VISITOR] == visitor
    assert header(sent, "set-cookie") == ""


async def test_a_forged_cookie_is_replaced(pictures: PictureFolder) -> None:
    inner, sent = await ask(pictures, "/", "0" * 32 + "." + "0" * 32)
    assert inner.scopes[0][VISITOR] not in ("", "0" * 32)
    assert header(sent, "set-cookie")


async def test_a_request_without_a_cookie_is_nobodys(pictures: PictureFolder) -> None:
    inner, sent = await ask(pictures, "/gradio_api/queue/join")
    assert inner.scopes[0][VISITOR] == ""
    assert header(sent, "set-cookie") == ""


async def test_a_picture_passes_for_its_visitor_only(pictures: PictureFolder) -> None:
    alice, bob = Visitors.fresh(), Visitors.fresh()
    path = f"/gradio_api/file={pictures.write(b'x', alice)}"
    for cookie, status in ((VISITORS.cookie(alice), 200), (VISITORS.cookie(bob), 404), (None, 404)):
        inner, sent = await ask(pictures, path, cookie)
        assert sent[0]["status"] == status
        assert len(inner.scopes) == (status == 200)


@pytest.mark.parametrize(
    "path",
    [
        "/gradio_api/upload",
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=https://example.org/x.png",
        "/gradio_api/file/x.png",
        "/gradio_api/proxy=https://example.org/",
        "/gradio_api/call/create",
        "/gradio_api/queue/join/../../upload",
        "//gradio_api/upload",
        "/login",
        "/openapi.json",
    ],
)
async def test_what_is_not_listed_does_not_exist(pictures: PictureFolder, path: str) -> None:
    inner, sent = await ask(pictures, path, VISITORS.cookie(Visitors.fresh()))
    assert sent[0]["status"] == 404
    assert inner.scopes == []


@pytest.mark.parametrize("path", ["/", "/assets/index.js", "/gradio_api/queue/data", "/gradio_api/upload"])
async def test_every_answer_forbids_other_addresses(pictures: PictureFolder, path: str) -> None:
    _, sent = await ask(pictures, path)
    assert "default-src 'self'" in header(sent, "content-security-policy")
    assert header(sent, "x-content-type-options") == "nosniff"


async def test_web_sockets_are_closed_and_the_life_of_the_server_passes(pictures: PictureFolder) -> None:
    inner, sent = await ask(pictures, "/", kind="websocket")
    assert (inner.scopes, sent[0]["type"]) == ([], "websocket.close")
    inner, _ = await ask(pictures, "", kind="lifespan")
    assert len(inner.scopes) == 1
