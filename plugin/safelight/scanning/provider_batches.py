"""A provider's batch interface through LiteLLM: many questions in one file, answered within a day at about half price.

LiteLLM 1.106 has it for OpenAI and Azure OpenAI, whose form it is, and for Vertex AI, which it translates to. The
Gemini API (``gemini/``) takes files there but has no batches. OpenAI's form is tested against a scripted server, and
Azure's is the same; Vertex AI also needs a bucket (``GCS_BUCKET_NAME``) and Google credentials, and could not be tried
offline.
"""

from __future__ import annotations

import asyncio
import importlib
import json
import warnings
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from typing import Any

from ..backends.litellm_chat import ChatAnswer
from ..backends.litellm_prices import is_amount, is_token_count
from ..backends.litellm_reading import read_response
from ..backends.litellm_setup import load_litellm
from ..errors import ConfigError, ScreeningUnavailable
from ..verdict import Outcome
from .questions import Question

PROVIDERS = ("openai", "azure", "vertex_ai")
"""Providers whose batches can be used."""

_LISTED = ("openai", "azure")
"""Those that list their batches with what we wrote on them, so that one can be found again."""

_OVER = frozenset({"completed", "failed", "expired", "cancelled"})
_MOST_LISTED = 100


@dataclass(frozen=True, slots=True)
class BatchState:
    """How far a batch is.

    Args:
        over: Whether it has ended, in whatever way.
        status: The provider's word for it.
        output: The file with answers, or empty.
        errors: The file with failures, or empty.
    """

    over: bool
    status: str
    output: str = ""
    errors: str = ""


def batch_provider(model: str) -> str:
    """Return the provider whose batch interface serves a model.

    Raises:
        ConfigError: If LiteLLM has none for it.
    """
    provider = model.partition("/")[0]
    if provider == "gemini":
        raise ConfigError(f"--batch: {model} has no batch through LiteLLM 1.106; a vertex_ai/gemini-… model has")
    if provider not in PROVIDERS:
        raise ConfigError(f"--batch: works with models of {', '.join(PROVIDERS)}, not with {model}")
    return provider


