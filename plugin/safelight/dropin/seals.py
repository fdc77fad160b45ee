"""Makes the models of a guarded pipeline refuse to run outside a guarded call.

Every pipeline that shares them (``OtherPipeline.from_pipe(guarded)``) fails closed by that, and inside a guarded call
the same hooks let the judge have its say before a step is spent and before a latent is decoded.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any, Protocol
from weakref import WeakKeyDictionary

import torch

from ..errors import UnscreenedPipeline

DENOISERS = (
    "unet",
    "transformer",
    "transformer_2",
    "image_unet",
    "text_unet",
    "prior",
    "prior_prior",
    "decoder",
    "super_res_first",
    "super_res_last",
)
"""The names under which diffusers' pipelines keep the models that take noise away."""

AUTOENCODERS = ("vae", "vqgan", "movq", "vqvae")
"""The names under which they keep the model that makes pixels of latents."""


class Run(Protocol):
    """What a guarded call does while its pipeline is running."""

    def before_step(self) -> None:
        """Is called before a model takes noise away. An exception stops the pipeline."""
        ...

    def before_decode(self) -> None:
        """Is called before latents become pixels. An exception stops the pipeline."""
        ...


_running: ContextVar[tuple[Run, tuple[Any, ...]] | None] = ContextVar("safelight_running", default=None)
_locks: WeakKeyDictionary[Any, Any] = WeakKeyDictionary()
_making = threading.Lock()


def seal(pipe: Any) -> None:
    """Seal the models that a pipeline has now. A second time does no harm."""
    for model in denoisers(pipe):
        _hook(model, only_inside)
        inner = getattr(model, "_orig_mod", None)
        if inner is not None:
            # A compiled model wraps this one, and its graph has no place for a hook that asks who is calling.
            _unhook(inner, only_inside)
            _hook(inner, only_inside_graphs)
    for decoder in decoders(pipe):
        _hook(decoder, only_when_allowed)


def denoisers(pipe: Any) -> list[Any]:
    """Return the models of a pipeline that take noise away, compiled or not."""
    found = [getattr(pipe, name, None) for name in DENOISERS]
    return [model for model in found if isinstance(model, torch.nn.Module)]


def decoders(pipe: Any) -> list[Any]:
    """Return the parts of a pipeline's autoencoders that make pixels. A hook on them runs however they are called."""
    encoders = [getattr(pipe, name, None) for name in AUTOENCODERS]
    found = [getattr(encoder, "decoder", None) for encoder in encoders]
    return [decoder for decoder in found if isinstance(decoder, torch.nn.Module)]


def lock_of(pipe: Any) -> Any:
    """Return the lock of a pipeline's model, the same for every pipeline that shares it.

    Neither a scheduler, which counts steps, nor an offloaded model takes two threads at a time.
    """
    model = denoisers(pipe)[0]
    with _making:
        return _locks.setdefault(getattr(model, "_orig_mod", model), threading.RLock())


@contextmanager
def running(pipe: Any, run: Run) -> Iterator[None]:
    """Let a pipeline's models run, in this thread, until the block ends."""
    token = _running.set((run, (*denoisers(pipe), *decoders(pipe))))
    try:
        yield
    finally:
        _running.reset(token)


# Dynamo cannot trace who is calling; outside its graph the question is asked at every call.
@torch.compiler.disable  # type: ignore[untyped-decorator]
def only_inside(module: Any, args: Any) -> None:
    """Forward pre-hook of a model that takes noise away."""
    _run_of(module).before_step()


def only_inside_graphs(module: Any, args: Any) -> None:
    """Forward pre-hook of a model that also runs inside a compiled one, whose own hook has asked already."""
    if not torch.compiler.is_compiling():
        _run_of(module).before_step()


def only_when_allowed(module: Any, args: Any) -> None:
    """Forward pre-hook of a decoder. A compiled one runs without it, when the last step has waited already."""
    if not torch.compiler.is_compiling():
        _run_of(module).before_decode()


def _run_of(module: Any) -> Run:
    found = _running.get()
    if found is None or not any(module is own or module is getattr(own, "_orig_mod", None) for own in found[1]):
        raise UnscreenedPipeline(
            "this model belongs to a guarded pipeline; call safelight.protect() on the pipeline made from it"
        )
    return found[0]


def _hook(module: Any, hook: Any) -> None:
    if hook not in module._forward_pre_hooks.values():
        module.register_forward_pre_hook(hook)


def _unhook(module: Any, hook: Any) -> None:
    for key, own in list(module._forward_pre_hooks.items()):
        if own is hook:
            del module._forward_pre_hooks[key]
