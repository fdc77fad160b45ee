from __future__ import annotations

from datetime import timedelta

import pytest

from safelight.policy import Action
from safelight.store import Store
from safelight.store.blocked_prompts import BlockedPrompts
from safelight.verdict import Stage
from store_databases import Database
from store_requests import NOW, decision

DAY = timedelta(days=1)


@pytest.fixture
def memory(any_store: Store) -> BlockedPrompts:
    return BlockedPrompts(any_store)


def test_a_prompt_is_recalled_within_its_tenant_until_its_time_is_over(memory: BlockedPrompts) -> None:
    memory.remember("d1", tenant="t", categories=["teapots", "hate"], until=NOW + DAY, decision_id="dec_1")
    assert memory.recall("d1", tenant="t", at=NOW) == ("teapots", "hate")
    assert memory.recall("d1", tenant="t", at=NOW + DAY - timedelta(microseconds=1)) == ("teapots", "hate")
    assert memory.recall("d1", tenant="t", at=NOW + DAY) is None
    assert memory.recall("d1", tenant="u", at=NOW) is None
    assert memory.recall("d2", tenant="t", at=NOW) is None


def test_the_later_of_two_memories_stands(memory: BlockedPrompts) -> None:
    memory.remember("d1", tenant="t", categories=["hate"], until=NOW + 2 * DAY, decision_id="dec_1")
    memory.remember("d1", tenant="t", categories=["teapots"], until=NOW + DAY, decision_id="dec_2")
    assert memory.recall("d1", tenant="t", at=NOW + DAY) == ("hate",)
    memory.remember("d1", tenant="t", categories=[], until=NOW + 3 * DAY, decision_id="dec_3")
    assert memory.recall("d1", tenant="t", at=NOW + 2 * DAY) == ()


def test_a_won_appeal_is_forgotten_whichever_decision_of_the_request_it_quotes(
    any_store: Store, memory: BlockedPrompts
) -> None:
    pictures = [decision("r1", Stage.IMAGE, index=place, action=Action.BLOCK) for place in range(2)]
    for picture in pictures:
        any_store.record(picture)
    for digest, id in (("d1", pictures[1].id), ("d2", "dec_other"), ("d3", "dec_gone")):
        memory.remember(digest, tenant="t", categories=["hate"], until=NOW + DAY, decision_id=id)
    memory.forget(pictures[0].id)
    memory.forget("dec_gone")
    memory.forget("dec_unknown")
    assert [memory.recall(digest, tenant="t", at=NOW) for digest in ("d1", "d2", "d3")] == [None, ("hate",), None]


def test_what_is_over_is_removed_as_new_prompts_are_remembered(
    any_store: Store, memory: BlockedPrompts, any_database: Database
) -> None:
    for number in range(4):
        created = NOW + number * DAY
        any_store.record(decision(f"r{number}", id=f"dec_{number}", created=created))
        memory.remember(f"d{number}", tenant="t", categories=[], until=created + 2 * DAY, decision_id=f"dec_{number}")
    assert any_database.rows("SELECT digest FROM blocked_prompts ORDER BY digest") == [("d2",), ("d3",)]
