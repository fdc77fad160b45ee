"""Why a model is not to be relied on now, where the reason is a setting and no passing fault."""

from __future__ import annotations

import logging
import threading
import time
from collections.abc import Callable, Mapping

logger = logging.getLogger("safelight")

JUDGE_CONFIG = "judge_config"
"""The provider does not take what it is sent: a setting is wrong."""
JUDGE_AUTH = "judge_auth"
"""The provider does not take the key."""
JUDGE_RETIRED = "judge_retired"
"""The provider has no such model, or no longer."""

# Reasons of a Reading, from litellm_reading.
_NAMED: Mapping[str, str] = {
    "http_400_key_invalid": JUDGE_AUTH,
    "http_401": JUDGE_AUTH,
    "http_403": JUDGE_AUTH,
    "http_404_model_retired": JUDGE_RETIRED,
}


def problem_of(reason: str) -> str:
    """Return the problem that a failed call's reason stands for, or "" where it may pass by itself."""
    if reason in _NAMED:
        return _NAMED[reason]
    # Overload and time-outs aside, a 4xx says that what is sent is at fault, and it is sent again each time.
    return JUDGE_CONFIG if reason.startswith("http_4") and reason not in ("http_408", "http_429") else ""


class Problems:
    """The problems of one model. Safe for threads.

    Each is logged once as an error when it comes up; it is gone after a success, or when it was not met for a while:
    whether it still holds is then no longer known.

    Args:
        model: Whose they are, for the log.
        lasting_s: Seconds after which a problem that is not met again is forgotten.
        clock: Seconds that never go backwards.
    """

    def __init__(self, model: str, *, lasting_s: float = 60.0, clock: Callable[[], float] = time.monotonic) -> None:
        self._model = model
        self._lasting_s = lasting_s
        self._clock = clock
        self._lock = threading.Lock()
        self._met_at: dict[str, float] = {}

    @property
    def now(self) -> tuple[str, ...]:
        """The problems there are, sorted."""
        with self._lock:
            return tuple(sorted(self._lasting()))

    def met(self, problem: str, *, reason: str) -> None:
        """Note that a problem was met; ``reason`` says how, for the log."""
        with self._lock:
            is_new = problem not in self._lasting()
            self._met_at[problem] = self._clock()
        if is_new:
            logger.error("%s: %s answers %s, so nothing can be judged by it", problem, self._model, reason)

    def gone(self) -> None:
        """Note that a call succeeded."""
        with self._lock:
            self._met_at.clear()

    def _lasting(self) -> set[str]:
        return {problem for problem, at in self._met_at.items() if self._clock() - at <= self._lasting_s}
