"""How a pipeline is guarded, beside by whom."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from ..errors import ConfigError
from ..policy import Policy
from . import seals
from .choices import Guidance, OnBlock, Screening
from .pipeline_classes import check_class
from .plain_run import calls_back
from .previews import check_previews
from .safety_guidance import check_guidance

if TYPE_CHECKING:
    from .previews import Previews


@dataclass(frozen=True, slots=True)
class Options:
    """How a pipeline is guarded.

    Args:
        on_block: What stands at a blocked picture's place.
        screening: Whether the prompt's judges are asked before the pipeline runs, or beside it.
        allow: What goes in and out unread: ``embeddings``, ``latents``, ``callbacks``.
        guidance: ``safety``, or None.
        previews: How half-made pictures are looked at, or None.
    """

    on_block: OnBlock = "black"
    screening: Screening = "beside"
    allow: frozenset[str] = frozenset()
    guidance: Guidance | None = None
    previews: Previews | None = None


def check_options(pipe: Any, cls: type[Any], options: Options, policy: Policy) -> None:
    """Refuse options that a pipeline cannot carry out.

    Raises:
        ConfigError: If one cannot, or the pipeline has no model or no class that could be guarded.
    """
    check_class(cls)
    if not seals.denoisers(pipe):
        raise ConfigError(f"protect: {cls.__name__} has neither a unet nor a transformer to guard")
    if options.guidance is not None:
        # It has the tokenizers read the concepts, which another guarded pipeline may be using.
        with seals.lock_of(pipe):
            check_guidance(pipe, cls, policy.guidance.text)
    if options.previews is not None:
        if not calls_back(pipe, cls):
            raise ConfigError(f"previews: {cls.__name__} calls nobody after its steps; leave them out")
        check_previews(pipe, options.previews)
