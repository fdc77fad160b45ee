"""One question to a chat model through LiteLLM: a typed answer within one deadline, whatever the provider does.

LiteLLM turns a provider's refusal, an unknown ending and half an answer into ordinary looking responses, and some
refusals into network errors. So every response's own body is read beside what LiteLLM made of it.
"""

from __future__ import annotations

import asyncio
import importlib
import logging
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol

from ..errors import ConfigError
from ..verdict import Outcome
from .circuit import Call, CircuitBreaker, CircuitState
from .litellm_clients import close_with_loop
from .litellm_prices import checked_prices, cost_usd, is_amount, is_priced, is_token_count
from .litellm_reading import Reading, read_error, read_response
from .litellm_setup import fixed_arguments, load_litellm
from .problems import JUDGE_AUTH, Problems, problem_of

logger = logging.getLogger("safelight")


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
        cost_usd: Price in US dollars, over all attempts that reported their tokens, or None where no price is known.
        retry_after_s: How long the provider, or an open circuit, asks to wait, in seconds; 0 if neither says.
    """

    outcome: Outcome
    text: str = ""
    model: str = ""
    reason: str = ""
    first_token: Mapping[str, float] = field(default_factory=dict)
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None
    retry_after_s: float = 0.0


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

    A provider that keeps failing is left alone for a while: then the answer is ``UNREACHABLE``, ``circuit_open``, at
    once. What the provider answers, were it a refusal or half an answer, is no failure in that sense; no answer, an
    error status and somebody else's answer are. A key that it does not take opens the circuit at once.

    Connections are kept for the event loop that they were opened in, and closed when it ends.

    Args:
        model: LiteLLM's name of the model, with its provider, for example ``gemini/gemini-2.5-flash-lite``.
        api_base: Where the provider is, or None for its public address. Gemini's ends in ``/v1beta``.
        api_key: The key, or None to let LiteLLM find it in its own environment variables.
        deadline_s: Seconds for all attempts together, pauses included.
        max_attempts: 1 or more. Only faults that may pass are tried again, never a refusal or a wrong setting.
        pause_s: Mean pause before another attempt, in seconds; a random half of it is added or taken away.
        breaker: Counts the provider's failures, by attempt; by default one of its own.
        problems: Keeps what is wrong beyond passing faults; by default one of its own.
        usd_per_million: US dollars for a million tokens sent and for a million received, in place of LiteLLM's table.

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
        breaker: CircuitBreaker | None = None,
        problems: Problems | None = None,
        usd_per_million: Sequence[float] | None = None,
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
        self._breaker = breaker or CircuitBreaker()
        self._problems = problems or Problems(model)
        self._prices = checked_prices(usd_per_million)
        self._litellm = load_litellm()
        self._openai_error: type[Exception] = importlib.import_module("openai").OpenAIError
        if model.startswith("gemini/") and not api_key and self._litellm.validate_environment(model)["missing_keys"]:
            # Said now, and not as a fault of every single question.
            raise ConfigError(f"api_key: {model} needs one; set it, or GEMINI_API_KEY in the environment")
        self._fixed = fixed_arguments(model, api_base=api_base, api_key=api_key, timeout_s=deadline_s)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why it is not to be relied on now: ``judge_auth``, ``judge_config``, ``judge_retired``. Empty when it is.

        Each holds until a call succeeds, or for a minute after it was last met.
        """
        return self._problems.now

    @property
    def circuit(self) -> CircuitState:
        """Whether the provider is asked or left alone. An open circuit heals by itself, so it is no problem."""
        return self._breaker.state

    @property
    def retry_after_s(self) -> float:
        """Seconds until the provider may be asked again; 0 if it may be now."""
        return self._breaker.retry_after_s

    @property
    def is_priced(self) -> bool:
        """Whether it is known what the model costs."""
        return self._prices is not None or is_priced(self._litellm, self.model)

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
        await close_with_loop(self._litellm)
        return await self._attempts(arguments, cut_is_whole=top_logprobs > 0, flaw=flaw)

    async def _attempts(
        self, arguments: Mapping[str, Any], *, cut_is_whole: bool, flaw: Callable[[str], str] | None
    ) -> ChatAnswer:
        ends = asyncio.get_running_loop().time() + self._deadline_s
        spent: ChatAnswer | None = None
        for attempt in range(1, self._max_attempts + 1):
            call = self._breaker.admit()
            if call is None:
                break
            reading = await self._through(call, arguments, cut_is_whole=cut_is_whole, ends=ends)
            problem = flaw(reading.text) if flaw and reading.outcome is Outcome.OK else ""
            if problem:
                reading = replace(reading, outcome=Outcome.UNPARSABLE, text="", reason=problem, retry=True)
            spent = self._add(spent, reading)
            if attempt == self._max_attempts or not await self._may_try_again(reading, ends):
                break
        return spent or ChatAnswer(
            Outcome.UNREACHABLE, reason="circuit_open", retry_after_s=self._breaker.retry_after_s
        )

    async def _may_try_again(self, reading: Reading, ends: float) -> bool:
        """Wait for the time of another attempt, if there should be one."""
        # Equal pauses would send everybody back at the same moment.
        pause = max(reading.retry_after_s, self._pause_s * random.uniform(0.5, 1.5))  # noqa: S311 - no secret
        in_time = asyncio.get_running_loop().time() + pause < ends
        if not reading.retry or not in_time or not self._breaker.admits():
            return False
        await asyncio.sleep(pause)
        return True

    async def _through(self, call: Call, arguments: Mapping[str, Any], *, cut_is_whole: bool, ends: float) -> Reading:
        with call:
            try:
                async with asyncio.timeout_at(ends):
                    reading = await self._attempt(arguments, cut_is_whole)
            except TimeoutError:
                reading = Reading(Outcome.TIMEOUT, "deadline")
            problem = problem_of(reading.reason)
            if problem:
                self._problems.met(problem, reason=reading.reason)
            if reading.answered:
                self._problems.gone()
                call.succeeded()
            else:
                call.failed(at_once=problem == JUDGE_AUTH)
        if call.opened:
            logger.warning("circuit_open: %s is left alone for a while, after %s", self.model, reading.reason)
        return reading

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

    def _add(self, spent: ChatAnswer | None, reading: Reading) -> ChatAnswer:
        reading = _without_odd_usage(reading)
        cost = reading.cost_usd
        if self._prices is not None and (reading.tokens_in or reading.tokens_out):
            cost = cost_usd(self._prices, tokens_in=reading.tokens_in, tokens_out=reading.tokens_out)
        before = spent or ChatAnswer(Outcome.FAILED)
        costs = [one for one in (before.cost_usd, cost) if one is not None]
        return ChatAnswer(
            outcome=reading.outcome,
            text=reading.text,
            model=reading.model,
            reason=reading.reason,
            first_token=reading.first_token,
            tokens_in=before.tokens_in + reading.tokens_in,
            tokens_out=before.tokens_out + reading.tokens_out,
            cost_usd=sum(costs) if costs else None,
            retry_after_s=reading.retry_after_s,
        )


def _without_odd_usage(reading: Reading) -> Reading:
    """Return a reading whose tokens and cost can be counted: what a provider says of them is data of a stranger's."""
    if not (is_token_count(reading.tokens_in) and is_token_count(reading.tokens_out)):
        # A price that was made of such counts is none either.
        return replace(reading, tokens_in=0, tokens_out=0, cost_usd=None)
    return reading if reading.cost_usd is None or is_amount(reading.cost_usd) else replace(reading, cost_usd=None)
