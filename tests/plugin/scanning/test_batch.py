from __future__ import annotations

import json
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing

import pytest

from safelight.errors import ConfigError
from safelight.policy import Policy
from safelight.scanning.batch import BatchScan, check_batch
from safelight.scanning.books import scan_calls
from safelight.scanning.budget import Stop
from safelight.scanning.crowd import Crowd
from safelight.scanning.plan import DesignName, Plan
from safelight.scanning.provider_batches import ProviderBatches
from safelight.spending import Spending
from safelight.store.calls import Calls
from safelight.store.scans import ASKED, Finding, Scans
from safelight.store.sqlite import SQLiteStore
from scan_crowd import NOW, Someone, code_for, crowd, name, populate
from scripted_batches import Row, ScriptedBatches, chat_row, failed_row

POLICY = Policy.default()
PLAN = Plan("openai/gpt-5-nano", batch=True)


def perfect(asked: Row) -> Row:
    system, user = (message["content"] for message in asked["body"]["messages"])
    return chat_row(asked, code_for(system, json.loads(user)))


class Sweep:
    """A scan that can be begun by one process and gone on with by another."""

    def __init__(self, store: SQLiteStore, server: ScriptedBatches) -> None:
        self.store, self.server, self.scans = store, server, Scans(store)
        self.spending: Spending | None = None
        self.scans.begin(PLAN.settings(POLICY), at=NOW)

    def process(self, size: int = 10) -> BatchScan:
        scan = self.scans.unfinished()
        assert scan is not None
        design = PLAN.designs(POLICY, seed=scan.id)[0]
        return BatchScan(
            scans=self.scans,
            scan=scan,
            crowd=Crowd(self.store, scan, PLAN, POLICY, now=NOW),
            design=design,
            batches=ProviderBatches(PLAN.model, api_base=self.server.url, api_key="test-key"),
            served=frozenset({"gpt-5-nano"}),
            calls=scan_calls(self.spending, model=PLAN.model, clock=lambda: NOW),
            size=size,
            poll_s=0.01,
            clock=lambda: NOW,
        )

    @property
    def found(self) -> Mapping[str, Finding]:
        scan = self.scans.newest()
        assert scan is not None
        return {finding.person: finding for finding in self.scans.findings(scan.id)}

    @property
    def times(self) -> Counter[str]:
        """How often each person was asked about, at the provider."""
        lines = [json.dumps(line["body"]["messages"]) for line in self.server.lines]
        return Counter(person for line in lines for place in range(25) if (person := name(place)) in line)


@pytest.fixture
def sweep() -> Iterator[Sweep]:
    with closing(SQLiteStore(":memory:")) as store, ScriptedBatches(perfect) as server:
        populate(store, crowd(25, bad=[3, 20]), now=NOW)
        yield Sweep(store, server)


async def test_everybody_is_asked_about_in_batches_at_batch_prices(sweep: Sweep) -> None:
    assert await sweep.process().run() is Stop.DONE
    assert len(sweep.server.batches) == 3
    assert sweep.times == Counter({name(place): 1 for place in range(25)})
    assert {finding.outcome for finding in sweep.found.values()} == {"ok"}
    assert {person for person, finding in sweep.found.items() if finding.scores} == {name(3), name(20)}
    # LiteLLM's table: 0.05 and 0.40 dollars a million, and half of it in a batch.
    assert sweep.found[name(0)].cost_usd == pytest.approx((400 * 0.05e-6 + 2 * 0.40e-6) / 2)


async def test_answers_are_in_the_books_and_a_reached_limit_sends_no_further_batch(sweep: Sweep) -> None:
    sweep.spending = Spending(Calls(sweep.store), usd_per_day=1e-9, clock=lambda: NOW)
    scan = sweep.process(size=25)
    assert await scan.run() is Stop.DONE
    (booked,) = Calls(sweep.store).totals(since=NOW)
    assert (booked.calls, booked.purpose) == (25, "scan")
    assert booked.cost_usd == pytest.approx(sum(finding.cost_usd or 0 for finding in sweep.found.values()))
    populate(sweep.store, [Someone("later")], now=NOW)
    assert await sweep.process().run() is Stop.SPENDING
    assert len(sweep.server.batches) == 1


