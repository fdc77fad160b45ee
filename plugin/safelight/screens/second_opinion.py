"""When a second judge is asked, and what two judges' verdicts come to: the most severe wins."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from enum import StrEnum

from ..policy import Action, Policy
from ..verdict import Category, Outcome, Verdict

NOT_NOTED = "calls_not_noted"
"""The reason of a verdict whose call could not be counted. It is not made up for by another that is."""

GREY_FROM = 0.5
"""From this part of a threshold on, a score that does not reach it leaves the first judge unsure."""


class SecondWhen(StrEnum):
    """When the second judge is asked."""

    FAILED = "failed"
    """When the first gave no verdict that can be used."""
    UNSURE = "unsure"
    """Then, and when the first judge's highest score comes near its threshold without reaching it."""
    ALWAYS = "always"


def wants_second(first: Verdict, when: SecondWhen, policy: Policy) -> bool:
    """Return whether a second judge is to be asked after the first one's verdict.

    Never about what may be the gravest material: it is not to be passed on to anybody. Nor where it is the counting or
    the money that the first one failed for.
    """
    if first.outcome is Outcome.RESTRICTED or _finds_gravest(first, policy):
        return False
    if first.outcome is Outcome.OVER_BUDGET or first.reason == NOT_NOTED:
        return False
    if first.outcome is not Outcome.OK or when is SecondWhen.ALWAYS:
        return True
    return when is SecondWhen.UNSURE and GREY_FROM < _nearness(first, policy) < 1.0


def combine(first: Verdict, second: Verdict, policy: Policy) -> Verdict:
    """Return one verdict with the evidence of both judges, by the more severe of the two.

    A refusal is a sign that something is amiss, so no allow outweighs it; only a finding says more. Where the first
    judge gave a verdict and the second failed, what was wanted of the second is missing, and that is a failure.
    """
    ruling = _ruling(first, second, policy)
    other = second if ruling is first else first
    models = [verdict.model for verdict in (first, second) if verdict.outcome is Outcome.OK and verdict.model]
    costs = [verdict.cost_usd for verdict in (first, second) if verdict.cost_usd is not None]
    return replace(
        ruling,
        scores=_highest(first.scores, second.scores),
        course=_highest(first.course, second.course),
        course_reason=ruling.course_reason or other.course_reason,
        model=" + ".join(models) or ruling.model,
        ms=first.ms + second.ms,
        tokens_in=first.tokens_in + second.tokens_in,
        tokens_out=first.tokens_out + second.tokens_out,
        cost_usd=sum(costs) if costs else None,
    )


def finds(verdict: Verdict, policy: Policy) -> bool:
    """Return whether any score reaches its threshold in a category that blocks."""
    return any(
        policy.categories[name].action is Action.BLOCK and score >= policy.categories[name].threshold(verdict)
        for name, score in verdict.scores.items()
    )


def _ruling(first: Verdict, second: Verdict, policy: Policy) -> Verdict:
    """Return the one of the two whose outcome and reason stand."""
    both = (first, second)
    for verdict in both:
        if verdict.outcome is Outcome.RESTRICTED:
            return verdict
    for verdict in both:
        if finds(verdict, policy):
            return verdict
    for verdict in both:
        if verdict.outcome is Outcome.REFUSED:
            return verdict
    if first.outcome is Outcome.OK and second.outcome is Outcome.OK:
        return max(both, key=lambda verdict: _nearness(verdict, policy))
    if first.outcome is Outcome.OK or second.outcome is Outcome.OK:
        # An ok second stands in for a first that failed; an ok first does not make up for a second that was wanted.
        return second
    return first


def _finds_gravest(verdict: Verdict, policy: Policy) -> bool:
    rule = policy.categories.get(Category.SEXUAL_MINORS)
    return rule is not None and verdict.scores.get(rule.name, 0.0) >= rule.threshold(verdict)


def _nearness(verdict: Verdict, policy: Policy) -> float:
    """Return the highest score as a part of its threshold."""
    return max(
        (score / policy.categories[name].threshold(verdict) for name, score in verdict.scores.items()), default=0.0
    )


def _highest(one: Mapping[str, float], other: Mapping[str, float]) -> dict[str, float]:
    return {name: max(one.get(name, 0.0), other.get(name, 0.0)) for name in (*one, *other)}
