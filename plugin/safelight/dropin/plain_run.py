"""What a guarded call has to know of the plain pipeline that it runs."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from . import seals


def calls_back(pipe: Any, cls: type[Any]) -> bool:
    """Return whether a pipeline hands its latents to a callback at the end of every step."""
    known = "callback_on_step_end" in inspect.signature(cls.__call__).parameters
    return known and "latents" in getattr(pipe, "_callback_tensor_inputs", ())


def can_be_stopped(pipe: Any, cls: type[Any]) -> bool:
    """Return whether there is a place between a pipeline's steps and its pixels where it can be made to wait."""
    return calls_back(pipe, cls) or bool(seals.decoders(pipe))


def is_diffusers_own(callback: Any) -> bool:
    """Return whether a step callback is one that diffusers ships. They turn guidance off, and show nothing."""
    from diffusers.callbacks import MultiPipelineCallbacks

    if type(callback) is MultiPipelineCallbacks:
        return all(is_diffusers_own(each) for each in callback.callbacks)
    # Not by inheritance: a class of the caller's own may do anything.
    return type(callback).__module__ == MultiPipelineCallbacks.__module__


def generators_of(given: Any) -> list[Any]:
    """Return the random generators of a call, each once: the same one may be given for several pictures."""
    if given is None:
        return []
    return list({id(generator): generator for generator in (given if isinstance(given, list) else [given])}.values())


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
