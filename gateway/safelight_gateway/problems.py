"""Errors as OpenAI's clients read them: a status, and a body ``{"error": {...}}``."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, time, timedelta

from starlette.responses import Response

from safelight.errors import (
    ContentBlocked,
    CoolDown,
    GenerationFailed,
    InvalidRequest,
    SafelightError,
    ScreeningUnavailable,
)
from safelight.policy import Decision, Policy
from safelight.verdict import Outcome

from .refusals import explain, receipt

RETRY_SCREENING_S = 30
"""What a client is told to wait before it asks again after a fault of ours, in seconds."""

# What the library calls a field, where a client knows it by another name.
_FIELDS = {"width": "size", "height": "size", "steps": "num_inference_steps"}


@dataclass(frozen=True, slots=True)
class Reply:
    """A whole response, as it can be kept and sent again."""

    status: int
    body: bytes
    media_type: str = "application/json"
    headers: Mapping[str, str] = field(default_factory=dict)

    def response(self, **more: str) -> Response:
        """Return it as a response; ``more`` are further headers, underscores standing for hyphens."""
        headers = dict(self.headers) | {name.replace("_", "-"): value for name, value in more.items()}
        return Response(self.body, self.status, headers, self.media_type)


class Problem(Exception):
    """A request that is answered with an error.

    Args:
        status: The HTTP status.
        code: Stable, for programs.
        message: For people. It repeats nothing that the client wrote but the names of fields.
        type: The family, in OpenAI's words.
        param: The field at fault.
        headers: Further headers.
        details: Further members of the error object.
    """

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        type: str = "invalid_request_error",
        param: str | None = None,
        headers: Mapping[str, str] | None = None,
        details: Mapping[str, object] | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.headers = dict(headers or {})
        self._error = {"message": message, "type": type, "param": param, "code": code, **(details or {})}

    def reply(self) -> Reply:
        """Return the response."""
        return Reply(self.status, json.dumps({"error": self._error}).encode(), headers=self.headers)


def problem_of(error: SafelightError, policy: Policy, *, appeal: str = "", retry_after_s: float = 0.0) -> Problem:
    """Return what a client is told about an error of the library.

    Args:
        error: What was raised.
        policy: Its titles and advice explain a refusal.
        appeal: Who to turn to about a decision.
        retry_after_s: When a screen that does not answer now may, in seconds, if that is known; else 0.
    """
    if isinstance(error, ContentBlocked):
        return _blocked(error, policy, appeal)
    if isinstance(error, CoolDown):
        return _cooling(error, appeal)
    if isinstance(error, ScreeningUnavailable):
        return _unavailable(error.decision, retry_after_s)
    if isinstance(error, InvalidRequest):
        name = _FIELDS.get(error.field, error.field)
        return Problem(400, "invalid_value", str(error), param=name)
    if isinstance(error, GenerationFailed):
        # Not to be retried by the client by itself: each try costs a judge and a whole generation.
        return Problem(
            500,
            "generation_failed",
            "The picture could not be made. Your prompt was allowed; the generator failed.",
            type="server_error",
            headers={"x-should-retry": "false"},
        )
    return unexpected()


def unexpected() -> Problem:
    """Return what a client is told about an error that nobody foresaw: nothing of it."""
    return Problem(500, "internal_error", "Something failed on our side.", type="server_error")


def _blocked(error: ContentBlocked, policy: Policy, appeal: str) -> Problem:
    decision = error.decision
    return Problem(
        400,
        "moderation_blocked",
        explain(decision, policy, appeal=appeal, left=error.left),
        type="image_generation_user_error",
        headers={
            # It would be judged and blocked again.
            "x-should-retry": "false",
            "x-request-id": decision.request_id,
            "x-safelight-decision": decision.id,
            "x-safelight-screens": receipt(**{str(decision.stage): decision.screens}),
        },
        details={
            "moderation_details": {
                "categories": list(decision.categories),
                "moderation_stage": "input" if decision.index is None else "output",
            },
            **_about(decision),
            "appeal_id": decision.id,
            "attempts_left": error.left,
        },
    )


def _cooling(error: CoolDown, appeal: str) -> Problem:
    """403, because clients repeat a 429 by themselves."""
    wait_s = None if error.until is None else max(1, math.ceil((error.until - datetime.now(UTC)).total_seconds()))
    lasts = "until a person has looked at it" if wait_s is None else f"for {wait_s} seconds"
    # A whole tenant's pause rests on somebody else's decision, which is nobody else's business.
    mine = error.decision_id if error.scope == "principal" else None
    where = f" to {appeal}" if appeal else ""
    how = f" If you believe this is an error, appeal{where} with the decision ID {mine}." if mine else ""
    return Problem(
        403,
        "user_cooldown",
        f"Too many requests of this {'key' if mine else 'group'} were blocked, so nothing is made {lasts}.{how}",
        type="image_generation_user_error",
        headers={
            "x-should-retry": "false",
            **({"x-safelight-decision": mine} if mine else {}),
            **({"retry-after": str(wait_s)} if wait_s is not None else {}),
        },
        details={
            "reason_code": "cool_down" if wait_s is not None else "held",
            "retry_after_s": wait_s,
            "decision_id": mine,
            "appeal_id": mine,
        },
    )


def _unavailable(decision: Decision | None, retry_after_s: float) -> Problem:
    verdicts = decision.verdicts if decision is not None else ()
    failed = [verdict for verdict in verdicts if verdict.outcome not in (Outcome.OK, Outcome.SKIPPED)]
    # Tomorrow there is money again, by UTC as the limit counts; anything else may heal within half a minute.
    is_spent = bool(failed) and all(verdict.reason == "budget_exhausted" for verdict in failed)
    wait_s = _until_midnight_s() if is_spent else math.ceil(retry_after_s) or RETRY_SCREENING_S
    headers = {"retry-after": str(wait_s), "x-should-retry": "false"}
    details: dict[str, object] = {}
    if decision is not None:
        headers |= {"x-request-id": decision.request_id, "x-safelight-decision": decision.id}
        details = {**_about(decision), "failed": {verdict.screen: str(verdict.outcome) for verdict in failed}}
    return Problem(
        503,
        "screening_unavailable",
        "Screening is not possible now, so nothing was released. Your request is not to blame; try again later.",
        type="server_error",
        headers=headers,
        details=details | {"reason_code": "budget_exhausted" if is_spent else "screening_unavailable"},
    )


def _until_midnight_s() -> int:
    now = datetime.now(UTC)
    return math.ceil((datetime.combine(now.date() + timedelta(days=1), time.min, UTC) - now).total_seconds())


def _about(decision: Decision) -> dict[str, object]:
    return {
        "request_id": decision.request_id,
        "decision_id": decision.id,
        "reason_code": str(decision.reason),
        "stage": str(decision.stage),
    }
