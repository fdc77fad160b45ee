"""The command ``safelight scan`` against the scripted judge over a real socket; killed, in a process of its own."""

from __future__ import annotations

import itertools
import json
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import closing
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest

from gateway_process import environment
from safelight.cli import main
from safelight.store import Store, open_store
from safelight.store.calls import Calls
from safelight.store.scans import ASKED, Scans
from safelight.store.strikes import Strikes
from scan_crowd import crowd, name, named_in, one_token, packed, populate
from scripted_gemini import Asked, Reply, ScriptedGemini, fails, refused

PEOPLE = 300
BAD = (5, 120, 299)

CONFIG = """
[[prompt_screens]]
use = "terms"
terms = ["kettle"]
category = "violence"
[[prompt_screens]]
use = "llm_judge"
api_base = "{url}"
api_key = "test-key"
[store]
url = "sqlite:///{store}"
"""


class Scene:
    """A store full of people, a scripted judge, and the command between them."""

    def __init__(self, folder: Path, gemini: ScriptedGemini, captured: pytest.CaptureFixture[str]) -> None:
        self.gemini = gemini
        self._captured = captured
        self.config = folder / "safelight.toml"
        self._url = f"sqlite:///{folder / 'store.db'}"
        self.config.write_text(CONFIG.format(url=gemini.url, store=folder / "store.db"), "utf-8")

    def store(self) -> Store:
        return open_store(self._url)

    def fill(self, people: int = PEOPLE) -> None:
        with closing(self.store()) as store:
            populate(store, crowd(people, bad=BAD))

    def start(self, *options: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "safelight", "--config", str(self.config), "scan", "--json", *options]
        return subprocess.Popen(command, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)

    def run(self, *options: str, code: int = 0) -> dict[str, Any]:
        ended = main(["--config", str(self.config), "scan", "--json", *options])
        out, self.said = self._captured.readouterr()
        assert ended == code, (out, self.said)
        found = json.loads(out) if out else {}
        assert isinstance(found, dict)
        return found

    def await_calls(self, count: int, process: subprocess.Popen[str]) -> None:
        until = time.monotonic() + 60
        while len(self.gemini.asked) < count:
            assert time.monotonic() < until and process.poll() is None, process.communicate()
            time.sleep(0.005)

    @property
    def times(self) -> Counter[str]:
        return Counter(person for asked in self.gemini.asked for person in set(named_in(asked)))


