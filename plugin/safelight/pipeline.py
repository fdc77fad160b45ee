"""Door 1, the drop-in: a diffusers pipeline that is still itself, and screens what goes in and what comes out.

What is covered: every parameter of a call (``dropin.channels``); the LoRAs and learned tokens that the pipeline brings
into the picture when it is called (``dropin.carried``); other pipelines that are made from a guarded one, which share
its models and so refuse to run; copies and pickles, which are guarded too.
What is not covered: code in the same process that wants to get round it. It can always take the model apart; where that
matters, put the gateway between people and the model.
"""

from __future__ import annotations

import functools
import secrets
import threading
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager
from contextvars import ContextVar
from typing import TYPE_CHECKING, Any, TypeVar, get_args
from weakref import WeakValueDictionary

from .blocking import BlockingGuard
from .config import build_guard, read_settings
from .dropin.choices import ALLOWABLE, Guidance, OnBlock, Screening
from .errors import ConfigError, InvalidRequest, UnscreenedPipeline
from .guard import Guard
from .quiet import hush
from .request import Principal
from .store import open_store

if TYPE_CHECKING:
    from .dropin.options import Options
    from .dropin.previews import Previews

P = TypeVar("P")

_speaking: ContextVar[Mapping[int, Principal]] = ContextVar("safelight_speaking")
_default: list[Guard] = []
_classes: dict[type[Any], type[Any]] = {}
_making = threading.Lock()


def protect(
    pipe: P,
    guard: Guard | None = None,
    *,
    principal: Principal | str | None = None,
    on_block: OnBlock = "black",
    screening: Screening = "beside",
    allow: Collection[str] = (),
    guidance: Guidance | None = None,
    previews: Previews | None = None,
) -> P:
    """Guard a diffusers pipeline in place and return it: the same object, still an instance of its class.

    Code that was written for the pipeline keeps working. A call returns what it returned before, with blocked pictures
    withheld, and two more attributes on the output: ``nsfw_content_detected``, a list of bool, and ``decisions``, the
    rulings by picture. With ``output_type="latent"`` it returns latents that only another guarded pipeline can read.

    Calls from several threads take turns, those of pipelines that share a part too; the judges of the waiting ones work
    meanwhile. A call from inside another one (from its step callback, say) does not wait: where another thread is using
    what it needs, it raises ``GenerationFailed``. A callback must not wait for a thread that calls its own pipeline, or
    one that shares a part with it: that thread waits for the callback's call to end.

    Args:
        pipe: A ``DiffusionPipeline`` that makes pictures.
        guard: What screens; by default the one that ``safelight.toml`` and ``SAFELIGHT_*`` describe.
        principal: Who the pictures are made for, by default one local user. ``with pipe.as_user("alice"):`` names
            another for the calls in the block, ``pipe(..., principal="alice")`` for one call.
        on_block: ``black`` puts a black picture at a blocked one's place; ``blur`` 8 x 8 colours of it, where it was
            made at all and is not of the gravest category; ``raise`` raises ``ContentBlocked`` if any picture of a call
            is blocked. A fault of ours raises ``ScreeningUnavailable`` either way.
        screening: ``beside`` asks the prompt's judges while the pipeline works, and stops it at the next step where
            they block; nothing is decoded before they allow. ``before`` asks them first, so that no step is spent.
        allow: What may go in and out without anybody reading it: ``embeddings`` (then only the pictures are screened),
            ``latents``, ``callbacks`` (a step callback is handed the latents, and may change them).
        guidance: ``safety`` leads the picture away from the policy's concepts, through the negative prompt.
        previews: Have the image screens look at half-made pictures too, and stop early what they block.

    Raises:
        ConfigError: If ``pipe`` is no diffusers pipeline, or an argument or the configuration is wrong.
    """
    from diffusers import DiffusionPipeline

    from .dropin.options import Options, check_options
    from .dropin.seals import seal

    if not isinstance(pipe, DiffusionPipeline):
        raise ConfigError(f"protect: needs a diffusers pipeline, not {type(pipe).__name__}")
    if guard is not None and not isinstance(guard, Guard):
        raise ConfigError(f"guard: must be a safelight.Guard, not {type(guard).__name__}")
    speaker = Principal("local") if principal is None else _principal(principal, tenant="default")
    if not isinstance(allow, Collection):
        raise ConfigError(f"allow: must be a set of {', '.join(ALLOWABLE)}, not {type(allow).__name__}")
    _check_one_of("on_block", on_block, get_args(OnBlock))
    _check_one_of("screening", screening, get_args(Screening))
    for name in [allow] if isinstance(allow, str) else allow:
        _check_one_of("allow", name, ALLOWABLE)
    if guidance is not None:
        _check_one_of("guidance", guidance, get_args(Guidance))
    options = Options(
        on_block=on_block,
        screening=screening,
        allow=frozenset([allow] if isinstance(allow, str) else allow),
        guidance=guidance,
        previews=previews,
    )
    own = guard or default_guard()
    check_options(pipe, _plain_class(type(pipe)), options, own.policy)
    seal(pipe)
    pipe.__class__ = _guarded_class(_plain_class(type(pipe)))
    pipe._safelight = _Guarding(BlockingGuard(own), speaker, options, is_default=guard is None)
    hush(pipe)
    return pipe


def _principal(who: Principal | str, *, tenant: str) -> Principal:
    """Return who is named, and refuse what names nobody: whoever shares a name shares a history."""
    if isinstance(who, Principal):
        return who
    if not isinstance(who, str) or not who.strip():
        raise InvalidRequest("principal", f"must be a safelight.Principal or a name that is not empty, not {who!r}")
    return Principal(who, tenant=tenant)


