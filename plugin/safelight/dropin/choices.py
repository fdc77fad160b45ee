"""What ``protect`` can be told by a word."""

from __future__ import annotations

from typing import Literal

OnBlock = Literal["black", "raise", "blur"]
"""What stands at a blocked picture's place."""

Screening = Literal["beside", "before"]
"""Whether a prompt's judges are asked while the pipeline works, or first."""

Guidance = Literal["safety"]
"""How pictures are led while they are made."""

ALLOWABLE = ("embeddings", "latents", "callbacks")
"""What may go in and out unread where that is asked for."""
