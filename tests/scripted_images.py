"""A server with OpenAI's images API that says what a test tells it to, on 127.0.0.1.

    with ScriptedImages(pictures(noise())) as server:
        generator = OpenAIGenerator(api_base=server.base, model="m")

A script is a list of answers, one a request; the last one repeats.
"""

from __future__ import annotations

import base64
import json
import threading
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any


@dataclass(frozen=True)
class Answer:
    """``hang`` waits until the server closes; ``drop`` ends the connection without an answer."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=lambda: {"Content-Type": "application/json"})
    act: str = ""


def sends(body: Any, status: int = 200, **headers: str) -> Answer:
    return Answer(status, json.dumps(body).encode(), {"Content-Type": "application/json", **headers})


def pictures(*files: bytes) -> Answer:
    """The answer of a good server."""
    return sends({"created": 1, "data": [{"b64_json": base64.b64encode(file).decode()} for file in files]})


def refuses(code: str, status: int = 400, message: str = "no") -> Answer:
    return sends({"error": {"message": message, "type": "image_generation_user_error", "code": code}}, status)


class ScriptedImages:
    """The server. ``base`` goes into ``api_base``; ``asked`` holds path, headers (names in lower case) and body
    of every request so far.
    """

    def __init__(self, *script: Answer) -> None:
        self.asked: list[tuple[str, Mapping[str, str], Any]] = []
        self._script = list(script)
        self._closing = threading.Event()
        self._server = _server(self)
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.01})
        self.base = f"http://127.0.0.1:{self._server.server_port}/v1"

    @property
    def body(self) -> Any:
        """What was asked last."""
        return self.asked[-1][2]

    def next(self) -> Answer:
        return self._script.pop(0) if len(self._script) > 1 else self._script[0]

    def wait_for_close(self) -> None:
        self._closing.wait(30)

    def __enter__(self) -> ScriptedImages:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._closing.set()
        self._server.shutdown()
        self._server.server_close()
        self._thread.join()


def _server(owner: ScriptedImages) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            owner.asked.append((self.path, headers, json.loads(raw or b"null")))
            answer = owner.next()
            self.close_connection = True
            if answer.act == "hang":
                owner.wait_for_close()
            if answer.act:
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.body)))
            self.end_headers()
            self.wfile.write(answer.body)

        def do_GET(self) -> None:
            owner.asked.append((self.path, dict(self.headers), None))
            self.send_error(404)

        def log_message(self, format: str, *args: Any) -> None:
            pass

    return ThreadingHTTPServer(("127.0.0.1", 0), Handler)
