"""A cache of the hub, as ``huggingface_hub`` lays it out, written by hand: repositories that load without a network."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path


def write_to_cache(
    cache: Path, repository: str, files: Mapping[str, bytes], *, branch: str = "main", commit: str = "a" * 40
) -> None:
    """Put a commit of a repository into a cache, at the head of a branch.

    Args:
        cache: The cache's folder, as ``cache_dir`` takes it.
        repository: As ``owner/name``.
        files: Contents by path inside the repository.
        branch: The branch that points at the commit.
        commit: The commit's id.
    """
    root = cache / f"models--{repository.replace('/', '--')}"
    (root / "refs").mkdir(parents=True, exist_ok=True)
    (root / "refs" / branch).write_text(commit)
    for name, data in files.items():
        path = root / "snapshots" / commit / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
