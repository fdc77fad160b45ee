"""One question to a chat model through LiteLLM: a typed answer within one deadline, whatever the provider does.

LiteLLM turns a provider's refusal, an unknown ending and half an answer into ordinary looking responses, and some
refusals into network errors. So every response's own body is read beside what LiteLLM made of it.
"""

from __future__ import annotations

import asyncio
import importlib
import os
import random
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ..errors import ConfigError, MissingExtra
from ..verdict import Outcome
from .litellm_clients import close_with_loop
from .litellm_reading import Reading, read_error, read_response

_GEMINI_PREFIXES = ("gemini/", "vertex_ai/gemini")

# The four categories that a caller may adjust. A judge has to read what the filters would keep from it.
_GEMINI_FILTERS_OFF = [
    {"category": f"HARM_CATEGORY_{name}", "threshold": "OFF"}
    for name in ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
]


@dataclass(frozen=True, slots=True)
class ChatAnswer:
    """What came of one question, over all attempts.

    Args:
        outcome: ``OK`` only if a complete answer came.
        text: The answer; empty unless ``OK``.
        model: The model that answered, as the provider named it; empty if it named none.
        reason: A short stable code for an operator, such as ``http_429``. Never a provider's or a person's text.
        first_token: Token to log probability, for the first token of the answer; filled if ``top_logprobs`` was asked.
        tokens_in: Tokens sent, over all attempts that reported them.
        tokens_out: Tokens received, likewise.
        cost_usd: Price in US dollars by LiteLLM's table, over all attempts, or None where it knows no price.
    """

    outcome: Outcome
    text: str = ""
    model: str = ""
    reason: str = ""
    first_token: Mapping[str, float] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None


class Chat(Protocol):
    """What a judge needs of a chat model; :class:`LiteLLMChat` is one."""

    async def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        schema: Mapping[str, Any] | None = None,
        max_tokens: int,
        top_logprobs: int = 0,
        extra_body: Mapping[str, Any] | None = None,
        flaw: Callable[[str], str] | None = None,
    ) -> ChatAnswer:
        """Return the answer, or how it failed. See :meth:`LiteLLMChat.ask`."""
        ...