def _check_one_of(name: str, value: object, known: Collection[str]) -> None:
    if value not in known:
        *others, last = (repr(word) for word in known)
        raise ConfigError(f"{name}: must be {', '.join(others)}{' or ' if others else ''}{last}, not {value!r}")


def default_guard() -> Guard:
    """Return the guard that the configuration describes, the same one at every call."""
    with _making:
        if not _default:
            settings = read_settings()
            store = open_store(settings.store_url)
            try:
                _default.append(build_guard(settings, store))
            except BaseException:
                store.close()
                raise
        return _default[0]


class _Guarded:
    """What marks a guarded class, and keeps a copy of a guarded pipeline guarded."""

    _safelight: _Guarding

    @contextmanager
    def as_user(self, user: str | Principal) -> Iterator[None]:
        """Make the pictures of the calls inside the block for somebody else.

        It holds for every pipeline with the same guard, a refiner or a copy for example, in this thread or task.
        What hands a call to another thread without its context (``run_in_executor``, a thread pool) names the person
        in the call instead: ``pipe(..., principal="alice")``.

        Args:
            user: Who asks, as you have authenticated them: their history and their attempts are their own.

        Raises:
            InvalidRequest: If it names nobody.
        """
        guarding = self._safelight
        principal = _principal(user, tenant=guarding.principal.tenant)
        token = _speaking.set({**_speaking.get({}), id(guarding.guard().guard): principal})
        try:
            yield
        finally:
            _speaking.reset(token)

    def __setattr__(self, name: str, value: Any) -> None:
        from .dropin.seals import AUTOENCODERS, DENOISERS, seal

        super().__setattr__(name, value)
        if name in (*DENOISERS, *AUTOENCODERS) and value is not None:
            seal(self)

    def __reduce_ex__(self, protocol: Any) -> Any:
        # By the plain class, which is found by its name where the pickle arrives.
        return _arrived, (_plain_class(type(self)),), dict(self.__dict__)

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.__dict__.update(state)
        hush(self)


class _Guarding:
    """How one pipeline, and every copy of it, is guarded.

    Args:
        guard: What screens, or None where the guard has to be found again.
        principal: Who asks, where nobody else is named.
        options: How.
        is_default: Whether the guard is the one that the configuration describes.
        key: Under which copies in the same process find the guard again.
    """

    def __init__(
        self,
        guard: BlockingGuard | None,
        principal: Principal,
        options: Options,
        *,
        is_default: bool,
        key: str | None = None,
    ) -> None:
        self.principal = principal
        self.options = options
        self._guard = guard
        self._is_default = is_default
        self._key = key or secrets.token_hex(16)
        if guard is not None:
            _guards[self._key] = guard

    def guard(self) -> BlockingGuard:
        """Return what screens.

        Raises:
            UnscreenedPipeline: If the pipeline came from another process, and had a guard of its own there.
        """
        if self._guard is None and self._is_default:
            self._guard = BlockingGuard(default_guard())
        if self._guard is None:
            raise UnscreenedPipeline(
                "this pipeline came from another process without its guard; call safelight.protect(pipe, guard) on it"
            )
        return self._guard

    def __reduce__(self) -> Any:
        return _guarding_again, (self._key, self.principal, self.options, self._is_default)

    def __deepcopy__(self, memo: dict[int, Any]) -> _Guarding:
        # A copy of a pipeline asks the same judges and writes into the same store.
        return self


_guards: WeakValueDictionary[str, BlockingGuard] = WeakValueDictionary()


def _guarding_again(key: str, principal: Principal, options: Options, is_default: bool) -> _Guarding:
    """Return the guarding of a pipeline that was unpickled. A guard itself never travels: it holds a store."""
    return _Guarding(_guards.get(key), principal, options, is_default=is_default, key=key)


def _arrived(cls: type[Any]) -> Any:
    guarded: Any = _guarded_class(cls)
    return guarded.__new__(guarded)


def _plain_class(cls: type[Any]) -> type[Any]:
    """Return the class that a guarded class looks like."""
    return next(parent for parent in cls.__mro__ if not issubclass(parent, _Guarded))


def _guarded_class(cls: type[Any]) -> type[Any]:
    """Return a subclass that screens, and that looks like its parent to everything that asks by name."""
    with _making:
        if cls not in _classes:
            _classes[cls] = _new_guarded_class(cls)
        return _classes[cls]


def _new_guarded_class(cls: type[Any]) -> type[Any]:
    from .dropin.adapter_loaders import recording_loaders

    # Signature and documentation stay the class's own.
    @functools.wraps(cls.__call__)
    def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
        from .dropin.guarded_call import guarded_call

        guarding: _Guarding | None = self.__dict__.get("_safelight")
        if guarding is None:
            raise UnscreenedPipeline("made from a guarded pipeline's class; call safelight.protect() on it")
        guard = guarding.guard()
        principal = _speaking.get({}).get(id(guard.guard), guarding.principal)
        # The one keyword that is ours. It reaches no pipeline.
        named = kwargs.pop("principal", None)
        if named is not None:
            principal = _principal(named, tenant=guarding.principal.tenant)
        return guarded_call(self, cls, args, kwargs, guard=guard, principal=principal, options=guarding.options)

    names = {"__module__": cls.__module__, "__qualname__": cls.__qualname__, "__doc__": cls.__doc__}
    # The same name: diffusers looks pipelines up, and writes them to disk, by the name of their class.
    return type(cls.__name__, (_Guarded, cls), {**names, **recording_loaders(cls), "__call__": __call__})
