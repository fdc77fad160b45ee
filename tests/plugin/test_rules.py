from __future__ import annotations

import dataclasses
import tomllib
from datetime import timedelta
from importlib import resources

import pytest

from fakes import POLICY
from safelight.errors import ConfigError
from safelight.policy import Policy
from safelight.rules import CascadeRule, Consequence, CourseRule, EnforcementRule, Limit


def parse(text: str) -> Policy:
    head, _, categories = POLICY.partition("[categories")
    return Policy.parse(f"{head}{text}\n[categories{categories}")


def test_a_policy_that_says_nothing_has_the_default_budgets() -> None:
    limits = parse("").enforcement.limits
    assert [(limit.attempts, limit.within, limit.then, limit.lasts) for limit in limits] == [
        (3, timedelta(minutes=10), Consequence.COOL_DOWN, timedelta(minutes=10)),
        (5, timedelta(hours=24), Consequence.COOL_DOWN, timedelta(hours=24)),
        (10, timedelta(days=7), Consequence.HOLD, None),
    ]


def test_the_shipped_policy_states_the_defaults() -> None:
    assert Policy.default().enforcement == EnforcementRule()
    assert Policy.default().course == CourseRule()
    assert Policy.default().cascade.skip == ()


def test_limits_are_read_in_minutes() -> None:
    policy = parse(
        """
        [enforcement]
        tenant_limits = []
        near_duplicate = 0
        remember_hours = 0
        [[enforcement.limits]]
        attempts = 2
        within_minutes = 5
        then = "cool_down"
        lasts_minutes = 90
        [[enforcement.limits]]
        attempts = 4
        within_minutes = 1440
        then = "hold"
        """
    )
    assert policy.enforcement.limits == (
        Limit(2, timedelta(minutes=5), Consequence.COOL_DOWN, timedelta(minutes=90)),
        Limit(4, timedelta(days=1), Consequence.HOLD, None),
    )
    assert (policy.enforcement.tenant_limits, policy.enforcement.near_duplicate) == ((), 0.0)
    assert policy.enforcement.remember == timedelta()


def test_an_old_turn_weighs_half_after_one_half_life() -> None:
    rule = parse("[course]\nhalf_life_hours = 6").course
    assert rule.weight(timedelta()) == 1.0
    assert rule.weight(timedelta(hours=6)) == 0.5
    assert rule.weight(timedelta(hours=12)) == 0.25
    assert rule.weight(timedelta(hours=-1)) == 1.0


def test_rules_are_part_of_the_policys_hash() -> None:
    assert parse("[course]\nthreshold = 0.7").hash != parse("").hash


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("[course]\nhalf_life_hours = 0", "course.half_life_hours"),
        ("[course]\nhalf_life_hours = 1e-11", "course.half_life_hours"),
        ("[course]\nhalf_life_hours = nan", "course.half_life_hours"),
        ("[course]\nhalf_life_hours = inf", "course.half_life_hours"),
        ("[course]\nthreshold = 0", "course.threshold"),
        ("[course]\naction = 'block'", "course.action"),
        ("[cascade]\nskip = 'llm_judge'", "cascade.skip"),
        ("[cascade]\nskip = [3]", "cascade.skip"),
        ("[cascade]\nsure_below = 2", "cascade.sure_below"),
        ("[enforcement]\nnear_duplicate = 1.5", "enforcement.near_duplicate"),
        ("[enforcement]\nlimit = []", "enforcement.limit"),
        ("[enforcement]\nlimits = [3]", "enforcement.limits[0]"),
        ("[enforcement]\nlimits = [{attempts = 0, within_minutes = 1, then = 'hold'}]", "limits[0].attempts"),
        ("[enforcement]\nlimits = [{attempts = 1, within_minutes = -1, then = 'hold'}]", "limits[0].within_minutes"),
        ("[enforcement]\nlimits = [{attempts = 1, within_minutes = 1, then = 'ban'}]", "limits[0].then"),
        ("[enforcement]\nlimits = [{attempts = 1, within_minutes = 1, then = 'cool_down'}]", "lasts_minutes: missing"),
        ("[enforcement]\nlimits = [{attempts = 1, within_minutes = 1, then = 'hold', lasts_minutes = 1}]", "lasts_min"),
        ("[enforcement]\nanonymous_share = 0", "enforcement.anonymous_share"),
        ("[enforcement]\nremember_hours = -1", "enforcement.remember_hours"),
    ],
)
def test_a_wrong_rule_is_refused_by_name(text: str, named: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse(text)
    assert named in str(error.value)


def test_off_means_that_nothing_counts() -> None:
    rule = EnforcementRule.off()
    assert (rule.limits, rule.tenant_limits, rule.near_duplicate, rule.hold_gravest) == ((), (), 0.0, False)


def test_the_shipped_policy_writes_every_rule_out() -> None:
    text = (resources.files("safelight") / "policies" / "default.toml").read_text("utf-8")
    data = tomllib.loads(text)
    for section, rule in (("course", CourseRule), ("cascade", CascadeRule), ("enforcement", EnforcementRule)):
        assert len(data[section]) == len(dataclasses.fields(rule)), section
