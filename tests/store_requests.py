"""Requests and decisions to put into a store."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from fakes import ALICE
from safelight.policy import Action, Decision, Reason
from safelight.request import GenerationRequest, Principal
from safelight.verdict import Stage, Verdict

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SHA = "ab" * 32


def ask(prompt: str = "tea", principal: Principal = ALICE) -> GenerationRequest:
    return GenerationRequest(prompt, principal)


def decision(request_id: str, stage: Stage = Stage.PROMPT, **changes: Any) -> Decision:
    values: dict[str, Any] = {
        "id": f"dec_{request_id}_{stage}_{changes.get('index')}",
        "request_id": request_id,
        "stage": stage,
        "action": Action.ALLOW,
        "reason": Reason.CLEAR,
        "categories": (),
        "policy": "sha256:1",
        "verdicts": (Verdict("a", stage, {"hate": 0.25}, model="m", ms=1.5),),
        "created": NOW,
    }
    return Decision(**values | changes)
