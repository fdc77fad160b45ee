"""A gateway on a real socket, in a thread, for tests."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import openai
import uvicorn

from gateway_fakes import FailingStore, MarkerScreen, Painter, WordScreen
from safelight.config import GatewaySettings, Runtime, enforcement_of, read_settings
from safelight.generators import Generator
from safelight.guard import Guard
from safelight.policy import Policy
from safelight.screens import ImageScreen, PromptScreen
from safelight.screens.blocked_before import BlockedBefore
from safelight_gateway.app import create_app


@dataclass
class Served:
    """A gateway that is being served, and what a test wants to look at."""

    runtime: Runtime
    store: FailingStore
    app: Any
    port: int
    key_id: str
    token: str
    http: httpx.Client
    requests: list[str] = field(default_factory=list)

    @property
    def address(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def client(self, **options: Any) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.address}/v1", api_key=self.token, **options)

    def post(
        self, content: bytes | None = None, *, headers: dict[str, str] | None = None, **json: Any
    ) -> httpx.Response:
        given: dict[str, Any] = {"json": json} if content is None else {"content": content}
        return self.http.post(
            f"{self.address}/v1/images/generations",
            headers={"authorization": f"Bearer {self.token}", "content-type": "application/json", **(headers or {})},
            **given,
        )


@contextmanager
def serving(
    folder: Path,
    *,
    generator: Generator | None = None,
    prompt_screens: Sequence[PromptScreen] | None = None,
    image_screens: Sequence[ImageScreen] | None = None,
    gateway: GatewaySettings | None = None,
    policy: Policy | None = None,
    enforce: bool = False,
) -> Iterator[Served]:
    """Serve a gateway over fakes and a real store; ``enforce`` counts attempts as the policy says."""
    store = FailingStore(folder / "store.db")
    key, token = store.create_key("tests", at=datetime.now(UTC))
    screens: list[PromptScreen] = [WordScreen()] if prompt_screens is None else list(prompt_screens)
    enforcement = enforcement_of(policy or Policy.default(), store) if enforce else None
    if enforcement is not None:
        screens.insert(0, BlockedBefore(policy=policy or Policy.default(), memory=enforcement))
    guard = Guard(
        policy or Policy.default(),
        store,
        prompt_screens=screens,
        image_screens=[MarkerScreen()] if image_screens is None else image_screens,
        enforcement=enforcement,
    )
    settings = dataclasses.replace(read_settings(environ={}), gateway=gateway or GatewaySettings())
    runtime = Runtime(settings, guard, generator or Painter(), store)
    app = create_app(runtime)
    listener = socket.create_server(("127.0.0.1", 0), backlog=512)
    http = httpx.Client(timeout=30)
    served = Served(runtime, store, app, listener.getsockname()[1], key.id, token, http)

    async def counting(scope: Any, receive: Any, send: Any) -> None:
        if scope["type"] == "http":
            served.requests.append(scope["path"])
        await app(scope, receive, send)

    server = uvicorn.Server(uvicorn.Config(counting, log_config=None, log_level="warning", timeout_graceful_shutdown=5))
    thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
    thread.start()
    try:
        _await_start(server, thread)
        yield served
    finally:
        http.close()
        server.should_exit = True
        thread.join(20)
        listener.close()
        store.close()


def _await_start(server: uvicorn.Server, thread: threading.Thread) -> None:
    until = time.monotonic() + 20
    while not server.started:
        if not thread.is_alive() or time.monotonic() > until:
            raise RuntimeError("the gateway did not start")
        time.sleep(0.005)
