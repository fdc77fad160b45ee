"""What a clear, plain prompt costs that was judged a moment ago: normalising it, and finding its verdict.

For a stranger, and for somebody with 20 turns. CPU time is taken, so that waiting does not count.
Run: ``python benchmarks/verdict_cache.py``. Prints microseconds, each part by itself and both together.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta
from statistics import median

from safelight.policy import Action, Policy
from safelight.request import GenerationRequest, History, Principal, Turn
from safelight.verdict import Stage, Verdict
from safelight.verdict_cache import CachedScreen

ROUNDS = 2_000
NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
PROMPT = "portrait of a retired boxer with a broken nose, smiling, rim light from a window"
POLICY = Policy.default()


class ClearScreen:
    """A screen that finds nothing, in any category of the policy."""

    name = "clear"

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        """Find nothing."""
        return Verdict(self.name, Stage.PROMPT, dict.fromkeys(POLICY.categories, 0.0))


def fresh() -> GenerationRequest:
    """Return a request whose views nobody has asked for yet."""
    return GenerationRequest(PROMPT, Principal("key"))


def past(turns: int) -> History:
    """Return a history of so many ordinary turns."""
    shown = (Turn({"prompt": f"{PROMPT}, {n}"}, NOW - timedelta(minutes=n), Action.ALLOW, 0.1) for n in range(turns))
    return History(tuple(shown), total=turns, clean_run=turns)


def normalised() -> GenerationRequest:
    """Return a request whose views are there."""
    request = fresh()
    _ = request.views
    return request


def timed(prepare: Callable[[], GenerationRequest], work: Callable[[GenerationRequest], object]) -> float:
    """Return the median CPU time of the work, in microseconds."""
    taken = []
    for _ in range(ROUNDS):
        request = prepare()
        started = time.process_time_ns()
        work(request)
        taken.append(time.process_time_ns() - started)
    return median(taken) / 1e3


def finished(screen: CachedScreen, request: GenerationRequest, history: History) -> Verdict:
    """Return the verdict of a screen that never waits, without an event loop's own cost."""
    asking = screen.screen_prompt(request, history)
    try:
        asking.send(None)
    except StopIteration as end:
        verdict: Verdict = end.value
        return verdict
    raise RuntimeError("the screen waited")


def lookup(history: History) -> tuple[float, float]:
    """Return what looking up takes, and what normalising and looking up take, in microseconds."""
    screen = CachedScreen(ClearScreen(), secret=b"secret", policy=POLICY)
    finished(screen, fresh(), history)
    if not finished(screen, fresh(), history).cached:
        raise RuntimeError("the cache missed")
    alone = timed(normalised, lambda request: finished(screen, request, history))
    both = timed(fresh, lambda request: (request.views, finished(screen, request, history)))
    return alone, both


def main() -> None:
    """Print a line for each part."""
    print(f"normalise: all views of a plain prompt  {timed(fresh, lambda request: request.views):8.1f} us")
    for turns in (0, 20):
        alone, both = lookup(past(turns))
        print(f"look-up, {turns:2} turns                       {alone:8.1f} us")
        print(f"normalise and look-up, {turns:2} turns         {both:8.1f} us")


if __name__ == "__main__":
    main()
