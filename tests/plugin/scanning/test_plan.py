from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from datetime import timedelta

import pytest

from fakes import sentinel_policy
from safelight.errors import ConfigError
from safelight.policy import Policy
from safelight.scanning.plan import DesignName, Plan, begin
from safelight.store.scans import Scans
from safelight.store.sqlite import SQLiteStore
from scan_crowd import NOW

POLICY = Policy.default()
PLAN = Plan("fake/one")


@pytest.fixture
def scans() -> Iterator[Scans]:
    with closing(SQLiteStore(":memory:")) as store:
        yield Scans(store)


def test_an_unfinished_scan_is_neither_forgotten_nor_gone_on_with_unless_told(scans: Scans) -> None:
    first = begin(scans, PLAN, POLICY, at=NOW)
    with pytest.raises(ConfigError, match="--resume .* --restart"):
        begin(scans, PLAN, POLICY, at=NOW)
    assert begin(scans, PLAN, POLICY, at=NOW, resume=True) == first
    later = NOW + timedelta(minutes=1)
    second = begin(scans, PLAN, POLICY, at=later, restart=True)
    assert second.id != first.id
    scans.finish(second.id, at=later)
    assert begin(scans, PLAN, POLICY, at=later + timedelta(minutes=1)).id not in (first.id, second.id)


@pytest.mark.parametrize(
    ("plan", "policy", "said"),
    [
        (replace(PLAN, model="fake/two"), POLICY, r"--model \(fake/one\)"),
        (replace(PLAN, design=DesignName.JSON), POLICY, r"--design \(one-token\), Safelight's questions"),
        (replace(PLAN, cascade=0.1), POLICY, r"--cascade \(None\)"),
        (PLAN, sentinel_policy(), "the policy"),
    ],
)
def test_a_scan_is_not_gone_on_with_by_other_settings(scans: Scans, plan: Plan, policy: Policy, said: str) -> None:
    begin(scans, PLAN, POLICY, at=NOW)
    with pytest.raises(ConfigError, match=said):
        begin(scans, plan, policy, at=NOW, resume=True)


def test_a_finished_scan_is_gone_on_with_only_for_those_whom_it_did_not_judge(scans: Scans) -> None:
    scan = begin(scans, PLAN, POLICY, at=NOW)
    scans.finish(scan.id, at=NOW)
    with pytest.raises(ConfigError, match="no unfinished scan"):
        begin(scans, PLAN, POLICY, at=NOW, resume=True)
    assert begin(scans, PLAN, POLICY, at=NOW, resume=True, again=True).id == scan.id


@pytest.mark.parametrize(
    ("changes", "option"),
    [
        ({"cascade": 0.0}, "--cascade"),
        ({"cascade": 1.5}, "--cascade"),
        ({"since_days": 0.0}, "--since"),
        ({"limit": 0}, "--limit"),
        ({"logprobs": True, "design": DesignName.JSON}, "--logprobs"),
    ],
)
def test_a_setting_out_of_range_is_named(changes: dict[str, object], option: str) -> None:
    with pytest.raises(ConfigError, match=option):
        replace(PLAN, **changes)  # type: ignore[arg-type]
