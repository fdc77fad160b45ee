"""What a guard is told when it is made: its limits, and who is to be told what it does."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Protocol

from .errors import CoolDown
from .policy import Decision


class Observer(Protocol):
    """Is told what a guard does, to count it. It must not raise, and must not take long."""

    def observe(self, event: Decision | CoolDown) -> None:
        """Take note of a recorded decision, or of a request that was turned away unjudged."""
        ...


@dataclass(frozen=True, slots=True)
class GuardSettings:
    """Limits of a guard.

    Args:
        history_turns: How many of a person's past turns the screens are shown. The LLM judge shows its model 20 of
            them; the rest are there so that re-rolls of one prompt, which it leaves out, push nothing out.
        screen_deadline_s: Seconds after which a screen that has not answered counts as timed out. Judges have
            shorter deadlines of their own; this one is for everything that hangs.
        alert_contact: Who is named in the log when the gravest category is met. Empty: nobody was configured.
        verdict_cache_s: Seconds for which an LLM judge's verdict is used again for exactly the same question; 0 for
            never.
    """

    history_turns: int = 30
    screen_deadline_s: float = 60.0
    alert_contact: str = ""
    verdict_cache_s: float = 300.0
