"""Where the sources of adapters are kept: on the objects that live and die with them, so that no record outlives them.

A LoRA's lies on peft's own configuration of it, a learned token's on the text encoder's table of tokens, an IP
adapter's on its projection. They travel with a model to another pipeline, into a copy and through a pickle, and are
gone when the adapter is unloaded. Only what was fused into weights stays there when the adapter goes: of that, the
model itself has a list.

What is not covered: a LoRA whose weights are exchanged behind the pipeline's back keeps the source of the old ones.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from .adapter_source import Source

Fused = tuple[str, tuple[Source, ...]]
"""A name, and its sources: none where they are not known."""

_SOURCES = "_safelight_sources"
_TOKENS = "_safelight_tokens"
_FUSED = "_safelight_fused"


def sources_of(thing: Any) -> tuple[Source, ...]:
    """Return the sources of peft's configuration of a LoRA, or of an IP adapter's projection; none if not known."""
    return tuple(getattr(thing, _SOURCES, ()))


def mark(thing: Any, sources: tuple[Source, ...]) -> None:
    """Keep the sources of such a thing."""
    setattr(thing, _SOURCES, sources)


def lora_configs(part: Any) -> Mapping[str, Any]:
    """Return peft's configurations of the adapters on a model, by adapter name."""
    found = getattr(part, "peft_config", None)
    return found if isinstance(found, Mapping) else {}


def ip_projections(part: Any) -> Iterator[Any]:
    """Yield what turns an IP adapter's picture into what a model reads."""
    for name in ("encoder_hid_proj", "image_proj"):
        found = getattr(part, name, None)
        if "IPAdapter" in type(found).__name__:
            yield found


def token_sources(encoder: Any) -> Mapping[str, tuple[Source, ...]]:
    """Return the sources of a text encoder's learned tokens, as far as they are known, by token."""
    return getattr(_table(encoder), _TOKENS, {})


def keep_token_sources(encoder: Any, sources: Mapping[str, tuple[Source, ...]]) -> None:
    """Keep the sources of all learned tokens of a text encoder."""
    setattr(_table(encoder), _TOKENS, dict(sources))


def _table(encoder: Any) -> Any:
    # Unloading a token makes a new table: what an unguarded pipeline unloads and loads again has no source here.
    return encoder.get_input_embeddings() if hasattr(encoder, "get_input_embeddings") else None


def adapted_layers(part: Any) -> tuple[Any, ...]:
    """Return a model's layers that peft put an adapter on. They are told by their class: peft may not be installed."""
    found: list[Any] = []
    adapted: dict[type[Any], bool] = {}
    # Not by modules(), which takes several times as long: this is done at every call.
    waiting = [part] if hasattr(part, "named_modules") else []
    while waiting:
        module = waiting.pop()
        kind = type(module)
        if kind not in adapted:
            adapted[kind] = hasattr(kind, "merged_adapters")
        if adapted[kind]:
            found.append(module)
        if module is not None and module._modules:
            waiting.extend(reversed(module._modules.values()))
    return tuple(found)


def active_names(layers: Iterable[Any]) -> tuple[str, ...]:
    """Return the adapters that layers add to what they compute."""
    return _each_once(
        name for layer in layers if not layer.disable_adapters for name in layer.active_adapters if _holds(layer, name)
    )


def _holds(layer: Any, name: str) -> bool:
    # Diffusers makes a name active on every model, those included that have no adapter of that name.
    kinds = getattr(layer, "adapter_layer_names", None)
    return kinds is None or any(name in getattr(layer, kind, ()) for kind in kinds)


def merged_names(layers: Iterable[Any]) -> tuple[str, ...]:
    """Return the adapters that layers say are fused into them."""
    return _each_once(name for layer in layers for name in layer.merged_adapters)


def _each_once(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def fused(part: Any, layers: Iterable[Any]) -> tuple[Fused, ...]:
    """Return what is fused into a model's weights, whether its layers are still there or not.

    Args:
        part: The model.
        layers: Its layers that have adapters.
    """
    found: dict[Fused, None] = dict.fromkeys(getattr(part, _FUSED, ()))
    kept, configs = {name for name, _ in found}, lora_configs(part)
    for name in merged_names(layers):
        # One that was deleted after it was fused has no configuration any more, and is on the list.
        if name in configs or name not in kept:
            found[name, sources_of(configs.get(name))] = None
    return tuple(found)


def keep_fused(part: Any, fused: tuple[Fused, ...]) -> None:
    """Keep what is fused into a model's weights."""
    if fused != getattr(part, _FUSED, ()):
        setattr(part, _FUSED, fused)
