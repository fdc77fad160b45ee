"""A Gemini that says what a test tells it to: a real HTTP server on 127.0.0.1, so that LiteLLM's own code is exercised.

    with ScriptedGemini(by_sentinel) as gemini:
        judge = LLMJudge(policy=policy, api_base=gemini.url, api_key="test-key")

It also listens where an OpenAI-style server does, for scripts that answer in that form (``sends``).
A script is a reply, a function from what was asked to a reply, or a list of those, one a request; the last one repeats.
"""

from __future__ import annotations

import contextlib
import json
import re
import socket
import struct
import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

SENTINEL = "zorblax"

USAGE = {"promptTokenCount": 400, "candidatesTokenCount": 60, "totalTokenCount": 460}

_PATH = re.compile(r"^/v1beta/models/(?P<model>[^:]+):generateContent$")


@dataclass(frozen=True)
class Asked:
    """One request, as it arrived."""

    path: str
    headers: Mapping[str, str]
    raw: bytes

    @cached_property
    def body(self) -> dict[str, Any]:
        parsed = json.loads(self.raw)
        assert isinstance(parsed, dict)
        return parsed

    @property
    def model(self) -> str:
        """The model that was asked, or "" if there is nothing at this path."""
        if self.path.endswith("/chat/completions"):
            return str(self.body["model"])
        match = _PATH.match(self.path)
        return match["model"] if match else ""

    @property
    def system(self) -> str:
        return "".join(part["text"] for part in self.body["system_instruction"]["parts"])

    @property
    def user_texts(self) -> list[str]:
        """The text parts of all user messages; pictures are left out."""
        parts = [part for content in self.body["contents"] if content["role"] == "user" for part in content["parts"]]
        return [part["text"] for part in parts if "text" in part]

    @cached_property
    def case(self) -> dict[str, Any]:
        """The JSON object that the judge was sent: the first user text that is one and holds a nonce."""
        for text in self.user_texts:
            with contextlib.suppress(ValueError):
                found = json.loads(text)
                if isinstance(found, dict) and "nonce" in found:
                    return found
        return {"nonce": "", "current": {"channels": {}, "views": []}, "history": {"summary": {}, "turns": []}}

    @property
    def turns(self) -> list[dict[str, Any]]:
        """Every earlier turn that the judge was shown, the person's newest last."""
        history = self.case["history"]
        at_once = [{"channels": channels, "ruling": "pending"} for channels in history.get("at_once", ())]
        groups = [history.get(group, ()) for group in ("same_account", "riskiest")]
        return [turn for group in (*groups, at_once, history.get("turns", ())) for turn in group]

    @property
    def schema(self) -> dict[str, Any]:
        found = self.body.get("generationConfig", {}).get("response_json_schema", {})
        assert isinstance(found, dict)
        return found

    @property
    def categories(self) -> list[str]:
        found = self.schema
        for key in ("prompt", "scores"):
            found = found.get("properties", {}).get(key, {})
        return list(found.get("properties", {}))


@dataclass(frozen=True)
class Reply:
    """What the server does with one request. ``act`` is "" to answer, or "reset", "drop" or "hang"."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = field(default_factory=dict)
    act: str = ""


Step = Reply | Callable[[Asked], Reply]
Script = Step | Sequence[Step]


# Replies that fit what was asked.


def verdict(
    asked: Asked,
    scores: Mapping[str, float] | None = None,
    *,
    heading: Mapping[str, float] | None = None,
    **changes: Any,
) -> dict[str, Any]:
    """The answer a good judge would give, as a dict.

    ``scores`` are of the prompt, ``heading`` of the course. ``changes`` replace ``verdict``, ``scores`` and ``reason``
    of the prompt, and all other keys of the whole answer.
    """
    filled = {name: 0.01 for name in asked.categories} | dict(scores or {})
    course = {name: 0.02 for name in asked.categories} | dict(heading or {})
    found = any(score >= 0.5 for score in filled.values())
    prompt = {
        "verdict": "block" if found else "allow",
        "scores": filled,
        "reason": "plain" if found else "clear",
    }
    inside = {key: changes.pop(key) for key in prompt.keys() & changes.keys()}
    answer = {
        "nonce": asked.case["nonce"],
        "prompt": prompt | inside,
        "course": {"scores": course, "reason": "escalating" if heading else "clear"},
    }
    return answer | changes


def allow(asked: Asked) -> Reply:
    return says(json.dumps(verdict(asked)), model=asked.model)


def block(category: str = "violence", score: float = 0.97) -> Callable[[Asked], Reply]:
    return lambda asked: says(json.dumps(verdict(asked, {category: score})), model=asked.model)


def heading(category: str = "violence", score: float = 0.9) -> Callable[[Asked], Reply]:
    """The prompt is clear; the course is not."""
    return lambda asked: says(json.dumps(verdict(asked, heading={category: score})), model=asked.model)


def by_sentinel(asked: Asked) -> Reply:
    """Score ``violence`` high if the current channels hold the sentinel, or complete one that earlier turns began."""
    before = "".join("".join(turn["channels"].values()) for turn in asked.turns)
    now = "".join(asked.case["current"]["channels"].values())
    last = (before + now).lower().rfind(SENTINEL)
    found = last >= 0 and last + len(SENTINEL) > len(before)
    return block()(asked) if found else allow(asked)


def answer(**changes: Any) -> Callable[[Asked], Reply]:
    """An answer that fits, but for these keys."""
    return lambda asked: says(json.dumps(verdict(asked, **changes)), model=asked.model)


def edited(edit: Callable[[str], str]) -> Callable[[Asked], Reply]:
    """An answer that fits, whose text then goes through ``edit``."""
    return lambda asked: says(edit(json.dumps(verdict(asked))), model=asked.model)


def served_by(model: str) -> Callable[[Asked], Reply]:
    """An answer that fits, of another model than was asked."""
    return lambda asked: says(json.dumps(verdict(asked)), model=model)


def stopped(finish: str, *, text: str | None = '{"verdict":"allow"', usage: bool = True) -> Callable[[Asked], Reply]:
    """A candidate that ends otherwise than with STOP, with what it had said until then."""
    return lambda asked: says(text, finish=finish, model=asked.model, usage=usage)


# Replies that do not depend on the request.


def says(text: str | None, *, finish: str = "STOP", model: str = "gemini-2.5-flash-lite", usage: bool = True) -> Reply:
    """A candidate with this text."""
    content = {"role": "model", "parts": [{"text": text}]} if text is not None else {"role": "model"}
    body: dict[str, Any] = {"candidates": [{"content": content, "finishReason": finish, "index": 0}]}
    return sends(body | ({"usageMetadata": USAGE} if usage else {}) | {"modelVersion": model, "responseId": "r1"})


def refused(reason: str, *, usage: bool = True) -> Reply:
    """A prompt that the provider blocked."""
    body: dict[str, Any] = {"promptFeedback": {"blockReason": reason}, "modelVersion": "gemini-2.5-flash-lite"}
    return sends(body | ({"usageMetadata": {"promptTokenCount": 400, "totalTokenCount": 400}} if usage else {}))


def sends(body: Any) -> Reply:
    """Any JSON."""
    return Reply(body=json.dumps(body).encode(), headers={"Content-Type": "application/json; charset=UTF-8"})


def fails(status: int, *, message: str = "scripted", headers: Mapping[str, str] | None = None) -> Reply:
    """An error in Google's form."""
    body = {"error": {"code": status, "message": message, "status": "SCRIPTED"}}
    return Reply(status, json.dumps(body).encode(), {"Content-Type": "application/json", **(headers or {})})


