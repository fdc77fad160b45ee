"""What a conducted request comes to: a reservation, an admission, then pictures, each with its ruling."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .encoding import Encoded
from .policy import Decision, Reason
from .request import GenerationRequest, History


def gravest(decisions: Sequence[Decision]) -> Decision:
    """Return the ruling that a request is told about where all of its pictures are withheld.

    Args:
        decisions: At least one. The gravest category comes first, then the most severe action.
    """
    return max(decisions, key=lambda found: (found.reason is Reason.RESTRICTED, found.action.severity))


@dataclass(frozen=True, slots=True)
class Reservation:
    """A request whose turn is in the store, and that nobody has judged yet.

    Args:
        request: What is asked.
        request_id: ``req_`` and 32 hexadecimal digits.
        history: The person's turns before it, and their summary.
    """

    request: GenerationRequest
    request_id: str
    history: History


@dataclass(frozen=True, slots=True)
class Admission:
    """A request whose prompt was allowed.

    Args:
        request: What was asked.
        decision: The ruling on the prompt, already in the store.
        history: The person's turns before it, and their summary.
        left: How many more attempts there are before a limit, where it is near; else None.
    """

    request: GenerationRequest
    decision: Decision
    history: History
    left: int | None = None


@dataclass(frozen=True, slots=True)
class Picture:
    """One ruled-on picture of a batch.

    Args:
        decision: The ruling, already in the store.
        encoded: The bytes to deliver and what they show, or None where the picture is withheld.
        left: How many more attempts there are before a limit, where it is near; else None.
    """

    decision: Decision
    encoded: Encoded | None
    left: int | None = None


@dataclass(frozen=True, slots=True)
class Creation:
    """What came of a request.

    Args:
        admission: The request and the ruling on its prompt.
        pictures: One entry a picture, in the order of generation; at least one was released.
    """

    admission: Admission
    pictures: tuple[Picture, ...]

    @property
    def released(self) -> tuple[Encoded, ...]:
        """The pictures that may be delivered, in order."""
        return tuple(picture.encoded for picture in self.pictures if picture.encoded is not None)

    @property
    def withheld(self) -> tuple[int, ...]:
        """The places of the pictures that were withheld."""
        return tuple(place for place, picture in enumerate(self.pictures) if picture.encoded is None)
