"""The memory: turns, decisions, keys. What a store must do, whichever database is behind it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Protocol, TypeVar

from ..errors import ConfigError
from ..policy import Action, Decision
from ..request import GenerationRequest, History, Principal

STALE_AFTER = timedelta(minutes=15)
"""A turn still pending after this was left behind by a process that ended; longer than any request may take."""


_T = TypeVar("_T")

Run = Callable[[str, Mapping[str, Any]], list[dict[str, Any]]]
"""Runs one SQL statement, which names its values as ``:name``, and returns its rows. It must be a statement
that every database understands."""


@dataclass(frozen=True, slots=True)
class APIKey:
    """A client's key, as the store knows it. The key itself is kept nowhere.

    Args:
        id: ``key_`` and 16 hexadecimal digits; the principal's id.
        name: Given by the operator.
        prefix: The first characters of the key, to tell keys apart.
        created: When, with time zone.
        revoked: When it stopped working, or None.
    """

    id: str
    name: str
    prefix: str
    created: datetime
    revoked: datetime | None = None


class Store(Protocol):
    """Durable memory. Methods are blocking and safe to call from any thread.

    Every method raises ``StoreUnavailable`` when the database does not answer; what raised was not done.
    """

    def reserve(self, request_id: str, request: GenerationRequest, *, at: datetime, limit: int) -> History:
        """Durably add a pending turn, and return the person's last ``limit`` turns before it with their summary.

        Up to 1,000 older turns that are still pending come with them: of many sent at once, each is seen.
        Both happen in one transaction, so of two simultaneous requests one sees the other. However long the person's
        history is, the work and what comes back are bounded.
        """
        ...

    def history(self, principal: Principal, *, limit: int) -> History:
        """Return the person's last ``limit`` turns with their summary, and add nothing."""
        ...

    def record(self, decision: Decision) -> None:
        """Durably add a decision; it is on disk when this returns.

        The decision settles its turn. A restricted one is held from deletion, and the turn's text is erased.
        """
        ...

    def overturn(self, decision_id: str, *, at: datetime) -> bool:
        """Note that an appeal against a block was won. Return whether there is such a block, not yet overturned.

        The turn is shown as overturned from then on and no longer counts as blocked. The decision stays as it was
        ruled, and nothing is released on the strength of this.
        """
        ...

    def settle(self, request_id: str, action: Action | None) -> None:
        """Set what became of a turn; None means it ended by a fault of ours."""
        ...

    def is_releasable(self, request_id: str, image_sha256: str, policy: str) -> bool:
        """Return whether the prompt and that very picture were allowed under one request and one policy."""
        ...

    def decisions(self, *, request_id: str | None = None, image_sha256: str | None = None) -> Sequence[Decision]:
        """Return decisions, oldest first, of a request or about a picture."""
        ...

    def create_key(self, name: str, *, at: datetime) -> tuple[APIKey, str]:
        """Make a key and return it with its token, which is shown this once and stored only as a keyed hash."""
        ...

    def find_key(self, token: str) -> APIKey | None:
        """Return the key that a token belongs to, unless it is unknown or revoked."""
        ...

    def list_keys(self) -> Sequence[APIKey]:
        """Return every key, oldest first."""
        ...

    def revoke_key(self, id: str, *, at: datetime) -> bool:
        """Make a key stop working. Return whether there was one to revoke."""
        ...

    def secret(self, name: str) -> bytes:
        """Return 32 random bytes that stay the same for this store, made on first use."""
        ...

    def transact(self, work: Callable[[Run], _T], *, write: bool = True) -> _T:
        """Do work in one transaction of its own, durably where it writes.

        What Safelight keeps beside requests (attempts, calls, scans) is written once, for every database, on this.
        ``work`` may be called again if the transaction could not be completed.
        """
        ...

    def close(self) -> None:
        """Give the database back. Calling it twice does no harm."""
        ...


def open_store(url: str) -> Store:
    """Open the store that a URL names: ``sqlite:///relative.db``, ``sqlite:////absolute.db`` or ``postgresql://…``.

    Raises:
        ConfigError: If the URL names no known database, or the database cannot be opened or migrated.
    """
    if url.startswith("sqlite:///"):
        from .sqlite import SQLiteStore

        return SQLiteStore(url.removeprefix("sqlite:///"))
    if url.startswith(("postgresql://", "postgres://")):
        from .postgres import PostgresStore

        return PostgresStore(url)
    raise ConfigError(f"store.url: must start with sqlite:/// or postgresql://, not {url.split(':')[0]!r}")
