from __future__ import annotations

from datetime import timedelta

from safelight.policy import Action, Reason
from safelight.request import Principal
from safelight.store import Store
from safelight.store.people import People, Person
from store_requests import NOW, ask, decision

KEYS = [("", "a", ""), ("t", "a", ""), ("t", "a", "x"), ("t", "a'; --", "x"), ("t", "b", "é"), ("u", "a", "z")]


def fill(store: Store) -> None:
    for number, (tenant, principal, person) in enumerate(reversed(KEYS)):
        store.reserve(f"r{number}", ask(principal=Principal(principal, person, tenant)), at=NOW, limit=1)


def test_people_come_page_by_page_each_once_in_the_order_of_their_names(any_store: Store) -> None:
    fill(any_store)
    people = People(any_store)
    for limit in (1, 2, 5, 6, 9):
        found: list[tuple[str, str, str]] = []
        while page := people.page(after=found[-1] if found else None, limit=limit):
            assert len(page) <= limit
            found += [(person.tenant, person.principal, person.person) for person in page]
        assert found == KEYS
    assert people.count() == len(KEYS)


def test_somebody_who_comes_while_pages_are_turned_moves_nobody_else(any_store: Store) -> None:
    fill(any_store)
    people = People(any_store)
    first = people.page(after=None, limit=3)
    any_store.reserve("new", ask(principal=Principal("a", "a", "t")), at=NOW, limit=1)
    last = first[-1]
    rest = people.page(after=(last.tenant, last.principal, last.person), limit=9)
    assert [(person.tenant, person.principal, person.person) for person in rest] == KEYS[3:]


def test_a_person_comes_with_what_is_counted_and_when_they_last_asked(any_store: Store) -> None:
    who = Principal("p", "x", "t")
    for number, action in enumerate((Action.BLOCK, Action.FLAG, Action.BLOCK, Action.ALLOW)):
        any_store.reserve(f"r{number}", ask(principal=who), at=NOW + timedelta(minutes=number), limit=1)
        any_store.record(decision(f"r{number}", action=action, reason=Reason.CATEGORY))
    any_store.overturn(decision("r0").id, at=NOW)
    assert People(any_store).page(after=None, limit=9) == (
        Person("t", "p", "x", 4, 1, 1, 1, 1, NOW + timedelta(minutes=3)),
    )


def test_an_empty_store_has_no_people(any_store: Store) -> None:
    assert People(any_store).page(after=None, limit=9) == ()
    assert People(any_store).count() == 0
