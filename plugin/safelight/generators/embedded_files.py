"""The files of the embedded model, which the package brings along, and the proof that they are still those.

    python -m safelight.generators.embedded_files

prints ``SHA256`` for the files as they are now, to be written here when the model was trained anew.

What this protects from: a file that was damaged, left out, added or changed before the start, and an installation that
is half of one version. What it does not: the files are hashed here and read again by diffusers, so whoever may write to
the folder in between could swap them; and whoever may write to it could as well change this table. Keep it read-only.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path

from ..errors import ConfigError

FOLDER = Path(__file__).parent / "embedded_sdxl"

SHA256: Mapping[str, str] = {
    "model_index.json": "329e0bbd93b20f412f4bcca9c028577cf73733c712fc892f69861f1cf8d70352",
    "scheduler/scheduler_config.json": "298a2c506c029ad8a75fff24092fa474cdaeda01e910c81c87bc78185bca58ab",
    "text_encoder/config.json": "1e3e327df5ee0c81d3c91ec5772ae14cb1b233b8b19c65d18373683f01b0a61c",
    "text_encoder/model.safetensors": "5f184e7bd016b2e60f0b99f83d132563427a8adc75569778cda2ba950559cb0c",
    "text_encoder_2/config.json": "736433cd572c01acfbdc360a735e1f811e6d485e7ced4d572dfb6c2709a061a8",
    "text_encoder_2/model.safetensors": "4c68e7328304bf4a1957507a3b55a3c98051a3be597b6dda2d21c12c0232bff3",
    "tokenizer/tokenizer.json": "d50fb23aafeba2b5d594663473adf7be64f97ec2ee5b95dc3ac7520cb950b6ca",
    "tokenizer/tokenizer_config.json": "6ab119a1c448a3e6f3e2a4cfc4567e99f4a3f515aa8605098e271a709b20ada4",
    "tokenizer_2/tokenizer.json": "d50fb23aafeba2b5d594663473adf7be64f97ec2ee5b95dc3ac7520cb950b6ca",
    "tokenizer_2/tokenizer_config.json": "6ab119a1c448a3e6f3e2a4cfc4567e99f4a3f515aa8605098e271a709b20ada4",
    "unet/config.json": "475d9bdcfdfda4c5ce0d078537fd1f8365ac110c93a1e686a809be15291a1f5d",
    "unet/diffusion_pytorch_model.safetensors": "578ca5c3d4b76fb20410fb53ea6d25477c7699cc7c40b01f68f3eaf152447db2",
    "vae/config.json": "1636cc222df9bb61210e475200c50ea3d2c6f5832f119fdc0ea59b75742efbeb",
    "vae/diffusion_pytorch_model.safetensors": "047b0d63925ac9e4b1ef16ebc949d69fb0d2d658fe2692e7652632204f1089fb",
}
"""The sha256 of every file that is read, by its path in the folder."""

_READ = (".json", ".safetensors")


def check_files(folder: Path, known: Mapping[str, str] = SHA256) -> None:
    """Read every file of a model's folder once, and compare it with what is known of it.

    Args:
        folder: The pipeline's folder.
        known: The sha256 of each file by its path in the folder.

    Raises:
        ConfigError: If a file is missing, was changed, or is none of those known.
    """
    found = sha256_by_name(folder)
    wrong = sorted(name for name in {*found, *known} if found.get(name) != known.get(name))
    if wrong:
        name = wrong[0]
        what = "is missing" if name not in found else "was changed" if name in known else "does not belong there"
        raise ConfigError(
            f"generator.use: {name} of the embedded model in {folder} {what}; "
            "reinstall Safelight (pip install --force-reinstall --no-deps safelight), or use another generator"
        )


def sha256_by_name(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file that loading a pipeline's folder may read, by its path in the folder.

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
                raise ConfigError(f"generator.use: {path} cannot be read: {error.strerror}") from error
    return found


def as_source(digests: Mapping[str, str]) -> str:
    """Return the lines of this file that pin these files."""
    lines = (f'    "{name}": "{digest}",\n' for name, digest in digests.items())
    return f"SHA256: Mapping[str, str] = {{\n{''.join(lines)}}}"


if __name__ == "__main__":
    print(as_source(sha256_by_name(FOLDER)))
