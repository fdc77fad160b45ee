"""What a policy says of adapters: which LoRAs and textual inversions a guarded pipeline may make pictures with."""

from __future__ import annotations

import re
from collections.abc import Collection
from dataclasses import dataclass
from typing import Any

from .errors import ConfigError
from .toml_table import Table

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
# One part of a name; a colon would be a drive, an address or another kind of digest.
_PART = re.compile(r"(?![\s.~])[^/\\:\x00-\x1f]*[^/\\:\s\x00-\x1f]")
_WEIGHTS = (".safetensors", ".bin", ".pt", ".pth", ".ckpt")
_FORMS = "'owner/name', 'owner/name/file.safetensors', 'file.safetensors' or 'sha256:' and 64 digits of 0-9a-f"


@dataclass(frozen=True, slots=True)
class AdapterRule:
    """Which adapters may be in use; None means any, empty means none.

    An entry is a repository of the hub, a file in one, the name of a file of this machine, or the sha256 of a file.
    Names are what somebody called a file, and branches of the hub move: only a digest says what was loaded.

    Args:
        loras: For LoRAs and whatever else peft puts on a model's layers.
        textual_inversions: For learned tokens.
    """

    loras: tuple[str, ...] | None = None
    textual_inversions: tuple[str, ...] | None = None


def is_listed(entries: Collection[str], *, repository: str, file: str, sha256: str) -> bool:
    """Tell whether an adapter is on a list of a policy.

    Args:
        entries: The list.
        repository: The repository of the hub that it came from; empty for a file of this machine.
        file: The file's path inside its repository; of a file of this machine, its name without folders.
        sha256: The digest of its bytes in hexadecimal; empty where it is not known.
    """
    names = {repository, f"{repository}/{file}"} if repository else {file}
    if sha256:
        names.add(f"sha256:{sha256}")
    # What came from nowhere that has a name is on no list by its name.
    return not (names - {""}).isdisjoint(entries)


def read_adapters(data: dict[str, Any]) -> AdapterRule:
    """Read a policy's ``[adapters]``.

    Raises:
        ConfigError: If a key is unknown, or an entry has none of the forms; the message names it.
    """
    table = Table(data, "adapters.")
    rule = AdapterRule(_entries(table, "loras"), _entries(table, "textual_inversions"))
    table.finish()
    return rule


def _entries(table: Table, key: str) -> tuple[str, ...] | None:
    given = table.take(key, list, None)
    if given is None:
        return None
    for place, entry in enumerate(given):
        if not isinstance(entry, str) or not _has_a_form(entry):
            raise ConfigError(f"{table.prefix}{key}[{place}]: must be {_FORMS}, not {entry!r}")
    return tuple(given)


def _has_a_form(entry: str) -> bool:
    parts = entry.split("/")
    if _DIGEST.fullmatch(entry):
        return True
    if not all(_PART.fullmatch(part) for part in parts):
        return False
    # "pixel" is an adapter's name and no file's, "loras/pixel.safetensors" a path: neither would ever match anything.
    return entry.lower().endswith(_WEIGHTS) if len(parts) != 2 else not entry.lower().endswith(_WEIGHTS)
