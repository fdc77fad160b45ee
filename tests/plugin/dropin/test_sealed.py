from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from safelight.dropin.sealed import SealedTensor, unseal
from safelight.errors import UnjudgedChannel

NUMBERS = torch.arange(24.0).reshape(2, 3, 4)
TEXTS = {"prompt": "a cup"}


def sealed() -> SealedTensor:
    return SealedTensor(NUMBERS.clone(), [TEXTS])


MOVES: dict[str, Callable[[torch.Tensor], Any]] = {
    "index": lambda t: t[0],
    "slice": lambda t: t[:, 1:],
    "new axis": lambda t: t[0][None, :],
    "unsqueeze": lambda t: t.unsqueeze(0),
    "reshape": lambda t: t.reshape(6, 4),
    "half": lambda t: t.to(torch.float16),
    "device": lambda t: t.to("cpu"),
    "clone": lambda t: t.clone(),
    "detach": lambda t: t.detach(),
    "cat": lambda t: torch.cat([t, t]),
    "stack": lambda t: torch.stack([t[0], t[1]]),
    "chunk": lambda t: t.chunk(2)[1],
    "first of a loop": lambda t: list(t)[1],
    "deepcopy": copy.deepcopy,
    "picked by numbers": lambda t: t[torch.tensor([1, 0])],
    "picked by a mask": lambda t: t[torch.tensor([False, True])],
    "selected": lambda t: torch.index_select(t, 1, torch.tensor([2])),
    "repeated": lambda t: t.repeat_interleave(2, dim=0),
    "repeated differently": lambda t: t.repeat_interleave(torch.tensor([1, 2]), dim=0),
    "data": lambda t: t.data,
}


@pytest.mark.parametrize("move", MOVES)
def test_what_moves_or_cuts_it_gives_the_same_numbers_sealed(move: str) -> None:
    moved = MOVES[move](sealed())
    assert isinstance(moved, SealedTensor)
    assert torch.equal(unseal(moved), MOVES[move](NUMBERS))
    assert moved.origins == (TEXTS,)


LOOKS: dict[str, Callable[[Any], Any]] = {
    "numpy": lambda t: t.numpy(),
    "asarray": np.asarray,
    "tolist": lambda t: t.tolist(),
    "item": lambda t: t[0, 0, 1].item(),
    "float": lambda t: float(t[0, 0, 1]),
    "bool": lambda t: bool(t[0, 0, 1]),
    "mean": lambda t: t.mean(),
    "sum": lambda t: t + 1,
    "in place": lambda t: t.mul_(2),
    "copied into another": lambda t: torch.zeros(2, 3, 4).copy_(t),
    "compared": lambda t: t == NUMBERS,
    "resized": lambda t: torch.nn.functional.interpolate(t, size=2),
    "through a layer": torch.nn.Linear(4, 4),
    "pickle": pickle.dumps,
    "dlpack": lambda t: torch.utils.dlpack.from_dlpack(t),
    "quantiles": lambda t: t.quantile(0.5),
    "joined into another": lambda t: torch.cat([t], out=torch.zeros(2, 3, 4)),
    "stacked into another": lambda t: torch.stack([t], out=torch.zeros(1, 2, 3, 4)),
    "selected into another": lambda t: torch.index_select(t, 0, torch.tensor([0]), out=torch.zeros(1, 3, 4)),
    "cloned into another": lambda t: torch.ops.aten.clone.out(t, out=torch.zeros(2, 3, 4)),
    "set into another": lambda t: torch.zeros(2, 3, 4).__setitem__(0, t[0]),
    "set into it": lambda t: t.__setitem__(0, torch.zeros(3, 4)),
    "counted by a mask of it": lambda t: t[t.bool()],
    "counted by how often it repeats": lambda t: torch.repeat_interleave(t.long().flatten()),
    "looked up": lambda t: torch.arange(99)[t.long()],
    "shared with a process": lambda t: t.share_memory_(),
    "asked whether it is shared": lambda t: t.is_shared(),
    "pinned": lambda t: t.pin_memory(),
    "memory": lambda t: t.untyped_storage(),
    "typed memory": lambda t: t.storage(),
    "address": lambda t: t.data_ptr(),
    "memory of another": lambda t: t.set_(torch.zeros(2, 3, 4)),
    "grown": lambda t: t.resize_(3, 3, 4),
    "grown like another": lambda t: t.resize_as_(torch.zeros(3, 3, 4)),
    "called for each number": lambda t: t.apply_(float),
    "called for each two": lambda t: t.map_(torch.zeros(2, 3, 4), max),
    "seen by CuPy": lambda t: t.__cuda_array_interface__,
    "data exchanged": lambda t: setattr(t, "data", torch.zeros(2, 3, 4)),
}


@pytest.mark.parametrize("look", LOOKS)
def test_what_reads_it_is_refused_by_a_message_that_names_the_way_out(look: str) -> None:
    with pytest.raises(UnjudgedChannel, match="another guarded pipeline"):
        LOOKS[look](sealed())


def test_it_says_what_it_is_and_not_what_it_holds() -> None:
    assert repr(sealed()) == "SealedTensor(shape=(2, 3, 4), dtype=torch.float32, device=cpu)"
    assert str(sealed()) == repr(sealed())


def test_what_is_put_together_knows_all_that_it_was_made_from_once() -> None:
    other = SealedTensor(NUMBERS, [{"prompt": "a boat"}, TEXTS])
    assert torch.cat([sealed(), other])[0].origins == (TEXTS, {"prompt": "a boat"})  # type: ignore[attr-defined]


@pytest.mark.parametrize("own", [torch.zeros(2, 3, 4), torch.zeros(2, 3, 4, dtype=torch.int64)])
def test_a_callers_own_numbers_are_not_sealed_by_being_joined_to_none_of_a_pipelines(own: torch.Tensor) -> None:
    with pytest.raises(UnjudgedChannel, match="another guarded pipeline"):
        torch.cat([sealed()[:0], own])
    with pytest.raises(UnjudgedChannel, match="another guarded pipeline"):
        torch.stack([own, sealed()])


def test_what_is_refused_leaves_the_other_tensor_as_it_was() -> None:
    other = torch.zeros(2, 3, 4)
    with pytest.raises(UnjudgedChannel):
        torch.cat([sealed()], out=other)
    assert not other.any()
