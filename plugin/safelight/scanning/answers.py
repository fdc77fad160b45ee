"""What an answer says of people, and what each of them cost."""

from __future__ import annotations

from dataclasses import replace

from ..backends.litellm_chat import ChatAnswer
from ..instructions import UnreadableAnswer
from ..store.scans import Finding
from ..verdict import Outcome
from .codes import Found
from .questions import Question


def read(question: Question, answer: ChatAnswer, *, served: frozenset[str]) -> tuple[Outcome, Found]:
    """Return what an answer says about the one person of a question, or how it failed."""
    if answer.outcome is not Outcome.OK:
        return answer.outcome, Found({}, answer.reason)
    if answer.model not in served:
        return Outcome.FAILED, Found({}, "served_model_mismatch")
    try:
        return Outcome.OK, question.read(answer.text, answer.first_token)
    except UnreadableAnswer as error:
        return Outcome.UNPARSABLE, Found({}, error.code)


def flaw(question: Question, text: str) -> str:
    """Return a short code of what is wrong with an answer's text, or an empty text."""
    try:
        question.read(text, {})
    except UnreadableAnswer as error:
        return error.code
    return ""


def added(spent: ChatAnswer, answer: ChatAnswer) -> ChatAnswer:
    """Return an answer with what those before it cost."""
    costs = [cost for cost in (spent.cost_usd, answer.cost_usd) if cost is not None]
    return replace(
        answer,
        tokens_in=spent.tokens_in + answer.tokens_in,
        tokens_out=spent.tokens_out + answer.tokens_out,
        cost_usd=sum(costs) if costs else None,
    )


def shares(answer: ChatAnswer, count: int) -> list[ChatAnswer]:
    """Divide what a call cost among people, so that the sums stay exact."""

    def part(whole: int, place: int) -> int:
        return whole // count + (place < whole % count)

    cost = None if answer.cost_usd is None else answer.cost_usd / count
    return [
        replace(
            answer, tokens_in=part(answer.tokens_in, place), tokens_out=part(answer.tokens_out, place), cost_usd=cost
        )
        for place in range(count)
    ]


def with_share(finding: Finding, share: ChatAnswer) -> Finding:
    """Return a finding with its share of what a call cost."""
    return replace(
        finding, model=share.model, tokens_in=share.tokens_in, tokens_out=share.tokens_out, cost_usd=share.cost_usd
    )
