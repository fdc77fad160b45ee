"""Everything Safelight raises on purpose.

* SafelightError
    * ConfigError                 a setting is wrong; names the key
        * MissingExtra            an optional dependency is not installed; says what to install
    * InvalidRequest              a parameter cannot be accepted; names it
        * UnjudgedChannel         a parameter that nobody can judge, so it is refused
    * ContentBlocked              the policy blocked the prompt or every picture
    * CoolDown                    too many attempts: nothing is judged or made for this principal for now
    * ScreeningUnavailable        a screen or the store failed, so nothing may be released
        * StoreUnavailable        the store failed
    * GenerationFailed            the generator failed, or returned something that is no picture
    * UnscreenedPipeline          a guarded model was run from outside its guard
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from .policy import Decision


class SafelightError(Exception):
    """Base of every error that Safelight raises on purpose."""


class ConfigError(SafelightError):
    """A setting is wrong. The message names the key and what to do."""


class MissingExtra(ConfigError):
    """An optional dependency is not installed. The message is one line and says what to install."""

    def __init__(self, module: str, extra: str, *, needed_by: str) -> None:
        super().__init__(f"{needed_by} needs {module}: pip install 'safelight[{extra}]'")
        self.extra = extra


class InvalidRequest(SafelightError, ValueError):
    """A parameter of a request cannot be accepted. ``field`` names it."""

    def __init__(self, field: str, problem: str) -> None:
        super().__init__(f"{field}: {problem}")
        self.field = field


class UnjudgedChannel(InvalidRequest):
    """A parameter would reach the generator, or leave it, without anybody having judged it."""


class ContentBlocked(SafelightError):
    """The policy blocked the prompt, or every picture made for it. ``decision`` says why.

    ``left`` is how many more attempts there are before the next limit, or None where none is near or none counts.
    """

    def __init__(self, decision: Decision, *, left: int | None = None) -> None:
        what = ", ".join(decision.categories) or decision.reason
        super().__init__(f"blocked at the {decision.stage} stage ({what}); decision {decision.id}")
        self.decision = decision
        self.left = left


class CoolDown(SafelightError):
    """Too many attempts at what the policy blocks: nothing is judged or made for this principal until ``until``.

    ``until`` is None where a person must look at it first (a hold). ``scope`` is ``principal`` or ``tenant``.
    ``decision_id`` is the block that led to it; quote it to appeal.
    """

    def __init__(self, until: datetime | None, *, decision_id: str, scope: str = "principal") -> None:
        when = f"until {until:%Y-%m-%d %H:%M:%S %Z}" if until else "until a person has looked at it"
        super().__init__(f"too many blocked requests: nothing is made {when}; the last was decision {decision_id}")
        self.until = until
        self.decision_id = decision_id
        self.scope = scope


class ScreeningUnavailable(SafelightError):
    """Something of ours failed while screening, so nothing is released. It says nothing about the person.

    ``decision`` is the recorded ruling, or None where not even that could be recorded.
    """

    def __init__(self, problem: str, decision: Decision | None = None) -> None:
        super().__init__(problem)
        self.decision = decision


class StoreUnavailable(ScreeningUnavailable):
    """The store could not be read or written."""


class GenerationFailed(SafelightError):
    """The generator failed, or returned something that is no picture."""


class UnscreenedPipeline(SafelightError):
    """A guarded model was run from outside its guard, for example by ``OtherPipeline.from_pipe(guarded)``."""
