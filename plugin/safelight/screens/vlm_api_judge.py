"""A vision-language model behind an OpenAI-style server, such as vLLM, that answers one question a category.

What is covered: every category of the policy, in what the picture shows, with the words it was made from and the
person's newest turns as context. Text in the picture and in the prompt is data: the model is told so, the prompt
travels as JSON in which it can spell no control token, and the answer is read from the likelihood of Yes and No as the
first token. A server that reports no likelihoods gives no verdict (``unparsable``, ``no_logprobs``): its word alone is
never taken.
What is not covered: detail that is lost when a picture is shrunk to ``max_side``, or by the server; a model that
believes what is written in a picture, which is why classifiers that read no text stand beside it and the most severe
finding wins; a model that is wrong.

InternVL's processor cuts a picture into tiles unless told otherwise, at up to ten times the cost. That is the server's
setting, not the request's; vLLM's is ``--mm-processor-kwargs '{"crop_to_patches": false}'`` (not tried on a live vLLM:
see that it reports about 256 prompt tokens for a square picture of 896 pixels besides the text, and not 1,280).
"""

from __future__ import annotations

import asyncio
import base64
import io
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from PIL import Image

from ..backends.litellm_chat import Chat, ChatAnswer, LiteLLMChat
from ..backends.served_models import ServedModels
from ..errors import ConfigError, StoreUnavailable
from ..instructions import UnreadableAnswer
from ..picture_questions import MIN_SHARE, PICTURE_RULES, picture_case, picture_questions, yes_score
from ..policy import Policy
from ..request import GenerationRequest, Turn
from ..verdict import Outcome, Stage, Verdict
from .counted_calls import Budget, CountedCalls
from .second_opinion import NOT_NOTED
from .vlm_judge import check_min_share

MAX_CALLS = 4
"""Questions that are under way at the same time for one batch of pictures."""

TOP_LOGPROBS = 20
"""Likely first tokens that are asked for; the most that OpenAI's interface and vLLM's default allow."""

_TELLING = (
    Outcome.RESTRICTED,
    Outcome.REFUSED,
    Outcome.UNPARSABLE,
    Outcome.EMPTY,
    Outcome.OVER_BUDGET,
    Outcome.FAILED,
    Outcome.TIMEOUT,
    Outcome.UNREACHABLE,
)


@dataclass(slots=True)
class _Findings:
    """What is known about one picture so far, and what it cost to know it."""

    scores: dict[str, float] = field(default_factory=dict)
    failures: list[tuple[Outcome, str]] = field(default_factory=list)
    ended: int = 0
    model: str = ""
    tokens_in: int = 0
    tokens_out: int = 0
    cost_usd: float | None = None

    def take(self, answer: ChatAnswer) -> None:
        """Add what an answer took."""
        self.model = answer.model or self.model
        self.tokens_in += answer.tokens_in
        self.tokens_out += answer.tokens_out
        if answer.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + answer.cost_usd


