"""A language model that judges a prompt in the light of what the same person asked before.

What is covered: every channel verbatim, in any language the model reads; words and meanings completed over several
turns, as far as the shown history reaches; refusals of the provider, which are told apart from its failures.
What is not covered: turns older than the shown history; pictures; a model that is wrong.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping, Sequence

from ..backends.litellm_chat import Chat, LiteLLMChat
from ..errors import ConfigError
from ..instructions import (
    JudgeAnswer,
    UnreadableAnswer,
    answer_schema,
    answer_tokens,
    prompt_case,
    prompt_rules,
    read_answer,
)
from ..policy import Action, Policy
from ..request import GenerationRequest, Turn
from ..verdict import Category, Outcome, Stage, Verdict

CONTRADICTION = "contradiction"
"""The reason of a verdict whose word and scores disagree; then the graver of the two counts."""


class LLMJudge:
    """Asks a chat model for a score in every category of the policy.

    Args:
        policy: Whose categories are judged.
        model: LiteLLM's name of the model.
        api_base: Where the provider is, or None for its public address.
        api_key: Its key, or None to let LiteLLM find it.
        deadline_s: Seconds for one prompt, a second attempt included.
        served_models: Names under which the provider may answer, beside the asked one. An answer of another model
            is not used: a provider that moves a name to another model has changed the judge.
        max_history: How many of the person's newest turns the judge is shown.
        name: How the screen signs its verdicts.
        chat: What asks the model, in place of a :class:`LiteLLMChat`; the asked name is still ``model``.

    Raises:
        ConfigError: If a setting is out of range.
        MissingExtra: If LiteLLM is not installed and no ``chat`` is given.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        model: str = "gemini/gemini-2.5-flash-lite",
        api_base: str | None = None,
        api_key: str | None = None,
        deadline_s: float = 8.0,
        served_models: Sequence[str] = (),
        max_history: int = 20,
        name: str = "llm_judge",
        chat: Chat | None = None,
    ) -> None:
        if isinstance(served_models, str):
            raise ConfigError("served_models: must be a list of texts")
        if isinstance(max_history, bool) or not isinstance(max_history, int) or max_history < 0:
            raise ConfigError(f"max_history: must be a whole number from 0, not {max_history!r}")
        self.name = name
        self._policy = policy
        self._max_history = max_history
        self._chat = chat or LiteLLMChat(model, api_base=api_base, api_key=api_key, deadline_s=deadline_s)
        self._served_models = frozenset(served_models) | {model.partition("/")[2] or model}
        self._rules = prompt_rules(policy, screen=name)
        self._schema = answer_schema(policy.categories)
        self._max_tokens = answer_tokens(policy.categories)

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        """Ask the model about all channels of the request and the newest turns."""
        nonce = secrets.token_hex(8)
        case = prompt_case(request.texts, history, nonce=nonce, max_history=self._max_history)

        def flaw(text: str) -> str:
            try:
                read_answer(text, nonce=nonce, categories=self._policy.categories)
            except UnreadableAnswer as error:
                return error.code
            return ""

        answer = await self._chat.ask(
            [{"role": "system", "content": self._rules}, {"role": "user", "content": case}],
            schema=self._schema,
            max_tokens=self._max_tokens,
            flaw=flaw,
        )
        if answer.outcome is not Outcome.OK:
            return self._verdict(answer.outcome, answer.reason, answer.model)
        if answer.model not in self._served_models:
            return self._verdict(Outcome.FAILED, "served_model_mismatch", answer.model)
        try:
            read = read_answer(answer.text, nonce=nonce, categories=self._policy.categories)
        except UnreadableAnswer as error:
            return self._verdict(Outcome.UNPARSABLE, error.code, answer.model)
        return self._judged(read, answer.model)

    def _judged(self, read: JudgeAnswer, model: str) -> Verdict:
        verdict = self._verdict(Outcome.OK, str(read.reason), model, read.scores)
        reached = any(score >= self._policy.categories[name].threshold(verdict) for name, score in read.scores.items())
        if reached == read.blocks:
            return verdict
        # A judge that scores high and says allow needs no help: scores rule. One that says block and scores low does.
        scores = read.scores if reached else {**read.scores, self._likeliest(read.scores): 1.0}
        return self._verdict(Outcome.OK, CONTRADICTION, model, scores)

    def _likeliest(self, scores: Mapping[str, float]) -> str:
        blocking = [name for name in scores if self._policy.categories[name].action is Action.BLOCK] or list(scores)
        # Among equals never the gravest, which sets people in motion.
        return max(blocking, key=lambda name: (scores[name], name != Category.SEXUAL_MINORS))

    def _verdict(self, outcome: Outcome, reason: str, model: str, scores: Mapping[str, float] | None = None) -> Verdict:
        return Verdict(
            screen=self.name, stage=Stage.PROMPT, scores=scores or {}, outcome=outcome, reason=reason, model=model
        )
