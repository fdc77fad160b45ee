"""Where released pictures lie until the browser has fetched them: a private folder that ends with the process.

Only bytes that the guard released are ever given to it, and they are written as they are: what is delivered has the
sha256 that was ruled on. Gradio would otherwise encode a picture again.

Gradio serves any file it may serve to anybody who knows its address. So a name carries a signature over the visitor
that it was made for, and the doorkeeper answers nobody else.
"""

from __future__ import annotations

import secrets
import shutil
import tempfile
import weakref
from pathlib import Path

from .visitors import Visitors

_SUFFIX = ".png"


class PictureFolder:
    """A folder that only this user can read, removed by :meth:`close` or when the process ends.

    Args:
        visitors: Signs the names.
    """

    def __init__(self, visitors: Visitors) -> None:
        # Made with mode 0700.
        self.path = Path(tempfile.mkdtemp(prefix="safelight-page-")).resolve()
        self._visitors = visitors
        self._remove = weakref.finalize(self, shutil.rmtree, self.path, ignore_errors=True)

    def write(self, data: bytes, visitor: str) -> Path:
        """Write a released picture for a visitor, and return the file.

        Args:
            data: The PNG as it was ruled on.
            visitor: The only one who may fetch it.

        Raises:
            OSError: If it cannot be written; then nothing of it is left.
        """
        token = secrets.token_hex(16)
        file = self.path / f"{token}-{self._visitors.sign('picture', token, visitor)}{_SUFFIX}"
        try:
            file.write_bytes(data)
        except OSError:
            file.unlink(missing_ok=True)
            raise
        return file

    def belongs(self, name: str, visitor: str) -> bool:
        """Return whether a file's name was made for a visitor."""
        token, _, signature = name.removesuffix(_SUFFIX).partition("-")
        return name.endswith(_SUFFIX) and self._visitors.matches(signature, "picture", token, visitor)

    def close(self) -> None:
        """Remove the folder and all pictures. Calling it twice does no harm."""
        self._remove()
