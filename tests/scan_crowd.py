"""Made-up people in a store, put there in bulk, and what the scripted judge of a scan says about them."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from safelight.store import Run, Store
from safelight.store.rows import stamp
from scripted_gemini import SENTINEL, Asked, Reply, says

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)

_TURN = """
INSERT INTO turns (request_id, tenant, principal, person, texts, created, state, risk)
VALUES (:request_id, :tenant, :principal, :person, :texts, :created, :state, :risk)
"""
_PERSON = """
INSERT INTO people (tenant, principal, person, total, blocked, flagged, clean_run, last)
VALUES ('default', :principal, :person, :total, :blocked, 0, :clean_run, :last)
"""


@dataclass(frozen=True)
class Said:
    """One request: its text, how many hours ago, how it was ruled on, and the local risk."""

    text: str
    hours: float = 1.0
    state: str = "allow"
    risk: float = 0.0


@dataclass(frozen=True)
class Someone:
    """One made-up person."""

    name: str
    said: Sequence[Said] = field(default_factory=lambda: [Said("a garden in the rain")])
    principal: str = "key_a"


def populate(store: Store, people: Iterable[Someone], *, now: datetime | None = None) -> None:
    """Put people and their turns into a store, in one transaction and past ``reserve``, which would commit each."""
    everybody, now = list(people), now or datetime.now(UTC)

    def work(run: Run) -> None:
        for person in everybody:
            for place, said in enumerate(person.said):
                run(
                    _TURN,
                    {
                        "request_id": f"req_{person.principal}_{person.name}_{place}",
                        "tenant": "default",
                        "principal": person.principal,
                        "person": person.name,
                        "texts": json.dumps({"prompt": said.text}, ensure_ascii=False),
                        "created": stamp(now - timedelta(hours=said.hours)),
                        "state": said.state,
                        "risk": said.risk,
                    },
                )
            run(_PERSON, _person_row(person, now))

    store.transact(work)


def _person_row(person: Someone, now: datetime) -> dict[str, Any]:
    states = [said.state for said in person.said]
    run = next((place for place, state in enumerate(reversed(states)) if state != "allow"), len(states))
    return {
        "principal": person.principal,
        "person": person.name,
        "total": len(states),
        "blocked": states.count("block"),
        "clean_run": run,
        "last": stamp(now - timedelta(hours=min(said.hours for said in person.said))),
    }


def crowd(count: int, *, bad: Sequence[int] = ()) -> list[Someone]:
    """Return people who each name themselves in what they ask, so that a server can count who it was asked about."""
    return [
        Someone(
            name(place),
            [
                Said(f"a lighthouse at dusk, for {name(place)}", 30),
                Said(f"{SENTINEL} in a teacup" if place in bad else "a cup of tea", 2),
            ],
            principal=f"key_{place % 7}",
        )
        for place in range(count)
    ]


def name(place: int) -> str:
    return f"p{place:05}"


def named_in(asked: Asked) -> list[str]:
    """Return the people whom a call was about."""
    return re.findall(r"\bp\d{5}\b", "".join(asked.user_texts))


def codes(system: str) -> tuple[str, dict[str, str]]:
    """Return the code for nothing, and code to category, as a question's rules name them."""
    clear = re.search(r", or (\S) for none", system)
    assert clear
    return clear[1], dict(re.findall(r"^(\S) = (.+?)(?:: .*)?$", system, re.MULTILINE))


def code_for(system: str, shown: Any, category: str = "violence") -> str:
    """Return the code that a perfect reader gives who knows only the sentinel."""
    clear, known = codes(system)
    letter = next(code for code, found in known.items() if found.casefold() == category.casefold())
    return letter if has_sentinel(shown) else clear


def has_sentinel(shown: Any) -> bool:
    """Whether the sentinel can be seen in what is shown of a person, in one text or pieced together from several."""
    text = json.dumps(shown, ensure_ascii=False).lower()
    return SENTINEL in text or ("zor-" in text and "-blax" in text)


def one_token(asked: Asked) -> Reply:
    return says(code_for(asked.system, json.loads(asked.user_texts[0])), model=asked.model)


def packed(asked: Asked) -> Reply:
    """Answer the packed question, or the question about one person."""
    shown = json.loads(asked.user_texts[0])
    if "each key is" not in asked.system:
        return one_token(asked)
    answers = {id: code_for(asked.system, value) for id, value in shown.items()}
    return says(json.dumps(answers), model=asked.model)
