"""A gateway whose judge, and the provider behind it, a test exchanges; and clients that ask it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import openai
import pytest

from fakes import FakeGenerator, MarkerScreen
from gateway_server import Served, serving
from safelight.backends.litellm_chat import LiteLLMChat
from safelight.enforcement import Enforcement
from safelight.policy import Decision, Policy
from safelight.request import GenerationRequest, Principal, Turn
from safelight.screens import PromptScreen
from safelight.screens.llm_judge import LLMJudge
from safelight.store.blocked_prompts import BlockedPrompts
from safelight.store.strikes import Attempt, Hold, Strikes
from safelight.verdict import Verdict
from scripted_gemini import Script, ScriptedGemini, allow

MODEL = "gemini/gemini-2.5-flash-lite"
KEY = "canary-key-5d1f"
PROMPT = "canary-prompt a cup of tea"
"""Neither of the two may be met where it does not belong; ``canary-`` is what to look for."""


class Door:
    """A gateway whose judge and judge's provider a test exchanges, and a client with a key of its own."""

    def __init__(
        self,
        served: Served,
        gemini: ScriptedGemini,
        generator: FakeGenerator,
        judges: Judges,
        http: openai.DefaultHttpxClient,
    ) -> None:
        self.served, self.gemini, self.generator = served, gemini, generator
        self._judges, self._http = judges, http
        self.use(judge(gemini))

    def use(self, screen: PromptScreen) -> None:
        self._judges.now = screen

    def fresh(self, script: Script) -> None:
        """Begin anew: a judge that has met nothing, nothing asked or made, another key."""
        self.gemini.script = script
        self.gemini.asked.clear()
        self.generator.requests.clear()
        self.key, self.token = self.served.store.create_key("a test's", at=datetime.now(UTC))
        self.judge = judge(self.gemini)
        self.use(self.judge)

    @property
    def principal(self) -> Principal:
        return Principal(self.key.id)

    def ask(self, prompt: str = PROMPT, **options: Any) -> Any:
        # The client's own retries are on, as by default. A connection pool for each would cost more than all else.
        client = openai.OpenAI(base_url=f"{self.served.address}/v1", api_key=self.token, http_client=self._http)
        return client.images.generate(prompt=prompt, size="64x64", **options)

    def refused(self) -> tuple[openai.APIStatusError, Decision]:
        """Ask for a picture that is not made, and return what the client is told and what was ruled."""
        with pytest.raises(openai.APIStatusError) as error:
            self.ask()
        (decision,) = self.served.store.decisions(request_id=error.value.body["request_id"])  # type: ignore[index]
        assert self.generator.requests == []
        return error.value, decision

    def unready(self) -> Sequence[str]:
        """The problems for which the gateway says that it is not ready; none if it is."""
        answer = self._http.get(f"{self.served.address}/readyz")
        problems = answer.json().get("problems", [])
        assert answer.status_code == (503 if problems else 200)
        return tuple(problems)

    def attempts(self) -> Sequence[Attempt]:
        since = datetime.now(UTC) - timedelta(minutes=10)
        return Strikes(self.served.store).of_principal("default", self.key.id, since=since, limit=10)

    def hold(self) -> Hold | None:
        return Strikes(self.served.store).held("default", self.key.id)


class Judges:
    """The screen that the gateway knows; the judge behind it is the test's."""

    name = "llm_judge"
    now: PromptScreen

    @property
    def problems(self) -> tuple[str, ...]:
        return getattr(self.now, "problems", ())

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        return await self.now.screen_prompt(request, history)


def chat(gemini: ScriptedGemini, **options: Any) -> LiteLLMChat:
    given: dict[str, Any] = {"api_base": gemini.url, "api_key": KEY, "deadline_s": 20.0, "pause_s": 0.01} | options
    return LiteLLMChat(given.pop("model", MODEL), **given)


def judge(gemini: ScriptedGemini, **options: Any) -> LLMJudge:
    given: dict[str, Any] = {"policy": Policy.default(), "model": MODEL} | options
    return LLMJudge(chat=given.pop("chat", None) or chat(gemini), **given)


@contextmanager
def judge_door(folder: Path) -> Iterator[Door]:
    """Serve a gateway over a real store and a fake generator, with a judge that a test exchanges. Attempts count."""
    generator, judges = FakeGenerator(), Judges()
    with (
        ScriptedGemini(allow) as gemini,
        serving(
            folder, generator=generator, prompt_screens=[judges], image_screens=[MarkerScreen(category="violence")]
        ) as served,
        openai.DefaultHttpxClient() as http,
    ):
        guard, store = served.runtime.guard, served.store
        guard.enforcement = Enforcement(
            guard.policy.enforcement, Strikes(store), BlockedPrompts(store), secret=store.secret("strikes")
        )
        door = Door(served, gemini, generator, judges, http)
        # The first call loads LiteLLM, for which a test's deadline leaves no time.
        door.fresh(allow)
        door.ask()
        yield door
