"""What a store sums up of a person's past, and how it counts."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fakes import ALICE, BOB
from safelight.errors import StoreUnavailable
from safelight.policy import Action, Decision, Reason
from safelight.request import History, Principal, Turn
from safelight.store import Store, turns
from safelight.store.sqlite import SQLiteStore
from safelight.verdict import Stage, Verdict
from store_databases import Database, Opened
from store_requests import NOW, ask, decision

BLOCK: dict[str, Any] = {"action": Action.BLOCK, "reason": Reason.CATEGORY}
FAULT: dict[str, Any] = {"action": Action.BLOCK, "reason": Reason.SCREENING_UNAVAILABLE}
FLAG: dict[str, Any] = {"action": Action.FLAG, "reason": Reason.CATEGORY}
LATER = NOW + timedelta(hours=1)


def asked(store: Store, request_id: str, who: Principal = ALICE, *, risk: float = 0.0, **ruling: Any) -> Decision:
    """Reserve a turn whose prompt is its id, and rule on it."""
    store.reserve(request_id, ask(request_id, who), at=NOW, limit=1)
    verdict = Verdict("a", Stage.PROMPT, {"hate": risk})
    ruled = decision(request_id, verdicts=(verdict,), **ruling)
    store.record(ruled)
    return ruled


def counts(history: History) -> dict[str, int]:
    names = ("total", "blocked", "flagged", "overturned", "clean_run")
    return {name: getattr(history, name) for name in names if getattr(history, name)}


def prompts(shown: tuple[Turn, ...]) -> list[str]:
    return [turn.texts.get("prompt", "") for turn in shown]


def test_a_person_of_whom_nothing_is_known_has_an_empty_history(any_store: Store) -> None:
    assert any_store.history(ALICE, limit=5) == History()
    assert any_store.reserve("r1", ask(), at=NOW, limit=5) == History()


def test_reserving_and_looking_return_the_same_and_only_reserving_adds(any_store: Store) -> None:
    asked(any_store, "r1", **FLAG)
    looked = any_store.history(ALICE, limit=5)
    assert any_store.history(ALICE, limit=5) == looked
    assert any_store.reserve("r2", ask(), at=NOW, limit=5) == looked
    assert counts(looked) == {"total": 1, "flagged": 1}
    assert any_store.history(ALICE, limit=5).total == 2


def test_rulings_are_counted_and_a_block_or_flag_ends_a_clean_run(any_store: Store) -> None:
    for number, ruling in enumerate(({}, BLOCK, {}, {}, FLAG, {}, {}, {})):
        asked(any_store, f"r{number}", **ruling)
    assert counts(any_store.history(ALICE, limit=2)) == {"total": 8, "blocked": 1, "flagged": 1, "clean_run": 3}


def test_a_fault_of_ours_counts_among_all_turns_and_as_nothing_else(any_store: Store) -> None:
    asked(any_store, "r1")
    asked(any_store, "r2", risk=0.9, **FAULT)
    asked(any_store, "r3")
    any_store.settle("r3", None)
    history = any_store.history(ALICE, limit=5)
    assert counts(history) == {"total": 3, "clean_run": 1}
    assert [turn.risk for turn in history] == [0.0, 0.0, 0.0]


def test_a_turn_whose_picture_is_blocked_after_its_prompt_was_allowed_counts_as_blocked_once(any_store: Store) -> None:
    asked(any_store, "before")
    asked(any_store, "r1")
    assert any_store.history(ALICE, limit=5).clean_run == 2
    for index in range(3):
        any_store.record(decision("r1", Stage.IMAGE, index=index, **BLOCK))
    any_store.record(decision("r1", Stage.IMAGE, index=3))
    any_store.record(decision("r1", Stage.IMAGE, index=4, **FAULT))
    any_store.settle("r1", None)
    assert counts(any_store.history(ALICE, limit=5)) == {"total": 2, "blocked": 1}


def test_a_flagged_turn_whose_picture_is_blocked_is_not_flagged_any_more(any_store: Store) -> None:
    asked(any_store, "r1", **FLAG)
    any_store.record(decision("r1", Stage.IMAGE, index=0, **BLOCK))
    assert counts(any_store.history(ALICE, limit=5)) == {"total": 1, "blocked": 1}


def test_only_what_was_asked_after_a_block_makes_a_clean_run(any_store: Store) -> None:
    any_store.reserve("slow", ask(), at=NOW, limit=1)
    any_store.reserve("meanwhile", ask(), at=NOW, limit=1)
    any_store.record(decision("slow", **BLOCK))
    any_store.record(decision("meanwhile"))
    assert any_store.history(ALICE, limit=5).clean_run == 0
    any_store.settle("meanwhile", None)
    asked(any_store, "after")
    assert any_store.history(ALICE, limit=5).clean_run == 1


def test_the_risk_of_a_turn_is_the_highest_score_of_its_decisions_and_one_where_it_was_blocked(
    any_store: Store,
) -> None:
    course = Verdict("judge", Stage.PROMPT, {"hate": 0.1}, course={"violence": 0.4})
    picture = Verdict("eye", Stage.IMAGE, {"hate": 0.25, "sexual": 0.125})
    for request_id in ("course", "picture", "blocked"):
        any_store.reserve(request_id, ask(), at=NOW, limit=1)
    any_store.record(decision("course", verdicts=(course,)))
    any_store.record(decision("course", Stage.IMAGE, index=0, verdicts=(picture,)))
    any_store.record(decision("picture", verdicts=(Verdict("a", Stage.PROMPT, {"hate": 0.0}),)))
    any_store.record(decision("picture", Stage.IMAGE, index=0, verdicts=(picture,)))
    any_store.record(decision("blocked", **BLOCK))
    # The course's own score is in none of them: it would make every innocent turn a risky one.
    assert [turn.risk for turn in any_store.history(ALICE, limit=5)] == [0.25, 0.25, 1.0]


def test_a_remark_about_the_course_is_none_about_the_turn(any_store: Store) -> None:
    course = Verdict("judge", Stage.PROMPT, {"hate": 0.0}, course={"hate": 0.7})
    for number in range(8):
        any_store.reserve(f"r{number}", ask(f"bread {number}"), at=NOW, limit=1)
        any_store.record(
            decision(f"r{number}", verdicts=(course,), action=Action.FLAG, reason=Reason.COURSE, course=("hate",))
        )
    history = any_store.history(ALICE, limit=2)
    assert (history.flagged, history.clean_run, history.riskiest) == (0, 8, ())
    assert [turn.action for turn in history] == [Action.ALLOW] * 2


def test_a_flag_stays_when_the_client_leaves_before_the_picture_comes(any_store: Store) -> None:
    asked(any_store, "flagged", **FLAG)
    any_store.settle("flagged", None)
    history = any_store.history(ALICE, limit=1)
    assert (history.flagged, history[0].action) == (1, Action.FLAG)


def test_the_riskiest_turns_are_few_older_than_those_shown_and_in_the_order_of_asking(any_store: Store) -> None:
    risks = [0.31, 0.9, 0.29, 0.3, 0.5, 0.4, 0.6, 0.7, 0.95]
    for number, risk in enumerate(risks):
        asked(any_store, f"r{number}", risk=risk)
    history = any_store.history(ALICE, limit=2)
    assert prompts(history.turns) == ["r7", "r8"]
    assert prompts(history.riskiest) == ["r0", "r1", "r4", "r5", "r6"]
    assert [turn.risk for turn in history.riskiest] == [0.31, 0.9, 0.5, 0.4, 0.6]
    assert prompts(any_store.history(ALICE, limit=6).riskiest) == ["r0", "r1"]
    assert any_store.history(ALICE, limit=9).riskiest == ()


def test_of_equally_risky_turns_the_newer_ones_are_shown(any_store: Store) -> None:
    for number in range(8):
        asked(any_store, f"r{number}", **BLOCK)
    assert prompts(any_store.history(ALICE, limit=1).riskiest) == ["r2", "r3", "r4", "r5", "r6"]


def test_erased_and_overturned_turns_are_not_among_the_riskiest(any_store: Store) -> None:
    asked(any_store, "erased", action=Action.BLOCK, reason=Reason.RESTRICTED)
    overturned = asked(any_store, "overturned", **BLOCK)
    asked(any_store, "blocked", **BLOCK)
    asked(any_store, "newest")
    assert any_store.overturn(overturned.id, at=LATER)
    history = any_store.history(ALICE, limit=1)
    assert prompts(history.riskiest) == ["blocked"]
    assert counts(history) == {"total": 4, "blocked": 2, "overturned": 1, "clean_run": 1}


def test_a_renamed_person_brings_the_principals_newest_blocked_and_flagged_turns_along(any_store: Store) -> None:
    for number in range(3):
        asked(any_store, f"x{number}", Principal(ALICE.id, person="x"), **BLOCK)
        asked(any_store, f"y{number}", Principal(ALICE.id, person="y"), **FLAG)
        asked(any_store, f"calm{number}", Principal(ALICE.id, person="calm"))
        asked(any_store, f"me{number}", Principal(ALICE.id, person="me"), **BLOCK)
    asked(any_store, "fault", Principal(ALICE.id, person="x"), **FAULT)
    history = any_store.reserve("now", ask(principal=Principal(ALICE.id, person="new")), at=NOW, limit=5)
    assert prompts(history.kin) == ["y1", "me1", "x2", "y2", "me2"]
    assert [turn.action for turn in history.kin][0] is Action.FLAG
    assert (history.turns, history.total) == ((), 0)
    mine = any_store.history(Principal(ALICE.id, person="me"), limit=5)
    assert prompts(mine.kin) == ["y0", "x1", "y1", "x2", "y2"]


def test_kin_are_found_among_the_principals_newest_fifty_blocked_and_flagged_turns(any_store: Store) -> None:
    asked(any_store, "old", Principal(ALICE.id, person="other"), **BLOCK)
    for number in range(turns.KIN_WITHIN):
        assert prompts(any_store.history(ALICE, limit=1).kin) == ["old"]
        asked(any_store, f"mine{number}", **BLOCK)
        asked(any_store, f"calm{number}", Principal(ALICE.id, person=f"calm{number}"))
    assert any_store.history(ALICE, limit=1).kin == ()


def test_kin_stay_within_their_principal_and_tenant(any_store: Store) -> None:
    asked(any_store, "r1", Principal(ALICE.id, person="x"), **BLOCK)
    assert len(any_store.history(ALICE, limit=1).kin) == 1
    for other in (BOB, Principal(ALICE.id, tenant="other")):
        assert any_store.history(other, limit=1) == History()


def test_an_overturned_turn_is_no_kin_any_more_and_an_older_one_still_is(any_store: Store) -> None:
    x = Principal(ALICE.id, person="x")
    first = asked(any_store, "first", x, **BLOCK)
    second = asked(any_store, "second", x, **BLOCK)
    assert any_store.overturn(second.id, at=LATER)
    assert prompts(any_store.history(ALICE, limit=1).kin) == ["first"]
    assert any_store.overturn(first.id, at=LATER)
    assert any_store.history(ALICE, limit=1).kin == ()


def test_a_block_is_overturned_once_and_the_decision_stays_as_it_was_ruled(
    any_store: Store, any_database: Database
) -> None:
    ruled = asked(any_store, "r1", **BLOCK)
    assert any_store.overturn(ruled.id, at=LATER)
    assert not any_store.overturn(ruled.id, at=LATER)
    history = any_store.history(ALICE, limit=5)
    assert counts(history) == {"total": 1, "overturned": 1}
    assert (history[0].overturned, history[0].action, history[0].risk) == (True, Action.BLOCK, 1.0)
    assert any_store.decisions(request_id="r1") == [ruled]
    assert not any_store.is_releasable("r1", "", ruled.policy)
    assert any_database.rows("SELECT overturned_at FROM turns") == [("2026-11-22T13:00:00.000000+00:00",)]


def test_a_turn_is_overturned_by_the_decision_about_its_picture(any_store: Store) -> None:
    allowed = asked(any_store, "r1")
    blocked = [decision("r1", Stage.IMAGE, index=index, **BLOCK) for index in range(2)]
    for picture in blocked:
        any_store.record(picture)
    assert not any_store.overturn(allowed.id, at=LATER)
    assert any_store.overturn(blocked[0].id, at=LATER)
    assert not any_store.overturn(blocked[1].id, at=LATER)
    any_store.record(decision("r1", Stage.IMAGE, index=2, **BLOCK))
    assert counts(any_store.history(ALICE, limit=5)) == {"total": 1, "overturned": 1}


def test_what_is_no_recorded_block_is_not_overturned(any_store: Store) -> None:
    rulings: dict[str, dict[str, Any]] = {"allow": {}, "flag": FLAG, "fault": FAULT}
    ids = [asked(any_store, name, **ruling).id for name, ruling in rulings.items()]
    before = any_store.history(ALICE, limit=5)
    assert not any(any_store.overturn(id, at=LATER) for id in [*ids, "dec_unknown", "", "' OR 1=1 --"])
    assert any_store.history(ALICE, limit=5) == before


def test_an_overturned_restricted_decision_keeps_its_hold_and_its_text_stays_erased(
    any_store: Store, any_database: Database
) -> None:
    ruled = asked(any_store, "r1", action=Action.BLOCK, reason=Reason.RESTRICTED)
    assert any_store.overturn(ruled.id, at=LATER)
    turn = any_store.history(ALICE, limit=1)[0]
    assert (dict(turn.texts), turn.overturned) == ({}, True)
    assert bool(any_database.rows("SELECT hold FROM decisions")[0][0])


def test_a_decision_about_no_known_request_is_kept_and_counts_for_nobody(
    any_store: Store, any_database: Database
) -> None:
    any_store.record(decision("nobody", **BLOCK))
    any_store.settle("nobody", Action.BLOCK)
    assert not any_store.overturn(decision("nobody").id, at=LATER)
    assert any_database.rows("SELECT * FROM people") == []


def test_counters_are_right_after_simultaneous_rulings_of_one_person(opened: Opened, any_database: Database) -> None:
    stores = [opened(), opened()]
    steps: list[Callable[[Store, str], object]] = [
        lambda store, id: store.record(decision(id)),
        lambda store, id: store.record(decision(id, **FLAG)),
        lambda store, id: store.record(decision(id, Stage.IMAGE, index=0, **BLOCK)),
        lambda store, id: store.record(decision(id, Stage.IMAGE, index=1, **BLOCK)),
        lambda store, id: store.settle(id, None),
        lambda store, id: store.overturn(decision(id, Stage.IMAGE, index=0).id, at=LATER),
    ]

    def live(number: int) -> None:
        # Two threads rule on each request, one after the other in a different order.
        id = f"r{number % 8}"
        for step in steps[number % 5 :] + steps[: number % 5]:
            # The other thread may have recorded it already.
            with suppress(StoreUnavailable):
                step(stores[number % 2], id)

    for number in range(8):
        stores[0].reserve(f"r{number}", ask(), at=NOW, limit=1)
    threads = [threading.Thread(target=live, args=(number,)) for number in range(16)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert any_database.rows(STORED) == any_database.rows(RECOUNTED)


STORED = "SELECT total, blocked, flagged, overturned FROM people"
RECOUNTED = """
    SELECT COUNT(*), SUM(CASE WHEN state = 'block' AND overturned = 0 THEN 1 ELSE 0 END),
        SUM(CASE state WHEN 'flag' THEN 1 ELSE 0 END), SUM(overturned)
    FROM turns
