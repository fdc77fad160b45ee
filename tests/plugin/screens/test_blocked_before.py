from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime

import pytest

from fakes import ALICE, POLICY, make_guard, sentinel_policy
from safelight.errors import ConfigError, ContentBlocked, ScreeningUnavailable, StoreUnavailable
from safelight.policy import Policy, Reason
from safelight.request import GenerationRequest
from safelight.screens import PromptScreen
from safelight.screens.blocked_before import REASON, BlockedBefore
from safelight.verdict import Outcome, Stage, Verdict

TEA = GenerationRequest("tea", ALICE)
GRAVE = """
[categories."sexual/minors"]
title = "Child safety"
description = "Never made."
advice = "Appeal."
thresholds = { prompt = 0.3, image = 0.3 }
"""
NOW = datetime(2026, 11, 22, tzinfo=UTC)


class FakeMemory:
    """Remembers what it is told, of every request."""

    def __init__(self, *categories: str, broken: bool = False, empty: bool = False) -> None:
        self._categories = None if empty else categories
        self._broken = broken

    def recall(self, request: GenerationRequest) -> Sequence[str] | None:
        if self._broken:
            raise StoreUnavailable("out of order")
        return self._categories


async def found(memory: FakeMemory, policy: Policy | None = None) -> Verdict:
    return await BlockedBefore(policy=policy or sentinel_policy(), memory=memory).screen_prompt(TEA, ())


def ruled(verdict: Verdict, policy: Policy) -> Reason:
    return policy.decide(
        [verdict], id="d", request_id="r", stage=Stage.PROMPT, created=NOW, expected=[verdict.screen]
    ).reason


async def test_what_is_not_remembered_scores_nothing_in_every_category() -> None:
    verdict = await found(FakeMemory(empty=True))
    assert (verdict.scores, verdict.outcome, verdict.reason) == ({"sentinel": 0.0, "teapots": 0.0}, Outcome.OK, "")


async def test_what_is_remembered_scores_fully_in_its_categories() -> None:
    verdict = await found(FakeMemory("sentinel"))
    assert (verdict.scores, verdict.reason) == ({"sentinel": 1.0, "teapots": 0.0}, REASON)


@pytest.mark.parametrize("categories", [("dropped",), (), ("teapots",)])
async def test_a_category_that_the_policy_does_not_block_counts_as_the_first_that_it_does(
    categories: tuple[str, ...],
) -> None:
    verdict = await found(FakeMemory(*categories))
    assert verdict.scores["sentinel"] == 1.0
    assert set(verdict.scores) == {"sentinel", "teapots"}
    assert ruled(verdict, sentinel_policy()) is Reason.CATEGORY


async def test_what_was_blocked_as_the_gravest_is_blocked_for_others_and_holds_nobody_again() -> None:
    policy = Policy.parse(POLICY + GRAVE)
    assert ruled(await found(FakeMemory("sexual/minors"), policy), policy) is Reason.CATEGORY


async def test_an_unknown_category_is_never_taken_for_the_gravest() -> None:
    head, _, rest = POLICY.partition("[categories")
    policy = Policy.parse(head + GRAVE + "[categories" + rest)
    assert ruled(await found(FakeMemory("dropped"), policy), policy) is Reason.CATEGORY


async def test_a_memory_that_does_not_answer_lets_nothing_pass() -> None:
    screens: list[PromptScreen] = [BlockedBefore(policy=sentinel_policy(), memory=FakeMemory(broken=True))]
    with pytest.raises(ScreeningUnavailable):
        await make_guard(prompt_screens=screens).admit(TEA)
    remembered = make_guard(prompt_screens=[BlockedBefore(policy=sentinel_policy(), memory=FakeMemory("sentinel"))])
    with pytest.raises(ContentBlocked):
        await remembered.admit(TEA)


def test_a_policy_that_blocks_nothing_has_no_use_for_it() -> None:
    policy = Policy.parse(POLICY.replace('advice = "Leave', 'action = "flag"\nadvice = "Leave'))
    with pytest.raises(ConfigError, match="blocks"):
        BlockedBefore(policy=policy, memory=FakeMemory(empty=True))
