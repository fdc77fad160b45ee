"""Where an adapter came from: a repository of the hub, a file of this machine, or tensors in memory; and its digest.

No folder of this machine is named: a path may tell who its owner is.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any


@dataclass(frozen=True, slots=True)
class Source:
    """Where one adapter came from. What is not known is empty; tensors in memory have no more than a digest.

    Args:
        repository: The repository of the hub; empty for a file of this machine.
        file: The file's path inside its repository; of a file of this machine, its name without folders.
        revision: The branch, tag or commit that was asked for.
        sha256: In hexadecimal: of the file's bytes or, for tensors in memory, of their names, types, shapes and values.
    """

    repository: str = ""
    file: str = ""
    revision: str = ""
    sha256: str = ""

    @property
    def name(self) -> str:
        """Repository and file, as an entry of a policy's list has them; empty for tensors in memory."""
        return "/".join(filter(None, (self.repository, self.file)))


def source_of_tensors(given: Any) -> Source | None:
    """Return what is known of tensors in memory, alone or in a dictionary; None for the name of a file."""
    if isinstance(given, str | os.PathLike):
        return None
    digest = hashlib.sha256()
    try:
        for name, kind, data in _leaves(given, ""):
            digest.update(f"{name}\0{kind}\0{len(data)}\0".encode())
            digest.update(data)
    except TypeError:
        # Something that is neither tensor nor number: nobody can say what it stands for.
        return Source()
    return Source(sha256=digest.hexdigest())


def source_of_file(
    given: str | os.PathLike[str], names: Sequence[str], *, subfolder: str | None, revision: str | None, cache: Any
) -> Source:
    """Return what is known of a file that has been loaded. Nothing is fetched: a hub's file lies in the cache by now.

    Args:
        given: What was asked for, as diffusers reads it: a file, a folder, or a repository of the hub.
        names: The names that the file may have in its folder or repository, as diffusers tries them.
        subfolder: The folder inside that.
        revision: The branch, tag or commit that was asked for.
        cache: The cache's folder; None for the usual one.
    """
    path = str(given)
    if os.path.isfile(path):
        return _local(Path(path))
    inside = [f"{subfolder}/{name}" if subfolder else name for name in names]
    if os.path.isdir(path):
        # Diffusers looks beside the subfolder first.
        found = [place for name in (*names, *inside) if (place := Path(path, name)).is_file()]
        return _local(found[0]) if found else Source()
    from huggingface_hub import try_to_load_from_cache

    known = {"repository": path, "revision": revision or ""}
    for name in inside:
        cached = try_to_load_from_cache(path, name, cache_dir=cache, revision=revision)
        if isinstance(cached, str):
            return Source(**known, file=_faithful(name), sha256=_digest(Path(cached)))
    return Source(**known, file=_faithful(inside[0]) if len(inside) == 1 else "")


def _local(path: Path) -> Source:
    return Source(file=_faithful(path.name), sha256=_digest(path))


def _digest(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return hashlib.file_digest(file, "sha256").hexdigest()
    except OSError:
        return ""


def _faithful(name: str) -> str:
    # What no encoding can read could neither be judged nor stored.
    return name.encode("utf-8", "replace").decode()


def _leaves(value: Any, name: str) -> Iterator[tuple[str, str, bytes]]:
    """Yield every tensor and number of a nested dictionary: its path, type and shape, and bytes."""
    from torch import Tensor, uint8

    if isinstance(value, Tensor):
        numbers = value.detach().cpu().contiguous().reshape(-1).view(uint8).numpy()
        yield name, f"{value.dtype} {tuple(value.shape)}", numbers.tobytes()
    elif isinstance(value, Mapping):
        for key in sorted(value, key=str):
            yield from _leaves(value[key], f"{name}/{key}")
    elif isinstance(value, list | tuple):
        for place, item in enumerate(value):
            yield from _leaves(item, f"{name}/{place}")
    elif value is None or isinstance(value, str | int | float):
        yield name, type(value).__name__, str(value).encode()
    else:
        raise TypeError(type(value).__name__)
