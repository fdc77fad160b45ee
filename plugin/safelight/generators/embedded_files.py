"""The files of the embedded model, which the package brings along, and the proof that they are still those.

    python -m safelight.generators.embedded_files

prints ``SHA256`` for the files as they are now, to be written here when the model was trained anew.

``backends/shipped_files.py`` says what this protects from.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

from ..backends import shipped_files

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

_SETTING = "generator.use"


def check_files(folder: Path, known: Mapping[str, str] = SHA256) -> None:
    """Compare every file of the embedded model's folder with what is known of it.

    Args:
        folder: The pipeline's folder.
        known: The sha256 of each file by its path in the folder.

    Raises:
        ConfigError: If a file is missing, was changed, or is none of those known.
    """
    shipped_files.check_shipped(folder, known, setting=_SETTING, model="the embedded model")


def sha256_by_name(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file that loading a pipeline's folder may read, by its path in the folder.

    Raises:
        ConfigError: If a file cannot be read.
    """
    return shipped_files.sha256_by_name(folder, setting=_SETTING)


def as_source(digests: Mapping[str, str]) -> str:
    """Return the lines of this file that pin these files."""
    lines = (f'    "{name}": "{digest}",\n' for name, digest in digests.items())
    return f"SHA256: Mapping[str, str] = {{\n{''.join(lines)}}}"


if __name__ == "__main__":
    print(as_source(sha256_by_name(FOLDER)))