@pytest.fixture
def scene(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> Iterator[Scene]:
    with ScriptedGemini(one_token) as gemini:
        yield Scene(tmp_path, gemini, capsys)


def slowly(script: Callable[[Asked], Reply], *, crawls_after: int) -> Callable[[Asked], Reply]:
    """Answer after a moment, so that several calls are on their way at any time.

    Args:
        script: What is answered.
        crawls_after: Calls after which the moments are long: a slow machine is to end the scan before it is over.
    """
    places = itertools.count()

    def answer(asked: Asked) -> Reply:
        threading.Event().wait(0.02 if next(places) < crawls_after else 0.2)
        return script(asked)

    return answer


def test_a_scan_that_was_killed_is_resumed_without_a_call_twice(scene: Scene, tmp_path: Path) -> None:
    scene.fill()
    scene.gemini.script = slowly(one_token, crawls_after=PEOPLE // 2)
    process = scene.start("--concurrency", "4")
    with process:
        scene.await_calls(PEOPLE // 2, process)
        process.kill()
    scene.gemini.script = one_token
    assert process.returncode == -signal.SIGKILL
    before = scene.times
    with closing(scene.store()) as store:
        scan = Scans(store).unfinished()
        assert scan is not None
        unknown = {finding.person for finding in Scans(store).findings(scan.id, (ASKED,))}
    assert len(unknown) <= 4

    assert "--resume" in (scene.run(code=2) or scene.said)
    report = scene.run("--resume", "--review", str(tmp_path / "review.jsonl"), code=3 if unknown else 0)
    assert report["judged"] + report["unknown"] == PEOPLE
    assert report["unknown"] == len(unknown)
    assert set(scene.times.values()) == {1}
    # Whoever was asked about before the kill was not asked again; the others were all asked.
    assert set(scene.times) >= {name(place) for place in range(PEOPLE)} - unknown
    assert set(before) <= set(scene.times)

    listed = [json.loads(line) for line in (tmp_path / "review.jsonl").read_text("utf-8").splitlines()]
    found = {line["person"] for line in listed if line["categories"] == ["violence"]}
    assert found == {name(place) for place in BAD} - unknown
    assert {line["person"] for line in listed if line["outcome"] == "unknown"} == unknown
    assert "zorblax" not in (tmp_path / "review.jsonl").read_text("utf-8")


def test_a_finished_scan_is_gone_on_with_for_those_whom_it_did_not_judge(scene: Scene) -> None:
    scene.fill(4)
    scene.gemini.script = lambda asked: fails(400) if name(2) in named_in(asked) else one_token(asked)
    assert scene.run(code=3)["failed"] == {"http_400": 1}
    assert "--retry-failed" in scene.said
    scene.gemini.script = one_token
    report = scene.run("--resume", "--retry-failed")
    assert (report["judged"], report["failed"]) == (4, {})
    assert scene.times == Counter({name(0): 1, name(1): 1, name(2): 2, name(3): 1})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (["--resume"], "no unfinished scan"),
        (["--retry-failed"], "need --resume"),
        (["--batch"], "a vertex_ai/gemini-… model has"),
        (["--batch", "--model", "openai/gpt-5-nano", "--budget-usd", "1"], "--limit"),
        (["--model", "openai/no-such-model", "--budget-usd", "1"], "it is not known what"),
        (["--cascade", "2"], "--cascade"),
        (["--cascade", "-1"], "--cascade"),
        (["--review", "list.txt"], ".jsonl"),
        (["--review", "no/such/folder/list.csv"], "cannot write"),
        (["--with-texts"], "--review"),
        (["--rpm", "0"], "--rpm"),
        (["--concurrency", "0"], "--concurrency"),
        (["--limit", "0"], "--limit"),
        (["--since", "-1"], "--since"),
    ],
    ids=" ".join,
)
def test_an_option_that_cannot_be_is_refused_with_its_name_and_nobody_is_asked(
    scene: Scene, options: list[str], said: str
) -> None:
    scene.fill(2)
    scene.run(*options, code=2)
    assert said in scene.said
    assert scene.gemini.asked == []


def test_the_help_says_what_each_design_gives_up(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["scan", "--help"])
    out = capsys.readouterr().out
    assert all(
        word in out
        for word in ("one-token", "gives up", "packed", "--resume", "usd_per_day", "has none in LiteLLM 1.106")
    )


def test_what_it_cost_is_told_from_the_providers_own_figures(scene: Scene) -> None:
    scene.fill(20)
    report = scene.run()
    # The scripted judge reports 400 tokens in and 60 out for each call.
    assert (report["tokens_in"], report["tokens_out"]) == (8_000, 1_200)
    assert report["cost_usd"] == pytest.approx(20 * (400 * 0.1e-6 + 60 * 0.4e-6))
    assert report["usd_per_million_people"] == pytest.approx(64)
    assert report["found"] == {"violence": 1}
    assert scene.run()["judged"] == 20
    assert set(scene.times.values()) == {2}


def test_ctrl_c_waits_for_the_calls_on_their_way_and_says_how_to_go_on(scene: Scene) -> None:
    scene.fill()
    scene.gemini.script = slowly(one_token, crawls_after=20)
    with scene.start("--concurrency", "4") as process:
        scene.await_calls(20, process)
        process.send_signal(signal.SIGINT)
        out, err = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "--resume" in err
    report = json.loads(out)
    assert (report["ended"], report["unknown"]) == ("interrupted", 0)
    assert 20 <= report["judged"] == len(scene.gemini.asked) < PEOPLE


def test_a_refusal_is_listed_first_a_failure_last_and_the_exit_code_tells(scene: Scene, tmp_path: Path) -> None:
    scene.fill(6)

    def script(asked: Asked) -> Reply:
        (person,) = set(named_in(asked))
        odd = {name(0): fails(400), name(1): refused("SAFETY"), name(2): refused("PROHIBITED_CONTENT")}
        return odd.get(person) or one_token(asked)

    scene.gemini.script = script
    report = scene.run("--review", str(tmp_path / "review.jsonl"), code=3)
    assert report["judged"] == 5
    assert report["failed"] == {"http_400": 1}
    assert report["refused"] == {"blocked_safety": 1, "blocked_prohibited_content": 1}
    listed = [json.loads(line) for line in (tmp_path / "review.jsonl").read_text("utf-8").splitlines()]
    assert [line["person"] for line in listed] == [name(place) for place in (2, 5, 1, 0)]


def test_a_scan_is_in_the_books_and_stops_at_the_days_limit(scene: Scene) -> None:
    scene.fill(20)
    scene.config.write_text(scene.config.read_text("utf-8") + "[spending]\nusd_per_day = 0.0003\n", "utf-8")
    report = scene.run("--concurrency", "1", code=3)
    assert (report["ended"], report["judged"]) == ("spending", 5)
    assert "spending.usd_per_day" in scene.said
    assert "--resume" in scene.said
    with closing(scene.store()) as store:
        (booked,) = Calls(store).totals(since=datetime.now(UTC) - timedelta(days=1))
    assert (booked.purpose, booked.calls) == ("scan", 5)
    assert booked.cost_usd == pytest.approx(report["cost_usd"])


def test_a_budget_that_is_too_small_for_one_call_asks_nobody_and_says_so(scene: Scene) -> None:
    scene.fill(5)
    scene.run("--budget-usd", "1e-9", code=3)
    assert "too small for one call" in scene.said
    assert scene.gemini.asked == []


def test_a_list_that_fails_at_the_end_hides_no_totals_and_is_written_later_without_a_call(
    scene: Scene, tmp_path: Path
) -> None:
    scene.fill(6)
    file = tmp_path / "review.jsonl"

    def in_the_way(asked: Asked) -> Reply:
        file.mkdir(exist_ok=True)
        return one_token(asked)

    scene.gemini.script = in_the_way
    assert scene.run("--review", str(file), code=2)["judged"] == 6
    assert "cannot write" in scene.said
    file.rmdir()
    assert scene.run("--resume", "--review", str(file))["judged"] == 6
    assert json.loads(file.read_text("utf-8"))["person"] == name(5)
    assert set(scene.times.values()) == {1}


def test_nobodys_standing_changes_unless_told(scene: Scene) -> None:
    scene.fill(20)
    scene.run()
    with closing(scene.store()) as store:
        assert Strikes(store).holds() == ()
    assert scene.run("--apply")["held"] == ["key_5"]
    with closing(scene.store()) as store:
        assert [hold.principal for hold in Strikes(store).holds()] == ["key_5"]


def test_many_people_share_a_call_and_whoever_is_found_gets_one_alone(scene: Scene) -> None:
    scene.fill(100)
    scene.gemini.script = packed
    report = scene.run("--design", "packed")
    assert report["judged"] == 100
    assert report["found"] == {"violence": 1}
    # Five packs, the one who is found, and the random sample of the others.
    assert 6 <= len(scene.gemini.asked) <= 25
    assert scene.times[name(5)] == 2