async def test_a_line_is_asked_as_the_provider_wants_it(sweep: Sweep) -> None:
    await sweep.process(size=25).run()
    line = sweep.server.lines[0]
    assert (line["method"], line["url"]) == ("POST", "/v1/chat/completions")
    assert line["body"]["model"] == "gpt-5-nano"
    assert "max_completion_tokens" in line["body"]


async def test_a_batch_that_was_sent_is_read_by_the_next_process_and_not_sent_again(sweep: Sweep) -> None:
    sweep.server.status = "in_progress"
    first = sweep.process(size=25)
    first.stop()
    assert await first.run() is Stop.INTERRUPTED
    assert {finding.outcome for finding in sweep.found.values()} == {ASKED}
    sweep.server.status = "completed"
    assert await sweep.process(size=25).run() is Stop.DONE
    assert len(sweep.server.batches) == 1
    assert {finding.outcome for finding in sweep.found.values()} == {"ok"}


async def test_a_batch_whose_id_was_lost_is_found_at_the_provider(sweep: Sweep) -> None:
    # The provider made it, and its answer got lost: as good as a kill before the id was written.
    sweep.server.fail_creating = True
    lost = sweep.process(size=25)
    assert await lost.run() is Stop.PROVIDER
    assert "create_batch failed" in lost.trouble
    sweep.server.fail_creating = False
    assert await sweep.process(size=25).run() is Stop.DONE
    assert len(sweep.server.batches) == 1
    assert set(sweep.times.values()) == {1}


async def test_a_batch_that_was_never_made_is_sent(sweep: Sweep) -> None:
    sweep.server.fail_creating = True
    await sweep.process(size=25).run()
    sweep.server.batches.clear()
    sweep.server.fail_creating = False
    assert await sweep.process(size=25).run() is Stop.DONE
    assert len(sweep.server.batches) == 1
    assert {finding.outcome for finding in sweep.found.values()} == {"ok"}


async def test_whoever_has_no_proper_answer_is_not_clear(sweep: Sweep) -> None:
    odd: dict[str, Callable[[Row], Row | None]] = {
        name(0): lambda asked: None,
        name(1): lambda asked: failed_row(asked, 500, "server_error"),
        name(2): lambda asked: failed_row(asked, 400, "content_filter"),
        name(4): lambda asked: chat_row(asked, "fine"),
        name(5): lambda asked: chat_row(asked, "", finish="content_filter"),
        name(6): lambda asked: chat_row(asked, "x", model="gpt-4o"),
    }

    def answer(asked: Row) -> Row | None:
        text = json.dumps(asked["body"]["messages"])
        return next((say(asked) for person, say in odd.items() if person in text), perfect(asked))

    sweep.server.answer = answer
    assert await sweep.process(size=25).run() is Stop.DONE
    found = {place: (sweep.found[name(place)].outcome, sweep.found[name(place)].reason) for place in range(8)}
    assert found == {
        0: ("failed", "batch_completed"),
        1: ("failed", "batch_http_500"),
        2: ("refused", "content_policy"),
        3: ("ok", "code"),
        4: ("unparsable", "answer_code"),
        5: ("refused", "content_filter"),
        6: ("failed", "served_model_mismatch"),
        7: ("ok", "clear"),
    }


async def test_a_batch_that_failed_leaves_nobody_clear(sweep: Sweep) -> None:
    sweep.server.status = "failed"
    assert await sweep.process().run() is Stop.DONE
    assert {(finding.outcome, finding.reason) for finding in sweep.found.values()} == {("failed", "batch_failed")}


@pytest.mark.parametrize(
    ("model", "said"),
    [
        ("gemini/gemini-2.5-flash-lite", "has no batch through LiteLLM 1.106; a vertex_ai/gemini-… model has"),
        ("groq/llama", "openai, azure, vertex_ai"),
    ],
)
def test_a_provider_without_batches_is_said_to_have_none(model: str, said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        check_batch(model, size=10, poll_s=1)


@pytest.mark.parametrize("changes", [{"size": 0}, {"size": 50_001}, {"poll_s": 0.0}])
def test_a_number_out_of_range_is_refused(changes: dict[str, float]) -> None:
    with pytest.raises(ConfigError):
        check_batch("openai/gpt-5-nano", **({"size": 10, "poll_s": 1.0} | changes))  # type: ignore[arg-type]


def test_batches_are_for_the_question_that_reads_by_itself() -> None:
    with pytest.raises(ConfigError, match="--batch"):
        Plan("openai/gpt-5-nano", design=DesignName.JSON, batch=True)
