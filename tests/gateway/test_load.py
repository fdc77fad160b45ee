from __future__ import annotations

import asyncio
from pathlib import Path

import httpx
import pytest

from gateway_fakes import SlowPainter
from gateway_server import Served, serving
from safelight.config import GatewaySettings


def test_a_full_house_answers_429_at_once_and_120_requests_cause_no_5xx(tmp_path: Path) -> None:
    painter = SlowPainter()

    async def storm(gateway: Served) -> list[httpx.Response]:
        limits = httpx.Limits(max_connections=130)
        headers = {"authorization": f"Bearer {gateway.token}"}
        async with httpx.AsyncClient(limits=limits, timeout=60, headers=headers) as client:
            url = f"{gateway.address}/v1/images/generations"
            calls = [asyncio.create_task(client.post(url, json={"prompt": "a teapot"})) for _ in range(120)]
            # The house is full and stays so: all but the eight inside must be turned away before any is done.
            while sum(call.done() for call in calls) < 112:
                await asyncio.sleep(0.01)
            # One more costs nothing at all: not even its key is looked up.
            gateway.store.failing = frozenset({"find_key"})
            assert (await client.post(url, json={"prompt": "a teapot"})).status_code == 429
            gateway.store.failing = frozenset()
            painter.enough.set()
            return await asyncio.gather(*calls)

    with serving(tmp_path, generator=painter, gateway=GatewaySettings(max_waiting=8)) as gateway:
        responses = asyncio.run(storm(gateway))
    statuses = [response.status_code for response in responses]
    assert statuses.count(200) == 8 and statuses.count(429) == 112
    turned_away = next(response for response in responses if response.status_code == 429)
    assert turned_away.json()["error"]["code"] == "rate_limit_exceeded"
    assert 1 <= int(turned_away.headers["retry-after"]) <= 60


def test_a_client_that_leaves_stops_its_generation_and_frees_its_place(tmp_path: Path) -> None:
    painter = SlowPainter()
    with serving(tmp_path, generator=painter, gateway=GatewaySettings(max_waiting=1)) as gateway:
        with pytest.raises(httpx.ReadTimeout):
            httpx.post(
                f"{gateway.address}/v1/images/generations",
                headers={"authorization": f"Bearer {gateway.token}"},
                json={"prompt": "a teapot"},
                timeout=httpx.Timeout(10, read=0.5),
            )
        assert painter.started.is_set() and painter.stopped.wait(10)
        painter.enough.set()
        with gateway.client(max_retries=5) as client:
            assert client.images.generate(prompt="a teapot").data
    assert len(painter.asked) == 1
