"""Verdicts in, ruling out. The policy is the one place where evidence becomes a decision, and where failure blocks."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

from .errors import ConfigError
from .rules import CascadeRule, CourseRule, EnforcementRule, read_cascade, read_course, read_enforcement
from .toml_table import Table
from .verdict import Category, Outcome, Stage, Verdict


class Action(StrEnum):
    """What is done. Only ``allow`` and ``flag`` release anything."""

    ALLOW = "allow"
    FLAG = "flag"
    BLOCK = "block"

    @property
    def severity(self) -> int:
        """Rank for 'the most severe wins': allow 0, flag 1, block 2."""
        return list(Action).index(self)


class Reason(StrEnum):
    """Why a decision is what it is; stable codes for programs."""

    CLEAR = "clear"
    CATEGORY = "category"
    """A category's score reached its threshold."""
    COURSE = "course"
    """This request is clear; the course of the person's requests is worth a look."""
    PROVIDER_REFUSED = "provider_refused"
    """A judge's provider refused to judge, which the policy reads as a block."""
    RESTRICTED = "restricted"
    """The gravest category, or a provider's refusal reserved for it."""
    SCREENING_UNAVAILABLE = "screening_unavailable"
    """A screen failed. A fault of ours, not the person's."""
    GENERATION_FAILED = "generation_failed"
    """The generator failed after the prompt was allowed."""
    ABORTED = "aborted"
    """The process ended before the request was ruled on."""


class OutcomeRule(StrEnum):
    """What a failed verdict means."""

    BLOCK = "block"
    """As a finding about the request: a block with ``provider_refused``."""
    UNAVAILABLE = "unavailable"
    """As a fault of ours: nothing is released, and nobody is blamed."""


# ``ok`` is no failure, ``restricted`` always blocks, and ``skipped`` is the cascade's to rule: none of them is here.
DEFAULT_OUTCOMES: Mapping[Outcome, OutcomeRule] = {
    Outcome.REFUSED: OutcomeRule.BLOCK,
    Outcome.EMPTY: OutcomeRule.UNAVAILABLE,
    Outcome.UNPARSABLE: OutcomeRule.UNAVAILABLE,
    Outcome.TIMEOUT: OutcomeRule.UNAVAILABLE,
    Outcome.UNREACHABLE: OutcomeRule.UNAVAILABLE,
    Outcome.OVER_BUDGET: OutcomeRule.UNAVAILABLE,
    Outcome.FAILED: OutcomeRule.UNAVAILABLE,
}

# Findings that no policy may soften: the law leaves no room, and neither do we.
_KNOWN = frozenset(str(category) for category in Category)
_ALWAYS_BLOCKED = frozenset({Category.SEXUAL_MINORS.value})


@dataclass(frozen=True, slots=True)
class CategoryRule:
    """One category of a policy.

    Args:
        name: As it appears in a verdict's scores.
        title: A few plain words for a person.
        description: What belongs to it and what does not, written for a judge to apply.
        advice: What a person may change so that the request passes.
        action: What happens when a score reaches its threshold.
        thresholds: A score in (0, 1] for each stage.
        screens: Thresholds for single screens, where a screen's scale is its own; these win over ``thresholds``.
    """

    name: str
    title: str
    description: str
    advice: str
    action: Action
    thresholds: Mapping[Stage, float]
    screens: Mapping[str, float] = field(default_factory=dict)

    def threshold(self, verdict: Verdict) -> float:
        """Return the score from which this category's action applies to a verdict."""
        return self.screens.get(verdict.screen, self.thresholds[verdict.stage])


@dataclass(frozen=True, slots=True)
class Decision:
    """A ruling on one prompt or one picture, and everything needed to explain it.

    Args:
        id: ``dec_`` and 32 hexadecimal digits; quote it to appeal.
        request_id: The request it belongs to.
        stage: What was ruled on.
        action: The ruling.
        reason: Its stable code.
        categories: The categories whose thresholds were reached, most severe first.
        policy: The hash of the policy that ruled.
        verdicts: The evidence, one verdict a screen that ran.
        created: When, with time zone.
        index: The picture's place in its batch, or None for a prompt.
        image_sha256: The sha256 (hexadecimal) of the bytes that are delivered, or None for a prompt.
        course: The categories in which the course of the person's requests reached the policy's threshold.
    """

    id: str
    request_id: str
    stage: Stage
    action: Action
    reason: Reason
    categories: tuple[str, ...]
    policy: str
    verdicts: tuple[Verdict, ...]
    created: datetime
    index: int | None = None
    image_sha256: str | None = None
    course: tuple[str, ...] = ()

    @property
    def allows(self) -> bool:
        """Whether the ruling lets the request or picture pass."""
        return self.action is not Action.BLOCK

    @property
    def is_fault(self) -> bool:
        """Whether nothing passes because something of ours failed, rather than because of what was found."""
        return self.reason in (Reason.SCREENING_UNAVAILABLE, Reason.GENERATION_FAILED, Reason.ABORTED)

    @property
    def screens(self) -> tuple[str, ...]:
        """The screens that gave evidence: the receipt. One that was skipped gave none."""
        return tuple(verdict.screen for verdict in self.verdicts if verdict.outcome is not Outcome.SKIPPED)

    def as_dict(self) -> dict[str, Any]:
        """Return the decision as plain JSON types. It holds no prompt text and no pixels."""
        return {
            "id": self.id,
            "request_id": self.request_id,
            "stage": str(self.stage),
            "action": str(self.action),
            "reason": str(self.reason),
            "categories": list(self.categories),
            "policy": self.policy,
            "verdicts": [verdict.as_dict() for verdict in self.verdicts],
            "created": self.created.isoformat(),
            "index": self.index,
            "image_sha256": self.image_sha256,
            "course": list(self.course),
        }