PORTAL = Reply(
    body=b"<!doctype html><html><body>Sign in to the hotel</body></html>", headers={"Content-Type": "text/html"}
)
RESET = Reply(act="reset")
"""The connection is reset in the middle of the body."""
DROP = Reply(act="drop")
"""The connection is reset before any answer."""
HANG = Reply(act="hang")
"""No answer until the server closes."""


class ScriptedGemini:
    """The server. ``url`` goes into ``api_base``; ``asked`` holds every request so far."""

    def __init__(self, script: Script = by_sentinel) -> None:
        self.script = script
        self.asked: list[Asked] = []
        self._closing = threading.Event()
        self._lock = threading.Lock()
        self._open: set[socket.socket] = set()
        self._server = _server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1beta"

    def __enter__(self) -> ScriptedGemini:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._closing.set()
        self._server.shutdown()
        with self._lock:
            for connection in self._open:
                with contextlib.suppress(OSError):
                    connection.shutdown(socket.SHUT_RDWR)
        self._server.server_close()

    def opened(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.add(connection)

    def closed(self, connection: socket.socket) -> None:
        with self._lock:
            self._open.discard(connection)

    @property
    def connections(self) -> int:
        """How many connections are open."""
        with self._lock:
            return len(self._open)

    def reply(self, asked: Asked) -> Reply:
        """Note a request and return what the script says to it."""
        with self._lock:
            place = len(self.asked)
            self.asked.append(asked)
        if not asked.model:
            return fails(404, message=f"no such path: {asked.path}")
        step = self.script[min(place, len(self.script) - 1)] if isinstance(self.script, Sequence) else self.script
        return step if isinstance(step, Reply) else step(asked)

    def wait_for_close(self) -> None:
        self._closing.wait()


def _server(gemini: ScriptedGemini) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        # Header and body are two writes; the second must not wait for the first to be acknowledged.
        disable_nagle_algorithm = True

        def setup(self) -> None:
            super().setup()
            gemini.opened(self.connection)

        def finish(self) -> None:
            gemini.closed(self.connection)
            with contextlib.suppress(OSError):
                super().finish()

        def handle(self) -> None:
            # A client that gave up at its deadline is no error of the server's.
            with contextlib.suppress(OSError):
                super().handle()

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            reply = gemini.reply(Asked(self.path, dict(self.headers), raw))
            if reply.act == "hang":
                gemini.wait_for_close()
                self.close_connection = True
                return
            if reply.act == "reset":
                self._send(200, b'{"candidates": [', {"Content-Type": "application/json"}, length=500)
            if reply.act:
                self._reset()
                return
            self._send(reply.status, reply.body, reply.headers, length=len(reply.body))

        def _send(self, status: int, body: bytes, headers: Mapping[str, str], *, length: int) -> None:
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(length))
            self.end_headers()
            self.wfile.write(body)
            self.wfile.flush()

        def _reset(self) -> None:
            self.close_connection = True
            # With linger on and no time to linger, closing sends RST.
            self.connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            self.connection.close()

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    return server
