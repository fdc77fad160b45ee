"""What the two blocks of a guarded modular pipeline share: the admissions of one call, from the first to the last."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import Future, wait
from contextlib import suppress
from typing import Any

import numpy as np
from PIL import Image

from ..blocking import BlockingGuard
from ..channel_table import TEXTS
from ..creation import Admission, Reservation
from ..encoding import encode_raw
from ..errors import ContentBlocked, GenerationFailed, ScreeningUnavailable, UnscreenedPipeline
from ..guard import Guard
from ..policy import Reason
from ..request import GenerationRequest
from .channels import Call
from .outputs import Ruled, encoded, finite


class Admitted:
    """The admissions of one call: of use once, in the very state that they are left in.

    Where the blocks between raise, the state is let go of, this with it, and the turns are settled.

    Args:
        guard: What admitted them.
        call: The call.
        rulings: For each of its prompts the admission, or what blocked it. At least one is an admission.
        given: The state's values as the caller handed them over.
        state: The state.
    """

    def __init__(
        self,
        guard: BlockingGuard,
        call: Call,
        rulings: Sequence[Admission | ContentBlocked],
        given: Mapping[str, Any],
        state: Any,
    ) -> None:
        self.given = given
        self._guard = guard
        self._rulings = rulings
        self._each = call.pictures_each
        self._admissions = {place: item for place, item in enumerate(rulings) if isinstance(item, Admission)}
        self._settling = weakref.finalize(self, _settle_later, guard, tuple(self._admissions.values()))
        self._state = weakref.ref(state)
        self.arguments = call.arguments_for(list(self._admissions))
        """What the blocks between are to read, of the admitted prompts only."""

    def __deepcopy__(self, memo: dict[int, Any]) -> Admitted:
        # A copied state is another state, in which this is of no use.
        return self

    def take(self, state: Any) -> bool:
        """Return whether this was left in that state and not taken before. Whoever takes it settles the turns."""
        return self._state() is state and self._settling.detach() is not None

    def check_texts(self, values: Mapping[str, Any]) -> None:
        """Raise UnscreenedPipeline if a text of a state is no longer the one that was judged."""
        for name in TEXTS:
            if _listed(values.get(name)) != _listed(self.arguments.get(name)):
                raise UnscreenedPipeline(f"{name}: was changed after it was judged; put PromptGuardBlock behind that")

    def inspect(self, images: Any) -> tuple[list[Ruled], str]:
        """Have the pictures ruled on; return the rulings in the order of the call, and the pictures' form.

        Raises:
            GenerationFailed: If there are not as many pictures as were asked for, or none that shows something.
            ScreeningUnavailable: If a screen or the store failed.
        """
        made, form = pictures_in(images)
        if len(made) != len(self._admissions) * self._each:
            raise GenerationFailed(f"the blocks made {len(made)} pictures instead of the number asked")
        shown = iter(finite(made))
        ruled: list[Ruled] = []
        for ruling in self._rulings:
            if isinstance(ruling, ContentBlocked):
                ruled += [Ruled(ruling.decision)] * self._each
                continue
            own = [next(shown) for _ in range(self._each)]
            found = self._guard.inspect(ruling, [encoded(image, form) for image in own])
            ruled += [Ruled(picture.decision, image) for picture, image in zip(found, own, strict=True)]
        if all(item.decision.reason is Reason.GENERATION_FAILED for item in ruled if item.image is not None):
            raise GenerationFailed("the blocks made pictures that show nothing")
        return ruled, form

    def abandon(self) -> None:
        """Settle the turns of a call that ends without pictures."""
        abandon(self._guard, self._rulings)


def admit(
    guard: BlockingGuard, requests: Sequence[GenerationRequest], pictures: Sequence[Sequence[Image.Image]]
) -> list[Admission | ContentBlocked]:
    """Have several requests judged at a time, each with its input pictures; return the rulings in order.

    Raises:
        CoolDown: If too many of the principal's requests were blocked before. Then none is admitted.
        ScreeningUnavailable: If a screen or the store failed. Then none is admitted.
    """
    reserved: list[Reservation] = []
    asked: list[Future[Admission]] = []
    try:
        for request in requests:
            reserved.append(guard.reserve(request))
        together = [reservation.request_id for reservation in reserved]
        for reservation, own in zip(reserved, pictures, strict=True):
            asked.append(guard.start(_judged(guard.guard, reservation, own, together)))
        wait(asked)
        return [_ruling(future) for future in asked]
    except BaseException:
        for future in asked:
            future.cancel()
        for reservation in reserved:
            # One that was blocked stays blocked.
            guard.abandon(reservation)
        raise


def abandon(guard: BlockingGuard, rulings: Iterable[Admission | ContentBlocked]) -> None:
    """Settle the turns that were admitted and will have no pictures."""
    for ruling in rulings:
        if isinstance(ruling, Admission):
            guard.abandon(ruling)


def pictures_in(images: Any) -> tuple[list[Any], str]:
    """Return what a modular pipeline made, as floats from 0 to 1, one array or tensor a picture, and its form.

    Args:
        images: A list of PIL pictures (``pil``), or one array (``np``) or tensor (``pt``) of them all.

    Raises:
        GenerationFailed: If it has none of these forms.
    """
    from torch import Tensor

    if isinstance(images, list) and images and all(isinstance(image, Image.Image) for image in images):
        return [_array(image) for image in images], "pil"
    if isinstance(images, np.ndarray) and images.ndim == 4 and np.issubdtype(images.dtype, np.floating):
        return list(images), "np"
    if isinstance(images, Tensor) and images.ndim == 4 and images.is_floating_point():
        return list(images), "pt"
    raise GenerationFailed("the blocks left nothing in 'images' that can be looked at")


async def _judged(
    guard: Guard, reservation: Reservation, pictures: Sequence[Image.Image], together: Sequence[str]
) -> Admission:
    if pictures:
        await guard.screen_inputs(reservation, [encode_raw(picture) for picture in pictures])
    return await guard.rule(reservation, together=together)


def _ruling(future: Future[Admission]) -> Admission | ContentBlocked:
    try:
        return future.result()
    except ContentBlocked as blocked:
        return blocked


def _settle_later(guard: BlockingGuard, admissions: Sequence[Admission]) -> None:
    # Whoever collects garbage may be the guard's own thread, which must not wait for itself.
    with suppress(ScreeningUnavailable):
        for admission in admissions:
            guard.start(guard.guard.abandon(admission))


def _array(image: Image.Image) -> np.ndarray[Any, Any]:
    if image.mode not in ("L", "RGB"):
        raise GenerationFailed("the blocks made a picture that is neither grey nor RGB")
    array = np.asarray(image, dtype="float32") / 255
    return array[..., None] if array.ndim == 2 else array


def _listed(texts: Any) -> list[Any]:
    if texts is None:
        return []
    return list(texts) if isinstance(texts, list | tuple) else [texts]
