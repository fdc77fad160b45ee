"""Who is at the page: a random id in a signed cookie, so that a person's history outlives a reload."""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets

COOKIE = "safelight_visitor"
MAX_AGE_S = 365 * 24 * 3600
"""How long a browser keeps the cookie, in seconds."""

_ID = re.compile(r"[0-9a-f]{32}")


class Visitors:
    """Makes visitor ids and signs what belongs to them.

    A visitor can throw the cookie away and start anew; the id divides the history of one network address, it proves
    nobody's identity. Put a login before the page where that matters.

    Args:
        secret: The signing key, at least 32 bytes; the same after a restart, or everyone starts anew.

    Raises:
        ValueError: If the key is too short.
    """

    def __init__(self, secret: bytes) -> None:
        if len(secret) < 32:
            raise ValueError("the visitors' signing key needs at least 32 bytes")
        self._secret = secret

    @staticmethod
    def fresh() -> str:
        """Return a new visitor id: 32 hexadecimal digits."""
        return secrets.token_hex(16)

    def cookie(self, visitor: str) -> str:
        """Return the cookie's value for a visitor."""
        return f"{visitor}.{self.sign('cookie', visitor)}"

    def read(self, cookie: str | None) -> str | None:
        """Return the visitor that a cookie's value names, or None where it is missing, malformed or forged."""
        visitor, _, signature = (cookie or "").partition(".")
        if not _ID.fullmatch(visitor) or not self.matches(signature, "cookie", visitor):
            return None
        return visitor

    def sign(self, *parts: str) -> str:
        """Return 32 hexadecimal digits that only this key's holder can make for these parts."""
        message = "\x00".join(parts).encode()
        return hmac.new(self._secret, message, hashlib.sha256).hexdigest()[:32]

    def matches(self, signature: str, *parts: str) -> bool:
        """Return whether a signature was made for these parts, in constant time."""
        return hmac.compare_digest(signature.encode(), self.sign(*parts).encode())
