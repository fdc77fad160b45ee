"""How often a test repeats what it draws by chance: a little each time, and much where somebody asks for it."""

from __future__ import annotations

import os

AT_LENGTH = bool(os.environ.get("TESTS_AT_LENGTH"))
"""Set ``TESTS_AT_LENGTH=1`` for the night before a release."""


def how_many(usual: int, *, at_length: int) -> int:
    """Return ``usual``, or ``at_length`` where the environment asks for the long run."""
    return at_length if AT_LENGTH else usual
