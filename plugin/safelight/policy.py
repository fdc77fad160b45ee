"""Verdicts in, ruling out. The policy is the one place where evidence becomes a decision, and where failure blocks."""

from __future__ import annotations

import hashlib
import json
import tomllib
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from importlib import resources
from pathlib import Path
from typing import Any

from .adapter_rule import AdapterRule, read_adapters
from .category_rule import ALWAYS_BLOCKED, CategoryRule, PictureQuestions, StyleThresholds, read_category
from .decision import Action, Decision, Reason
from .disagreement import DisagreementRule, read_disagreement
from .errors import ConfigError
from .rules import (
    CascadeRule,
    CourseRule,
    EnforcementRule,
    GuidanceRule,
    read_cascade,
    read_course,
    read_enforcement,
    read_guidance,
)
from .toml_table import Table
from .verdict import Category, Outcome, Stage, Verdict

__all__ = [
    "Action",
    "CategoryRule",
    "Decision",
    "OutcomeRule",
    "PictureQuestions",
    "Policy",
    "Reason",
    "StyleThresholds",
]


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

_KNOWN = frozenset(str(category) for category in Category)


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
    styles: Mapping[str, float] = field(default_factory=dict)
    """From which score on a picture counts as of a style, by the style's name."""
    disagreement: DisagreementRule = DisagreementRule()
    adapters: AdapterRule = AdapterRule()
    """Which LoRAs and textual inversions a guarded pipeline may make pictures with."""
    guidance: GuidanceRule = GuidanceRule()
    """What pictures are steered away from, where ``protect(pipe, guidance="safety")`` asks for it."""

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
        faulty: bool = False,
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
            faulty: Whether the picture shows nothing: a fault of the generator, whatever screens make of it. It is
                withheld, and told apart from a block.
        """
        evidence = tuple(verdicts)
        action, reason, categories = self._rule(evidence, stage, expected)
        course = self._flagged_course(evidence)
        if course and action is Action.ALLOW:
            action, reason = Action.FLAG, Reason.COURSE
        disputed = self._disputed(evidence) if stage is Stage.IMAGE else ()
        if disputed and self.disagreement.action.severity > action.severity:
            # Never downwards: whoever contradicts a block does not lift it.
            action, reason = self.disagreement.action, Reason.DISAGREEMENT
        if faulty and reason is not Reason.RESTRICTED:
            action, reason, categories = Action.BLOCK, Reason.GENERATION_FAILED, ()
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
            disputed=disputed,
            expected=tuple(expected),
        )

    def rule_again(self, decision: Decision) -> Decision:
        """Return what this policy makes of the evidence that another decision rests on. No model is asked.

        Where that was a block that ended the asking, and this policy would have asked on, the result is a fault: the
        screens that were not asked might have said anything.
        """
        return self.decide(
            decision.verdicts,
            id=decision.id,
            request_id=decision.request_id,
            stage=decision.stage,
            created=decision.created,
            expected=decision.expected or [verdict.screen for verdict in decision.verdicts],
            index=decision.index,
            image_sha256=decision.image_sha256,
            faulty=decision.reason is Reason.GENERATION_FAILED,
        )

    def styles_of(self, verdicts: Iterable[Verdict]) -> tuple[str, ...]:
        """Return the styles that a picture counts as on the evidence of its verdicts, in order of their names.

        Every screen that tells of a style must say so: thresholds may depend on it, and doubt keeps the usual ones.
        """
        told: dict[str, list[float]] = {}
        for verdict in verdicts:
            for name, score in verdict.styles.items() if verdict.outcome is Outcome.OK else ():
                told.setdefault(name, []).append(score)
        return tuple(sorted(name for name, limit in self.styles.items() if name in told and min(told[name]) >= limit))

    def _disputed(self, verdicts: Sequence[Verdict]) -> tuple[str, ...]:
        styles = self.styles_of(verdicts)
        shares: dict[str, list[float]] = {}
        for verdict in verdicts:
            for name, score in verdict.scores.items() if verdict.outcome is Outcome.OK else ():
                if name in self.categories:
                    shares.setdefault(name, []).append(score / self.categories[name].threshold(verdict, styles))
        return tuple(sorted(name for name, found in shares.items() if self.disagreement.between(found)))

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
        styles = self.styles_of(verdicts)
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
                if rule is not None and score >= rule.threshold(verdict, styles):
                    reached[name] = rule
        blocked = sorted(name for name, rule in reached.items() if rule.action is Action.BLOCK)
        reviewed = sorted(name for name, rule in reached.items() if rule.action is Action.REVIEW)
        noted = sorted(name for name, rule in reached.items() if rule.action is Action.FLAG)
        flagged = reviewed + noted
        if restricted or ALWAYS_BLOCKED & set(blocked):
            return Action.BLOCK, Reason.RESTRICTED, tuple(blocked + flagged)
        if blocked:
            return Action.BLOCK, Reason.CATEGORY, tuple(blocked + flagged)
        if refused:
            return Action.BLOCK, Reason.PROVIDER_REFUSED, tuple(flagged)
        if failed:
            return Action.BLOCK, Reason.SCREENING_UNAVAILABLE, tuple(flagged)
        if flagged:
            return Action.REVIEW if reviewed else Action.FLAG, Reason.CATEGORY, tuple(flagged)
        return Action.ALLOW, Reason.CLEAR, ()

    @classmethod
    def default(cls) -> Policy:
        """Return the policy that ships with Safelight."""
        return cls.shipped("default")

    @classmethod
    def shipped(cls, name: str) -> Policy:
        """Return one of the policies in ``safelight/policies`` by its file's name: ``default``, ``harmless`` ...

        Raises:
            ConfigError: If there is none of this name.
        """
        texts = {
            file.name.removesuffix(".toml"): file.read_text("utf-8")
            for file in (resources.files("safelight") / "policies").iterdir()
            if file.name.endswith(".toml")
        }
        if name not in texts:
            raise ConfigError(f"policy.name: no policy {name!r} ships; there are {', '.join(sorted(texts))}")
        return cls.parse(texts[name])

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
        styles = _styles(table.take("styles", dict, {}))
        categories_table = Table(table.take("categories", dict), "categories.")
        categories = {
            key: read_category(key, categories_table.take(key, dict), styles) for key in tuple(categories_table)
        }
        if not categories:
            raise ConfigError("categories: a policy needs at least one")
        course = read_course(table.take("course", dict, {}))
        cascade = read_cascade(table.take("cascade", dict, {}))
        enforcement = read_enforcement(table.take("enforcement", dict, {}))
        disagreement = read_disagreement(table.take("disagreement", dict, {}))
        adapters = read_adapters(table.take("adapters", dict, {}))
        guidance = read_guidance(table.take("guidance", dict, {}), _titles_to_avoid(categories.values()))
        table.finish()
        return cls(
            name,
            categories,
            outcomes,
            _hash(data),
            course,
            cascade,
            enforcement,
            styles,
            disagreement,
            adapters=adapters,
            guidance=guidance,
        )


def _titles_to_avoid(categories: Iterable[CategoryRule]) -> Iterator[str]:
    for rule in categories:
        # The gravest category's title says what it protects, and nothing is to be steered away from that.
        if rule.action is Action.BLOCK and rule.name not in ALWAYS_BLOCKED:
            yield rule.title


def _styles(data: dict[str, Any]) -> dict[str, float]:
    given = Table(data, "styles.")
    read: dict[str, float] = {}
    for name in tuple(given):
        style = Table(given.take(name, dict), f"styles.{name}.")
        read[name] = style.take_threshold("threshold")
        style.finish()
    return read


def _hash(data: Mapping[str, Any]) -> str:
    # Over the meaning, not the text: a comment or an order of keys is no new policy.
    canonical = json.dumps(data, sort_keys=True, separators=(",", ":"), ensure_ascii=True)
    return "sha256:" + hashlib.sha256(canonical.encode()).hexdigest()
