"""Verdicts that are used again for exactly the same question, so that a creator who re-rolls a prompt pays once.

A question is everything that could change the answer: the tenant, the policy, the judge as configured and as served,
the normaliser, every channel byte for byte, and the person's history as the judge is shown it. An allow that was given
to a stranger therefore never serves somebody with a past. Only what was clearly fine is kept: an ``ok`` verdict whose
every score, of the prompt and of the course, is below half of what the policy acts on. Blocks, doubts and failures are
asked again. In memory there are keyed digests and verdicts, no text.
"""

from __future__ import annotations

import hmac
import json
import logging
import threading
import time
from bisect import bisect_right
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol, TypeVar

from . import normalise
from .errors import ConfigError
from .instructions import COUNT_STEPS
from .policy import Action, Policy
from .request import GenerationRequest, History, Turn
from .screens import PromptScreen
from .verdict import Outcome, Verdict

logger = logging.getLogger("safelight")

_T = TypeVar("_T")

# Made once: making one takes longer than a short text. It escapes everything beyond ASCII.
_as_text = json.JSONEncoder(separators=(",", ":")).encode

MAX_TTL_S = 600.0
"""Longest time that an allow is used again (T26 of the threat table)."""

CLEAR_BELOW = 0.5
"""A score counts as clearly fine below this part of its threshold."""


class Entries(Protocol):
    """Where verdicts are kept, by digest."""

    def get(self, key: bytes) -> Verdict | None:
        """Return the verdict that is kept, unless its time is over."""
        ...

    def put(self, key: bytes, verdict: Verdict) -> None:
        """Keep a verdict."""
        ...


