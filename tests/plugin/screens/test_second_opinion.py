"""When a second judge is asked, and what two verdicts come to."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from safelight.policy import Action, Decision, Policy, Reason
from safelight.screens.second_opinion import NOT_NOTED, SecondWhen, combine, wants_second
from safelight.verdict import Outcome, Stage, Verdict

RULE = """
[categories."{name}"]
title = "{name}"
description = "Pictures of {name}."
advice = "Ask for something else."
action = "{action}"
thresholds = {{ prompt = 0.5, image = 0.5 }}
"""
POLICY = Policy.parse(
    'version = 1\nname = "test"\n'
    + RULE.format(name="sexual/minors", action="block")
    + RULE.format(name="violence", action="block")
    + RULE.format(name="teapots", action="flag")
)


def ok(score: float, name: str = "violence", **more: Any) -> Verdict:
    scores = {"violence": 0.0, "teapots": 0.0, "sexual/minors": 0.0} | {name: score}
    return Verdict("judge", Stage.PROMPT, scores, **more)


def ended(outcome: Outcome, reason: str = "") -> Verdict:
    return Verdict("judge", Stage.PROMPT, outcome=outcome, reason=reason)


def rule(verdict: Verdict) -> Decision:
    return POLICY.decide(
        [verdict],
        id="dec_0",
        request_id="req_0",
        stage=Stage.PROMPT,
        created=datetime(2026, 11, 22, tzinfo=UTC),
        expected=["judge"],
    )


FAULTS = [Outcome.TIMEOUT, Outcome.UNREACHABLE, Outcome.UNPARSABLE, Outcome.EMPTY, Outcome.FAILED]

CLEAR = ok(0.1)
GREY = ok(0.4)
BLOCKS = ok(0.9)
FLAGS = ok(0.9, "teapots")
GRAVEST = ok(0.9, "sexual/minors")
REFUSED = ended(Outcome.REFUSED, "blocked_safety")
RESTRICTED = ended(Outcome.RESTRICTED, "blocked_prohibited_content")
FAULT = ended(Outcome.TIMEOUT, "deadline")

# The first verdict, and whether a second is asked: where it failed, where it is unsure, always.
ASKED = {
    "clear": (CLEAR, False, False, True),
    "grey": (GREY, False, True, True),
    "just not grey": (ok(0.25), False, False, True),
    "grey in a flagged category": (ok(0.4, "teapots"), False, True, True),
    "blocks": (BLOCKS, False, False, True),
    "flags": (FLAGS, False, False, True),
    "reaches its threshold exactly": (ok(0.5), False, False, True),
    "gravest": (GRAVEST, False, False, False),
    "refused": (REFUSED, True, True, True),
    "restricted": (RESTRICTED, False, False, False),
    "over budget": (ended(Outcome.OVER_BUDGET, "budget_exhausted"), False, False, False),
    "not counted": (ok(0.4, outcome=Outcome.FAILED, reason=NOT_NOTED), False, False, False),
    "another model": (ended(Outcome.FAILED, "served_model_mismatch"), True, True, True),
    **{str(fault): (ended(fault), True, True, True) for fault in FAULTS},
}


@pytest.mark.parametrize("name", ASKED)
def test_a_second_judge_is_asked_where_it_is_wanted(name: str) -> None:
    first, *expected = ASKED[name]
    assert [wants_second(first, when, POLICY) for when in SecondWhen] == expected


# First, second, and what is ruled: the action, the reason, and the outcome that stands.
COMBINED: dict[str, tuple[Verdict, Verdict, Reason, Outcome]] = {
    "both clear": (CLEAR, CLEAR, Reason.CLEAR, Outcome.OK),
    "the second blocks": (GREY, BLOCKS, Reason.CATEGORY, Outcome.OK),
    "only the first blocks": (BLOCKS, CLEAR, Reason.CATEGORY, Outcome.OK),
    "the second finds the gravest": (GREY, GRAVEST, Reason.RESTRICTED, Outcome.OK),
    "the second is refused the gravest": (GREY, RESTRICTED, Reason.RESTRICTED, Outcome.RESTRICTED),
    "one blocks and one is refused the gravest": (BLOCKS, RESTRICTED, Reason.RESTRICTED, Outcome.RESTRICTED),
    "the second is refused": (GREY, REFUSED, Reason.PROVIDER_REFUSED, Outcome.REFUSED),
    "the second fails where it was wanted": (GREY, FAULT, Reason.SCREENING_UNAVAILABLE, Outcome.TIMEOUT),
    "the second fails and the first blocks": (BLOCKS, FAULT, Reason.CATEGORY, Outcome.OK),
    "the second is over budget": (
        CLEAR,
        ended(Outcome.OVER_BUDGET),
        Reason.SCREENING_UNAVAILABLE,
        Outcome.OVER_BUDGET,
    ),
    "the second is not counted": (
        FAULT,
        ok(0.1, outcome=Outcome.FAILED, reason=NOT_NOTED),
        Reason.SCREENING_UNAVAILABLE,
        Outcome.TIMEOUT,
    ),
    "the second blocks and is not counted": (
        FAULT,
        ok(0.9, outcome=Outcome.FAILED, reason=NOT_NOTED),
        Reason.CATEGORY,
        Outcome.FAILED,
    ),
    "refused, then clear": (REFUSED, CLEAR, Reason.PROVIDER_REFUSED, Outcome.REFUSED),
    "refused, then blocked": (REFUSED, BLOCKS, Reason.CATEGORY, Outcome.OK),
    "refused, then the gravest": (REFUSED, RESTRICTED, Reason.RESTRICTED, Outcome.RESTRICTED),
    "refused, then a fault": (REFUSED, FAULT, Reason.PROVIDER_REFUSED, Outcome.REFUSED),
    "refused twice": (REFUSED, REFUSED, Reason.PROVIDER_REFUSED, Outcome.REFUSED),
    "a fault, then clear": (FAULT, CLEAR, Reason.CLEAR, Outcome.OK),
    "a fault, then flagged": (FAULT, FLAGS, Reason.CATEGORY, Outcome.OK),
    "a fault, then blocked": (FAULT, BLOCKS, Reason.CATEGORY, Outcome.OK),
    "a fault, then refused": (FAULT, REFUSED, Reason.PROVIDER_REFUSED, Outcome.REFUSED),
    "a fault, then the gravest": (FAULT, RESTRICTED, Reason.RESTRICTED, Outcome.RESTRICTED),
    "two faults": (FAULT, ended(Outcome.UNREACHABLE), Reason.SCREENING_UNAVAILABLE, Outcome.TIMEOUT),
}


@pytest.mark.parametrize("name", COMBINED)
def test_the_most_severe_of_two_verdicts_counts(name: str) -> None:
    first, second, reason, outcome = COMBINED[name]
    both = combine(first, second, POLICY)
    assert (rule(both).reason, both.outcome) == (reason, outcome)
    assert rule(both).allows is (reason is Reason.CLEAR or name == "a fault, then flagged")


VERDICTS = st.builds(
    ok,
    st.floats(0, 1),
    st.sampled_from(["violence", "teapots", "sexual/minors"]),
    outcome=st.sampled_from([Outcome.OK] * 6 + [Outcome.FAILED]),
) | st.sampled_from(list(Outcome)).filter(lambda outcome: outcome is not Outcome.OK).map(ended)


@given(VERDICTS, VERDICTS)
def test_no_second_verdict_releases_what_the_first_ruled_on(first: Verdict, second: Verdict) -> None:
    both = rule(combine(first, second, POLICY))
    alone = [rule(first), rule(second)]
    if both.allows:
        assert alone[1].allows
        assert alone[0].allows or (alone[0].is_fault and not first.scores) or first.outcome is Outcome.FAILED
    for one in alone:
        # A finding of either one is found in both.
        assert set(one.categories) <= set(both.categories)
        if one.action is Action.BLOCK and not one.is_fault:
            assert not both.allows
    assert Reason.RESTRICTED not in (one.reason for one in alone) or both.reason is Reason.RESTRICTED


def test_scores_of_prompt_and_course_are_the_higher_ones() -> None:
    one = ok(0.4, course={"violence": 0.1, "teapots": 0.8}, course_reason="escalating", reason="plain", model="a")
    other = ok(0.3, course={"violence": 0.7, "teapots": 0.0}, course_reason="retrying", reason="disguised", model="b")
    for both in (combine(one, other, POLICY), combine(other, one, POLICY)):
        assert both.scores["violence"] == 0.4
        assert both.course == {"violence": 0.7, "teapots": 0.8}
        # The words of the one that came nearer to a limit.
        assert (both.reason, both.course_reason) == ("plain", "escalating")


def test_costs_are_added_up_and_an_unknown_one_leaves_the_known() -> None:
    one, other = ok(0.4, tokens_in=3, tokens_out=1, cost_usd=0.5, ms=2.0), ok(0.4, tokens_in=4, ms=1.0)
    both = combine(one, other, POLICY)
    assert (both.tokens_in, both.tokens_out, both.cost_usd, both.ms) == (7, 1, 0.5, 3.0)
    assert combine(other, other, POLICY).cost_usd is None


def test_only_models_that_judged_are_named() -> None:
    judged, failed = ok(0.1, model="b"), Verdict("judge", Stage.PROMPT, outcome=Outcome.FAILED, model="a")
    assert combine(failed, judged, POLICY).model == "b"
    assert combine(failed, failed, POLICY).model == "a"
    assert combine(ok(0.4, model="a"), judged, POLICY).model == "a + b"
