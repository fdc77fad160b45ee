"""What a policy says beyond single scores: how courses are read, what may be skipped, what many attempts lead to.

The defaults are those of a policy that says nothing, and of the one that ships. The attempt budgets' numbers answer
published attacks, which need some 15 to 25 tries against one filter (SneakyPrompt, IEEE S&P 2024).
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from datetime import timedelta
from enum import StrEnum
from typing import Any

from .errors import ConfigError
from .toml_table import Table


@dataclass(frozen=True, slots=True)
class CourseRule:
    """How the course of a person's requests is read.

    Args:
        half_life: The time after which an old turn weighs half.
        threshold: A course score in (0, 1] from which the course is flagged. It never blocks by itself: what is
            asked now is ruled on by its own score, so an innocent request after a block passes.
        flag: Whether such a course flags the decision, which puts the person on the review list.
    """

    half_life: timedelta = timedelta(hours=24)
    threshold: float = 0.6
    flag: bool = True

    def weight(self, age: timedelta) -> float:
        """Return what a turn of this age weighs: 1 now, 0.5 after one half-life. A turn of the future weighs 1."""
        return float(0.5 ** (max(age, timedelta()) / self.half_life))


@dataclass(frozen=True, slots=True)
class GuidanceRule:
    """What a picture is steered away from while it is made, where that is asked for.

    Args:
        concepts: A few words each, as a text encoder reads them, the most important first.
    """

    concepts: tuple[str, ...] = ()

    @property
    def text(self) -> str:
        """The concepts as a negative prompt."""
        return ", ".join(self.concepts)


@dataclass(frozen=True, slots=True)
class CascadeRule:
    """When a costly prompt screen need not be asked because the screens before it are sure.

    Args:
        skip: The names of the screens that may be skipped; empty means none ever is.
        sure_below: Every other screen's every score must be below this, in (0, 1].
        quiet_below: Only for a person whose own course carries less risk than this, in (0, 1].
    """

    skip: tuple[str, ...] = ()
    sure_below: float = 0.05
    quiet_below: float = 0.1


class Consequence(StrEnum):
    """What too many attempts lead to."""

    COOL_DOWN = "cool_down"
    """Nothing is judged or made for a while."""
    HOLD = "hold"
    """Nothing is judged or made until a person has looked at it."""


@dataclass(frozen=True, slots=True)
class Limit:
    """So many attempts within so long lead to this.

    Args:
        attempts: From which number of attempts on, 1 or more.
        within: Counted over this time.
        then: What follows.
        lasts: How long a cool-down lasts, from the attempt that reached the limit; None for a hold.
    """

    attempts: int
    within: timedelta
    then: Consequence
    lasts: timedelta | None


def _cool_down(attempts: int, within: timedelta, lasts: timedelta) -> Limit:
    return Limit(attempts, within, Consequence.COOL_DOWN, lasts)


_LIMITS = (
    _cool_down(3, timedelta(minutes=10), timedelta(minutes=10)),
    _cool_down(5, timedelta(hours=24), timedelta(hours=24)),
    Limit(10, timedelta(days=7), Consequence.HOLD, None),
)
# A tenant has many principals: twenty times as much, and no hold, which one of them could bring on all the others.
_TENANT_LIMITS = (
    _cool_down(60, timedelta(minutes=10), timedelta(minutes=10)),
    _cool_down(200, timedelta(hours=24), timedelta(hours=1)),
)


@dataclass(frozen=True, slots=True)
class EnforcementRule:
    """Attempt budgets. An attempt is a blocked request, a near-duplicate of one, or a re-roll after a blocked picture.

    Args:
        limits: For one principal.
        tenant_limits: For all principals of a tenant together.
        anonymous_share: The part of ``limits`` that somebody gets whom nobody has authenticated, in (0, 1]; rounded
            up, and at least 2 attempts where ``limits`` give as many.
        decay: Older attempts are not counted at all.
        near_duplicate: Likeness in (0, 1] from which a request counts as a variant of a blocked one; 0 turns it off.
        remember: How long a prompt whose picture was blocked is refused to everyone in the tenant; 0 turns it off.
        hold_gravest: Whether a finding of the gravest category holds the principal at once.
    """

    limits: tuple[Limit, ...] = _LIMITS
    tenant_limits: tuple[Limit, ...] = _TENANT_LIMITS
    anonymous_share: float = 0.25
    decay: timedelta = timedelta(days=30)
    near_duplicate: float = 0.9
    remember: timedelta = timedelta(hours=24)
    hold_gravest: bool = True

    @classmethod
    def off(cls) -> EnforcementRule:
        """Return rules under which nothing is counted and nothing remembered."""
        none = timedelta()
        return replace(cls(), limits=(), tenant_limits=(), near_duplicate=0.0, remember=none, hold_gravest=False)


def read_course(data: dict[str, Any]) -> CourseRule:
    """Read a policy's ``[course]``.

    Raises:
        ConfigError: If a key is unknown or out of range.
    """
    table, default = Table(data, "course."), CourseRule()
    rule = CourseRule(
        half_life=_duration(table, "half_life_hours", default.half_life, timedelta(hours=1)),
        threshold=_share(table, "threshold", default.threshold),
        flag=table.take("flag", bool, default.flag),
    )
    table.finish()
    return rule


def read_cascade(data: dict[str, Any]) -> CascadeRule:
    """Read a policy's ``[cascade]``.

    Raises:
        ConfigError: If a key is unknown or out of range.
    """
    table, default = Table(data, "cascade."), CascadeRule()
    skip = table.take("skip", list, [])
    if not all(isinstance(name, str) and name for name in skip):
        raise ConfigError("cascade.skip: must be a list of the names of prompt screens")
    rule = CascadeRule(
        skip=tuple(skip),
        sure_below=_share(table, "sure_below", default.sure_below),
        quiet_below=_share(table, "quiet_below", default.quiet_below),
    )
    table.finish()
    return rule


def read_guidance(data: dict[str, Any], titles: Iterable[str]) -> GuidanceRule:
    """Read a policy's ``[guidance]``.

    Args:
        data: The section.
        titles: What stands in for concepts that the policy does not name.

    Raises:
        ConfigError: If a key is unknown, or a concept is no words.
    """
    table = Table(data, "guidance.")
    concepts = table.take("concepts", list, list(titles))
    if not all(isinstance(words, str) and words.strip() for words in concepts):
        raise ConfigError("guidance.concepts: must be a list of words to steer away from")
    table.finish()
    return GuidanceRule(tuple(" ".join(words.split()) for words in concepts))


def read_enforcement(data: dict[str, Any]) -> EnforcementRule:
    """Read a policy's ``[enforcement]``. What it leaves out has its default; ``limits = []`` turns limits off.

    Raises:
        ConfigError: If a key is unknown or out of range.
    """
    table, default = Table(data, "enforcement."), EnforcementRule()
    likeness = table.take("near_duplicate", float, default.near_duplicate)
    if not 0.0 <= likeness <= 1.0:
        raise ConfigError(f"enforcement.near_duplicate: must be from 0 (off) to 1, not {likeness!r}")
    rule = EnforcementRule(
        limits=_limits(table, "limits", default.limits),
        tenant_limits=_limits(table, "tenant_limits", default.tenant_limits),
        anonymous_share=_share(table, "anonymous_share", default.anonymous_share),
        decay=_duration(table, "decay_days", default.decay, timedelta(days=1)),
        near_duplicate=likeness,
        remember=_duration(table, "remember_hours", default.remember, timedelta(hours=1), zero=True),
        hold_gravest=table.take("hold_gravest", bool, default.hold_gravest),
    )
    table.finish()
    return rule


def _limits(table: Table, key: str, default: tuple[Limit, ...]) -> tuple[Limit, ...]:
    given = table.take(key, list, None)
    if given is None:
        return default
    return tuple(_limit(item, f"{table.prefix}{key}[{place}].") for place, item in enumerate(given))


def _limit(data: Any, prefix: str) -> Limit:
    if not isinstance(data, dict):
        raise ConfigError(f"{prefix[:-1]}: must be a table with attempts, within_minutes and then")
    table = Table(data, prefix)
    attempts = table.take("attempts", int)
    if not 1 <= attempts <= 10_000:
        raise ConfigError(f"{prefix}attempts: must be from 1 to 10000, not {attempts}")
    within = _duration(table, "within_minutes", None, timedelta(minutes=1))
    then = table.take_enum("then", Consequence)
    lasts = None
    if then is Consequence.COOL_DOWN:
        lasts = _duration(table, "lasts_minutes", None, timedelta(minutes=1))
    table.finish()
    return Limit(attempts, within, then, lasts)


def _duration(table: Table, key: str, default: timedelta | None, unit: timedelta, *, zero: bool = False) -> timedelta:
    amount = table.take(key, float) if default is None else table.take(key, float, default / unit)
    # What is shorter or longer is a slip of the pen, and would turn a rule off without saying so.
    if not (1.0 <= amount * unit.total_seconds() <= 315_360_000 or (zero and amount == 0)):
        raise ConfigError(f"{table.prefix}{key}: must be from a second to ten years{', or 0' if zero else ''}")
    return amount * unit


def _share(table: Table, key: str, default: float) -> float:
    return table.take_threshold(key) if key in table else default
