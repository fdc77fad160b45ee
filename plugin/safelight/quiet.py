"""Keeps prompts out of the log lines of other people's libraries."""

from __future__ import annotations

import logging
from typing import Any


def _worth_a_line(record: logging.LogRecord) -> bool:
    message = record.getMessage()
    return not any(phrase in message for phrase in ("was truncated because", "Token indices sequence length"))


def hush(pipe: Any) -> None:
    """Drop the warnings of a prompt that is longer than an encoder reads: pipelines quote its end in them."""
    parts = [pipe, *(part for name, part in getattr(pipe, "components", {}).items() if name.startswith("tokenizer"))]
    for cls in {cls for part in parts for cls in type(part).__mro__}:
        if cls.__module__.startswith(("diffusers.", "transformers.")):
            logging.getLogger(cls.__module__).addFilter(_worth_a_line)


def hush_debugging(*names: str) -> None:
    """Keep loggers from writing debug lines, which quote whole requests, whatever the host program's root level is."""
    for name in names:
        logger = logging.getLogger(name)
        if logger.level < logging.INFO:
            # Not INFO: a library that finds itself told a level of its own may begin to write its remarks out.
            logger.setLevel(logging.WARNING)
