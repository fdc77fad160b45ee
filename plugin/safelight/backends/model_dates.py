"""What an operator should know about a model's name before relying on it: that it moves, or that its end is near."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import date, timedelta
from typing import Any

NEAR = timedelta(days=60)
"""How long before a model's end it is warned of."""

# Ends that LiteLLM's table does not know: from then on the provider answers by another model, at its price. Google's
# page of deprecations, as quoted in November 2026; Vertex AI has dates of its own, and the table knows those.
_REROUTED: Mapping[str, tuple[date, str]] = {
    "gemini/gemini-2.5-flash": (date(2026, 12, 1), "gemini-3.5-flash-lite"),
    "gemini/gemini-2.5-pro": (date(2026, 12, 1), "gemini-3.8-flash"),
}

_MOVING = re.compile(r"-latest$")


def model_warnings(model: str, *, today: date, table: Mapping[str, Any]) -> tuple[str, ...]:
    """Return what should be known about a model, one sentence each; empty if there is nothing.

    Args:
        model: LiteLLM's name of it.
        today: The date.
        table: LiteLLM's ``model_cost``, or as much of it as is known.
    """
    found = []
    if _MOVING.search(model):
        found.append(f"model {model} is a name that moves to other models without notice; name a version")
    retired = _retired(model, table)
    if retired is not None and retired - today <= NEAR:
        found.append(f"model {model} is retired on {retired}; choose another, and watch how it rules before then")
    rerouted = _REROUTED.get(model)
    if rerouted is not None and rerouted[0] - today <= NEAR:
        found.append(
            f"model {model} is answered by {rerouted[1]} from {rerouted[0]}, which is refused as another judge unless "
            "served_models names it; choose another model"
        )
    return tuple(found)


def _retired(model: str, table: Mapping[str, Any]) -> date | None:
    # LiteLLM writes Vertex AI's models without their provider.
    entry = table.get(model) or (
        table.get(model.removeprefix("vertex_ai/")) if model.startswith("vertex_ai/") else None
    )
    stated = entry.get("deprecation_date") if isinstance(entry, Mapping) else None
    try:
        return date.fromisoformat(stated) if isinstance(stated, str) else None
    except ValueError:
        # A table that anybody may extend holds words there too; what is no date says nothing.
        return None
