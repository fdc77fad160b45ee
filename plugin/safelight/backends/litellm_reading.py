"""What one response or error of LiteLLM means, read beside the body that the provider sent.

Nothing here passes a provider's words on: reasons are codes from this module.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from ..verdict import Outcome

# Gemini's names, of blocked prompts and of stopped answers alike. What is not named here is no finding.
_REFUSED = frozenset({"SAFETY", "IMAGE_SAFETY", "BLOCKLIST", "JAILBREAK", "MODEL_ARMOR"})
_RESTRICTED = frozenset({"PROHIBITED_CONTENT", "IMAGE_PROHIBITED_CONTENT"})
_UNABLE = frozenset({"OTHER", "RECITATION", "SPII", "LANGUAGE", "IMAGE_OTHER", "IMAGE_RECITATION"})

_WHOLE = frozenset({"stop", "STOP"})
_CUT = frozenset({"length", "MAX_TOKENS"})
_MALFORMED = frozenset({"MALFORMED_RESPONSE", "MALFORMED_FUNCTION_CALL"})

_TRY_AGAIN = frozenset({429, 500, 502, 503, 504, 529})
_CODES = {404: "http_404_model_retired"}
# Somebody in between, such as a hotel's portal, or nobody at all.
_NOT_THE_PROVIDER = frozenset({"html", "not_json", "error"})

# Names of error classes, so that neither openai nor httpx is imported to compare with.
_TIMEOUTS = frozenset({"APITimeoutError", "TimeoutException", "TimeoutError"})
_NETWORK = frozenset({"TransportError", "OSError"})
# LiteLLM itself posts once more after these, so one more of ours would be the third and fourth.
_POSTED_TWICE = frozenset({"ConnectError", "RemoteProtocolError"})


@dataclass(frozen=True, slots=True)
class Reading:
    """What one attempt came to.

    Args:
        outcome: ``OK`` only with a complete text.
        reason: A short stable code.
        retry: Whether the fault may pass by itself.
        retry_after_s: How long the provider asks to wait, in seconds; 0 if it does not say.
        text: The answer, empty unless ``OK``.
        model: The model that the provider says it used.
        first_token: Token to log probability, for the first token.
        tokens_in: Tokens sent.
        tokens_out: Tokens received.
        cost_usd: US dollars, or None.
    """

    outcome: Outcome
    reason: str = ""
    retry: bool = False
    retry_after_s: float = 0.0
    text: str = ""
    model: str = ""
    first_token: Mapping[str, float] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None

    @property
    def answered(self) -> bool:
        """Whether the provider itself answered, in its own form: then it can be reached and takes what it is sent.

        A refusal, half an answer or a block without a finding is an answer too: what one person asks may bring it
        on, and must not make the provider look broken to everybody else.
        """
        if self.outcome in (Outcome.TIMEOUT, Outcome.UNREACHABLE):
            return False
        return self.reason not in _NOT_THE_PROVIDER and not self.reason.startswith("http_")


def read_response(response: Any, body: str | None, *, cut_is_whole: bool) -> Reading:
    """Read a response that LiteLLM returned.

    Args:
        response: LiteLLM's ``ModelResponse``.
        body: The provider's own body, or None where LiteLLM did not show it.
        cut_is_whole: Whether an answer that was cut at its longest is what was asked for.
    """
    sent = _parse(body)
    reading = _blocked(sent) or _ending(response, sent, cut_is_whole)
    usage = getattr(response, "usage", None)
    return replace(
        reading,
        model=_served(sent) if sent else str(getattr(response, "model", "") or ""),
        tokens_in=getattr(usage, "prompt_tokens", 0) or 0,
        tokens_out=getattr(usage, "completion_tokens", 0) or 0,
        cost_usd=(getattr(response, "_hidden_params", None) or {}).get("response_cost"),
    )


def read_error(error: Exception, body: str | None) -> Reading:
    """Read an error that LiteLLM raised.

    Args:
        error: What was raised.
        body: The provider's body, where LiteLLM came as far as reading one. Then the provider did answer, and the
            error's class and status are LiteLLM's invention.
    """
    if body is not None:
        sent = _parse(body)
        if sent is None:
            return Reading(Outcome.UNPARSABLE, "html" if body.lstrip()[:1] == "<" else "not_json", retry=True)
        return _blocked(sent) or Reading(Outcome.UNPARSABLE, "malformed_response", retry=True)
    causes = tuple(_causes(error))
    kinds = {kind.__name__ for cause in causes for kind in type(cause).__mro__}
    if "ContentPolicyViolationError" in kinds:
        return Reading(Outcome.REFUSED, "content_policy")
    # Before the status: for a broken connection LiteLLM makes one up.
    if kinds & _NETWORK and not kinds & _TIMEOUTS:
        return Reading(Outcome.UNREACHABLE, "connection", retry=not kinds & _POSTED_TWICE)
    status = _status(causes)
    if status in _TRY_AGAIN:
        return Reading(Outcome.UNREACHABLE, f"http_{status}", retry=True, retry_after_s=_retry_after_s(causes))
    if kinds & _TIMEOUTS:
        return Reading(Outcome.TIMEOUT, "timeout")
    if status == 400 and any("API_KEY_INVALID" in str(cause) for cause in causes):
        # Gemini's way to say what others say with 401.
        return Reading(Outcome.FAILED, "http_400_key_invalid")
    if status:
        return Reading(Outcome.FAILED, _CODES.get(status, f"http_{status}"))
    return Reading(Outcome.FAILED, "error")


def _ending(response: Any, sent: Mapping[str, Any] | None, cut_is_whole: bool) -> Reading:
    choices = getattr(response, "choices", None)
    if not choices:
        return Reading(Outcome.EMPTY, "no_candidates", retry=True)
    message = choices[0].message
    # LiteLLM reports every ending that it does not know as "stop", so its own word counts only without the body.
    ending = _stated_ending(sent) if sent else choices[0].finish_reason
    if ending == "content_filter" or (sent and _stated_refusal(sent)):
        return Reading(Outcome.REFUSED, "content_filter")
    if ending in _CUT and not cut_is_whole:
        return Reading(Outcome.UNPARSABLE, "finish_length", retry=True)
    if ending in _MALFORMED:
        return Reading(Outcome.UNPARSABLE, "finish_malformed", retry=True)
    if ending not in _WHOLE | _CUT:
        return Reading(Outcome.FAILED, "finish_unknown", retry=True)
    text = message.content
    if not isinstance(text, str) or not text:
        return Reading(Outcome.EMPTY, "empty", retry=True)
    return Reading(Outcome.OK, text=text, first_token=_first_token(choices[0]))


def _blocked(sent: Mapping[str, Any] | None) -> Reading | None:
    """Return what Gemini's own words say of a block, the gravest first, or None."""
    if sent is None:
        return None
    said = {_stated_block(sent), *_stated_endings(sent)}
    if said & _RESTRICTED:
        return Reading(Outcome.RESTRICTED, "blocked_prohibited_content")
    if found := sorted(said & _REFUSED):
        return Reading(Outcome.REFUSED, f"blocked_{found[0].lower()}")
    if found := sorted(said & _UNABLE):
        return Reading(Outcome.FAILED, f"blocked_{found[0].lower()}")
    if _stated_block(sent):
        return Reading(Outcome.FAILED, "blocked_unknown")
    return None


