"""Has the pictures of a run ruled on, each prompt's by themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ..blocking import BlockingGuard
from ..creation import Admission
from ..policy import Decision
from .outputs import Ruled, encoded, finite, pictures_of


def ruled_pictures(
    output: Any,
    places: Sequence[int],
    admitted: Mapping[int, Admission],
    *,
    each: int,
    output_type: str,
    previewed: Mapping[tuple[int, int], Decision],
    guard: BlockingGuard,
) -> dict[int, tuple[Ruled, ...]]:
    """Return, for every admitted prompt's place, its pictures and what was ruled on them.

    Args:
        output: What the pipeline returned.
        places: The prompts that it made pictures for, in the order of its pictures.
        admitted: Those of them that were admitted. Of the others nothing is looked at.
        each: Pictures made for each.
        output_type: ``pil``, ``np`` or ``pt``.
        previewed: The rulings that blocked half-made pictures, by place and number. These were not finished.
        guard: What screens.

    Raises:
        GenerationFailed: If the pipeline made no proper pictures.
        ScreeningUnavailable: If a screen or the store failed.
    """
    images = pictures_of(output, len(places) * each)
    rows = {(place, number): order * each + number for order, place in enumerate(places) for number in range(each)}
    finished = [key for key in rows if key[0] in admitted and key not in previewed]
    shown = dict(zip(finished, finite([images[rows[key]] for key in finished]), strict=True))
    found: dict[int, tuple[Ruled, ...]] = {}
    for place, admission in admitted.items():
        own = [key for key in finished if key[0] == place]
        items = [encoded(shown[key], output_type) for key in own]
        pictures = guard.inspect(admission, items) if items else ()
        ruled = zip(own, pictures, items, strict=True) if items else ()
        known = {key: Ruled(picture.decision, shown[key], item.image) for key, picture, item in ruled}
        keys = ((place, number) for number in range(each))
        found[place] = tuple(known[key] if key in known else Ruled(previewed[key]) for key in keys)
    return found
