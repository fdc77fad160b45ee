"""Every text and number that reaches the generator, and who asks for it."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import cached_property
from typing import overload

from .errors import InvalidRequest
from .normalise import View, views
from .policy import Action

MAX_PROMPT_CHARS = 4_000
"""Longest text of one channel, in characters. Longer is refused before anything reads it (T10 of the threat table)."""

MAX_PICTURES = 10
MAX_SIDE = 4_096
MAX_STEPS = 200


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking, as authenticated.

    Args:
        id: The authenticated identity, for example an API key's id. Budgets hang on it.
        person: What a client says of its own end user. It divides a principal's history, and never makes a
            new principal.
        tenant: The group of principals that share what was learnt from blocked requests.
        anonymous: Whether nobody has authenticated them, as on an open page. They get a smaller attempt budget.
    """

    id: str
    person: str = ""
    tenant: str = "default"
    anonymous: bool = False

    def __post_init__(self) -> None:
        for name, text in (("principal", self.id), ("user", self.person), ("tenant", self.tenant)):
            check_faithful(name, text)


@dataclass(frozen=True, slots=True)
class Turn:
    """One past request of a person.

    Args:
        texts: Channel name to text, as it was asked. Empty where the text may not be kept.
        at: When it was reserved, with time zone.
        action: The ruling, or None while it is still being judged.
        risk: The highest score that any of its verdicts had, 0 to 1; 1 where it was blocked.
        overturned: Whether an appeal against its block was won. ``action`` is what was first ruled.
    """

    texts: Mapping[str, str]
    at: datetime
    action: Action | None
    risk: float = 0.0
    overturned: bool = False


@dataclass(frozen=True, slots=True)
class History(Sequence[Turn]):
    """What is known of a person when they ask: the newest turns, and a summary of bounded size of all before.

    As a sequence it is ``turns``. However much is stored, no part of it grows with that.

    Args:
        turns: The person's newest turns, and older ones that are still pending, oldest first, without this one.
        riskiest: The riskiest few turns that are older than ``turns``, oldest first.
        kin: The newest few blocked or flagged turns of the same principal under other names, oldest first: a client
            that renames its user leaves no past behind.
        total: How many turns of the person are stored in all, shown or not.
        blocked: How many of them were blocked, won appeals not counted.
        flagged: How many were flagged.
        overturned: How many blocks were overturned on appeal.
        clean_run: How many in a row were allowed since the last block or flag.
    """

    turns: tuple[Turn, ...] = ()
    riskiest: tuple[Turn, ...] = ()
    kin: tuple[Turn, ...] = ()
    total: int = 0
    blocked: int = 0
    flagged: int = 0
    overturned: int = 0
    clean_run: int = 0

    @overload
    def __getitem__(self, place: int) -> Turn: ...
    @overload
    def __getitem__(self, place: slice) -> tuple[Turn, ...]: ...
    def __getitem__(self, place: int | slice) -> Turn | tuple[Turn, ...]:
        return self.turns[place]

    def __len__(self) -> int:
        return len(self.turns)

    def __iter__(self) -> Iterator[Turn]:
        return iter(self.turns)


@dataclass(frozen=True)
class GenerationRequest:
    """What is asked of a generator. A generator reads nothing else, so what is not here cannot reach it.

    Args:
        prompt: What the picture shows, at most ``MAX_PROMPT_CHARS`` characters.
        principal: Who asks.
        prompt_2: For SDXL's second text encoder.
        negative_prompt: What the picture avoids.
        negative_prompt_2: The same for SDXL's second text encoder.
        width: Pixels, or None for the generator's own.
        height: Pixels, or None for the generator's own.
        steps: Denoising steps, 1 to ``MAX_STEPS``, or None for the generator's own.
        guidance_scale: 0 to 50, or None for the generator's own.
        seed: 0 to 2**63 - 1, or None for a random one.
        n: Pictures wanted, 1 to ``MAX_PICTURES``.
        extra_texts: Further strings that will reach the generator, by channel name.

    Raises:
        InvalidRequest: If a value is out of range; the message names the field.
    """

    prompt: str
    principal: Principal
    prompt_2: str | None = None
    negative_prompt: str | None = None
    negative_prompt_2: str | None = None
    width: int | None = None
    height: int | None = None
    steps: int | None = None
    guidance_scale: float | None = None
    seed: int | None = None
    n: int = 1
    extra_texts: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.prompt, str) or not self.prompt.strip():
            raise InvalidRequest("prompt", "must be a text that is not empty")
        for name in self.extra_texts:
            if name in self.__dataclass_fields__:
                # It would stand in that field's place among the texts, and the field itself would not be judged.
                raise InvalidRequest(f"extra_texts.{name}", "is a field of its own; set that instead")
        for name, text in self.texts.items():
            _check_text(name, text)
        _check_whole("width", self.width, 8, MAX_SIDE)
        _check_whole("height", self.height, 8, MAX_SIDE)
        _check_whole("steps", self.steps, 1, MAX_STEPS)
        _check_whole("seed", self.seed, 0, 2**63 - 1)
        _check_whole("n", self.n, 1, MAX_PICTURES)
        scale = self.guidance_scale
        if scale is not None and (
            isinstance(scale, bool)
            or not isinstance(scale, int | float)
            or not math.isfinite(scale)
            or not 0 <= scale <= 50
        ):
            raise InvalidRequest("guidance_scale", f"must be a number from 0 to 50, not {scale!r}")

    @cached_property
    def texts(self) -> Mapping[str, str]:
        """Every channel that carries text, verbatim, in a fixed order; empty channels are left out."""
        named = {
            "prompt": self.prompt,
            "prompt_2": self.prompt_2,
            "negative_prompt": self.negative_prompt,
            "negative_prompt_2": self.negative_prompt_2,
            **self.extra_texts,
        }
        return {name: text for name, text in named.items() if text}

    @property
    def asks_for_negatives(self) -> bool:
        """Whether negative prompts ask for what they say: a guidance below 1 leads towards it."""
        return self.guidance_scale is not None and self.guidance_scale < 1

    @cached_property
    def views(self) -> Mapping[str, tuple[View, ...]]:
        """The views of each channel that a local screen reads; the first is the text itself."""
        return {name: views(text) for name, text in self.texts.items()}


def _check_text(name: str, text: str) -> None:
    if not isinstance(text, str):
        raise InvalidRequest(name, f"must be a text, not {type(text).__name__}")
    if len(text) > MAX_PROMPT_CHARS:
        raise InvalidRequest(name, f"has {len(text)} characters; at most {MAX_PROMPT_CHARS} are read")
    check_faithful(name, text)


def check_faithful(name: str, text: str) -> None:
    """Raise InvalidRequest if a text holds what no store can hold."""
    # Neither can be stored or shown faithfully, so neither can be judged as it was written.
    if "\x00" in text or any("\ud800" <= char <= "\udfff" for char in text):
        raise InvalidRequest(name, "holds a NUL or a lone surrogate; remove it")


def _check_whole(name: str, value: int | None, low: int, high: int) -> None:
    if value is None and name != "n":
        return
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise InvalidRequest(name, f"must be a whole number from {low} to {high}, not {value!r}")