"""
CLEAN_RUN = """
    SELECT COUNT(*) FROM turns WHERE state = 'allow' AND seq > (SELECT clean_after FROM people)
"""

_STEPS = st.tuples(
    st.sampled_from(["reserve", "allow", "flag", "block", "fault", "picture", "blocked picture", "settle", "overturn"]),
    st.integers(0, 5),
)


@settings(max_examples=60)
@given(st.lists(_STEPS, max_size=40))
def test_counters_are_what_a_recount_of_the_turns_gives_whatever_happened(steps: list[tuple[str, int]]) -> None:
    store = SQLiteStore(":memory:")
    kinds: dict[str, dict[str, Any]] = {
        "allow": {},
        "flag": FLAG,
        "block": BLOCK,
        "fault": FAULT,
        "picture": {},
        "blocked picture": BLOCK,
    }
    store.reserve("r0", ask(), at=NOW, limit=1)
    reserved, decided = ["r0"], ["dec_none"]
    for step, number in steps:
        request_id = reserved[number % len(reserved)]
        if step == "reserve":
            reserved.append(f"r{len(reserved)}")
            store.reserve(reserved[-1], ask(), at=NOW, limit=1)
        elif step == "settle":
            store.settle(request_id, None)
        elif step == "overturn":
            store.overturn(decided[number % len(decided)], at=LATER)
        else:
            stage = Stage.IMAGE if "picture" in step else Stage.PROMPT
            decided.append(f"dec_{len(decided)}")
            store.record(decision(request_id, stage, id=decided[-1], **kinds[step]))
    found = store.transact(lambda run: [run(statement, {}) for statement in (STORED, RECOUNTED, CLEAN_RUN)])
    clean_run = store.history(ALICE, limit=1).clean_run
    store.close()
    assert list(found[0][0].values()) == list(found[1][0].values())
    assert list(found[2][0].values()) == [clean_run]


@pytest.mark.parametrize("limit", [1, 20])
def test_a_history_shows_no_more_turns_than_asked_for(any_store: Store, limit: int) -> None:
    for number in range(3):
        asked(any_store, f"r{number}")
    assert len(any_store.history(ALICE, limit=limit)) == min(3, limit)


def test_turns_that_are_not_ruled_on_yet_are_shown_however_many_come_at_once(any_store: Store) -> None:
    for number in range(40):
        any_store.reserve(f"r{number}", ask(f"half {number}"), at=NOW, limit=5)
        if number < 10:
            any_store.settle(f"r{number}", Action.ALLOW)
    shown = any_store.reserve("now", ask("other half"), at=NOW, limit=5)
    assert [turn.texts["prompt"] for turn in shown] == [f"half {number}" for number in range(10, 40)]
    assert all(turn.action is None for turn in shown)