class LiteLLMChat:
    """Asks one model, at most ``max_attempts`` times, within one deadline.

    Connections are kept for the event loop that they were opened in, and closed when it ends.

    Args:
        model: LiteLLM's name of the model, with its provider, for example ``gemini/gemini-2.5-flash-lite``.
        api_base: Where the provider is, or None for its public address. Gemini's ends in ``/v1beta``.
        api_key: The key, or None to let LiteLLM find it in its own environment variables.
        deadline_s: Seconds for all attempts together, pauses included.
        max_attempts: 1 or more. Only faults that may pass are tried again, never a refusal or a wrong setting.
        pause_s: Mean pause before another attempt, in seconds; a random half of it is added or taken away.

    Raises:
        ConfigError: If a number is out of range, or a Gemini has no key.
        MissingExtra: If LiteLLM is not installed.
    """

    def __init__(
        self,
        model: str,
        *,
        api_base: str | None = None,
        api_key: str | None = None,
        deadline_s: float = 8.0,
        max_attempts: int = 2,
        pause_s: float = 0.25,
    ) -> None:
        if not model:
            raise ConfigError("model: must not be empty")
        if not deadline_s > 0:
            raise ConfigError(f"deadline_s: must be above 0, not {deadline_s!r}")
        if max_attempts < 1:
            raise ConfigError(f"max_attempts: must be at least 1, not {max_attempts!r}")
        self.model = model
        self._deadline_s = deadline_s
        self._max_attempts = max_attempts
        self._pause_s = pause_s
        self._litellm = _load_litellm()
        self._openai_error: type[Exception] = importlib.import_module("openai").OpenAIError
        if model.startswith("gemini/") and not api_key and self._litellm.validate_environment(model)["missing_keys"]:
            # Said now, and not as a fault of every single question.
            raise ConfigError(f"api_key: {model} needs one; set it, or GEMINI_API_KEY in the environment")
        self._fixed = _fixed_arguments(model, api_base=api_base, api_key=api_key, timeout_s=deadline_s)

    async def ask(
        self,
        messages: Sequence[Mapping[str, Any]],
        *,
        schema: Mapping[str, Any] | None = None,
        max_tokens: int,
        top_logprobs: int = 0,
        extra_body: Mapping[str, Any] | None = None,
        flaw: Callable[[str], str] | None = None,
    ) -> ChatAnswer:
        """Ask and return the answer, or how it failed. A fault of the provider never raises.

        Args:
            messages: In the OpenAI chat form.
            schema: The JSON schema that the answer should follow. The provider is asked to keep to it; check anyway.
            max_tokens: Longest answer. An answer cut there is a failure, ``finish_length``.
            top_logprobs: How many likely first tokens to report. If above 0, the first token is the answer,
                and an answer cut at ``max_tokens`` is complete.
            extra_body: Further fields of the request's body, for servers that know some.
            flaw: Returns a short code of what is wrong with an answer's text, or an empty text. A flawed answer
                counts as an attempt, and ends as ``UNPARSABLE`` with that code as its reason.
        """
        arguments = dict(self._fixed, messages=[dict(message) for message in messages], max_tokens=max_tokens)
        if schema is not None:
            form = {"name": "answer", "strict": True, "schema": dict(schema)}
            arguments["response_format"] = {"type": "json_schema", "json_schema": form}
        if top_logprobs:
            arguments |= {"logprobs": True, "top_logprobs": top_logprobs}
        if extra_body:
            arguments["extra_body"] = dict(extra_body)
        try:
            async with asyncio.timeout(self._deadline_s):
                await close_with_loop(self._litellm)
                return await self._attempts(arguments, cut_is_whole=top_logprobs > 0, flaw=flaw)
        except TimeoutError:
            return ChatAnswer(Outcome.TIMEOUT, reason="deadline")

    async def _attempts(
        self, arguments: Mapping[str, Any], *, cut_is_whole: bool, flaw: Callable[[str], str] | None
    ) -> ChatAnswer:
        ends = time.monotonic() + self._deadline_s
        spent = ChatAnswer(Outcome.FAILED)
        for attempt in range(1, self._max_attempts + 1):
            reading = await self._attempt(arguments, cut_is_whole)
            problem = flaw(reading.text) if flaw and reading.outcome is Outcome.OK else ""
            if problem:
                reading = replace(reading, outcome=Outcome.UNPARSABLE, text="", reason=problem, retry=True)
            spent = _add(spent, reading)
            # Equal pauses would send everybody back at the same moment.
            pause = max(reading.retry_after_s, self._pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
            if not reading.retry or attempt == self._max_attempts or time.monotonic() + pause >= ends:
                break
            await asyncio.sleep(pause)
        return spent

    async def _attempt(self, arguments: Mapping[str, Any], cut_is_whole: bool) -> Reading:
        bodies: list[str] = []

        def keep_body(details: Mapping[str, Any]) -> None:
            # LiteLLM calls this before and after; only afterwards there is a body.
            if isinstance(body := details.get("original_response"), str):
                bodies.append(body)

        try:
            response = await self._litellm.acompletion(**arguments, logger_fn=keep_body)
        except self._openai_error as error:
            return read_error(error, bodies[-1] if bodies else None)
        return read_response(response, bodies[-1] if bodies else None, cut_is_whole=cut_is_whole)


def _add(spent: ChatAnswer, reading: Reading) -> ChatAnswer:
    costs = [cost for cost in (spent.cost_usd, reading.cost_usd) if cost is not None]
    return ChatAnswer(
        outcome=reading.outcome,
        text=reading.text,
        model=reading.model,
        reason=reading.reason,
        first_token=reading.first_token,
        tokens_in=spent.tokens_in + reading.tokens_in,
        tokens_out=spent.tokens_out + reading.tokens_out,
        cost_usd=sum(costs) if costs else None,
    )


def _fixed_arguments(model: str, *, api_base: str | None, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    arguments: dict[str, Any] = {
        "model": model,
        "api_base": api_base.rstrip("/") if api_base else None,
        "api_key": api_key,
        # The same for every call: LiteLLM opens a new connection pool for each timeout it meets.
        "timeout": timeout_s,
        "num_retries": 0,
        "max_retries": 0,
        # A host program's own LiteLLM callbacks have no business with prompts under judgement.
        "no-log": True,
    }
    if model.startswith(_GEMINI_PREFIXES):
        arguments["safety_settings"] = _GEMINI_FILTERS_OFF
        # Thinking costs time and answer tokens. LiteLLM makes this "none" for 2.5, and "as little as can be" since 3.
        if not model.rpartition("/")[2].startswith(("gemini-1", "gemini-2.0", "gemini-2.5-pro")):
            arguments["reasoning_effort"] = "disable"
    return arguments


def _load_litellm() -> Any:
    # Without it the import fetches a price table from the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        litellm: Any = importlib.import_module("litellm")
    except ModuleNotFoundError as error:
        raise MissingExtra("litellm", "judge", needed_by="an LLM judge") from error
    litellm.suppress_debug_info = True
    litellm.turn_off_message_logging = True
    litellm.telemetry = False
    return litellm
