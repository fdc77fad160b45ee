"""A provider of batches in OpenAI's form that says what a test tells it to, on 127.0.0.1."""

from __future__ import annotations

import json
import re
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from types import TracebackType
from typing import Any

Row = dict[str, Any]

_FILE = re.compile(rb"filename=[^\r]+\r\n(?:[^\r]+\r\n)*\r\n(.*?)\r\n--", re.DOTALL)


def chat_row(asked: Row, text: str, *, model: str = "gpt-5-nano", finish: str = "stop") -> Row:
    """A line of an output file: one answer."""
    body = {
        "id": "chatcmpl-1",
        "object": "chat.completion",
        "created": 1,
        "model": model,
        "choices": [{"index": 0, "message": {"role": "assistant", "content": text}, "finish_reason": finish}],
        "usage": {"prompt_tokens": 400, "completion_tokens": 2, "total_tokens": 402},
    }
    return {"id": "r", "custom_id": asked["custom_id"], "response": {"status_code": 200, "body": body}, "error": None}


def failed_row(asked: Row, status: int, code: str) -> Row:
    """A line of an error file."""
    body = {"error": {"message": "scripted", "code": code}}
    return {"id": "r", "custom_id": asked["custom_id"], "response": {"status_code": status, "body": body}}


class ScriptedBatches:
    """The server. ``answer`` makes a row of the output of each line asked, or None for no row.

    Args:
        answer: What is said to each line.
        status: What a batch is when it is looked at.
    """

    def __init__(self, answer: Callable[[Row], Row | None], status: str = "completed") -> None:
        self.answer = answer
        self.status = status
        self.fail_creating = False
        self.files: dict[str, list[Row]] = {}
        self.batches: dict[str, Row] = {}
        self._server = _server(self)
        self.url = f"http://127.0.0.1:{self._server.server_port}/v1"

    def __enter__(self) -> ScriptedBatches:
        threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True).start()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._server.shutdown()
        self._server.server_close()

    @property
    def lines(self) -> list[Row]:
        """Every line of every batch that was made."""
        return [line for batch in self.batches.values() for line in self.files[batch["input_file_id"]]]

    def post(self, path: str, raw: bytes) -> Row:
        if path.endswith("/files"):
            found = _FILE.findall(raw)
            content = next(part for part in found if part.startswith(b"{"))
            id = f"file-{len(self.files)}"
            self.files[id] = [json.loads(line) for line in content.splitlines()]
            return _file(id)
        body = json.loads(raw)
        id = f"batch_{len(self.batches)}"
        self.batches[id] = {
            "id": id,
            "object": "batch",
            "endpoint": body["endpoint"],
            "input_file_id": body["input_file_id"],
            "completion_window": "24h",
            "created_at": 1,
            "metadata": body.get("metadata"),
        }
        return self._shown(id)

    def get(self, path: str) -> Row | bytes:
        if path.endswith("/content"):
            asked = self.files[path.split("/")[-2].removesuffix("-out")]
            rows = [row for line in asked if (row := self.answer(line)) is not None]
            return "\n".join(json.dumps(row) for row in rows).encode()
        if path.split("?")[0].endswith("/batches"):
            return {"object": "list", "data": [self._shown(id) for id in self.batches], "has_more": False}
        return self._shown(path.split("/")[-1])

    def _shown(self, id: str) -> Row:
        batch = self.batches[id]
        output = batch["input_file_id"] + "-out" if self.status in ("completed", "expired") else None
        return {**batch, "status": self.status, "output_file_id": output, "error_file_id": None}


def _file(id: str) -> Row:
    return {
        "id": id,
        "object": "file",
        "bytes": 1,
        "created_at": 1,
        "filename": "x.jsonl",
        "purpose": "batch",
        "status": "processed",
    }


def _server(batches: ScriptedBatches) -> ThreadingHTTPServer:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"
        disable_nagle_algorithm = True

        def log_message(self, format: str, *args: Any) -> None:
            pass

        def do_POST(self) -> None:
            raw = self.rfile.read(int(self.headers["Content-Length"]))
            made = batches.post(self.path, raw)
            failing = batches.fail_creating and self.path.endswith("/batches")
            self._send(500 if failing else 200, json.dumps({"error": {"message": "scripted"}} if failing else made))

        def do_GET(self) -> None:
            found = batches.get(self.path)
            self._send(200, found.decode() if isinstance(found, bytes) else json.dumps(found))

        def _send(self, status: int, text: str) -> None:
            data = text.encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    server.daemon_threads = True
    server.block_on_close = False
    return server