class VLMAPIJudge:
    """Scores every category of the policy, 0..1, one verdict a picture: the probability of Yes among Yes and No.

    The rules, the picture and the words stand before the question, so a server's prefix cache reads them once.

    Args:
        policy: Whose categories are asked about.
        api_base: Where the server is; it ends in ``/v1``.
        model: LiteLLM's name of the model, with its provider.
        api_key: The server's key, or None if it wants none.
        deadline_s: Seconds for all questions about a batch of pictures. What was found until then counts.
        served_models: Names under which the server may answer, beside the asked one and its dated snapshots.
        usd_per_million: Price of a million tokens sent and received, where LiteLLM's table knows none: that of a rented
            GPU, or ``[0, 0]`` for a server that costs nothing by the token. A limit on spending needs it.
        max_side: A picture's longer side in pixels, at least 32; larger ones are shrunk, and nothing else is lost.
        min_share: How likely Yes and No must be together, above 0 and at most 1. Below it the model was about to say
            something else, and the verdict is ``unparsable``.
        name: How the screen signs its verdicts.
        chat: What asks the model, in place of a :class:`LiteLLMChat`; the asked name is still ``model``.
        spending: Where calls are noted, as ``vlm``, and what says that the day's money is spent.
        clock: The time, with time zone.

    Raises:
        ConfigError: If a setting is out of range.
        MissingExtra: If LiteLLM is not installed and no ``chat`` is given.
    """

    def __init__(
        self,
        *,
        policy: Policy,
        api_base: str,
        model: str = "hosted_vllm/OpenGVLab/InternVL3-8B-hf",
        api_key: str | None = None,
        deadline_s: float = 10.0,
        served_models: Sequence[str] = (),
        usd_per_million: Sequence[float] | None = None,
        max_side: int = 896,
        min_share: float = MIN_SHARE,
        name: str = "vlm_judge",
        chat: Chat | None = None,
        spending: Budget | None = None,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
    ) -> None:
        if isinstance(served_models, str):
            raise ConfigError("served_models: must be a list of texts")
        if isinstance(max_side, bool) or not isinstance(max_side, int) or max_side < 32:
            raise ConfigError(f"max_side: must be a whole number from 32, not {max_side!r}")
        if isinstance(deadline_s, bool) or not isinstance(deadline_s, int | float) or not deadline_s > 0:
            raise ConfigError(f"deadline_s: must be above 0, not {deadline_s!r}")
        check_min_share(min_share)
        self.name = name
        self._questions = picture_questions(policy)
        self._model = model
        self._chat = chat or LiteLLMChat(
            model, api_base=api_base, api_key=api_key, deadline_s=deadline_s, usd_per_million=usd_per_million
        )
        self._calls = CountedCalls(spending, screen=name, model=model, purpose="vlm", clock=clock)
        self._served = ServedModels(model, served_models)
        self._deadline_s = deadline_s
        self._max_side = max_side
        self._min_share = min_share

    @property
    def unpriced(self) -> tuple[str, ...]:
        """The model, if nobody knows what it costs; a limit on spending needs ``usd_per_million`` for it."""
        return () if getattr(self._chat, "is_priced", True) else (self._model,)

    async def screen_images(
        self, images: Sequence[Image.Image], request: GenerationRequest, history: Sequence[Turn]
    ) -> Sequence[Verdict]:
        """Ask every category's question about every picture."""
        started = time.perf_counter()
        case = picture_case(request, history)
        found = [_Findings() for _ in images]
        # Made anew for each call: a semaphore belongs to one event loop, and the screen may serve several.
        room = asyncio.Semaphore(MAX_CALLS)
        try:
            async with asyncio.timeout(self._deadline_s), asyncio.TaskGroup() as group:
                for image, findings in zip(images, found, strict=True):
                    url = await asyncio.to_thread(_data_url, image, self._max_side)
                    for category in self._questions:
                        group.create_task(self._ask(findings, category, url, case, room))
        except TimeoutError:
            # Whatever has no score by now lacks it; _verdict says so.
            pass
        ms = (time.perf_counter() - started) * 1000
        return [self._verdict(findings, ms) for findings in found]

    async def _ask(self, findings: _Findings, category: str, url: str, case: str, room: asyncio.Semaphore) -> None:
        async with room:
            failure = await self._calls.refusal() or await self._answer(findings, category, url, case)
        if failure:
            findings.failures.append(failure)
        findings.ended += 1

    async def _answer(self, findings: _Findings, category: str, url: str, case: str) -> tuple[Outcome, str] | None:
        """Ask one question and take what comes; return what failed, or None."""
        asking = self._chat.ask(
            _messages(url, case, self._questions[category]), max_tokens=1, top_logprobs=TOP_LOGPROBS
        )
        answered = await self._calls.make(asking)
        findings.take(answered.answer)
        failed: tuple[Outcome, str] | None = None
        try:
            findings.scores[category] = self._score(answered.answer)
        except _Failure as failure:
            failed = (failure.outcome, failure.reason)
        try:
            await self._calls.note(answered, *(failed or (Outcome.OK, "")))
        except StoreUnavailable:
            if failed is None or failed[0] not in (Outcome.REFUSED, Outcome.RESTRICTED):
                # A score stays, so a finding blocks all the same; what was clear is not released.
                return Outcome.FAILED, NOT_NOTED
        return failed

    def _score(self, answer: ChatAnswer) -> float:
        if answer.outcome is not Outcome.OK:
            raise _Failure(answer.outcome, answer.reason)
        if not self._served.allows(answer.model):
            raise _Failure(Outcome.FAILED, "served_model_mismatch")
        try:
            return yes_score(answer.first_token, min_share=self._min_share)
        except UnreadableAnswer as error:
            raise _Failure(Outcome.UNPARSABLE, error.code) from None

    def _verdict(self, findings: _Findings, ms: float) -> Verdict:
        failures = list(findings.failures)
        if findings.ended < len(self._questions):
            failures.append((Outcome.TIMEOUT, "deadline"))
        # Sorting is stable: of several alike, the first that happened gives the reason.
        failures.sort(key=lambda failure: _TELLING.index(failure[0]))
        outcome, reason = failures[0] if failures else (Outcome.OK, "")
        return Verdict(
            screen=self.name,
            stage=Stage.IMAGE,
            # What was found stays in a failed verdict: a category that blocks does so whatever else went wrong.
            scores={category: findings.scores[category] for category in self._questions if category in findings.scores},
            outcome=outcome,
            reason=reason,
            model=findings.model,
            ms=ms,
            tokens_in=findings.tokens_in,
            tokens_out=findings.tokens_out,
            cost_usd=findings.cost_usd,
        )


class _Failure(Exception):
    """One question got no score."""

    def __init__(self, outcome: Outcome, reason: str) -> None:
        super().__init__(reason)
        self.outcome = outcome
        self.reason = reason


def _messages(url: str, case: str, question: str) -> list[Mapping[str, Any]]:
    asked = [
        {"type": "image_url", "image_url": {"url": url}},
        {"type": "text", "text": case},
        {"type": "text", "text": question},
    ]
    return [{"role": "system", "content": PICTURE_RULES}, {"role": "user", "content": asked}]


def _data_url(image: Image.Image, max_side: int) -> str:
    """Return a picture as a PNG in a data URL, its longer side at most ``max_side`` pixels."""
    shown = image.convert("RGB")
    if max(shown.size) > max_side:
        scale = max_side / max(shown.size)
        size = (max(1, round(shown.width * scale)), max(1, round(shown.height * scale)))
        shown = shown.resize(size, Image.Resampling.LANCZOS)
    png = io.BytesIO()
    # Lossless at every level; this one is up to six times as fast as the default, for a fifth more bytes.
    shown.save(png, "PNG", compress_level=1)
    return "data:image/png;base64," + base64.b64encode(png.getvalue()).decode("ascii")
