"""What makes pictures: one protocol, and the short names of the generators that ship with Safelight."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Protocol, runtime_checkable

from PIL import Image

from ..request import GenerationRequest

GENERATORS: Mapping[str, str] = {
    "embedded": "safelight.generators.embedded:EmbeddedGenerator",
    "diffusers": "safelight.generators.diffusers:DiffusersGenerator",
    "openai": "safelight.generators.openai:OpenAIGenerator",
}

Progress = Callable[[int, int], None]
"""Called with (steps done, steps in all). May raise to stop the generation."""


@runtime_checkable
class Generator(Protocol):
    """Makes pictures for a request that was already allowed.

    ``name`` is a model id for clients; ``note`` is one plain sentence about the model for a person. A generator may
    also have ``examples``, whole prompts that it draws well, and ``knows``, the words that it knows by their kind: the
    page shows both.
    """

    name: str
    note: str

    def generate(self, request: GenerationRequest, progress: Progress) -> Sequence[Image.Image]:
        """Return ``request.n`` RGB pictures of the asked size.

        Called from worker threads, several at a time: a generator that can make one picture at a time locks itself.

        Raises:
            GenerationFailed: If no proper picture came out.
            InvalidRequest: If this generator cannot do what is asked, for example the size.
        """
        ...
