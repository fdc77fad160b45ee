from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from safelight.policy import Action, Reason
from safelight.request import Principal
from safelight.store import Store
from safelight.store.strikes import Attempt, AttemptKind, Hold, Strikes
from safelight.verdict import Stage
from store_requests import NOW, ask, decision

LONG_AGO = NOW - timedelta(days=400)
MINUTE = timedelta(minutes=1)


def attempt(
    number: int,
    kind: AttemptKind = AttemptKind.BLOCKED,
    *,
    tenant: str = "t",
    principal: str = "p",
    at: datetime | None = None,
    decision_id: str | None = None,
) -> Attempt:
    return Attempt(tenant, principal, kind, decision_id or f"dec_{number}", f"r{number}", at or NOW + number * MINUTE)


@pytest.fixture
def strikes(any_store: Store) -> Strikes:
    return Strikes(any_store)


def all_of(strikes: Strikes, principal: str = "p") -> tuple[Attempt, ...]:
    return strikes.of_principal("t", principal, since=LONG_AGO, limit=100)


def test_attempts_come_back_as_they_were_added_oldest_first(strikes: Strikes) -> None:
    added = [attempt(number, kind) for number, kind in enumerate(AttemptKind)]
    for one in reversed(added):
        strikes.add(one)
    assert all_of(strikes) == tuple(added)


def test_only_the_newest_and_only_those_since_a_time_are_returned(strikes: Strikes) -> None:
    for number in range(5):
        strikes.add(attempt(number))
    found = strikes.of_principal("t", "p", since=NOW + MINUTE, limit=2)
    assert found == (attempt(3), attempt(4))
    assert strikes.of_principal("t", "p", since=NOW + 4 * MINUTE, limit=9) == (attempt(4),)


def test_attempts_of_a_tenant_are_those_of_all_its_principals_and_of_no_other_tenant(strikes: Strikes) -> None:
    added = [attempt(0), attempt(1, principal="q"), attempt(2)]
    for one in [*added, attempt(3, tenant="u")]:
        strikes.add(one)
    assert strikes.of_tenant("t", since=LONG_AGO, limit=9) == tuple(added)
    assert strikes.of_tenant("t", since=NOW + MINUTE, limit=1) == (added[2],)
    assert all_of(strikes, "q") == (added[1],)


def test_a_request_counts_once_and_a_grave_attempt_takes_its_place(strikes: Strikes) -> None:
    strikes.add(attempt(1))
    strikes.add(attempt(1, AttemptKind.PICTURE_BLOCKED, decision_id="dec_x"))
    assert all_of(strikes) == (attempt(1),)
    grave = attempt(1, AttemptKind.GRAVE, decision_id="dec_grave", at=NOW + 9 * MINUTE)
    strikes.add(grave)
    strikes.add(attempt(1, AttemptKind.GRAVE, decision_id="dec_later"))
    strikes.add(attempt(1))
    assert all_of(strikes) == (grave,)


def test_a_won_appeal_voids_the_attempt_whichever_decision_of_the_request_it_quotes(
    any_store: Store, strikes: Strikes
) -> None:
    pictures = [decision("r1", Stage.IMAGE, index=place, action=Action.BLOCK) for place in range(2)]
    for picture in pictures:
        any_store.record(picture)
    strikes.add(attempt(1, decision_id=pictures[0].id))
    strikes.add(attempt(2))
    assert strikes.void(pictures[1].id)
    assert not strikes.void(pictures[1].id)
    assert all_of(strikes) == (attempt(2),)
    assert strikes.of_tenant("t", since=LONG_AGO, limit=9) == (attempt(2),)
    strikes.add(attempt(1))
    assert all_of(strikes) == (attempt(2),)


def test_what_rests_on_an_overturned_decision_of_another_request_is_voided_with_it(strikes: Strikes) -> None:
    strikes.add(attempt(1, decision_id="dec_first"))
    strikes.add(attempt(2, AttemptKind.NEAR_DUPLICATE, decision_id="dec_first"))
    assert strikes.void("dec_first")
    assert all_of(strikes) == ()
    assert not strikes.void("dec_unknown")


def test_a_hold_lasts_until_it_is_released_and_keeps_its_beginning(strikes: Strikes) -> None:
    assert strikes.held("t", "p") is None
    strikes.hold("t", "p", at=NOW, decision_id="dec_1")
    strikes.hold("t", "p", at=NOW + MINUTE, decision_id="dec_2")
    strikes.hold("t", "q", at=NOW - MINUTE, decision_id="dec_3")
    first = Hold("t", "p", NOW, "dec_1")
    assert strikes.held("t", "p") == first
    assert strikes.held("u", "p") is None
    assert strikes.holds() == (Hold("t", "q", NOW - MINUTE, "dec_3"), first)
    assert strikes.release("t", "p", at=NOW + MINUTE)
    assert strikes.held("t", "p") is None
    strikes.hold("t", "p", at=NOW + 2 * MINUTE, decision_id="dec_4")
    assert strikes.held("t", "p") == Hold("t", "p", NOW + 2 * MINUTE, "dec_4")


def test_a_release_forgives_the_attempts_up_to_then_and_no_one_elses(strikes: Strikes) -> None:
    for one in (attempt(1), attempt(2), attempt(3), attempt(4, principal="q")):
        strikes.add(one)
    strikes.hold("t", "p", at=NOW, decision_id="dec_1")
    assert strikes.release("t", "p", at=NOW + 2 * MINUTE)
    assert all_of(strikes) == (attempt(3),)
    assert all_of(strikes, "q") == (attempt(4, principal="q"),)


def test_a_hold_that_began_after_the_look_stays(strikes: Strikes) -> None:
    strikes.hold("t", "p", at=NOW, decision_id="dec_1")
    assert not strikes.release("t", "p", at=NOW - MINUTE)
    assert strikes.held("t", "p") is not None
    assert not strikes.release("t", "nobody", at=NOW)


def test_blocked_texts_are_those_of_all_persons_of_a_principal_without_erased_and_overturned_ones(
    any_store: Store, strikes: Strikes
) -> None:
    rulings: dict[str, dict[str, Any]] = {
        "first": {"action": Action.BLOCK, "reason": Reason.CATEGORY},
        "allowed": {},
        "flagged": {"action": Action.FLAG, "reason": Reason.CATEGORY},
        "erased": {"action": Action.BLOCK, "reason": Reason.RESTRICTED},
        "fault": {"action": Action.BLOCK, "reason": Reason.ABORTED},
        "overturned": {"action": Action.BLOCK, "reason": Reason.CATEGORY},
        "second": {"action": Action.BLOCK, "reason": Reason.PROVIDER_REFUSED},
    }
    for number, (name, ruling) in enumerate(rulings.items()):
        who = Principal("p", person=name, tenant="t")
        any_store.reserve(name, ask(f"{name} tea", who), at=NOW + number * MINUTE, limit=1)
        any_store.record(decision(name, **ruling))
    any_store.overturn(decision("overturned").id, at=NOW)
    first, second = ("first", {"prompt": "first tea"}), ("second", {"prompt": "second tea"})
    assert strikes.blocked_texts("t", "p", since=LONG_AGO, limit=9) == (first, second)
    assert strikes.blocked_texts("t", "p", since=LONG_AGO, limit=1) == (second,)
    assert strikes.blocked_texts("t", "p", since=NOW + MINUTE, limit=9) == (second,)
    assert strikes.blocked_texts("t", "q", since=LONG_AGO, limit=9) == ()
