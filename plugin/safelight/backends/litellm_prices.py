"""What a model costs, by LiteLLM's own table or by an operator's figures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ..errors import ConfigError

MOST_TOKENS = 10**9
"""More than any call could send or receive; what a provider reports beyond is no count."""

MOST_USD = 10**6
"""More than any call could cost."""


def is_priced(litellm: Any, model: str) -> bool:
    """Return whether LiteLLM's table knows what a model costs. A price of nothing at all is taken for a gap in it.

    Args:
        litellm: The imported library.
        model: Its name of the model.
    """
    provider, _, name = model.rpartition("/")
    table = litellm.model_cost
    # Some entries stand under the name alone, and say whose they are.
    alone = table.get(name, {})
    is_theirs = not provider or str(alone.get("litellm_provider", "")).startswith(provider)
    entry = table.get(model) or (alone if is_theirs else {})
    prices = (entry.get("input_cost_per_token"), entry.get("output_cost_per_token"))
    known = [price for price in prices if price is not None]
    return len(known) == 2 and max(known) > 0


def checked_prices(usd_per_million: Sequence[float] | None) -> tuple[float, float] | None:
    """Return an operator's prices for a million tokens sent and received, in US dollars, as (in, out), or None.

    Raises:
        ConfigError: If they are no two numbers from 0.
    """
    if usd_per_million is None:
        return None
    prices = tuple(usd_per_million) if not isinstance(usd_per_million, str) else ()
    if len(prices) != 2 or not all(
        isinstance(price, int | float) and not isinstance(price, bool) and 0 <= price < float("inf") for price in prices
    ):
        raise ConfigError(
            f"usd_per_million: must be two numbers from 0, for tokens sent and received; not {usd_per_million!r}"
        )
    return float(prices[0]), float(prices[1])


def cost_usd(prices: tuple[float, float], *, tokens_in: int, tokens_out: int) -> float:
    """Return what tokens cost at these prices, in US dollars."""
    return (prices[0] * tokens_in + prices[1] * tokens_out) / 1_000_000


def is_token_count(value: Any) -> bool:
    """Return whether a number of tokens that a provider reports can be one."""
    return isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_TOKENS


def is_amount(value: Any) -> bool:
    """Return whether what LiteLLM says that a call cost can be an amount of US dollars."""
    return isinstance(value, int | float) and not isinstance(value, bool) and 0 <= value <= MOST_USD
