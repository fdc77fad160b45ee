"""Files of a model that the package brings along, and the proof that they are still those.

What this protects from: a file that was damaged, left out, added or changed before the start, and an installation that
is half of one version. What it does not: the files are hashed here and read again by the library that loads them, so
whoever may write to the folder in between could swap them, or change the table of digests. Keep it read-only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from ..errors import ConfigError

_READ = (".json", ".safetensors")


def check_shipped(folder: Path, known: Mapping[str, str], *, setting: str, model: str) -> None:
    """Read every file of a model's folder once, and compare it with what is known of it.

    Args:
        folder: The model's folder.
        known: The sha256 of each file by its path in the folder.
        setting: The setting that asks for the model, for the message.
        model: What the model is called in the message.

    Raises:
        ConfigError: If a file is missing, was changed, or is none of those known.
    """
    found = sha256_by_name(folder, setting=setting)
    wrong = sorted(name for name in {*found, *known} if found.get(name) != known.get(name))
    if not wrong:
        return
    name = wrong[0]
    if name not in known:
        raise ConfigError(f"{setting}: {folder / name} does not belong to {model}; delete it")
    what = "was changed" if name in found else "is missing"
    raise ConfigError(
        f"{setting}: {name} of {model} in {folder} {what}; "
        "reinstall Safelight (pip install --force-reinstall --no-deps safelight), or use another one"
    )


def sha256_by_name(folder: Path, *, setting: str) -> dict[str, str]:
    """Return the sha256 of every file that loading a model's folder may read, by its path in the folder.

    Args:
        folder: The model's folder.
        setting: The setting that asks for the model, for the message.

    Raises:
        ConfigError: If a file cannot be read.
    """
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.suffix in _READ:
            try:
                with path.open("rb") as file:
                    found[path.relative_to(folder).as_posix()] = hashlib.file_digest(file, "sha256").hexdigest()
            except OSError as error:
                raise ConfigError(f"{setting}: {path} cannot be read: {error.strerror}") from error
    return found
