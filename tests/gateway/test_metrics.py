from __future__ import annotations

from pathlib import Path

from prometheus_client.parser import text_string_to_metric_families

from gateway_fakes import FaultyScreen
from gateway_server import Served, serving
from safelight.config import GatewaySettings


def scrape(gateway: Served) -> dict[tuple[str, tuple[tuple[str, str], ...]], float]:
    response = gateway.http.get(f"{gateway.address}/metrics", headers={"authorization": f"Bearer {gateway.token}"})
    assert response.status_code == 200
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(response.text)
        for sample in family.samples
    }


def labelled(**labels: str) -> tuple[tuple[str, str], ...]:
    return tuple(sorted(labels.items()))


def test_decisions_and_verdicts_are_counted(gateway: Served) -> None:
    before = scrape(gateway)
    gateway.post(prompt="a teapot")
    gateway.post(prompt="a zorblax")
    after = scrape(gateway)

    def grown(name: str, **labels: str) -> float:
        key = (name, labelled(**labels))
        return after[key] - before.get(key, 0.0)

    assert grown("safelight_decisions_total", stage="prompt", action="allow", reason="clear") == 1
    assert grown("safelight_decisions_total", stage="prompt", action="block", reason="category") == 1
    assert grown("safelight_decisions_total", stage="image", action="allow", reason="clear") == 1
    assert grown("safelight_verdicts_total", screen="words", stage="prompt", outcome="ok", cached="false") == 2
    assert grown("safelight_screen_seconds_count", screen="markers", stage="image") == 1


def test_turned_away_requests_are_counted_by_scope(tmp_path: Path) -> None:
    with serving(tmp_path, enforce=True) as gateway:
        for word in ("one", "two", "three", "four"):
            gateway.post(prompt=f"zorblax {word}")
        found = scrape(gateway)
    assert found[("safelight_turned_away_total", labelled(scope="principal"))] == 1


def test_failures_are_counted_by_outcome(tmp_path: Path) -> None:
    with serving(tmp_path, prompt_screens=[FaultyScreen()]) as gateway:
        gateway.post(prompt="a teapot")
        found = scrape(gateway)
    labels = labelled(screen="faulty", stage="prompt", outcome="failed", cached="false")
    assert found[("safelight_verdicts_total", labels)] == 1


def test_metrics_need_a_key_and_hold_no_prompt_and_no_key(gateway: Served) -> None:
    assert gateway.http.get(f"{gateway.address}/metrics").status_code == 401
    gateway.post(prompt="a canary in a coal mine", user="somebody")
    text = gateway.http.get(f"{gateway.address}/metrics", headers={"authorization": f"Bearer {gateway.token}"}).text
    assert not any(word in text for word in ("canary in", "somebody", gateway.key_id, gateway.token))


def test_metrics_can_be_turned_off(tmp_path: Path) -> None:
    with serving(tmp_path, gateway=GatewaySettings(metrics=False)) as gateway:
        response = gateway.http.get(f"{gateway.address}/metrics", headers={"authorization": f"Bearer {gateway.token}"})
    assert response.status_code == 404
