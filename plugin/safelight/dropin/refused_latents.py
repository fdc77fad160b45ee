"""Latents of a prompt that was refused: the next pipeline refuses what is made of them, on the same ruling.

A base model and its refiner are asked with one prompt. It is one attempt, and was judged once.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
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
        for sealed in _sealed(value):
            found = {**_refused(sealed, count), **found}
    return found


def _sealed(value: Any) -> Iterator[SealedTensor]:
    for item in value if isinstance(value, list | tuple) else [value]:
        if isinstance(item, SealedTensor) and item.refusals:
            yield item


def _refused(sealed: SealedTensor, count: int) -> dict[int, Decision]:
    # A model's own latents are never all zero.
    empty = [not bool(row.any()) for row in unseal(sealed)]
    # One row is for every prompt; of more, each prompt has as many as the others.
    rows = empty * count if len(empty) == 1 else empty
    each = max(1, len(rows) // count)
    refused = [place for place in range(count) if all(rows[place * each : (place + 1) * each] or [False])]
    # Where rows were taken out on the way, it is not known which ruling was whose.
    known = sealed.refusals if len(sealed.refusals) == len(refused) else sealed.refusals[:1] * len(refused)
    return dict(zip(refused, known, strict=True))
