"""Whether the model that answered is the one that was asked.

An alias may be answered by its dated snapshot: OpenAI answers ``gpt-5-nano`` as ``gpt-5-nano-2025-08-07``, others write
the date as ``-20250807``. That is the model that was asked. Anything else is another one: a number such as Gemini's
``-001`` names a revision, and Gemini answers under the name that it was asked by. Who wants one snapshot and no later
one asks for it by its whole name.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

_DATE = re.compile(r"-20\d\d(-?)(0[1-9]|1[0-2])\1(0[1-9]|[12]\d|3[01])", re.ASCII)


class ServedModels:
    """The names under which a model may answer.

    Args:
        model: LiteLLM's name of the model that is asked, with its provider.
        others: Names that an operator allows beside it, as they are.

    Attributes:
        names: All names that are allowed as they are.
    """

    def __init__(self, model: str, others: Sequence[str] = ()) -> None:
        self._asked = model.partition("/")[2] or model
        self.names = frozenset(others) | {self._asked}

    def allows(self, served: str) -> bool:
        """Return whether the model that named itself so is the asked one, a snapshot of it, or an allowed one."""
        if served in self.names:
            return True
        is_dated = _DATE.fullmatch(served.removeprefix(self._asked)) if served.startswith(self._asked) else None
        # A date after a date is no form that any provider uses.
        return is_dated is not None and not _DATE.search(self._asked)
