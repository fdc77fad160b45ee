"""One model that is asked a judge's questions: its answer as a verdict, counted, and of the model that was asked."""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from typing import Any

from ..backends.litellm_chat import Chat, ChatAnswer, LiteLLMChat
from ..backends.litellm_setup import load_litellm
from ..backends.model_dates import model_warnings
from ..backends.problems import Problems
from ..backends.served_models import ServedModels
from ..errors import StoreUnavailable
from ..instructions import (
    JudgeAnswer,
    UnreadableAnswer,
    answer_schema,
    answer_tokens,
    prompt_rules,
    read_answer,
)
from ..policy import Action, Policy
from ..verdict import Category, Outcome, Stage, Verdict
from .counted_calls import Answered, Budget, CountedCalls
from .second_opinion import NOT_NOTED

CONTRADICTION = "contradiction"
"""The reason of a verdict whose word and scores disagree; then the graver of the two counts."""

CHANGED = "judge_changed"
"""The problem of a model that another one answers for."""


@dataclass(frozen=True, slots=True)
class Questions:
    """What a judge is asked about every request, and how its answer becomes a verdict.

    Args:
        policy: Whose categories are asked about.
        screen: The name that verdicts are signed with.
        rules: The system message.
        schema: The answer's form.
        max_tokens: The answer's greatest length.
    """

    policy: Policy
    screen: str
    rules: str
    schema: Mapping[str, Any]
    max_tokens: int

    @classmethod
    def of(cls, policy: Policy, screen: str) -> Questions:
        """Return the questions about a policy's categories."""
        categories = policy.categories
        rules = prompt_rules(policy, screen=screen)
        return cls(policy, screen, rules, answer_schema(categories), answer_tokens(categories))

    def flaw(self, text: str, nonce: str) -> str:
        """Return the code of what is wrong with an answer's form, or an empty text."""
        try:
            read_answer(text, nonce=nonce, categories=self.policy.categories)
        except UnreadableAnswer as error:
            return error.code
        return ""

    def verdict(self, text: str, nonce: str) -> Verdict:
        """Return what an answer says, or that it is none."""
        try:
            read = read_answer(text, nonce=nonce, categories=self.policy.categories)
        except UnreadableAnswer as error:
            return self.failure(Outcome.UNPARSABLE, error.code)
        verdict = Verdict(
            screen=self.screen,
            stage=Stage.PROMPT,
            scores=read.scores,
            reason=str(read.reason),
            course=read.course,
            course_reason=str(read.course_reason),
        )
        return self._without_contradiction(read, verdict)

    def failure(self, outcome: Outcome, reason: str) -> Verdict:
        """Return a verdict without evidence."""
        return Verdict(screen=self.screen, stage=Stage.PROMPT, outcome=outcome, reason=reason)

    def _without_contradiction(self, read: JudgeAnswer, verdict: Verdict) -> Verdict:
        reached = any(score >= self.policy.categories[name].threshold(verdict) for name, score in read.scores.items())
        if reached == read.blocks:
            return verdict
        # A judge that scores high and says allow needs no help: scores rule. One that says block and scores low does.
        scores = read.scores if reached else {**read.scores, self._likeliest(read.scores): 1.0}
        return replace(verdict, scores=scores, reason=CONTRADICTION)

    def _likeliest(self, scores: Mapping[str, float]) -> str:
        blocking = [name for name in scores if self.policy.categories[name].action is Action.BLOCK] or list(scores)
        # Among equals never the gravest, which sets people in motion.
        return max(blocking, key=lambda name: (scores[name], name != Category.SEXUAL_MINORS))


class AskedModel:
    """Asks one model. A call that could not be counted is not used: what is spent unseen knows no limit.

    Args:
        questions: What it is asked.
        chat: What asks it.
        model: LiteLLM's name of it.
        served_models: Names under which it may answer, beside its own and its dated snapshots.
        purpose: What its calls are noted as: ``judge`` or ``second``.
        budget: Where calls are noted, or None to note none.
        clock: The time, with time zone.
    """

    def __init__(
        self,
        questions: Questions,
        chat: Chat,
        *,
        model: str,
        served_models: Sequence[str],
        purpose: str,
        budget: Budget | None,
        clock: Callable[[], datetime],
    ) -> None:
        self.model = model
        self._served = ServedModels(model, served_models)
        self.served_models = self._served.names
        self._questions = questions
        self._chat = chat
        self._calls = CountedCalls(budget, screen=questions.screen, model=model, purpose=purpose, clock=clock)
        self._changed = Problems(model)

    @property
    def problems(self) -> tuple[str, ...]:
        """Why it is not to be relied on now; see :class:`Problems`."""
        return tuple(sorted({*self._changed.now, *getattr(self._chat, "problems", ())}))

    @property
    def retry_after_s(self) -> float:
        """Seconds until it may be asked again; 0 if it may be now."""
        return float(getattr(self._chat, "retry_after_s", 0.0))

    @property
    def is_priced(self) -> bool:
        """Whether it is known what it costs; a chat that does not say so is taken at its word for each answer."""
        return bool(getattr(self._chat, "is_priced", True))

    def warnings(self, today: date) -> tuple[str, ...]:
        """Return what should be known about the model before it is relied on."""
        table = load_litellm().model_cost if isinstance(self._chat, LiteLLMChat) else {}
        return model_warnings(self.model, today=today, table=table)

    async def ask(self, case: Callable[[str], str]) -> Verdict:
        """Ask, and return what was found or how it failed.

        Args:
            case: Makes the user message that holds a nonce; called in another thread.
        """
        refusal = await self._calls.refusal()
        if refusal:
            return self._questions.failure(*refusal)
        nonce = secrets.token_hex(8)
        text = await asyncio.to_thread(case, nonce)
        asking = self._chat.ask(
            [{"role": "system", "content": self._questions.rules}, {"role": "user", "content": text}],
            schema=self._questions.schema,
            max_tokens=self._questions.max_tokens,
            flaw=lambda said: self._questions.flaw(said, nonce),
        )
        answered = await self._calls.make(asking)
        answer = answered.answer
        verdict = replace(
            self._read(answer, nonce),
            model=answer.model,
            ms=answered.ms,
            tokens_in=answer.tokens_in,
            tokens_out=answer.tokens_out,
            cost_usd=answer.cost_usd,
        )
        return await self._noted(verdict, answered)

    def _read(self, answer: ChatAnswer, nonce: str) -> Verdict:
        if answer.outcome is not Outcome.OK:
            return self._questions.failure(answer.outcome, answer.reason)
        if not self._served.allows(answer.model):
            self._changed.met(CHANGED, reason="as another model")
            return self._questions.failure(Outcome.FAILED, "served_model_mismatch")
        self._changed.gone()
        return self._questions.verdict(answer.text, nonce)

    async def _noted(self, verdict: Verdict, answered: Answered) -> Verdict:
        try:
            await self._calls.note(answered, verdict.outcome, verdict.reason)
        except StoreUnavailable:
            if verdict.outcome not in (Outcome.REFUSED, Outcome.RESTRICTED):
                # Its scores stay, so a finding blocks all the same; what was clear is not released.
                return replace(verdict, outcome=Outcome.FAILED, reason=NOT_NOTED)
        return verdict
