"""What one screen found: evidence, without a threshold and without a ruling."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any


class Category(StrEnum):
    """The kinds of harm the shipped policy knows, spelled as in OpenAI's moderation API where it has them.

    A policy may name further categories in its file; scores are keyed by the plain string.
    """

    SEXUAL = "sexual"
    SEXUAL_MINORS = "sexual/minors"
    HATE = "hate"
    HARASSMENT = "harassment"
    SELF_HARM = "self-harm"
    VIOLENCE = "violence"
    VIOLENCE_GRAPHIC = "violence/graphic"
    TERRORISM = "terrorism"
    SENSITIVE_SYMBOLS = "sensitive-symbols"


class Stage(StrEnum):
    """Where on its way a request was judged."""

    PROMPT = "prompt"
    IMAGE = "image"


class Outcome(StrEnum):
    """How a screen's attempt to judge ended. Everything but ``OK`` is a failure, and never an allow."""

    OK = "ok"
    REFUSED = "refused"
    """The provider of a judge refused to judge."""
    RESTRICTED = "restricted"
    """The provider refused for a reason that it keeps for the gravest material."""
    EMPTY = "empty"
    UNPARSABLE = "unparsable"
    TIMEOUT = "timeout"
    UNREACHABLE = "unreachable"
    OVER_BUDGET = "over_budget"
    FAILED = "failed"


@dataclass(frozen=True, slots=True)
class Verdict:
    """The evidence of one screen about one prompt or one picture.

    Args:
        screen: The screen's configured name.
        stage: Where it judged.
        scores: Category to a score in 0..1. Required, and not empty, when ``outcome`` is ``OK``.
        outcome: How the attempt ended.
        reason: A short code or remark for an operator. Never text from the prompt.
        model: The model that answered, as it named itself.
        ms: Wall time in milliseconds.

    Raises:
        ValueError: If a score is not a number in 0..1, or an ``OK`` verdict has none.
    """

    screen: str
    stage: Stage
    scores: Mapping[str, float] = field(default_factory=dict)
    outcome: Outcome = Outcome.OK
    reason: str = ""
    model: str = ""
    ms: float = 0.0

    def __post_init__(self) -> None:
        # A screen of anybody's own may pass plain strings; what they are not, they must not be taken for.
        object.__setattr__(self, "stage", Stage(self.stage))
        object.__setattr__(self, "outcome", Outcome(self.outcome))
        if not all(isinstance(text, str) for text in (self.screen, self.reason, self.model)):
            raise ValueError(f"{self.screen!r}: screen, reason and model must be texts")
        if isinstance(self.ms, bool) or not isinstance(self.ms, int | float) or not math.isfinite(self.ms):
            raise ValueError(f"{self.screen}: ms is no number: {self.ms!r}")
        for category, score in self.scores.items():
            # bool is an int in Python; a screen that answers True has not given a score.
            if isinstance(score, bool) or not isinstance(score, int | float):
                raise ValueError(f"{self.screen}: score of {category} is no number: {score!r}")
            if not math.isfinite(score) or not 0.0 <= score <= 1.0:
                raise ValueError(f"{self.screen}: score of {category} is outside 0..1: {score!r}")
        if self.outcome is Outcome.OK and not self.scores:
            raise ValueError(f"{self.screen}: an ok verdict needs at least one score")
        # A copy of its own: evidence does not change when the screen's dict does.
        object.__setattr__(self, "scores", {str(k): float(v) for k, v in self.scores.items()})

    def as_dict(self) -> dict[str, Any]:
        """Return the verdict as plain JSON types, scores rounded to six places."""
        return {
            "screen": self.screen,
            "stage": str(self.stage),
            "outcome": str(self.outcome),
            "scores": {name: round(score, 6) for name, score in self.scores.items()},
            "reason": self.reason,
            "model": self.model,
            "ms": round(self.ms, 3),
        }

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Verdict:
        """Rebuild a verdict from :meth:`as_dict`."""
        return cls(
            screen=data["screen"],
            stage=Stage(data["stage"]),
            outcome=Outcome(data["outcome"]),
            scores=data["scores"],
            reason=data["reason"],
            model=data["model"],
            ms=data["ms"],
        )
