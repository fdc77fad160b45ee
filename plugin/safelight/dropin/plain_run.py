"""What a guarded call has to know of the plain pipeline that it runs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from . import seals
from .channels import Call


def calls_back(pipe: Any, cls: type[Any]) -> bool:
    """Return whether a pipeline hands its latents to a callback at the end of every step."""
    return "callback_on_step_end" in _parameters(cls) and "latents" in getattr(pipe, "_callback_tensor_inputs", ())


def can_be_stopped(pipe: Any, cls: type[Any]) -> bool:
    """Return whether there is a place between a pipeline's steps and its pixels where it can be made to wait."""
    # A class that does not tell how many steps there are does not tell which is the last.
    return (calls_back(pipe, cls) and hasattr(cls, "num_timesteps")) or seals.asks_before_decoding(pipe)


def is_diffusers_own(callback: Any) -> bool:
    """Return whether a step callback is one that diffusers ships. They turn guidance off, and show nothing."""
    from diffusers.callbacks import MultiPipelineCallbacks

    if type(callback) is MultiPipelineCallbacks:
        return all(is_diffusers_own(each) for each in callback.callbacks)
    # Not by inheritance: a class of the caller's own may do anything.
    return bool(type(callback).__module__ == MultiPipelineCallbacks.__module__)


def size_of(pipe: Any, cls: type[Any], call: Call) -> tuple[int, int]:
    """Return the height and width, in pixels, of the pictures that a call would give."""
    # Without an autoencoder, the model works on the pixels themselves.
    factor = int(getattr(pipe, "vae_scale_factor", 8 if seals.decoders(pipe) else 1))
    given = [call.arguments.get(side) for side in ("height", "width")]
    picture = next((found for pictures in call.pictures for found in pictures.get("image", ())), None)
    # A U-Net's control picture sets the size; everywhere else, a class that asks for one has one of its own.
    follows = "height" not in _parameters(cls) or None not in (
        getattr(pipe, "controlnet", None),
        getattr(pipe, "unet", None),
    )
    latents: Any = call.arguments.get("image")
    if picture is not None and follows:
        own = [picture.height // factor * factor, picture.width // factor * factor]
    elif picture is None and follows and getattr(latents, "ndim", 0) == 4:
        own = [int(side) * factor for side in latents.shape[-2:]]
    else:
        config = getattr(seals.denoisers(pipe)[0], "config", None)
        sample = getattr(pipe, "default_sample_size", None) or getattr(config, "sample_size", None) or 128
        own = [int(side) * factor for side in (sample if isinstance(sample, list | tuple) else [sample] * 2)]
    processor = getattr(getattr(pipe, "image_processor", None), "config", None)
    # Flux and others that read latents in patches make no more than whole patches.
    multiple = int(getattr(processor, "vae_scale_factor", factor))
    height, width = (int(asked or other) // multiple * multiple for asked, other in zip(given, own, strict=True))
    return height, width


def generators_of(given: Any) -> list[Any]:
    """Return the random generators of a call, each once: the same one may be given for several pictures."""
    if given is None:
        return []
    return list({id(generator): generator for generator in (given if isinstance(given, list) else [given])}.values())


def _parameters(cls: type[Any]) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(cls.__call__).parameters


@contextmanager
def left_as_it_was(pipe: Any) -> Iterator[None]:
    """Undo what a pipeline does at the end of its call, where an exception keeps it from getting there."""
    unet: Any = getattr(pipe, "unet", None)
    vae: Any = getattr(pipe, "vae", None)
    processors = dict(unet.attn_processors) if unet is not None and hasattr(pipe, "set_pag_applied_layers") else None
    dtype = getattr(vae, "dtype", None)
    try:
        yield
    except BaseException:
        if processors is not None:
            unet.set_attn_processor(processors)
        if dtype is not None and vae.dtype != dtype:
            # It is computed in more bits than it is kept in.
            vae.to(dtype=dtype)
        # Offloaded models go back to where they wait.
        pipe.maybe_free_model_hooks()
        raise
