"""The closed list of answers of a question that is answered by a code, and what one answer says of a person."""

from __future__ import annotations

import random
import string
from collections.abc import Mapping
from dataclasses import dataclass

from ..errors import ConfigError
from ..instructions import UnreadableAnswer
from ..policy import Policy

# Without letters that pass for digits, or for each other.
_CODES = [char for char in string.ascii_uppercase + string.ascii_lowercase if char not in "OIlo"]


@dataclass(frozen=True, slots=True)
class Found:
    """What an answer says of one person: category to a score in 0..1 where there is any, and a short reason code."""

    scores: Mapping[str, float]
    reason: str = ""


@dataclass(frozen=True, slots=True)
class Codes:
    """The closed list of answers: one letter a category, and one for none of them.

    Args:
        clear: The letter for none.
        categories: Letter to category, in the policy's order.
    """

    clear: str
    categories: Mapping[str, str]

    @classmethod
    def deal(cls, policy: Policy, *, seed: str) -> Codes:
        """Deal letters, the same for the same seed.

        Raises:
            ConfigError: If the policy has more categories than there are letters.
        """
        if len(policy.categories) >= len(_CODES):
            raise ConfigError(f"--design: one code each fits {len(_CODES) - 1} categories; use --design json")
        # No secret: it keeps a text written beforehand from naming the right code, nothing more.
        letters = random.Random(seed).sample(_CODES, len(policy.categories) + 1)  # noqa: S311
        return cls(letters[0], dict(zip(letters[1:], policy.categories, strict=True)))

    def listed(self, policy: Policy) -> str:
        """Return one line a code."""
        lines = []
        for letter, name in self.categories.items():
            title = " ".join(policy.categories[name].title.split())
            lines.append(
                f"{letter} = {title}" if title.casefold() == name.casefold() else f"{letter} = {name}: {title}"
            )
        return "\n".join(lines)

    def read(self, code: object) -> Found:
        """Read one code.

        Raises:
            UnreadableAnswer: If it is none.
        """
        if code == self.clear:
            return Found({}, "clear")
        if not isinstance(code, str) or code not in self.categories:
            raise UnreadableAnswer("answer_code")
        return Found({self.categories[code]: 1.0}, "code")
