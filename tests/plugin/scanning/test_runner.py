from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing, suppress
from typing import Any

import pytest

from safelight.backends.litellm_chat import ChatAnswer
from safelight.policy import Policy
from safelight.scanning.books import scan_calls
from safelight.scanning.budget import Budget, Stop
from safelight.scanning.crowd import Crowd
from safelight.scanning.ledger import Ledger
from safelight.scanning.pace import Pace
from safelight.scanning.plan import DesignName, Plan
from safelight.scanning.runner import Runner
from safelight.spending import Spending
from safelight.store.calls import Calls
from safelight.store.scans import ASKED, Finding, Scan, Scans
from safelight.store.sqlite import SQLiteStore
from safelight.verdict import Outcome
from scan_crowd import NOW, Said, Someone, code_for, codes, crowd, name, populate

MODEL = "fake-1"
POLICY = Policy.default()

Answer = Callable[[str, str], ChatAnswer]
"""From a question's rules and its case to an answer."""


def says(text: str, *, model: str = MODEL) -> ChatAnswer:
    return ChatAnswer(Outcome.OK, text=text, model=model, tokens_in=300, tokens_out=1, cost_usd=0.00003)


def perfect(rules: str, case: str) -> ChatAnswer:
    shown = json.loads(case)
    if "each key is" not in rules:
        return says(code_for(rules, shown))
    return says(json.dumps({id: code_for(rules, value) for id, value in shown.items()}))


def fails(outcome: Outcome, reason: str) -> Answer:
    return lambda rules, case: ChatAnswer(outcome, reason=reason, tokens_in=10, cost_usd=0.000001)


class FakeChat:
    """Answers as it is told, and counts whom it was asked about."""

    def __init__(self, answer: Answer) -> None:
        self.answer = answer
        self.calls: list[tuple[str, ...]] = []
        self.before: Callable[[], None] = lambda: None

    async def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        schema: Mapping[str, Any] | None = None,
        max_tokens: int,
        top_logprobs: int = 0,
        extra_body: Mapping[str, Any] | None = None,
        flaw: Callable[[str], str] | None = None,
    ) -> ChatAnswer:
        rules, case = (str(message["content"]) for message in messages)
        self.calls.append(tuple(sorted(set(re.findall(r"\bp\d{5}\b", case)))))
        self.before()
        answer = self.answer(rules, case)
        problem = flaw(answer.text) if flaw and answer.outcome is Outcome.OK else ""
        if problem:
            return ChatAnswer(Outcome.UNPARSABLE, reason=problem, model=answer.model, tokens_in=answer.tokens_in)
        return answer

    @property
    def times(self) -> Counter[str]:
        return Counter(one for call in self.calls for one in call)


class Sweep:
    """One scan over a store in memory, which can be run again."""

    def __init__(self, store: SQLiteStore, answer: Answer = perfect, **plan: Any) -> None:
        self.store, self.scans, self.plan = store, Scans(store), Plan("fake/fake-1", **plan)
        self.scan: Scan = self.scans.begin(self.plan.settings(POLICY), at=NOW)
        self.chat = FakeChat(answer)
        self.ended: Stop | None = None
        self.runner: Runner | None = None
        self.spending: Spending | None = None
        self.done = 0

    async def run(self, *, budget: Budget | None = None, tries: int = 2, **again: Any) -> Mapping[str, Finding]:
        alone, *packed = self.plan.designs(POLICY, seed=self.scan.id)
        self.runner = Runner(
            chat=self.chat,
            crowd=Crowd(self.store, self.scan, self.plan, POLICY, now=NOW, **again),
            ledger=Ledger(self.scans, self.scan.id),
            alone=alone,
            packed=packed[0] if packed else None,
            served=frozenset({MODEL}),
            concurrency=4,
            pace=Pace(first_pause_s=0.001, longest_pause_s=0.002),
            budget=budget or Budget(),
            calls=scan_calls(self.spending, model="fake/fake-1", clock=lambda: NOW),
            tries=tries,
            recheck=0.0,
            clock=lambda: NOW,
            progress=self._count,
        )
        self.ended = await self.runner.run()
        return self.found

    @property
    def found(self) -> Mapping[str, Finding]:
        return {finding.person: finding for finding in self.scans.findings(self.scan.id)}

    def _count(self, more: int) -> None:
        self.done += more


@pytest.fixture
def store() -> Iterator[SQLiteStore]:
    with closing(SQLiteStore(":memory:")) as opened:
        yield opened