def _stated_block(sent: Mapping[str, Any]) -> str:
    feedback = sent.get("promptFeedback")
    reason = feedback.get("blockReason") if isinstance(feedback, dict) else None
    return str(reason) if reason else ""


def _stated_endings(sent: Mapping[str, Any]) -> tuple[str, ...]:
    # Gemini's form, then OpenAI's.
    given = sent.get("candidates", sent.get("choices"))
    found = [one for one in given if isinstance(one, dict)] if isinstance(given, list) else []
    return tuple(str(one.get("finishReason", one.get("finish_reason"))) for one in found)


def _stated_ending(sent: Mapping[str, Any]) -> str:
    return next(iter(_stated_endings(sent)), "")


def _stated_refusal(sent: Mapping[str, Any]) -> bool:
    # OpenAI's form has a place of its own for it, which LiteLLM passes on for some providers only.
    choices = sent.get("choices")
    found = [one.get("message") for one in choices if isinstance(one, dict)] if isinstance(choices, list) else []
    return any(isinstance(message, dict) and message.get("refusal") for message in found)


def _served(sent: Mapping[str, Any]) -> str:
    named = sent.get("modelVersion", sent.get("model"))
    return named.removeprefix("models/") if isinstance(named, str) else ""


def _first_token(choice: Any) -> Mapping[str, float]:
    content = getattr(getattr(choice, "logprobs", None), "content", None)
    if not content:
        return {}
    found: dict[str, float] = {}
    for likely in (content[0], *(content[0].top_logprobs or ())):
        # Two byte sequences may be shown as one text; the likelier stands for it.
        found[likely.token] = max(likely.logprob, found.get(likely.token, likely.logprob))
    return found


def _parse(body: str | None) -> Mapping[str, Any] | None:
    try:
        sent = json.loads(body) if body is not None else None
    except (ValueError, RecursionError):
        return None
    return sent if isinstance(sent, dict) else None


def _causes(error: BaseException | None) -> Iterator[BaseException]:
    met: set[int] = set()
    while error is not None and id(error) not in met:
        met.add(id(error))
        yield error
        error = error.__cause__ or error.__context__


def _status(causes: Sequence[BaseException]) -> int:
    # The innermost is the provider's; LiteLLM calls a 502, and many a thing that was never sent, a 500.
    stated = [getattr(cause, "status_code", None) for cause in causes]
    inner = [status for status in stated[1:] if isinstance(status, int)]
    if inner:
        return inner[-1]
    made_up = "APIConnectionError" in {kind.__name__ for kind in type(causes[0]).__mro__}
    return stated[0] if isinstance(stated[0], int) and not made_up else 0


def _retry_after_s(causes: Sequence[BaseException]) -> float:
    for cause in causes:
        for name in ("litellm_response_headers", "headers"):
            value = (getattr(cause, name, None) or {}).get("retry-after", "")
            # A date is also allowed there; the usual pause then has to do.
            if re.fullmatch(r"\d{1,6}(\.\d{1,3})?", value, re.ASCII):
                return float(value)
    return 0.0
