"""Whom a scan still has to ask about: people page by page, with their histories, and without those who are done."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime

from ..policy import Policy
from ..request import History, Principal
from ..store import Store
from ..store.people import People, Person
from ..store.scans import ASKED, Finding, Key, Scan, Scans
from ..verdict import Outcome
from .plan import PACK, DesignName, Plan
from .summary import is_quiet, local_risk

PAGE = 10 * PACK
"""People read at a time."""

HISTORY = 20
"""Newest requests read of a person; of those before them the store gives the riskiest few, and counts."""

SETTLED = frozenset({Outcome.OK, Outcome.SKIPPED, Outcome.REFUSED, Outcome.RESTRICTED})
"""Outcomes that are answers or findings. Whoever has one is never asked about again in the same scan."""


@dataclass(frozen=True, slots=True)
class Member:
    """One person to ask about.

    Args:
        key: Who it is.
        history: What the store knows of them.
        risk: The local risk of their course when they last asked, in 0..1.
    """

    key: Key
    history: History
    risk: float

    def finding(self, outcome: str, *, at: datetime, reason: str = "") -> Finding:
        """Return a finding about them that cost nothing."""
        return Finding(*self.key, at=at, outcome=outcome, reason=reason, prompts=self.history.total)


@dataclass(frozen=True, slots=True)
class Page:
    """What one page of people comes to.

    Args:
        packs: Who is asked about, by call.
        local: Findings about those whom the cascade leaves out; not written yet.
        done: How many of the page need nothing more, those in ``local`` not counted.
    """

    packs: Sequence[Sequence[Member]]
    local: Sequence[Finding]
    done: int


class Crowd:
    """The people of one scan.

    Args:
        store: Whose people.
        scan: The scan that they are asked about in.
        plan: Who is asked about.
        policy: How old requests fade.
        now: The time of findings that need no call.
        retry_unknown: Whether to ask again about people whose question may have been on its way when a scan ended.
        retry_failed: Whether to ask again about people whose question failed.
    """

    def __init__(
        self,
        store: Store,
        scan: Scan,
        plan: Plan,
        policy: Policy,
        *,
        now: datetime,
        retry_unknown: bool = False,
        retry_failed: bool = False,
    ) -> None:
        self._store = store
        self._people = People(store)
        self._scans = Scans(store)
        self._scan = scan
        self._plan = plan
        self._policy = policy
        self._now = now
        self._retry_unknown = retry_unknown
        self._retry_failed = retry_failed

    def count(self) -> int:
        """Return how many people there are at most."""
        everybody = self._people.count()
        return everybody if self._plan.limit is None else min(everybody, self._plan.limit)

    def pages(self) -> Iterator[Page]:
        """Yield pages in the store's order of people. Blocking."""
        after: Key | None = None
        left = self._plan.limit
        cutoff = self._plan.cutoff(self._scan.started)
        while found := self._people.page(after=after, limit=PAGE):
            after = key_of(found[-1])
            wanted = [person for person in found if cutoff is None or person.last >= cutoff][:left]
            yield self._page(wanted, done=len(found) - len(wanted))
            left = left if left is None else left - len(wanted)
            if left == 0:
                return

    def _page(self, people: Sequence[Person], *, done: int) -> Page:
        if not people:
            return Page((), (), done)
        written = self._scans.written(self._scan.id, key_of(people[0]), key_of(people[-1]))
        members: list[Member] = []
        local: list[Finding] = []
        for person in people:
            if not self._is_open(written.get(key_of(person))):
                done += 1
                continue
            member = self.member(key_of(person))
            if self._is_quiet(member):
                local.append(member.finding(Outcome.SKIPPED, at=self._now, reason="local"))
            else:
                members.append(member)
        size = PACK if self._plan.design is DesignName.PACKED else 1
        return Page(packs(members, size), local, done)

    def member(self, key: Key) -> Member:
        """Return a person with what the store knows of them. Blocking."""
        tenant, principal, person = key
        history = self._store.history(Principal(principal, person, tenant), limit=HISTORY)
        return Member(key, history, local_risk(history, rule=self._policy.course))

    def _is_quiet(self, member: Member) -> bool:
        bound = self._plan.cascade
        return bound is not None and is_quiet(member.history, rule=self._policy.course, below=bound)

    def _is_open(self, outcome: str | None) -> bool:
        if outcome is None:
            return True
        if outcome == ASKED:
            return self._retry_unknown
        return self._retry_failed and outcome not in SETTLED


def packs(members: Sequence[Member], size: int) -> list[list[Member]]:
    """Deal people into packs of at most ``size``, those of one principal into as many different ones as there are."""
    count = -(-len(members) // size)
    in_order = sorted(members, key=lambda member: member.key)
    return [in_order[place::count] for place in range(count)]


def key_of(person: Person) -> Key:
    """Return who a person is."""
    return person.tenant, person.principal, person.person
