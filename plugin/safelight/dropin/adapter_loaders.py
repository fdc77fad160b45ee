"""A guarded pipeline's own ways to load and fuse adapters: diffusers' ones, which note where an adapter came from."""

from __future__ import annotations

import functools
import inspect
import logging
import os
from collections.abc import Callable, Mapping, Sequence
from typing import Any

from .adapter_marks import (
    adapted_layers,
    fused,
    ip_projections,
    keep_fused,
    keep_token_sources,
    lora_configs,
    mark,
    merged_names,
    sources_of,
    token_sources,
)
from .adapter_source import Source, source_of_file, source_of_tensors
from .learned_tokens import learned_tokens

logger = logging.getLogger("safelight")

Method = Callable[..., Any]

_LEARNED = ("learned_embeds.safetensors", "learned_embeds.bin")
"""What diffusers calls a file of learned tokens, in the order in which it tries."""


def recording_loaders(cls: type[Any]) -> dict[str, Method]:
    """Return the methods that take the place of a pipeline class's own in its guarded class, by name.

    They have the same signatures and do the same. What they note is read by ``carried``.

    Args:
        cls: The plain class. Of the methods that load, fuse and unload adapters, those that it has are returned.
    """
    wraps: Mapping[str, Callable[[Method], Method]] = {
        "load_lora_weights": _loading_lora,
        "load_ip_adapter": _loading_ip_adapter,
        "load_textual_inversion": _loading_tokens,
        "unload_textual_inversion": _unloading_tokens,
        "fuse_lora": _fusing,
        "unfuse_lora": _unfusing,
        "unload_lora_weights": _unloading_lora,
        "delete_adapters": _unloading_lora,
    }
    return {name: wrap(getattr(cls, name)) for name, wrap in wraps.items() if callable(getattr(cls, name, None))}


def _loading_lora(plain: Method) -> Method:
    @functools.wraps(plain)
    def load(self: Any, *args: Any, **kwargs: Any) -> Any:
        named = _by_name(plain, self, args, kwargs)
        guessed = _guessed_name(named)
        if guessed:
            # Asked once and handed on, so that what is hashed is what is loaded.
            named["weight_name"] = kwargs["weight_name"] = guessed
        given, tensors = _given(named), source_of_tensors(_given(named))
        swapped = str(named["adapter_name"]) if named.get("hotswap") else ""
        before = _lora_configs(self, but=swapped)
        for part in _parts(self):
            if swapped and swapped in lora_configs(part):
                # If it fails half-way, nobody knows whose weights these are.
                mark(lora_configs(part)[swapped], ())
        result = plain(self, *args, **kwargs)
        names = [named["weight_name"]] if named.get("weight_name") else []
        _note_loras(self, before, (tensors or _file(given, names, named.get("subfolder"), named),))
        return result

    return load


def _loading_ip_adapter(plain: Method) -> Method:
    @functools.wraps(plain)
    def load(self: Any, *args: Any, **kwargs: Any) -> Any:
        named = _by_name(plain, self, args, kwargs)
        files, folders, given = _listed(named["weight_name"]), _listed(named["subfolder"]), _listed(_given(named))
        # Diffusers spreads one folder or repository over all files in the same way.
        each = list(zip(_spread(given, files), files, _spread(folders, files), strict=False))
        tensors = [source_of_tensors(one) for one, _, _ in each]
        loras, projections = _lora_configs(self), _projections(self)
        result = plain(self, *args, **kwargs)
        sources = tuple(
            known or _file(one, [name], folder, named) for known, (one, name, folder) in zip(tensors, each, strict=True)
        )
        for projection in _new(_projections(self), projections):
            mark(projection, sources)
            _say("IP adapter", "", sources)
        # A face's adapter brings LoRAs of its own, from the same file.
        _note_loras(self, loras, sources)
        return result

    return load


def _loading_tokens(plain: Method) -> Method:
    @functools.wraps(plain)
    def load(self: Any, *args: Any, **kwargs: Any) -> Any:
        named = _by_name(plain, self, args, kwargs)
        given = _listed(_given(named))
        tensors = [source_of_tensors(one) for one in given]
        tokenizer, encoder = _reader(self, named)
        before, kept = learned_tokens(tokenizer), token_sources(encoder)
        result = plain(self, *args, **kwargs)
        names = [named["weight_name"]] if named.get("weight_name") else _LEARNED
        # Of several files loaded at once, each stands for all tokens: which token lay in which nobody says.
        sources = tuple(
            known or _file(one, names, named.get("subfolder"), named) for known, one in zip(tensors, given, strict=True)
        )
        new = [token for token in learned_tokens(tokenizer).values() if token not in before.values()]
        keep_token_sources(encoder, {**kept, **dict.fromkeys(new, sources)})
        for token in new:
            _say("textual inversion", token, sources)
        return result

    return load


