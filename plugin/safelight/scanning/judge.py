"""Which model a scan asks, where it is, and what it costs."""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass

from ..backends.litellm_setup import load_litellm
from ..errors import ConfigError
from ..screens import PROMPT_SCREENS
from ..settings import DEFAULT_JUDGE, Settings


@dataclass(frozen=True, slots=True)
class Judge:
    """How the judge is reached.

    Args:
        model: LiteLLM's name of it.
        api_base: Where the provider is, or None for its public address.
        api_key: The key, or None to let LiteLLM find it.
        served: The names under which it may answer.
        usd_per_million: An operator's prices in US dollars, for a million tokens sent and received, or None.
    """

    model: str
    api_base: str | None
    api_key: str | None
    served: frozenset[str]
    usd_per_million: Sequence[float] | None

    def prices(self) -> Sequence[float] | None:
        """Return US dollars for a million tokens sent and received: an operator's, or LiteLLM's; None if unknown."""
        if self.usd_per_million is not None:
            return self.usd_per_million
        table = load_litellm().model_cost
        entry = table.get(self.model) or table.get(self.model.rpartition("/")[2]) or {}
        found = [entry.get(name) for name in ("input_cost_per_token", "output_cost_per_token")]
        known = [1e6 * price for price in found if price is not None]
        return known if len(known) == len(found) else None


def judge_of(settings: Settings, args: argparse.Namespace) -> Judge:
    """Return the judge that the configuration and the command's options name.

    Raises:
        ConfigError: If they name none.
    """
    name = PROMPT_SCREENS["llm_judge"]
    parts = [part for part in settings.prompt_screens if PROMPT_SCREENS.get(part.use, part.use) == name]
    if not parts and not args.model:
        raise ConfigError(f"--model: no model to ask: {settings.judge_note}; or name one here")
    options = parts[0].options if parts else {}
    configured = str(options.get("model", DEFAULT_JUDGE))
    model = str(args.model or configured)
    # An address and a key belong to a provider, not to a model.
    theirs = options if model.partition("/")[0] == configured.partition("/")[0] else {}
    served = options.get("served_models", ()) if model == configured else ()
    return Judge(
        model,
        args.api_base or theirs.get("api_base"),
        theirs.get("api_key"),
        frozenset({model.partition("/")[2] or model, *served, *args.served_model}),
        options.get("usd_per_million") if model == configured else None,
    )