async def test_everybody_is_asked_about_once_and_found_as_the_judge_says(store: SQLiteStore) -> None:
    populate(store, crowd(450, bad=[3, 200, 449]), now=NOW)
    sweep = Sweep(store)
    found = await sweep.run()
    assert sweep.ended is Stop.DONE
    assert sweep.done == 450
    assert set(sweep.chat.times.values()) == {1}
    assert {person for person, finding in found.items() if finding.scores} == {name(3), name(200), name(449)}
    assert found[name(3)].scores == {"violence": 1.0}
    assert {finding.outcome for finding in found.values()} == {Outcome.OK}
    assert sum(finding.tokens_in for finding in found.values()) == 450 * 300


async def test_that_a_question_is_on_its_way_is_written_before_it_is_sent(store: SQLiteStore) -> None:
    populate(store, crowd(20), now=NOW)
    sweep = Sweep(store)
    unwritten: list[str] = []
    sweep.chat.before = lambda: unwritten.extend(
        person for person in sweep.chat.calls[-1] if sweep.found[person].outcome != ASKED
    )
    await sweep.run()
    assert unwritten == []


async def test_a_second_run_of_a_scan_asks_only_about_those_whom_the_first_did_not_reach(store: SQLiteStore) -> None:
    populate(store, crowd(60), now=NOW)
    sweep = Sweep(store)
    sweep.chat.before = lambda: sweep.runner.stop() if len(sweep.chat.calls) == 25 and sweep.runner else None
    first = await sweep.run()
    assert sweep.ended is Stop.INTERRUPTED
    # Those on their way were waited for, and nobody else has a mark.
    assert 25 <= len(first) <= 28
    assert {finding.outcome for finding in first.values()} == {Outcome.OK}
    assert len(await sweep.run()) == 60
    assert set(sweep.chat.times.values()) == {1}


async def test_an_unknown_person_is_asked_about_again_only_if_told_to(store: SQLiteStore) -> None:
    populate(store, crowd(3), now=NOW)
    sweep = Sweep(store)
    sweep.scans.write(sweep.scan.id, [Finding("default", "key_1", name(1), at=NOW, outcome=ASKED)])
    assert (await sweep.run())[name(1)].outcome == ASKED
    assert sweep.chat.times[name(1)] == 0
    assert (await sweep.run(retry_unknown=True))[name(1)].outcome == Outcome.OK
    assert sweep.chat.times == Counter({name(place): 1 for place in range(3)})


@pytest.mark.parametrize(
    ("answer", "outcome", "reason"),
    [
        (fails(Outcome.UNREACHABLE, "http_429"), "unreachable", "http_429"),
        (fails(Outcome.TIMEOUT, "deadline"), "timeout", "deadline"),
        (fails(Outcome.EMPTY, "empty"), "empty", "empty"),
        (fails(Outcome.FAILED, "blocked_other"), "failed", "blocked_other"),
        (lambda rules, case: says("I would say it is fine."), "unparsable", "answer_code"),
        (lambda rules, case: says(codes(rules)[0], model="other"), "failed", "served_model_mismatch"),
    ],
    ids=["429", "timeout", "empty", "other", "prose", "another model"],
)
async def test_a_failure_is_written_with_its_reason_and_never_as_clear(
    store: SQLiteStore, answer: Answer, outcome: str, reason: str
) -> None:
    populate(store, crowd(2), now=NOW)
    sweep = Sweep(store, answer)
    found = await sweep.run()
    assert {(finding.outcome, finding.reason) for finding in found.values()} == {(outcome, reason)}
    asked = len(sweep.chat.calls)
    # Asked about again only if told to, and what it then says stands, at the price of both.
    sweep.chat.answer = perfect
    await sweep.run()
    assert len(sweep.chat.calls) == asked
    found = await sweep.run(retry_failed=True)
    assert {finding.outcome for finding in found.values()} == {Outcome.OK}
    assert all(finding.tokens_in >= 300 for finding in found.values())


@pytest.mark.parametrize("outcome", [Outcome.REFUSED, Outcome.RESTRICTED])
async def test_a_refusal_is_a_finding_and_never_asked_about_again(store: SQLiteStore, outcome: Outcome) -> None:
    populate(store, crowd(2), now=NOW)
    sweep = Sweep(store, fails(outcome, "blocked"))
    await sweep.run()
    found = await sweep.run(retry_failed=True, retry_unknown=True)
    assert {finding.outcome for finding in found.values()} == {outcome}
    assert len(sweep.chat.calls) == 2