def _unloading_tokens(plain: Method) -> Method:
    @functools.wraps(plain)
    def unload(self: Any, *args: Any, **kwargs: Any) -> Any:
        tokenizer, encoder = _reader(self, _by_name(plain, self, args, kwargs))
        kept = token_sources(encoder)
        result = plain(self, *args, **kwargs)
        left = learned_tokens(tokenizer).values()
        keep_token_sources(encoder, {token: sources for token, sources in kept.items() if token in left})
        return result

    return unload


def _fusing(plain: Method) -> Method:
    @functools.wraps(plain)
    def fuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        result = plain(self, *args, **kwargs)
        _note_fused(self)
        return result

    return fuse


def _unfusing(plain: Method) -> Method:
    @functools.wraps(plain)
    def unfuse(self: Any, *args: Any, **kwargs: Any) -> Any:
        _note_fused(self)
        result = plain(self, *args, **kwargs)
        for part in _parts(self):
            layers = adapted_layers(part)
            still = merged_names(layers)
            # What has no layers any more cannot be taken out of the weights.
            freed = {(name, sources_of(config)) for name, config in lora_configs(part).items() if name not in still}
            keep_fused(part, tuple(item for item in fused(part, layers) if item not in freed))
        return result

    return unfuse


def _unloading_lora(plain: Method) -> Method:
    @functools.wraps(plain)
    def unload(self: Any, *args: Any, **kwargs: Any) -> Any:
        # What is fused stays in the weights; that it does is forgotten with the layers.
        _note_fused(self)
        return plain(self, *args, **kwargs)

    return unload


def _by_name(plain: Method, pipe: Any, args: Sequence[Any], kwargs: Mapping[str, Any]) -> dict[str, Any]:
    signature = inspect.signature(plain)
    bound = signature.bind(pipe, *args, **kwargs)
    bound.apply_defaults()
    named = dict(bound.arguments)
    for name, parameter in signature.parameters.items():
        if parameter.kind is parameter.VAR_KEYWORD:
            named |= named.pop(name)
    return named


def _given(named: Mapping[str, Any]) -> Any:
    """Return the argument that says what to load; diffusers has two names for it."""
    return next((value for name, value in named.items() if name.startswith("pretrained_model_name_or_path")), None)


def _guessed_name(named: Mapping[str, Any]) -> str | None:
    """Return the file that diffusers would choose where none is named; None where it does not choose."""
    from diffusers.loaders import lora_base

    guess = getattr(lora_base, "_best_guess_weight_name", None)
    given, safe = _given(named), named.get("use_safetensors")
    if guess is None or named.get("weight_name") or not isinstance(given, str | os.PathLike):
        return None
    endings = [ending for ending, tried in ((".safetensors", safe is not False), (".bin", not safe)) if tried]
    for ending in endings:
        try:
            name = guess(given, file_extension=ending, local_files_only=bool(named.get("local_files_only")))
        except (OSError, ValueError, IndexError):
            # Diffusers says what is wrong when it asks itself.
            return None
        if name:
            return str(name)
    return None


def _file(given: Any, names: Sequence[str], subfolder: str | None, named: Mapping[str, Any]) -> Source:
    return source_of_file(
        given, names, subfolder=subfolder, revision=named.get("revision"), cache=named.get("cache_dir")
    )


def _parts(pipe: Any) -> list[Any]:
    return list(pipe.components.values())


def _lora_configs(pipe: Any, *, but: str = "") -> list[tuple[str, Any]]:
    return [item for part in _parts(pipe) for item in lora_configs(part).items() if not but or item[0] != but]


def _projections(pipe: Any) -> list[Any]:
    return [projection for part in _parts(pipe) for projection in ip_projections(part)]


def _new(now: Sequence[Any], before: Sequence[Any]) -> list[Any]:
    # By identity: two configurations of the same rank are equal.
    known = {id(item) for item in before}
    return [item for item in now if id(item) not in known]


def _note_loras(pipe: Any, before: Sequence[tuple[str, Any]], sources: tuple[Source, ...]) -> None:
    known = {id(config) for _, config in before}
    names: dict[str, None] = {}
    for name, config in _lora_configs(pipe):
        if id(config) not in known:
            mark(config, sources)
            names[name] = None
    for name in names:
        _say("LoRA", name, sources)


def _note_fused(pipe: Any) -> None:
    for part in _parts(pipe):
        keep_fused(part, fused(part, adapted_layers(part)))


def _reader(pipe: Any, named: Mapping[str, Any]) -> tuple[Any, Any]:
    """Return the tokenizer and text encoder that a token is for, as diffusers chooses them."""
    return (
        named.get("tokenizer") or getattr(pipe, "tokenizer", None),
        named.get("text_encoder") or getattr(pipe, "text_encoder", None),
    )


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, list) else [value]


def _spread(values: list[Any], like: list[Any]) -> list[Any]:
    return values * len(like) if len(values) == 1 else values


def _say(kind: str, name: str, sources: Sequence[Source]) -> None:
    for source in sources:
        digest = f"sha256:{source.sha256}" if source.sha256 else "digest unknown"
        revision = f" at {source.revision}" if source.revision else ""
        logger.info("loaded %s %r from %s%s, %s", kind, name, source.name or "tensors in memory", revision, digest)
