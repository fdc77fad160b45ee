"""What a pipeline's own state brings into a picture beside the texts of a call: adapters, by name and source.

What is covered: LoRAs and other adapters of peft's that are active or fused when the pipeline is called; learned tokens
(textual inversion) that a text of the call uses; IP adapters that are loaded. The source is known of what was loaded
through a guarded pipeline (see ``adapter_loaders``).
What is not covered: what an adapter or a token does to a picture; weights that were changed without peft.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from ..adapter_rule import is_listed
from ..errors import UnjudgedChannel
from ..policy import Policy
from .adapter_marks import (
    active_names,
    adapted_layers,
    fused,
    ip_projections,
    lora_configs,
    sources_of,
    token_sources,
)
from .adapter_source import Source
from .learned_tokens import used_tokens

LORA = "lora"
IP_ADAPTER = "ip_adapter"
TOKENS = "textual_inversion"
NEGATIVE_TOKENS = "negative_prompt_textual_inversion"
"""A channel of its own, under a name that says to a judge what it says of a negative prompt."""


@dataclass(frozen=True, slots=True)
class Adapter:
    """An adapter that has a part in a call's pictures.

    Args:
        channel: ``lora``, ``ip_adapter``, ``textual_inversion`` or ``negative_prompt_textual_inversion``.
        name: What it was loaded as: an adapter's name, or a token.
        sources: Where it came from, more than one where several files were loaded at once. Empty if nobody knows.
    """

    channel: str
    name: str
    sources: tuple[Source, ...] = ()

    @property
    def text(self) -> str:
        """What a judge reads of it: the name, and what its source is called. No digest: that would read as a code."""
        known = ", ".join(dict.fromkeys(source.name for source in self.sources if source.name))
        return f"{self.name} ({known})" if known else self.name


def carried(pipe: Any, texts: Mapping[str, str]) -> tuple[Adapter, ...]:
    """Return the adapters that have a part in a call, as the pipeline is at this moment, each once.

    Args:
        pipe: A diffusers pipeline.
        texts: The texts of the call, by parameter name. Those with a dot in the name are of other calls.
    """
    components: Mapping[str, Any] = getattr(pipe, "components", {})
    own = {name: text for name, text in texts.items() if "." not in name}
    wanted = [text for name, text in own.items() if not name.startswith("negative")]
    avoided = [text for name, text in own.items() if name.startswith("negative")]
    found = dict.fromkeys(_loras(pipe, components))
    found |= dict.fromkeys(_ip_adapters(components))
    found |= dict.fromkeys(Adapter(TOKENS, *used) for used in _learned(components, wanted))
    found |= dict.fromkeys(Adapter(NEGATIVE_TOKENS, *used) for used in _learned(components, avoided))
    return tuple(found)


def carried_texts(pipe: Any, texts: Mapping[str, str]) -> Mapping[str, str]:
    """Return what the pipeline adds to the texts of a call: channel name to names and sources, one a line.

    Args:
        pipe: A diffusers pipeline.
        texts: The texts of the call, by parameter name.
    """
    lines: dict[str, dict[str, None]] = {}
    for adapter in carried(pipe, texts):
        lines.setdefault(adapter.channel, {})[adapter.text] = None
    return {channel: "\n".join(named) for channel, named in lines.items()}


def check_adapters(pipe: Any, texts: Mapping[str, str], policy: Policy) -> None:
    """Refuse a call that an adapter has a part in which is not on the policy's list. It is no fault of who asks.

    Args:
        pipe: A diffusers pipeline.
        texts: The texts of the call, by parameter name.
        policy: Its ``[adapters]`` is asked. IP adapters have no list: what they show is a picture that was screened.

    Raises:
        UnjudgedChannel: If one is not on its list, or nobody knows where it came from and there is a list.
    """
    rule = policy.adapters
    lists = {LORA: rule.loras, TOKENS: rule.textual_inversions, NEGATIVE_TOKENS: rule.textual_inversions}
    if rule.loras is None and rule.textual_inversions is None:
        return
    for adapter in carried(pipe, texts):
        entries = lists.get(adapter.channel)
        for source in adapter.sources or (Source(),):
            if entries is not None and not is_listed(
                entries, repository=source.repository, file=source.file, sha256=source.sha256
            ):
                channel, key = (LORA, "loras") if adapter.channel == LORA else (TOKENS, "textual_inversions")
                place = f"{key} under [adapters] of the policy"
                raise UnjudgedChannel(channel, f"{adapter.name!r} is not listed: {_advice(source, place)}")


def _advice(source: Source, place: str) -> str:
    entries = [source.name, f"sha256:{source.sha256}" if source.sha256 else ""]
    choice = " or ".join(repr(entry) for entry in entries if entry)
    if choice:
        return f"add {choice} to {place}"
    return f"where it came from is not known, so nothing in {place} can name it; load it from a file after protect()"


def _loras(pipe: Any, components: Mapping[str, Any]) -> Iterator[Adapter]:
    # Not by get_active_adapters(): it needs peft, and of several models it answers for the last.
    named: set[str] = set()
    for part in components.values():
        layers, configs = adapted_layers(part), lora_configs(part)
        active = ((name, sources_of(configs.get(name))) for name in active_names(layers))
        for name, sources in (*fused(part, layers), *active):
            named.add(name)
            yield Adapter(LORA, name, sources)
    # What was fused and unloaded before anybody noted it.
    for name in sorted(set(getattr(pipe, "fused_loras", ())) - named):
        yield Adapter(LORA, name)


def _ip_adapters(components: Mapping[str, Any]) -> Iterator[Adapter]:
    for part in components.values():
        for projection in ip_projections(part):
            yield Adapter(IP_ADAPTER, IP_ADAPTER, sources_of(projection))


def _learned(components: Mapping[str, Any], texts: list[str]) -> Iterator[tuple[str, tuple[Source, ...]]]:
    """Yield the learned tokens that the texts use, as they were added, and their sources."""
    for name, tokenizer in components.items():
        used = used_tokens(tokenizer, texts)
        sources = token_sources(components.get(name.replace("tokenizer", "text_encoder"))) if used else {}
        for token in used:
            yield token, sources.get(token, ())