async def test_an_overloaded_provider_is_waited_for(store: SQLiteStore) -> None:
    populate(store, crowd(8), now=NOW)
    sweep = Sweep(store)
    sweep.chat.answer = lambda rules, case: (
        ChatAnswer(Outcome.UNREACHABLE, reason="http_429") if len(sweep.chat.calls) <= 4 else perfect(rules, case)
    )
    assert {finding.outcome for finding in (await sweep.run(tries=5)).values()} == {Outcome.OK}
    assert sweep.ended is Stop.DONE


@pytest.mark.parametrize(
    ("reason", "most"), [("http_401", 4), ("http_404_model_retired", 4), ("http_400", 13), ("blocked_other", 13)]
)
async def test_a_provider_that_fails_again_and_again_is_left_alone(store: SQLiteStore, reason: str, most: int) -> None:
    populate(store, crowd(100), now=NOW)
    sweep = Sweep(store, fails(Outcome.FAILED, reason))
    found = await sweep.run()
    assert sweep.ended is Stop.PROVIDER
    assert sweep.runner is not None and sweep.runner.trouble == reason
    assert len(found) <= most


@pytest.mark.parametrize("prices", [None, (0.1, 0.4), (0.01, 0.04), (10.0, 40.0)])
async def test_the_budget_is_not_passed(store: SQLiteStore, prices: tuple[float, float] | None) -> None:
    populate(store, crowd(100), now=NOW)
    sweep = Sweep(store)
    # Twenty calls; of the estimates one is about right, one too low, and one too high for the budget's beginning.
    found = await sweep.run(budget=Budget(0.0006, usd_per_million=prices))
    assert sweep.ended is Stop.BUDGET
    assert len(found) <= 20
    assert len(found) >= 15 or prices == (10.0, 40.0)
    assert sum(finding.cost_usd or 0 for finding in found.values()) <= 0.00060001
    assert len(await sweep.run()) == 100


async def test_a_budget_that_is_too_small_for_one_call_asks_nobody(store: SQLiteStore) -> None:
    populate(store, crowd(5), now=NOW)
    sweep = Sweep(store)
    assert await sweep.run(budget=Budget(1e-9, usd_per_million=(0.1, 0.4))) == {}
    assert sweep.ended is Stop.BUDGET
    assert sweep.runner is not None and "--budget-usd" in sweep.runner.trouble
    assert sweep.chat.calls == []


async def test_while_no_price_is_known_one_call_at_a_time_is_let_through(store: SQLiteStore) -> None:
    populate(store, crowd(5), now=NOW)
    sweep = Sweep(store)
    assert len(await sweep.run(budget=Budget(1e-9))) == 1


async def test_every_call_is_in_the_books_also_one_that_failed_or_was_given_up(store: SQLiteStore) -> None:
    populate(store, crowd(4), now=NOW)
    sweep = Sweep(store, fails(Outcome.FAILED, "blocked_other"))
    sweep.spending = Spending(Calls(store), clock=lambda: NOW)
    await sweep.run()

    def break_off() -> None:
        raise asyncio.CancelledError

    sweep.chat.before = break_off
    with suppress(asyncio.CancelledError):
        await sweep.run(retry_failed=True)
    (booked,) = Calls(store).totals(since=NOW)
    assert booked.calls == len(sweep.chat.calls) > 4


async def test_the_days_limit_ends_a_scan_which_goes_on_when_there_is_money(store: SQLiteStore) -> None:
    populate(store, crowd(50), now=NOW)
    sweep = Sweep(store)
    purse = Spending(Calls(store), usd_per_day=0.0003, clock=lambda: NOW)
    sweep.spending = purse
    assert 10 <= len(await sweep.run()) <= 14
    assert sweep.ended is Stop.SPENDING
    sweep.spending = None
    assert len(await sweep.run()) == 50
    assert set(sweep.chat.times.values()) == {1}


async def test_the_cascade_leaves_quiet_people_to_the_local_screens_and_says_so(store: SQLiteStore) -> None:
    people = crowd(30)
    people[4] = Someone(name(4), [Said(f"tea for {name(4)}", 1, risk=0.9)])
    populate(store, people, now=NOW)
    sweep = Sweep(store, cascade=0.1)
    found = await sweep.run()
    assert sweep.chat.times == Counter({name(4): 1})
    assert Counter(finding.outcome for finding in found.values()) == {Outcome.SKIPPED: 29, Outcome.OK: 1}