@dataclass(frozen=True, slots=True)
class Policy:
    """Thresholds, actions, and what each failed outcome means. Read it with :meth:`load` or :meth:`parse`."""

    name: str
    categories: Mapping[str, CategoryRule]
    outcomes: Mapping[Outcome, OutcomeRule]
    hash: str
    course: CourseRule = CourseRule()
    cascade: CascadeRule = CascadeRule()
    enforcement: EnforcementRule = EnforcementRule()

    def may_skip(self, screen: str, verdicts: Iterable[Verdict], expected: Collection[str]) -> bool:
        """Return whether the policy's cascade lets a prompt screen be skipped on the evidence of the others.

        Args:
            screen: The name of the screen that would be skipped.
            verdicts: The evidence so far.
            expected: The names of every screen that is configured. All that are never skipped must have spoken, at
                least one, and be sure. One that remarks on something (``Verdict.reason``) is not sure.
        """
        others = [verdict for verdict in verdicts if verdict.screen not in self.cascade.skip]
        spoken = {verdict.screen for verdict in others}
        if screen not in self.cascade.skip or not spoken or not set(expected) - set(self.cascade.skip) <= spoken:
            return False
        sure = self.cascade.sure_below
        return all(
            verdict.outcome is Outcome.OK
            and not verdict.reason
            and all(score < sure for score in verdict.scores.values())
            for verdict in others
        )

    def decide(
        self,
        verdicts: Iterable[Verdict],
        *,
        id: str,
        request_id: str,
        stage: Stage,
        created: datetime,
        expected: Collection[str],
        index: int | None = None,
        image_sha256: str | None = None,
    ) -> Decision:
        """Rule on the evidence about one prompt or one picture. A pure function of its arguments.

        Args:
            verdicts: The evidence; order does not matter for the ruling.
            id: The id that the decision gets.
            request_id: The request it belongs to.
            stage: What is ruled on; a verdict of another stage counts as a failure.
            created: The time that the decision gets.
            expected: The names of every screen that is configured for this stage. Without a block, a missing
                verdict is a failure: a request is never served by fewer screens than are configured. An empty
                ``expected`` is a failure too, since nothing was judged.
            index: The picture's place in its batch.
            image_sha256: The sha256 of the bytes to be delivered.
        """
        evidence = tuple(verdicts)
        action, reason, categories = self._rule(evidence, stage, expected)
        course = self._flagged_course(evidence)
        if course and action is Action.ALLOW:
            action, reason = Action.FLAG, Reason.COURSE
        return Decision(
            id=id,
            request_id=request_id,
            stage=stage,
            action=action,
            reason=reason,
            categories=categories,
            policy=self.hash,
            verdicts=evidence,
            created=created,
            index=index,
            image_sha256=image_sha256,
            course=course,
        )

    def _flagged_course(self, verdicts: Iterable[Verdict]) -> tuple[str, ...]:
        found = {
            name
            for verdict in verdicts
            for name, score in verdict.course.items()
            if name in self.categories and score >= self.course.threshold
        }
        return tuple(sorted(found)) if self.course.flag else ()

    def _rule(
        self, verdicts: Sequence[Verdict], stage: Stage, expected: Collection[str]
    ) -> tuple[Action, Reason, tuple[str, ...]]:
        reached: dict[str, CategoryRule] = {}
        refused = restricted = False
        # Whoever must speak and has not, or speaks of something else, has failed.
        failed = not expected or not set(expected) <= {verdict.screen for verdict in verdicts}
        for verdict in verdicts:
            if verdict.outcome is Outcome.RESTRICTED:
                restricted = True
            elif verdict.outcome is Outcome.SKIPPED:
                # Only as the policy's own cascade says, on the evidence that lies here.
                failed |= stage is not Stage.PROMPT or not self.may_skip(verdict.screen, verdicts, expected)
            elif verdict.outcome is not Outcome.OK:
                if self.outcomes[verdict.outcome] is OutcomeRule.BLOCK:
                    refused = True
                else:
                    failed = True
            elif verdict.stage is not stage:
                failed = True
            for name, score in verdict.scores.items():
                rule = self.categories.get(name)
                if rule is None and name not in _KNOWN:
                    # Neither the policy nor Safelight knows what was found, so nobody has ruled on it.
                    failed = True
                if rule is not None and score >= rule.threshold(verdict):
                    reached[name] = rule
        blocked = sorted(name for name, rule in reached.items() if rule.action is Action.BLOCK)
        flagged = sorted(name for name, rule in reached.items() if rule.action is Action.FLAG)
        if restricted or _ALWAYS_BLOCKED & set(blocked):
            return Action.BLOCK, Reason.RESTRICTED, tuple(blocked + flagged)
        if blocked:
            return Action.BLOCK, Reason.CATEGORY, tuple(blocked + flagged)
        if refused:
            return Action.BLOCK, Reason.PROVIDER_REFUSED, tuple(flagged)
        if failed:
            return Action.BLOCK, Reason.SCREENING_UNAVAILABLE, tuple(flagged)
        if flagged:
            return Action.FLAG, Reason.CATEGORY, tuple(flagged)
        return Action.ALLOW, Reason.CLEAR, ()

    @classmethod
    def default(cls) -> Policy:
        """Return the policy that ships with Safelight."""
        return cls.parse((resources.files("safelight") / "policies" / "default.toml").read_text("utf-8"))

    @classmethod
    def load(cls, path: str | Path) -> Policy:
        """Read a policy from a TOML file.

        Raises:
            ConfigError: If the file cannot be read, or a key is unknown, missing or out of range.
        """
        try:
            text = Path(path).read_text("utf-8")
        except (OSError, ValueError) as error:
            raise ConfigError(f"policy.file: cannot read {path}: {error}") from error
        try:
            return cls.parse(text)
        except ConfigError as error:
            raise ConfigError(f"{path}: {error}") from error

    @classmethod
    def parse(cls, text: str) -> Policy:
        """Read a policy from TOML text.

        Raises:
            ConfigError: If a key is unknown, missing or out of range; the message names it.
        """
        try:
            data = tomllib.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(f"not valid TOML: {error}") from error
        table = Table(data, "")
        if table.take("version", int) != 1:
            raise ConfigError("version: this Safelight reads policies of version 1")
        name = table.take("name", str)
        outcomes = dict(DEFAULT_OUTCOMES)
        given_outcomes = Table(table.take("outcomes", dict, {}), "outcomes.")
        for outcome in DEFAULT_OUTCOMES:
            if outcome in given_outcomes:
                outcomes[outcome] = given_outcomes.take_enum(outcome, OutcomeRule)
        given_outcomes.finish()
        categories_table = Table(table.take("categories", dict), "categories.")
        categories = {key: _category(key, categories_table.take(key, dict)) for key in tuple(categories_table)}
        if not categories:
            raise ConfigError("categories: a policy needs at least one")
        course = read_course(table.take("course", dict, {}))
        cascade = read_cascade(table.take("cascade", dict, {}))
        enforcement = read_enforcement(table.take("enforcement", dict, {}))
        table.finish()
        return cls(name, categories, outcomes, _hash(data), course, cascade, enforcement)


def _category(name: str, data: dict[str, Any]) -> CategoryRule:
    table = Table(data, f'categories."{name}".')
    action = table.take_enum("action", Action, Action.BLOCK)
    if action is Action.ALLOW:
        raise ConfigError(f"{table.prefix}action: use 'flag' or 'block', or leave the category out")
    if name in _ALWAYS_BLOCKED and action is not Action.BLOCK:
        raise ConfigError(f"{table.prefix}action: this category cannot be set below 'block'")
    thresholds_table = Table(table.take("thresholds", dict), f"{table.prefix}thresholds.")
    thresholds = {stage: thresholds_table.take_threshold(stage) for stage in Stage}
    thresholds_table.finish()
    screens_table = Table(table.take("screens", dict, {}), f"{table.prefix}screens.")
    screens = {screen: screens_table.take_threshold(screen) for screen in tuple(screens_table)}
    rule = CategoryRule(
        name=name,
        title=table.take("title", str),
        description=table.take("description", str).strip(),
        advice=table.take("advice", str).strip(),
        action=action,
        thresholds=thresholds,
        screens=screens,
    )
    table.finish()
    return rule


def _hash(data: Mapping[str, Any]) -> str:
    # Over the meaning, not the text: a comment or an order of keys is no new policy.
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
