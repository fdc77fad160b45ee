"""Counts what the guard does, for Prometheus. No metric holds a prompt, a person or a key."""

from __future__ import annotations

from datetime import UTC, datetime

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, generate_latest

from safelight.config import Runtime
from safelight.errors import CoolDown
from safelight.policy import Decision
from safelight.store.calls import Calls
from safelight.verdict import Verdict

MAX_MODELS = 50
"""Models that are told apart. A provider names its models as it likes, and every name is a time series for ever."""

# From a local screen's millisecond to a judge's deadline.
_SECONDS = (0.001, 0.005, 0.02, 0.05, 0.1, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0, 16.0, 60.0)


class Metrics:
    """An observer of a guard, and what it has counted since the process began.

    Args:
        runtime: Its problems, and the day's spending in its store, are shown too.
    """

    def __init__(self, runtime: Runtime) -> None:
        self._runtime = runtime
        self._calls = Calls(runtime.store)
        self._models: set[str] = set()
        self._registry = registry = CollectorRegistry()
        self._decisions = Counter(
            "safelight_decisions", "Recorded rulings.", ("stage", "action", "reason"), registry=registry
        )
        self._turned_away = Counter(
            "safelight_turned_away", "Requests of principals in a cool-down or on hold.", ("scope",), registry=registry
        )
        self._verdicts = Counter(
            "safelight_verdicts", "Verdicts of screens.", ("screen", "stage", "outcome", "cached"), registry=registry
        )
        self._seconds = Histogram(
            "safelight_screen_seconds", "Time to a verdict.", ("screen", "stage"), registry=registry, buckets=_SECONDS
        )
        self._tokens = Counter(
            "safelight_tokens", "Tokens of paid models.", ("screen", "model", "direction"), registry=registry
        )
        self._cost = Counter(
            "safelight_cost_usd", "Price of paid models, in US dollars.", ("screen", "model"), registry=registry
        )
        self._spent = Gauge("safelight_spent_today_usd", "Spent today (UTC), by all processes.", registry=registry)
        self._limit = Gauge(
            "safelight_spending_limit_usd", "The day's limit; 0 where there is none.", registry=registry
        )
        self._problem = Gauge("safelight_problem", "What is not to be relied on now.", ("code",), registry=registry)

    def observe(self, event: Decision | CoolDown) -> None:
        """Count one recorded decision, or one request that was turned away."""
        if isinstance(event, CoolDown):
            self._turned_away.labels(event.scope).inc()
            return
        self._decisions.labels(str(event.stage), str(event.action), str(event.reason)).inc()
        for verdict in event.verdicts:
            self._observe(verdict)

    def _observe(self, verdict: Verdict) -> None:
        screen, stage = verdict.screen, str(verdict.stage)
        self._verdicts.labels(screen, stage, str(verdict.outcome), str(verdict.cached).lower()).inc()
        if verdict.ms:
            self._seconds.labels(screen, stage).observe(verdict.ms / 1000)
        if verdict.tokens_in or verdict.tokens_out:
            model = self._model(verdict.model)
            self._tokens.labels(screen, model, "in").inc(verdict.tokens_in)
            self._tokens.labels(screen, model, "out").inc(verdict.tokens_out)
            self._cost.labels(screen, model).inc(verdict.cost_usd or 0.0)

    def _model(self, name: str) -> str:
        # A provider may name itself anything, and one half of a character would break the whole page.
        name = name.encode("utf-8", "replace").decode("utf-8")
        if name not in self._models and len(self._models) >= MAX_MODELS:
            return "other"
        self._models.add(name)
        return name

    def render(self) -> bytes:
        """Return everything in Prometheus' text form. Blocking: it asks the store for the day's spending.

        Raises:
            StoreUnavailable: If the store does not answer.
        """
        today = datetime.now(UTC).replace(hour=0, minute=0, second=0, microsecond=0)
        self._spent.set(self._calls.spent_usd(since=today))
        self._limit.set(self._runtime.settings.spending.usd_per_day or 0.0)
        self._problem.clear()
        for code in self._runtime.problems:
            self._problem.labels(code).set(1)
        return generate_latest(self._registry)
