"""What a scan came to: people, findings, failures, tokens and dollars, and whom to look at."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ..policy import Action, Policy
from ..store.scans import ASKED, Finding, Scan, Scans
from ..verdict import Outcome

_FINDINGS = (Outcome.OK, Outcome.REFUSED, Outcome.RESTRICTED)


@dataclass(frozen=True, slots=True)
class Totals:
    """A scan in figures.

    Args:
        judged: People about whom there is an answer, or a provider's refusal to give one.
        local: People whom the cascade left out.
        found: Category to the number of people whose course reached the policy's threshold in it.
        refused: Refusals by reason; each is to be looked at.
        failed: Failures by reason. Those people are not judged.
        unknown: People whose question may have been on its way when a scan ended. They are not judged either.
        tokens_in: Tokens sent, by the provider's own count.
        tokens_out: Tokens received, likewise.
        cost_usd: US dollars by these tokens, or None where no price is known.
    """

    judged: int
    local: int
    found: Mapping[str, int]
    refused: Mapping[str, int]
    failed: Mapping[str, int]
    unknown: int
    tokens_in: int
    tokens_out: int
    cost_usd: float | None

    @property
    def unjudged(self) -> int:
        """How many people were meant to be judged and are not."""
        return sum(self.failed.values()) + self.unknown

    @property
    def usd_per_million(self) -> float | None:
        """What a million people like those who are done would cost, those left to the local screens included."""
        done = self.judged + self.local
        return None if self.cost_usd is None or not done else self.cost_usd / done * 1_000_000

    def as_dict(self) -> dict[str, Any]:
        """Return the figures as plain JSON types."""
        return {
            "judged": self.judged,
            "local": self.local,
            "found": dict(self.found),
            "refused": dict(self.refused),
            "failed": dict(self.failed),
            "unknown": self.unknown,
            "tokens_in": self.tokens_in,
            "tokens_out": self.tokens_out,
            "cost_usd": self.cost_usd,
            "usd_per_million_people": self.usd_per_million,
        }


def total(scans: Scans, scan: Scan, policy: Policy) -> Totals:
    """Add a scan up."""
    refused: Counter[str] = Counter()
    failed: Counter[str] = Counter()
    people: Counter[str] = Counter()
    tokens_in = tokens_out = 0
    costs: list[float] = []
    for one in scans.totals(scan.id):
        people[one.outcome] += one.people
        tokens_in += one.tokens_in
        tokens_out += one.tokens_out
        costs += [] if one.cost_usd is None else [one.cost_usd]
        if one.outcome in (Outcome.REFUSED, Outcome.RESTRICTED):
            refused[one.reason or one.outcome] += one.people
        elif one.outcome not in (Outcome.OK, Outcome.SKIPPED, ASKED):
            failed[one.reason or one.outcome] += one.people
    found: Counter[str] = Counter()
    for finding in scans.findings(scan.id, (Outcome.OK,), scored=True):
        found.update(reached(finding, policy))
    return Totals(
        judged=sum(people[outcome] for outcome in _FINDINGS),
        local=people[Outcome.SKIPPED],
        found=dict(found),
        refused=dict(refused),
        failed=dict(failed),
        unknown=people[ASKED],
        tokens_in=tokens_in,
        tokens_out=tokens_out,
        cost_usd=sum(costs) if costs else None,
    )


def reached(finding: Finding, policy: Policy) -> tuple[str, ...]:
    """Return the categories in which a person's course reached the policy's threshold, the most likely first."""
    found = {
        name: score
        for name, score in finding.scores.items()
        if name in policy.categories and score >= policy.course.threshold
    }
    return tuple(sorted(found, key=lambda name: (-found[name], name)))


def blocking(finding: Finding, policy: Policy) -> bool:
    """Return whether a finding is one that puts a principal on hold, where an operator says so.

    That is a category which the policy blocks; or a provider's gravest refusal about this very person, where the policy
    holds for it. A refusal about a pack of people names none of them.
    """
    if finding.outcome == Outcome.RESTRICTED:
        return policy.enforcement.hold_gravest and not finding.reason.endswith("_in_pack")
    if finding.outcome != Outcome.OK:
        return False
    return any(policy.categories[name].action is Action.BLOCK for name in reached(finding, policy))


def to_review(scans: Scans, scan: Scan, policy: Policy) -> list[Finding]:
    """Return whom a person should look at: the gravest first, then what was found, then refusals, then the unjudged."""
    listed = [
        *scans.findings(scan.id, (Outcome.OK,), scored=True),
        *scans.findings(scan.id, [ASKED, *(outcome for outcome in Outcome if outcome not in _DONE)]),
    ]
    # A score below the threshold is no finding.
    worth = [one for one in listed if one.outcome != Outcome.OK or reached(one, policy)]
    return sorted(worth, key=lambda finding: (_rank(finding, policy), finding.key))


_DONE = (Outcome.OK, Outcome.SKIPPED)


def _rank(finding: Finding, policy: Policy) -> tuple[int, float]:
    if finding.outcome == Outcome.RESTRICTED:
        return 0, float(finding.reason.endswith("_in_pack"))
    categories = reached(finding, policy) if finding.outcome == Outcome.OK else ()
    if categories:
        blocks = any(policy.categories[name].action is Action.BLOCK for name in categories)
        return (1 if blocks else 2), -finding.scores[categories[0]]
    return (3 if finding.outcome == Outcome.REFUSED else 4), 0.0


def describe(totals: Totals, *, seconds: float, policy: Policy) -> Sequence[tuple[str, str]]:
    """Return the figures as pairs of a name and a value, for a table."""
    lines = [("people judged", f"{totals.judged:,}")]
    if totals.local:
        lines.append(("left to the local screens", f"{totals.local:,}"))
    for name, count in sorted(totals.found.items(), key=lambda item: -item[1]):
        lines.append((f"found: {policy.categories[name].title} ({name})", f"{count:,}"))
    lines += [(f"refused by the provider: {reason}", f"{count:,}") for reason, count in totals.refused.items()]
    lines += [(f"not judged: {reason}", f"{count:,}") for reason, count in totals.failed.items()]
    if totals.unknown:
        lines.append(("not judged: unknown (the scan ended while asking)", f"{totals.unknown:,}"))
    lines += [("tokens in", f"{totals.tokens_in:,}"), ("tokens out", f"{totals.tokens_out:,}")]
    lines.append(("cost", _usd(totals.cost_usd, 6)))
    lines.append(("cost of a million people", _usd(totals.usd_per_million, 2)))
    lines.append(("time", f"{seconds:.1f} s"))
    return lines


def _usd(amount: float | None, places: int) -> str:
    return "unknown: no price is known for this model" if amount is None else f"${amount:,.{places}f}"