class MemoryEntries:
    """Entries in this process. Safe in any thread; when full, the one that was used longest ago goes.

    Args:
        ttl_s: Seconds for which an entry is kept.
        size: Most entries.
        clock: Seconds that never run backwards.
    """

    def __init__(self, *, ttl_s: float, size: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._ttl_s = ttl_s
        self._size = size
        self._clock = clock
        self._entries: OrderedDict[bytes, tuple[float, Verdict]] = OrderedDict()
        self._lock = threading.Lock()

    def get(self, key: bytes) -> Verdict | None:
        """Return the verdict that is kept, unless its time is over."""
        with self._lock:
            found = self._entries.get(key)
            if found is None:
                return None
            ends, verdict = found
            if self._clock() >= ends:
                del self._entries[key]
                return None
            self._entries.move_to_end(key)
            return verdict

    def put(self, key: bytes, verdict: Verdict) -> None:
        """Keep a verdict from now on."""
        with self._lock:
            self._entries[key] = (self._clock() + self._ttl_s, verdict)
            self._entries.move_to_end(key)
            while len(self._entries) > self._size:
                self._entries.popitem(last=False)

    def __len__(self) -> int:
        return len(self._entries)


class CachedScreen:
    """A prompt screen that answers clear questions from memory for a few minutes.

    Of a history the question holds what the LLM judge reads: all of it, but that counts go by ``COUNT_STEPS``, and that
    allowed turns which asked for exactly the same are left out. How far turns have faded is not in it; within the
    longest time that answers are kept, that is next to nothing. Nor are numbers such as size and seed. A screen that
    reads more than that is not to be wrapped.

    Args:
        screen: The screen. It is asked whenever no answer is kept, and whenever the cache fails.
        secret: Keys the digests; it never leaves.
        policy: The policy that will rule.
        ttl_s: Seconds for which a verdict is used again, above 0 and at most ``MAX_TTL_S``.
        size: Most verdicts that are kept.
        clock: Seconds that never run backwards.
        entries: Where verdicts are kept, in place of this process's memory.

    Raises:
        ConfigError: If a setting is out of range.
    """

    def __init__(
        self,
        screen: PromptScreen,
        *,
        secret: bytes,
        policy: Policy,
        ttl_s: float = 300.0,
        size: int = 10_000,
        clock: Callable[[], float] = time.monotonic,
        entries: Entries | None = None,
    ) -> None:
        if not secret:
            raise ConfigError("verdict cache: needs a secret that is not empty")
        if not 0 < ttl_s <= MAX_TTL_S:
            raise ConfigError(f"verdict_cache_s: must be above 0 and at most {MAX_TTL_S:g}, not {ttl_s!r}")
        if size < 1:
            raise ConfigError(f"verdict cache: size must be at least 1, not {size!r}")
        self.name = screen.name
        self.screen = screen
        self._secret = secret
        self._policy = policy
        self._entries = MemoryEntries(ttl_s=ttl_s, size=size, clock=clock) if entries is None else entries

    @property
    def problems(self) -> tuple[str, ...]:
        """The screen's own."""
        return tuple(getattr(self.screen, "problems", ()))

    @property
    def warnings(self) -> tuple[str, ...]:
        """The screen's own."""
        return tuple(getattr(self.screen, "warnings", ()))

    @property
    def identity(self) -> str:
        """The screen's own."""
        return str(getattr(self.screen, "identity", ""))

    @property
    def served(self) -> str:
        """The screen's own."""
        return str(getattr(self.screen, "served", ""))

    @property
    def retry_after_s(self) -> float:
        """The screen's own."""
        return float(getattr(self.screen, "retry_after_s", 0.0))

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        """Return the verdict that is kept for this question, or ask the screen."""
        question = self._safely("key", lambda: self._question(request, history))
        if question is None:
            return await self.screen.screen_prompt(request, history)
        asked = question
        kept = self._safely("read", lambda: self._entries.get(self._key(asked, self.served)))
        if kept is not None:
            return kept
        verdict = await self.screen.screen_prompt(request, history)
        if self._is_clear(verdict):
            again = replace(verdict, cached=True, ms=0.0, tokens_in=0, tokens_out=0, cost_usd=None)
            self._safely("write", lambda: self._entries.put(self._key(asked, self._answered_by(verdict)), again))
        return verdict

    def _question(self, request: GenerationRequest, history: Sequence[Turn]) -> str:
        """Return everything but the served model that could change the answer, as text that can be read one way."""
        known = history if isinstance(history, History) else History(tuple(history), total=len(history))
        return _as_text(
            [
                request.principal.tenant,
                self._policy.hash,
                self.name,
                self.identity,
                getattr(normalise, "NORMALISER_VERSION", 0),
                _channels(request.texts),
                request.asks_for_negatives,
                _past(known, request.texts),
            ]
        )

    def _key(self, question: str, served: str) -> bytes:
        # Two JSON values, one after the other: where the first ends is never in doubt.
        return hmac.digest(self._secret, (_as_text(served) + question).encode(), "sha256")

    def _answered_by(self, verdict: Verdict) -> str:
        """Return the served name that an answer belongs to, where another question's has changed it meanwhile."""
        served = self.served
        # A verdict of two models names both.
        return served if not served or served in verdict.model.split(" + ") else verdict.model

    def _is_clear(self, verdict: Verdict) -> bool:
        if verdict.outcome is not Outcome.OK or verdict.screen != self.name:
            return False
        rules = self._policy.categories
        # A category that the policy does not know is ruled as a failure, or not at all: nothing to keep.
        return all(
            name in rules and score < CLEAR_BELOW * rules[name].threshold(verdict)
            for name, score in verdict.scores.items()
        ) and all(score < CLEAR_BELOW * self._policy.course.threshold for score in verdict.course.values())

    def _safely(self, what: str, work: Callable[[], _T]) -> _T | None:
        try:
            return work()
        # Whatever is wrong with a cache, the screen itself still judges: slower, and just as strictly.
        except Exception as error:
            logger.warning("verdict cache of %s: %s failed: %s", self.name, what, type(error).__name__)
            return None


def _channels(texts: Mapping[str, str]) -> list[tuple[str, str]]:
    return sorted(texts.items())


def _past(known: History, asked: Mapping[str, str]) -> list[object]:
    """Return a history as plain lists, without what a re-roll of the same allowed prompt changes in it."""
    turns = [turn for turn in known.turns if turn.action is not Action.ALLOW or turn.texts != asked]
    rerolls = len(known.turns) - len(turns)
    return [
        [[_turn(turn) for turn in group] for group in (turns, known.riskiest, known.kin)],
        _step(known.total - rerolls),
        _step(known.blocked),
        _step(known.flagged),
        _step(known.overturned),
        _step(known.clean_run - rerolls),
    ]


def _turn(turn: Turn) -> list[object]:
    return [_channels(turn.texts), turn.at.isoformat(), turn.action, turn.risk, turn.overturned]


def _step(count: int) -> int:
    """Return what the judge is told of a count: it exactly while it is small, then the last step that it reached."""
    place = bisect_right(COUNT_STEPS, count)
    return COUNT_STEPS[place - 1] if place else max(count, 0)
