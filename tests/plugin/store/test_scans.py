from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from safelight.policy import Action, Reason
from safelight.request import Principal
from safelight.store import Store
from safelight.store.people import People
from safelight.store.scans import ASKED, Finding, Key, Scans, ScanTotal
from safelight.verdict import Outcome
from store_requests import NOW, ask, decision


@pytest.fixture
def scans(any_store: Store) -> Scans:
    return Scans(any_store)


def finding(person: str, outcome: str = Outcome.OK, **changes: object) -> Finding:
    return replace(Finding("default", "key_a", person, at=NOW, outcome=outcome), **changes)  # type: ignore[arg-type]


def test_only_the_newest_scan_can_be_unfinished(scans: Scans) -> None:
    assert scans.unfinished() is None
    scans.begin({"model": "a"}, at=NOW)
    second = scans.begin({"model": "b"}, at=NOW + timedelta(hours=1))
    assert scans.unfinished() == second
    scans.finish(second.id, at=NOW + timedelta(hours=2))
    assert scans.unfinished() is None


def test_a_finding_is_read_as_it_was_written(scans: Scans) -> None:
    scan = scans.begin({}, at=NOW)
    made = finding(
        "Ünal",
        scores={"hate": 0.75},
        reason="code",
        model="m",
        tokens_in=10,
        tokens_out=1,
        cost_usd=0.25,
        prompts=3,
    )
    scans.write(scan.id, [made])
    assert list(scans.findings(scan.id)) == [made]


def test_what_comes_replaces_that_it_was_asked_and_all_that_was_spent_counts(scans: Scans) -> None:
    scan = scans.begin({}, at=NOW)
    scans.write(scan.id, [finding("a", ASKED, tokens_in=5, cost_usd=0.5)])
    scans.write(scan.id, [finding("a", Outcome.TIMEOUT, reason="deadline", tokens_in=7)])
    scans.write(scan.id, [finding("a", reason="clear", tokens_in=8, tokens_out=1, cost_usd=0.25)])
    (found,) = scans.findings(scan.id)
    assert (found.outcome, found.reason, found.tokens_in, found.tokens_out, found.cost_usd) == (
        Outcome.OK,
        "clear",
        20,
        1,
        0.75,
    )


def test_findings_of_a_scan_are_given_page_by_page_and_of_no_other(scans: Scans) -> None:
    scan, other = scans.begin({}, at=NOW), scans.begin({}, at=NOW)
    people = [f"p{place:04}" for place in range(1_201)]
    scans.write(scan.id, [finding(person, scores={"hate": 1.0} if person == "p0700" else {}) for person in people])
    scans.write(other.id, [finding("elsewhere", Outcome.FAILED)])
    assert [found.person for found in scans.findings(scan.id)] == people
    assert [found.person for found in scans.findings(scan.id, (Outcome.OK,), scored=True)] == ["p0700"]
    assert list(scans.findings(scan.id, (Outcome.FAILED, ASKED))) == []


def test_totals_are_by_outcome_and_reason(scans: Scans) -> None:
    scan = scans.begin({}, at=NOW)
    scans.write(scan.id, [finding("a", tokens_in=2, tokens_out=1, cost_usd=0.5), finding("b", tokens_in=3)])
    scans.write(scan.id, [finding("c", Outcome.TIMEOUT, reason="deadline")])
    assert scans.totals(scan.id) == [
        ScanTotal("ok", "", 2, 5, 1, 0.5),
        ScanTotal("timeout", "deadline", 1, 0, 0, None),
    ]


def test_who_is_written_is_found_in_the_order_of_pages(any_store: Store, scans: Scans) -> None:
    # Names that databases may order differently: pages and what is written must agree whatever the order is.
    keys: list[Key] = [
        (tenant, principal, person)
        for tenant in ("default", "Zoo")
        for principal in ("key_a", "key_B", "key-a")
        for person in ("", "é", "z", "A b", "a")
    ]
    for place, (tenant, principal, person) in enumerate(keys):
        any_store.reserve(f"req_{place}", ask(principal=Principal(principal, person, tenant)), at=NOW, limit=1)
    scan = scans.begin({}, at=NOW)
    scans.write(scan.id, [Finding(*key, at=NOW, outcome=Outcome.OK) for key in keys])
    met: list[Key] = []
    while page := People(any_store).page(after=met[-1] if met else None, limit=4):
        on_page: list[Key] = [(one.tenant, one.principal, one.person) for one in page]
        assert scans.written(scan.id, on_page[0], on_page[-1]).keys() == set(on_page)
        met += on_page
    assert sorted(met) == sorted(keys)


def test_settings_can_be_replaced(scans: Scans) -> None:
    scan = scans.begin({"model": "a"}, at=NOW)
    scans.keep(scan.id, {"model": "a", "batches": [{"key": "1", "id": "batch_1"}]})
    found = scans.unfinished()
    assert found is not None
    assert found.settings["batches"] == [{"key": "1", "id": "batch_1"}]


def test_a_persons_newest_decisions_are_named_first(any_store: Store, scans: Scans) -> None:
    for place in range(5):
        any_store.reserve(f"r{place}", ask(principal=Principal("key_a", "ann")), at=NOW, limit=1)
        any_store.record(decision(f"r{place}", action=Action.BLOCK, reason=Reason.CATEGORY))
    any_store.reserve("other", ask(principal=Principal("key_a", "bob")), at=NOW, limit=1)
    any_store.record(decision("other"))
    key = ("default", "key_a", "ann")
    assert scans.last_decisions(key) == tuple(f"dec_r{place}_prompt_None" for place in (4, 3, 2))
    assert scans.last_decisions(("default", "key_a", "eve")) == ()
