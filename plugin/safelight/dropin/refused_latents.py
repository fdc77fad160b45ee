"""Latents of a prompt that was refused: the next pipeline refuses what is made of them, on the same ruling.

A base model and its refiner are asked with one prompt. It is one attempt, and was judged once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ..policy import Decision
from .sealed import SealedTensor, unseal


def refused_places(arguments: Mapping[str, Any], count: int) -> Mapping[int, Decision]:
    """Return the prompts of a call that were given a refused one's latents, and the rulings that refused it.

    Args:
        arguments: Of the call, by name, as the caller gave them.
        count: How many prompts the call has.
    """
    found: dict[int, Decision] = {}
    for value in arguments.values():
        refusals = _refusals(value)
        if refusals:
            found = {**_refused([_is_empty(row) for row in _rows(value)], refusals, count), **found}
    return found


def _items(value: Any) -> Iterator[Any]:
    """Yield what stands in a list and in the lists in it, in order."""
    if isinstance(value, list | tuple):
        for item in value:
            yield from _items(item)
    else:
        yield value


def _refusals(value: Any) -> list[Decision]:
    found: list[Decision] = []
    for item in _items(value):
        if isinstance(item, SealedTensor):
            found += [refusal for refusal in item.refusals if refusal not in found]
    return found


def _rows(value: Any) -> list[Any]:
    """Return each picture's latents in the order in which a pipeline puts them together."""
    if not isinstance(value, list | tuple):
        # Packed latents have three dimensions, and so has one picture: its channels are all refused, or none is.
        return list(value)
    # In a list one picture has three, and batches have four.
    return [row for item in _items(value) for row in (item if getattr(item, "ndim", 0) > 3 else [item])]


def _is_empty(row: Any) -> bool:
    # A model's own latents are never all zero.
    return isinstance(row, SealedTensor) and bool(row.refusals) and not bool(unseal(row).any())


def _refused(empty: Sequence[bool], refusals: Sequence[Decision], count: int) -> dict[int, Decision]:
    # One row is for every prompt; of more, each prompt has as many as the others.
    rows = list(empty) * count if len(empty) == 1 else empty
    each = max(1, len(rows) // count)
    refused = [place for place in range(count) if all(rows[place * each : (place + 1) * each] or [False])]
    # Where rows were taken out on the way, it is not known which ruling was whose.
    known = refusals if len(refusals) == len(refused) else [refusals[0]] * len(refused)
    return dict(zip(refused, known, strict=True))