async def test_only_recent_people_and_only_the_first_are_gone_through_if_told_so(store: SQLiteStore) -> None:
    people = crowd(9)
    people[1] = Someone(name(1), [Said(f"tea for {name(1)}", 24 * 9)], principal="key_0")
    populate(store, people, now=NOW)
    assert len(await Sweep(store, since_days=7).run()) == 8
    assert len(await Sweep(store, limit=5).run()) == 5


async def test_packed_people_who_are_found_are_asked_about_alone(store: SQLiteStore) -> None:
    populate(store, crowd(100, bad=[3, 50]), now=NOW)
    sweep = Sweep(store, design=DesignName.PACKED)
    found = await sweep.run()
    assert {person for person, finding in found.items() if finding.scores} == {name(3), name(50)}
    alone = [call for call in sweep.chat.calls if len(call) == 1]
    assert sorted(alone) == [(name(3),), (name(50),)]
    assert {len(call) for call in sweep.chat.calls} == {1, 20}
    assert sum(finding.tokens_in for finding in found.values()) == 300 * len(sweep.chat.calls)


async def test_a_finding_among_many_that_is_not_confirmed_alone_does_not_stand(store: SQLiteStore) -> None:
    populate(store, crowd(20), now=NOW)

    def steered(rules: str, case: str) -> ChatAnswer:
        if "each key is" not in rules:
            return perfect(rules, case)
        return says(json.dumps(dict.fromkeys(json.loads(case), code_for(rules, "zorblax"))))

    found = await Sweep(store, steered, design=DesignName.PACKED).run()
    assert not any(finding.scores for finding in found.values())
    assert {finding.outcome for finding in found.values()} == {Outcome.OK}


@pytest.mark.parametrize("flaw", ["missing", "odd", "prose", "another model", "refused"])
async def test_whoever_has_no_proper_answer_among_many_is_asked_about_alone(store: SQLiteStore, flaw: str) -> None:
    populate(store, crowd(20, bad=[7]), now=NOW)

    def flawed(rules: str, case: str) -> ChatAnswer:
        if "each key is" not in rules:
            return perfect(rules, case)
        answers = {id: code_for(rules, "tea") for id in json.loads(case)}
        bad = next(id for id, value in json.loads(case).items() if name(7) in str(value))
        if flaw == "refused":
            return ChatAnswer(Outcome.REFUSED, reason="blocked_safety")
        if flaw == "missing":
            del answers[bad]
        elif flaw == "odd":
            answers[bad] = "none"
        return says("fine" if flaw == "prose" else json.dumps(answers), model="x" if "model" in flaw else MODEL)

    sweep = Sweep(store, flawed, design=DesignName.PACKED)
    found = await sweep.run()
    assert {person for person, finding in found.items() if finding.scores} == {name(7)}
    assert (name(7),) in sweep.chat.calls


async def test_somebody_risky_is_asked_about_alone_whatever_is_said_among_many(store: SQLiteStore) -> None:
    people = crowd(20)
    people[5] = Someone(name(5), [Said(f"zorblax for {name(5)}", 1, risk=0.9)])
    populate(store, people, now=NOW)

    def steered(rules: str, case: str) -> ChatAnswer:
        if "each key is" not in rules:
            return perfect(rules, case)
        return says(json.dumps(dict.fromkeys(json.loads(case), code_for(rules, "tea"))))

    found = await Sweep(store, steered, design=DesignName.PACKED).run()
    assert found[name(5)].scores == {"violence": 1.0}


async def test_the_gravest_refusal_of_many_is_not_sent_again_and_names_nobody(store: SQLiteStore) -> None:
    populate(store, crowd(20), now=NOW)
    sweep = Sweep(store, fails(Outcome.RESTRICTED, "blocked_prohibited_content"), design=DesignName.PACKED)
    found = await sweep.run()
    assert len(sweep.chat.calls) == 1
    assert {finding.outcome for finding in found.values()} == {Outcome.RESTRICTED}
    assert {finding.reason for finding in found.values()} == {"blocked_prohibited_content_in_pack"}


async def test_people_of_one_principal_share_no_call_where_that_can_be(store: SQLiteStore) -> None:
    people = [Someone(name(place), [Said(f"tea for {name(place)}")], f"key_{place // 5}") for place in range(100)]
    populate(store, people, now=NOW)
    sweep = Sweep(store, design=DesignName.PACKED)
    await sweep.run()
    for call in sweep.chat.calls:
        assert len({int(person[1:]) // 5 for person in call}) == 20
