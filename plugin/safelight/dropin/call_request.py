"""What a pipeline's call asks for, in the words of a request."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ..channel_table import FOR_A_PROMPT
from ..request import GenerationRequest, Principal

NO_TEXT = "(no text)"
"""Stands for an empty prompt in the record, and before the judges."""

EMBEDDINGS = "(embeddings, which no screen can read)"
"""Stands for a prompt that was given as embeddings only, where that is allowed."""


def request_for(texts: Mapping[str, str], principal: Principal, arguments: Mapping[str, Any]) -> GenerationRequest:
    """Return the request for one prompt of a call.

    Args:
        texts: Every text that reaches the picture, by channel. Where there is no prompt, a remark stands for it.
        principal: Who asks.
        arguments: The other arguments of the call.

    Raises:
        InvalidRequest: If a text cannot be judged or stored.
    """
    own = ("prompt", "prompt_2", "negative_prompt", "negative_prompt_2")
    named: dict[str, Any] = {name: texts[name] for name in own if name in texts}
    if not named.get("prompt", "").strip():
        embedded = any(arguments.get(name) is not None for name in FOR_A_PROMPT)
        named["prompt"] = EMBEDDINGS if embedded else NO_TEXT
    return GenerationRequest(
        principal=principal, **named, extra_texts={name: texts[name] for name in texts if name not in own}
    )
