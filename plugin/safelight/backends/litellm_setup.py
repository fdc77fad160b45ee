"""How LiteLLM is loaded, and what every call through it says."""

from __future__ import annotations

import importlib
import os
from typing import Any

from ..errors import MissingExtra
from ..quiet import hush_debugging

_GEMINI_PREFIXES = ("gemini/", "vertex_ai/gemini")

# Where "reasoning_effort" goes out as it is. For most others LiteLLM turns even "low" into a thinking that is else off
# (Anthropic, DeepSeek), or into more of it (Mistral), as seen in 1.106.2.
_EFFORT_PREFIXES = ("openai/", "azure/")

# The four categories that a caller may adjust. A judge has to read what the filters would keep from it.
_GEMINI_FILTERS_OFF = [
    {"category": f"HARM_CATEGORY_{name}", "threshold": "OFF"}
    for name in ("HARASSMENT", "HATE_SPEECH", "SEXUALLY_EXPLICIT", "DANGEROUS_CONTENT")
]


def fixed_arguments(model: str, *, api_base: str | None, api_key: str | None, timeout_s: float) -> dict[str, Any]:
    """Return what every call of one chat says alike.

    Args:
        model: LiteLLM's name of the model.
        api_base: Where the provider is, or None for its public address.
        api_key: The key, or None to let LiteLLM find it in its own environment variables.
        timeout_s: Seconds for one call; LiteLLM's own default is 6000.
    """
    arguments: dict[str, Any] = {
        "model": model,
        "api_base": api_base.rstrip("/") if api_base else None,
        "api_key": api_key,
        # The same for every call: LiteLLM opens a new connection pool for each timeout it meets.
        "timeout": timeout_s,
        "num_retries": 0,
        "max_retries": 0,
        # A host program's own LiteLLM callbacks have no business with prompts under judgement.
        "no-log": True,
    }
    if model.startswith(_GEMINI_PREFIXES):
        arguments["safety_settings"] = _GEMINI_FILTERS_OFF
        # Thinking costs time and answer tokens. LiteLLM makes this "none" for 2.5, and "as little as can be" since 3.
        if not model.rpartition("/")[2].startswith(("gemini-1", "gemini-2.0", "gemini-2.5-pro")):
            arguments["reasoning_effort"] = "disable"
    elif effort := least_effort(load_litellm(), model):
        arguments["reasoning_effort"] = effort
    return arguments


def least_effort(litellm: Any, model: str) -> str:
    """Return the least effort that a reasoning model of OpenAI's takes, or "" where nothing should be said of it.

    By default such a model spends a few hundred answer tokens on thinking alone, and then has none left to answer.

    Args:
        litellm: The imported library, whose table of models is asked.
        model: Its name of the model.
    """
    if not model.startswith(_EFFORT_PREFIXES):
        return ""
    entry = litellm.model_cost.get(model) or litellm.model_cost.get(model.removeprefix("openai/")) or {}
    if not entry.get("supports_reasoning") or entry.get("mode") != "chat":
        return ""
    provider, _, name = model.partition("/")
    # Named apart: asked by the whole name LiteLLM answers for another family.
    if "reasoning_effort" not in (litellm.get_supported_openai_params(name, custom_llm_provider=provider) or ()):
        return ""
    for effort in ("none", "minimal"):
        if entry.get(f"supports_{effort}_reasoning_effort"):
            return effort
    return "" if entry.get("supports_low_reasoning_effort") is False else "low"


def load_litellm() -> Any:
    """Import LiteLLM so that it asks nobody for prices and reports to nobody.

    Raises:
        MissingExtra: If it is not installed.
    """
    # Without it the import fetches a price table from the network.
    os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "True")
    try:
        litellm: Any = importlib.import_module("litellm")
    except ModuleNotFoundError as error:
        raise MissingExtra("litellm", "judge", needed_by="an LLM judge") from error
    hush_debugging("LiteLLM", "LiteLLM Router", "openai", "httpcore")
    litellm.suppress_debug_info = True
    litellm.turn_off_message_logging = True
    litellm.telemetry = False
    return litellm
