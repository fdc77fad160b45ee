from __future__ import annotations

import base64
import hashlib
import random
import threading
import time
from pathlib import Path

import httpx
import pytest

from gateway_process import configured, started
from safelight.store.sqlite import SQLiteStore
from safelight.verdict import Stage

CLIENTS = 4


class Hammer(threading.Thread):
    """A client that asks again and again until the gateway is gone, and keeps what it was given."""

    def __init__(self, address: str, token: str, first: threading.Event) -> None:
        super().__init__()
        self._first = first
        self.received: list[tuple[str, str, list[str]]] = []
        self._address = address
        self._token = token

    def run(self) -> None:
        headers = {"authorization": f"Bearer {self._token}"}
        with httpx.Client(base_url=self._address, headers=headers, timeout=20) as client:
            while True:
                try:
                    response = client.post("/v1/images/generations", json={"prompt": "a teapot", "n": 2})
                except httpx.TransportError:
                    return
                if response.status_code == 200:
                    answer = response.json()
                    about = answer["safelight"]
                    pictures = [base64.b64decode(item["b64_json"]) for item in answer["data"]]
                    digests = [hashlib.sha256(picture).hexdigest() for picture in pictures]
                    self.received.append((about["request_id"], about["policy"], digests))
                    self._first.set()


@pytest.mark.parametrize("seed", range(4))
def test_whatever_a_client_received_before_a_kill_is_in_the_store(tmp_path: Path, seed: int) -> None:
    pause, first = random.Random(seed).uniform(0.0, 0.5), threading.Event()
    file, token = configured(tmp_path)
    with started(file) as (process, address):
        hammers = [Hammer(address, token, first) for _ in range(CLIENTS)]
        for hammer in hammers:
            hammer.start()
        assert first.wait(20), "nothing was ever released"
        time.sleep(pause)
        process.kill()
        for hammer in hammers:
            hammer.join(30)
    received = [answer for hammer in hammers for answer in hammer.received]
    assert received
    store = SQLiteStore(tmp_path / "store.db")
    for request_id, policy, digests in received:
        allowed = [decision for decision in store.decisions(request_id=request_id) if decision.allows]
        assert [decision.stage for decision in allowed] == [Stage.PROMPT, Stage.IMAGE, Stage.IMAGE]
        assert [decision.image_sha256 for decision in allowed[1:]] == digests
        assert all(store.is_releasable(request_id, digest, policy) for digest in digests)
    store.close()
