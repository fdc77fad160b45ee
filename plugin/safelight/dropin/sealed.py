"""Tensors that leave a guarded pipeline without having been looked at, and that only a guarded pipeline can read.

A base model hands latents to a refiner; a step callback is handed latents. Nobody can judge them, so they leave sealed:
they have a shape, can be indexed, moved and joined, and refuse to be computed with or shown.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, TypeVar

import torch
from torch.utils._pytree import tree_leaves, tree_map_only

from ..errors import UnjudgedChannel
from ..policy import Decision

_T = TypeVar("_T")
Texts = Mapping[str, str]

_PASSING = frozenset(
    # Where a tensor lies, and in what precision.
    "_to_copy clone detach alias lift_fresh"
    # Which part of it, and how it is put together with others.
    " select slice narrow index index_select unsqueeze squeeze view _unsafe_view reshape _reshape_alias permute"
    " transpose t expand repeat split split_with_sizes chunk unbind cat stack".split()
)

_PICKING = frozenset({"index", "index_select"})
"""Those of them that are told by another tensor which part is meant."""


class SealedTensor(torch.Tensor):
    """A tensor that holds no numbers: they lie in another tensor, and only a guarded pipeline asks for that one.

    It keeps out accidents, not attackers: code in the same process can always take an object apart.

    Args:
        hidden: What is not to be read; of any shape.
        origins: The judged texts that it was made from: for each prompt, channel name to text.
        refusals: The rulings that withheld rows of it, which are all zero, in the order of the rows.
    """

    _hidden: torch.Tensor
    origins: tuple[Texts, ...]
    refusals: tuple[Decision, ...]

    @staticmethod
    def __new__(
        cls, hidden: torch.Tensor, origins: Sequence[Texts] = (), refusals: Sequence[Decision] = ()
    ) -> SealedTensor:
        """Make a tensor without memory of its own, as large as the hidden one."""
        sealed: SealedTensor = torch.Tensor._make_wrapper_subclass(
            cls, hidden.shape, strides=hidden.stride(), dtype=hidden.dtype, device=hidden.device
        )
        sealed._hidden = hidden.detach()
        sealed.origins = tuple(origins)
        sealed.refusals = tuple(refusals)
        return sealed

    def __init__(self, hidden: torch.Tensor, origins: Sequence[Texts] = (), refusals: Sequence[Decision] = ()) -> None:
        """All is done in ``__new__``."""

    @classmethod
    def __torch_dispatch__(  # type: ignore[override]
        cls, func: Any, types: Iterable[type[Any]], args: Sequence[Any] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        """Carry out what moves or cuts a tensor, on the hidden one; the result is sealed again. All else is refused."""
        named = dict(kwargs or {})
        given = _given(func, [value for value in tree_leaves((args, named)) if isinstance(value, torch.Tensor)])
        origins = _each_once(value.origins for value in given)
        refusals = _each_once(value.refusals for value in given)
        args, named = tree_map_only(SealedTensor, unseal, (tuple(args), named))
        return tree_map_only(torch.Tensor, lambda tensor: SealedTensor(tensor, origins, refusals), func(*args, **named))

    def __repr__(self, *, tensor_contents: Any = None) -> str:  # type: ignore[override]
        """Say what it is, without a number of it."""
        return f"SealedTensor(shape={tuple(self.shape)}, dtype={self.dtype}, device={self.device})"

    def __reduce_ex__(self, protocol: Any) -> Any:
        """Refuse: a pickle would hold the numbers."""
        _refuse()

    def _numbers(self, *args: Any, **kwargs: Any) -> Any:
        _refuse()

    # Torch's own would fail too, in words about storage.
    numpy = tolist = __array__ = __dlpack__ = _numbers
    # There is no memory behind these. They never ask, and some end the process.
    storage = untyped_storage = _typed_storage = data_ptr = const_data_ptr = set_ = resize_ = resize_as_ = _numbers
    share_memory_ = is_shared = pin_memory = apply_ = map_ = map2_ = module_load = _numbers
    __cuda_array_interface__ = property(_numbers)
    data = property(lambda self: self.detach(), _numbers)

    def __deepcopy__(self, memo: dict[int, Any]) -> SealedTensor:
        """Return a copy that is sealed as well."""
        return SealedTensor(self._hidden.clone(), self.origins, self.refusals)


def unseal(tensor: SealedTensor) -> torch.Tensor:
    """Return the plain tensor. For guarded pipelines only."""
    return tensor._hidden


def _given(func: Any, tensors: Sequence[torch.Tensor]) -> list[SealedTensor]:
    """Return the sealed tensors that an operation works on; raise if it may not be carried out on them."""
    name = func.overloadpacket.__name__
    # A plain tensor that is written to (``out=``) would be a way out.
    if name not in _PASSING or func._schema.is_mutable:
        _refuse()
    if name in _PICKING:
        # What is picked from is sealed, and what is picked is not: how much it is would tell the numbers.
        tensors, places = tensors[:1], tensors[1:]
        if any(isinstance(place, SealedTensor) or place.is_floating_point() for place in places):
            _refuse()
    given = [tensor for tensor in tensors if isinstance(tensor, SealedTensor)]
    if len(given) < len(tensors):
        # Numbers of the caller's own would leave as sealed as a pipeline's.
        _refuse()
    return given


def _refuse() -> None:
    raise UnjudgedChannel(
        "latents",
        "made by a guarded pipeline and not looked at; they can only be handed to another guarded "
        "pipeline; to read them in a step callback use allow={'callbacks'} in safelight.protect()",
    )


def _each_once(groups: Iterable[Iterable[_T]]) -> tuple[_T, ...]:
    found: list[_T] = []
    for group in groups:
        found += [item for item in group if item not in found]
    return tuple(found)