class ProviderBatches:
    """Sends, finds, watches and reads batches of one model.

    Args:
        model: LiteLLM's name of the model, with its provider.
        api_base: Where the provider is, or None for its public address.
        api_key: The key, or None to let LiteLLM find it.

    Raises:
        ConfigError: If the provider has no batches in LiteLLM.
        MissingExtra: If LiteLLM is not installed.
    """

    def __init__(self, model: str, *, api_base: str | None = None, api_key: str | None = None) -> None:
        self._provider = batch_provider(model)
        self._model = model
        self._litellm = load_litellm()
        _build_forms()
        self._error: type[Exception] = importlib.import_module("openai").OpenAIError
        self._where = {"custom_llm_provider": self._provider, "api_base": api_base, "api_key": api_key}
        self._retries = {"max_retries": 2}

    async def submit(self, questions: Mapping[str, Question], *, key: str) -> str:
        """Send questions as one batch, and return the provider's id of it.

        Args:
            questions: By the id under which each answer comes back.
            key: Written on the batch, to find it again.

        Raises:
            ScreeningUnavailable: If the provider does not take it.
        """
        lines = "\n".join(json.dumps(self._line(id, question)) for id, question in questions.items())
        file = await self._call(
            "create_file", file=(f"safelight-{key}.jsonl", lines.encode()), purpose="batch", **self._retries
        )
        # Sent once: a second try after a lost answer could make a second batch.
        batch = await self._call(
            "create_batch",
            completion_window="24h",
            endpoint="/v1/chat/completions",
            input_file_id=file.id,
            metadata={"safelight": key},
            max_retries=0,
        )
        return str(batch.id)

    async def find(self, key: str) -> str | None:
        """Return the id of the batch that ``key`` was written on, or None if there is none.

        Raises:
            ScreeningUnavailable: If the provider cannot tell, so that nobody knows.
        """
        if self._provider not in _LISTED:
            raise ScreeningUnavailable(f"{self._provider} does not tell which batches are ours")
        listed = await self._call("list_batches", limit=_MOST_LISTED, **self._retries)
        batches = list(getattr(listed, "data", None) or [])
        for batch in batches:
            if (getattr(batch, "metadata", None) or {}).get("safelight") == key:
                return str(batch.id)
        if len(batches) >= _MOST_LISTED:
            raise ScreeningUnavailable("the provider lists too many batches to tell whether ours is among them")
        return None

    async def state(self, id: str) -> BatchState:
        """Return how far a batch is.

        Raises:
            ScreeningUnavailable: If the provider does not say.
        """
        batch = await self._call("retrieve_batch", batch_id=id, **self._retries)
        status = str(batch.status)
        return BatchState(status in _OVER, status, str(batch.output_file_id or ""), str(batch.error_file_id or ""))

    async def answers(self, state: BatchState) -> Mapping[str, ChatAnswer]:
        """Return the answers of a batch that is over, by id. Who has none is not in it.

        Raises:
            ScreeningUnavailable: If a file cannot be read.
        """
        found: dict[str, ChatAnswer] = {}
        for file in (state.errors, state.output):
            if file:
                content = await self._call("file_content", file_id=file, **self._retries)
                found |= {id: self._answer(row) for id, row in _rows(content.content)}
        return found

    async def _call(self, name: str, **arguments: Any) -> Any:
        # LiteLLM opens a client for each of these calls and never closes it: the connection must not outlive the call.
        closing = {"Connection": "close"}
        call = partial(getattr(self._litellm, name), extra_headers=closing, **arguments, **self._where)
        try:
            return await asyncio.to_thread(call)
        except (self._error, OSError, ValueError) as error:
            # The type alone: a provider's message could quote what was sent.
            raise ScreeningUnavailable(f"{self._provider}: {name} failed: {type(error).__name__}") from None

    def _line(self, id: str, question: Question) -> dict[str, Any]:
        name = self._model.partition("/")[2]
        options = {"max_tokens": question.max_tokens}
        if self._provider != "vertex_ai":
            # What the provider calls them for this model; for Vertex AI LiteLLM translates the file itself.
            options = self._litellm.get_optional_params(model=name, custom_llm_provider=self._provider, **options)
        body = {"model": name, "messages": question.messages, **options}
        return {"custom_id": id, "method": "POST", "url": "/v1/chat/completions", "body": body}

    def _answer(self, row: Mapping[str, Any]) -> ChatAnswer:
        response = row.get("response") or {}
        body, status = response.get("body"), response.get("status_code")
        if status != 200 or not isinstance(body, dict):
            refused = isinstance(body, dict) and (body.get("error") or {}).get("code") == "content_filter"
            if refused:
                return ChatAnswer(Outcome.REFUSED, reason="content_policy")
            return ChatAnswer(Outcome.FAILED, reason=f"batch_http_{status}" if status else "batch_error")
        try:
            reply = self._litellm.ModelResponse(**body)
        except (TypeError, ValueError, KeyError):
            return ChatAnswer(Outcome.UNPARSABLE, reason="malformed_response")
        reading = read_response(reply, json.dumps(body), cut_is_whole=False)
        cost = self._cost(reply)
        if not (is_token_count(reading.tokens_in) and is_token_count(reading.tokens_out)):
            # What a provider says of itself may be no count of anything; nor is a price that was made of it.
            reading, cost = replace(reading, tokens_in=0, tokens_out=0), None
        return ChatAnswer(
            reading.outcome,
            text=reading.text,
            model=reading.model,
            reason=reading.reason,
            tokens_in=reading.tokens_in,
            tokens_out=reading.tokens_out,
            cost_usd=cost if is_amount(cost) else None,
        )

    def _cost(self, reply: Any) -> float | None:
        prices: Sequence[float] = self._litellm.cost_calculator.batch_cost_calculator(
            usage=reply.usage, model=self._model.partition("/")[2], custom_llm_provider=self._provider
        )
        # LiteLLM says nothing for "not known" as well.
        return sum(prices) or None


def _build_forms() -> None:
    """Have LiteLLM build the forms of these calls, which it puts off to the first one and does with loud warnings."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        importlib.import_module("litellm.types.router").GenericLiteLLMParams()


def _rows(content: bytes) -> Iterator[tuple[str, Mapping[str, Any]]]:
    for line in content.splitlines():
        try:
            row = json.loads(line)
        except ValueError:
            continue
        if isinstance(row, dict) and isinstance(row.get("custom_id"), str):
            yield row["custom_id"], row
