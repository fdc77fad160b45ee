"""What a scan is to do, and whether it is the one that was begun before."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any

from ..errors import ConfigError
from ..policy import Policy
from ..store.scans import Scan, Scans
from .questions import Design, FullJSON, OneToken, Packed, fingerprint


class DesignName(StrEnum):
    """How people are asked about."""

    ONE_TOKEN = "one-token"  # noqa: S105 - a word of an answer, no password
    JSON = "json"
    PACKED = "packed"


PACK = 20
"""How many people share a call of the packed design."""


@dataclass(frozen=True, slots=True)
class Plan:
    """What decides who is asked what.

    Args:
        model: LiteLLM's name of the model.
        design: How people are asked about.
        cascade: Only people whose local risk reaches this, or of whom a local screen ever suspected a request, are
            asked about; None asks about everybody.
        since_days: Only people with a request in so many days before the scan's start; None for all.
        limit: Only so many people, the first in the store's order; None for all.
        logprobs: Whether the provider is asked for the probabilities of first tokens.
        batch: Whether the questions go through the provider's batch interface.
        recheck: The share of the packed design's clear people who are asked about alone as well, in 0..1.
    """

    model: str
    design: DesignName = DesignName.ONE_TOKEN
    cascade: float | None = None
    since_days: float | None = None
    limit: int | None = None
    logprobs: bool = False
    batch: bool = False
    recheck: float = 0.02

    def __post_init__(self) -> None:
        if self.cascade is not None and not 0.0 < self.cascade <= 1.0:
            raise ConfigError(f"--cascade: must be a risk above 0 and at most 1, not {self.cascade!r}")
        if self.since_days is not None and not 0 < self.since_days <= 36_500:
            raise ConfigError(f"--since: must be a number of days above 0, not {self.since_days!r}")
        if self.limit is not None and self.limit < 1:
            raise ConfigError(f"--limit: must be at least 1, not {self.limit!r}")
        if self.logprobs and self.design is not DesignName.ONE_TOKEN:
            raise ConfigError("--logprobs: only the one-token design has a first token that is the answer")
        if self.batch and (self.design is not DesignName.ONE_TOKEN or self.logprobs):
            raise ConfigError("--batch: only for the one-token design without --logprobs, which reads by itself")

    def settings(self, policy: Policy) -> dict[str, Any]:
        """Return what must be the same when the scan is resumed, as plain JSON types."""
        constant = fingerprint(*self.designs(policy, seed=""))
        return {
            "model": self.model,
            "design": str(self.design),
            "cascade": self.cascade,
            "since_days": self.since_days,
            "limit": self.limit,
            "logprobs": self.logprobs,
            "batch": self.batch,
            "policy": policy.hash,
            "questions": hashlib.sha256(constant.encode()).hexdigest()[:16],
        }

    def designs(self, policy: Policy, *, seed: str) -> tuple[Design, Packed] | tuple[Design]:
        """Return the question about one person, and the packed one where the plan has it."""
        if self.design is DesignName.JSON:
            return (FullJSON(policy),)
        alone = OneToken(policy, seed=seed, logprobs=self.logprobs)
        return (alone, Packed(policy, seed=seed)) if self.design is DesignName.PACKED else (alone,)

    def cutoff(self, started: datetime) -> datetime | None:
        """Return the time since which a person must have asked for something."""
        return None if self.since_days is None else started - timedelta(days=self.since_days)


_OPTIONS = {"since_days": "--since", "policy": "the policy", "questions": "Safelight's questions"}


def begin(
    scans: Scans,
    plan: Plan,
    policy: Policy,
    *,
    at: datetime,
    resume: bool = False,
    restart: bool = False,
    again: bool = False,
) -> Scan:
    """Return the scan to go on with, or a new one.

    Args:
        scans: Where scans are kept.
        plan: What is to be done.
        policy: By which policy.
        at: When a new scan begins.
        resume: Whether to go on with the newest scan, if it is not finished.
        restart: Whether to begin anew although the newest is not finished.
        again: Whether to go on with the newest scan even if it is finished, for those whom it has not judged.

    Raises:
        ConfigError: If there is an unfinished scan and nobody has said what to do with it, or it was begun with other
            settings, or there is none to resume.
    """
    settings = plan.settings(policy)
    open_scan = scans.newest() if again else scans.unfinished()
    if restart or (open_scan is None and not resume):
        return scans.begin(settings, at=at)
    if open_scan is None:
        raise ConfigError(f"--resume: there is no {'' if again else 'unfinished '}scan")
    if not resume:
        raise ConfigError(
            f"{open_scan.id} of {open_scan.started:%Y-%m-%d %H:%M} UTC is not finished: "
            "--resume goes on with it, --restart begins anew"
        )
    differing = [name for name in settings if settings[name] != open_scan.settings.get(name)]
    if differing:
        raise ConfigError(f"--resume: {open_scan.id} was begun with another {_listed(differing, open_scan.settings)}")
    return open_scan


def _listed(names: list[str], was: Mapping[str, Any]) -> str:
    told = [f"{_OPTIONS.get(name, '--' + name.replace('_', '-'))} ({was.get(name)})" for name in names]
    return f"{', '.join(told)}; give the same, or --restart"
