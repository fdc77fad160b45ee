from __future__ import annotations

import asyncio
from datetime import UTC, datetime
from pathlib import Path

import pytest

from fakes import ALICE, FakeGenerator, FakeJudge, MarkerScreen, failed, sentinel_policy, sentinel_screen
from safelight.cli import main
from safelight.config import enforcement_of
from safelight.errors import ContentBlocked, CoolDown
from safelight.guard import Guard
from safelight.request import GenerationRequest
from safelight.store.calls import Call, Calls
from safelight.store.sqlite import SQLiteStore
from safelight.verdict import Outcome


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> SQLiteStore:
    monkeypatch.chdir(tmp_path)
    return SQLiteStore("safelight.db")


def ask(store: SQLiteStore, prompt: str, *, grave: bool = False) -> str:
    """Ask for a picture, and return the id of the decision that blocks it."""
    screens = [FakeJudge(answer=lambda request: failed(Outcome.RESTRICTED))] if grave else [sentinel_screen()]
    guard = Guard(
        sentinel_policy(),
        store,
        prompt_screens=screens,
        image_screens=[MarkerScreen()],
        enforcement=enforcement_of(sentinel_policy(), store),
    )
    try:
        asyncio.run(guard.create(GenerationRequest(prompt, ALICE), FakeGenerator()))
    except ContentBlocked as error:
        return error.decision.id
    except CoolDown:
        return "cool-down"
    return "passed"


def run(*args: str) -> int:
    return main([*args])


def test_a_hold_is_listed_shown_and_released(store: SQLiteStore, capsys: pytest.CaptureFixture[str]) -> None:
    blocked = ask(store, "a cup of tea", grave=True)
    assert run("standing", "list") == 0
    assert run("standing", "show", ALICE.id) == 0
    out = capsys.readouterr().out
    assert ALICE.id in out and blocked in out and "until a person has looked" in out and "grave" in out
    assert ask(store, "a cup of tea") == "cool-down"
    assert run("standing", "release", ALICE.id) == 0
    assert ask(store, "a cup of tea") == "passed"


def test_somebody_without_attempts_has_nothing_to_release(
    store: SQLiteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run("standing", "release", "key_nobody") == 2
    assert "nothing to release" in capsys.readouterr().err
    assert run("standing", "show", "key_nobody") == 0
    assert "key_nobody: clear" in capsys.readouterr().out


def test_a_granted_appeal_ends_the_cool_down_that_rested_on_it(
    store: SQLiteStore, capsys: pytest.CaptureFixture[str]
) -> None:
    blocks = [ask(store, f"zorblax {word * 8}") for word in ("x", "y", "z")]
    assert ask(store, "a cup of tea") == "cool-down"
    assert run("appeals", "grant", blocks[0]) == 0
    assert f"{blocks[0]} overturned" in capsys.readouterr().out
    assert ask(store, "a cup of tea") == "passed"
    assert store.history(ALICE, limit=9).overturned == 1


def test_an_appeal_against_nothing_is_an_error(store: SQLiteStore, capsys: pytest.CaptureFixture[str]) -> None:
    assert run("appeals", "grant", "dec_nothing") == 2
    assert "dec_nothing is no block that was recorded" in capsys.readouterr().err


def test_a_grant_that_ended_half_way_is_completed_by_the_next(store: SQLiteStore) -> None:
    blocks = [ask(store, f"zorblax {word * 8}") for word in ("x", "y", "z")]
    assert store.overturn(blocks[0], at=datetime.now(UTC))
    assert ask(store, "a cup of tea") == "cool-down"
    assert run("appeals", "grant", blocks[0]) == 0
    assert ask(store, "a cup of tea") == "passed"


def test_spending_is_summed_by_model_and_purpose(store: SQLiteStore, capsys: pytest.CaptureFixture[str]) -> None:
    calls = Calls(store)
    for purpose in ("judge", "judge", "canary"):
        calls.add(
            Call(
                at=datetime.now(UTC),
                screen="llm_judge",
                model="some-model",
                outcome="ok",
                reason="",
                tokens_in=1_000,
                tokens_out=20,
                cost_usd=0.25,
                ms=300.0,
                purpose=purpose,
            )
        )
    assert run("spending") == 0
    out = capsys.readouterr().out
    assert "2,000" in out and "0.5000" in out and "canary" in out
    assert run("spending", "--days", "0") == 2
