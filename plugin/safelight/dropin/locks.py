"""One lock for every part of a pipeline that two calls at a time would confuse.

A scheduler counts steps, a tokenizer is set to pad and to cut, an offloaded model travels. Pipelines that share such a
part take turns, whatever else they do not share.
"""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from functools import cache, partial
from itertools import count
from typing import Any

from torch.nn import Module, ModuleList

from ..errors import GenerationFailed

_LOOK_S = 0.05
"""Seconds after which a waiting call looks whether it waits in vain."""


class _Lock:
    """A lock that one thread may take several times, with its place in the order in which all are taken."""

    __slots__ = ("inner", "number")

    def __init__(self) -> None:
        self.number = next(_numbers)
        self.inner = threading.RLock()


_numbers = count()
_making = threading.Lock()
# By identity, and beside the parts: copies and pickles of a part carry no lock.
_locks: dict[int, tuple[weakref.ref[Any], _Lock]] = {}
_lock_of_the_rest = _Lock()


@contextmanager
def held(parts: Iterable[Any], *, wait: bool, vain: Callable[[], bool] = lambda: False) -> Iterator[bool]:
    """Keep other threads from parts of pipelines until the block ends. The same thread may hold them already.

    Args:
        parts: As ``parts_with_state`` gives them.
        wait: Whether to wait until they are free. Who holds others already must not: two of that kind could wait for
            one another for ever. All are taken in one order, so nobody else can.
        vain: Is asked now and then whether waiting has become vain.

    Yields:
        Whether they are held. They are not where waiting became vain.

    Raises:
        GenerationFailed: If one is not free and this must not wait.
    """
    taken: list[_Lock] = []
    try:
        for lock in sorted({_lock_of(part) for part in parts}, key=lambda lock: lock.number):
            while not (lock.inner.acquire(timeout=_LOOK_S) if wait else lock.inner.acquire(blocking=False)):
                if wait and vain():
                    yield False
                    return
                if wait:
                    continue
                raise GenerationFailed(
                    "this call was made inside another guarded call (in its step callback, say), and another thread "
                    "is using the pipeline or a part that it shares: waiting could last for ever; make it after the "
                    "other call has ended"
                )
            taken.append(lock)
        yield True
    finally:
        for lock in reversed(taken):
            lock.inner.release()


def parts_with_state(pipe: Any) -> list[Any]:
    """Return what a pipeline has of models, schedulers and tokenizers, those inside wrappers too."""
    found: list[Any] = []
    # A copy: a call in another thread may be setting attributes.
    for part in list(vars(pipe).values()):
        if isinstance(part, Module):
            found += layers_of(part)
        elif _keeps_state(type(part)):
            found.append(part)
        elif _keeps_state(type(getattr(part, "tokenizer", None))):
            # A processor of several kinds of input.
            found.append(part.tokenizer)
    return found


def _keeps_state(kind: type[Any]) -> bool:
    # Schedulers, and tokenizers, by what their classes have. Image processors have neither, and keep nothing.
    return hasattr(kind, "set_timesteps") or hasattr(kind, "added_tokens_decoder")


def layers_of(model: Module) -> list[Module]:
    """Return a model, and if it wraps others (compiled, peft's, one of several) those, from the outside inwards."""
    return _layers(model) or [model]


def _layers(module: Module) -> list[Module]:
    found: list[Module] = []
    is_model = isinstance(module, _models())
    for child in list(module._modules.values()):
        # What is inside a model are its layers, but for a list of whole models.
        if child is not None and (not is_model or (isinstance(child, ModuleList) and _is_of_models(child))):
            found += _layers(child)
    return [module, *found] if is_model or found else []


def _is_of_models(modules: ModuleList) -> bool:
    return isinstance(next(iter(modules._modules.values()), None), _models())


@cache
def _models() -> tuple[type[Any], ...]:
    """Return the classes that diffusers' and transformers' models have in common."""
    from diffusers import ModelMixin
    from diffusers.utils import is_transformers_available

    if not is_transformers_available():
        return (ModelMixin,)
    from transformers import PreTrainedModel

    return (ModelMixin, PreTrainedModel)


def _lock_of(part: Any) -> _Lock:
    known = _locks.get(id(part))
    if known is not None and known[0]() is part:
        return known[1]
    with _making:
        known = _locks.get(id(part))
        if known is not None and known[0]() is part:
            return known[1]
        try:
            reference = weakref.ref(part, partial(_forget, id(part)))
        except TypeError:
            # What cannot be followed until its end shares one lock with all of its kind.
            return _lock_of_the_rest
        lock = _Lock()
        _locks[id(part)] = reference, lock
        return lock


def _forget(key: int, dead: weakref.ref[Any]) -> None:
    # Without the lock: this may run in the middle of making one. Another part may have the same address by now.
    known = _locks.get(key)
    if known is not None and known[0] is dead:
        del _locks[key]
