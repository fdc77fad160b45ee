"""The names that a pipeline's own state brings into a picture, beside the texts of the call.

What is covered: LoRAs and other adapters that are active or fused when the pipeline is called, by the names they were
loaded under; learned tokens (textual inversion) that a text of the call uses.
What is not covered: what an adapter or a token does to a picture, and which file it came from: diffusers keeps neither.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

LORA = "lora"
TOKENS = "textual_inversion"
NEGATIVE_TOKENS = "negative_prompt_textual_inversion"
"""A channel of its own, under a name that says to a judge what it says of a negative prompt."""


def carried_texts(pipe: Any, texts: Mapping[str, str]) -> Mapping[str, str]:
    """Return what the pipeline adds to a call, as it is at this moment: channel name to names, one a line.

    Args:
        pipe: A diffusers pipeline.
        texts: The texts of the call, by parameter name.
    """
    wanted = [text for name, text in texts.items() if not name.startswith("negative")]
    avoided = [text for name, text in texts.items() if name.startswith("negative")]
    parts = list(getattr(pipe, "components", {}).values())
    tokenizers = [part for part in parts if hasattr(part, "added_tokens_decoder")]
    named = {
        LORA: _adapters(pipe, parts),
        TOKENS: _learned(tokenizers, wanted),
        NEGATIVE_TOKENS: _learned(tokenizers, avoided),
    }
    return {channel: "\n".join(names) for channel, names in named.items() if names}


def _adapters(pipe: Any, parts: list[Any]) -> list[str]:
    # Not by get_active_adapters(): it needs peft, and of several models it answers for the last.
    found = dict.fromkeys(sorted(getattr(pipe, "fused_loras", ())))
    for layer in _adapted_layers(parts):
        found |= dict.fromkeys(layer.merged_adapters)
        if not layer.disable_adapters:
            found |= dict.fromkeys(layer.active_adapters)
    return list(found)


def _adapted_layers(parts: list[Any]) -> Iterator[Any]:
    """Yield the layers that peft put an adapter on. They are told by their class: peft may not be installed."""
    for part in parts:
        for module in part.modules() if hasattr(part, "named_modules") else ():
            if hasattr(type(module), "merged_adapters"):
                yield module


def _learned(tokenizers: list[Any], texts: list[str]) -> list[str]:
    """Return the tokens beyond a tokenizer's base vocabulary that the texts use, as they were added."""
    found: dict[str, None] = {}
    for tokenizer in tokenizers:
        own = set(map(str, tokenizer.special_tokens_map.values()))
        learned = {number: str(token) for number, token in tokenizer.added_tokens_decoder.items()}
        learned = {number: token for number, token in learned.items() if token not in own}
        for text in texts if learned else ():
            # By number: the tokenizer may read a token in another case than it was added in.
            used = tokenizer.encode(text, add_special_tokens=False)
            found |= {learned[number]: None for number in used if number in learned}
    return list(found)
