"""Makes the models of a guarded pipeline refuse to run outside a guarded call.

Every pipeline that shares them (``OtherPipeline.from_pipe(guarded)``) fails closed by that, and inside a guarded call
the same hooks let the judge have its say before a step is spent and before a latent is decoded.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import Any, Protocol

import torch

from ..errors import UnscreenedPipeline
from .locks import held, layers_of, parts_with_state

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


@dataclass(slots=True)
class _Inside:
    """A guarded call at work.

    Args:
        run: What it does.
        models: The models that it may run. It is emptied when the call ends: what was started inside may outlive it.
    """

    run: Run
    models: list[Any]

    def may_run(self, module: Any) -> bool:
        if any(module is own for own in self.models):
            return True
        # A sealed model that was wrapped since: the wrapper is the pipeline's, and this one is a part of it.
        if any(module is part for own in self.models for part in own.modules()):
            self.models.append(module)
            return True
        return False


_running: ContextVar[_Inside | None] = ContextVar("safelight_running", default=None)


def seal(pipe: Any) -> None:
    """Seal the models that a pipeline has now, and those inside of wrappers. A second time does no harm."""
    for model in denoisers(pipe):
        compiled = False
        for layer in layers_of(model):
            if compiled:
                # The graph of the compiled model around this one has no place for a hook that asks who is calling.
                _unhook(layer, only_inside)
            _hook(layer, only_inside_graphs if compiled else only_inside)
            compiled = compiled or "_orig_mod" in layer._modules
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


def asks_before_decoding(pipe: Any) -> bool:
    """Return whether a hook is sure to run before latents become pixels: no compiled code goes round it."""
    encoders = [getattr(pipe, name, None) for name in AUTOENCODERS]
    return bool(decoders(pipe)) and not any(_decodes_compiled(encoder) for encoder in encoders if encoder is not None)


def _decodes_compiled(encoder: Any) -> bool:
    encoder = getattr(encoder, "_orig_mod", encoder)
    decoder = getattr(encoder, "decoder", None)
    own = [name for name, value in vars(encoder).items() if "decode" in name and callable(value)]
    compiled = [getattr(part, "_compiled_call_impl", None) for part in (encoder, decoder)]
    return bool(own) or compiled != [None, None] or hasattr(decoder, "_orig_mod")


def lock_of(pipe: Any, *, vain: Callable[[], bool] = lambda: False) -> AbstractContextManager[bool]:
    """Return a context manager in which no other thread's guarded call uses a part that this pipeline would.

    Outside a guarded call it waits until they are free, or until that is ``vain``: it then says that it holds nothing.
    Inside of one it does not wait.

    Raises:
        GenerationFailed: On entry, inside another guarded call, if a part is in use in another thread.
    """
    inside = _running.get()
    return held(parts_with_state(pipe), wait=inside is None or not inside.models, vain=vain)


@contextmanager
def running(pipe: Any, run: Run) -> Iterator[None]:
    """Let a pipeline's models run, in this thread, until the block ends."""
    inside = _Inside(run, [*denoisers(pipe), *decoders(pipe)])
    token = _running.set(inside)
    try:
        yield
    finally:
        _running.reset(token)
        inside.models.clear()


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
    inside = _running.get()
    if inside is None or not inside.may_run(module):
        raise UnscreenedPipeline(
            "this model belongs to a guarded pipeline; call safelight.protect() on the pipeline made from it"
        )
    return inside.run


def _hook(module: Any, hook: Any) -> None:
    if hook not in module._forward_pre_hooks.values():
        module.register_forward_pre_hook(hook)


def _unhook(module: Any, hook: Any) -> None:
    for key, own in list(module._forward_pre_hooks.items()):
        if own is hook:
            del module._forward_pre_hooks[key]
