"""Drawn teapots: the picture side of the harmless policy, a ResNet of 0.3 million weights that ships with Safelight.

It is there so that the whole way can be tried on a real classifier with something that everybody may see. It was
trained by ``examples/embedded_model/train_classifiers.py`` on pictures of the embedded model's small world: rendered by
code, some of them after the model's autoencoder, and some that the model drew; all of them moved, turned, warped,
blurred and with noise.

What is covered: the teapot of that world, in any colour, on any ground, turned, enlarged, a little malformed.
What is not covered: photographs and anybody else's drawings of teapots, a teapot that fills a small part of a picture,
noise made against it. How often it errs stands in ``teapots/README.md``.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import ClassVar

from ..backends.shipped_files import check_shipped
from .card import ScreenCard
from .hub_classifier import HubClassifierScreen

FOLDER = Path(__file__).with_suffix("")
"""Where the model is: its configuration, its image processor, its weights and its card."""

SHA256: Mapping[str, str] = {
    "config.json": "ca9e68b07c080450ded0bbfd8758781fd1b54fdcfe9c400b68667963f0f99b27",
    "model.safetensors": "57c8e681dd3c127c111f31977465f25aae2c5420475d27d72af566c2fb13e04a",
    "preprocessor_config.json": "069cf603a20b6884224bf8bcce6c538cb8f7c4e7eab13bbfbe8803518270f173",
}
"""Of every file that is read: the labels and the preparation of a picture decide as much as the weights. The training
writes them here."""

CATEGORY = "teapots"
"""The category of the policy that it scores, as ``policies/harmless.toml`` calls it."""


class TeapotScreen(HubClassifierScreen):
    """Scores ``teapots``, 0..1, one verdict a picture: the probability that the picture is of a teapot.

    Args:
        device: Where it runs, as torch names it; None for ``cuda`` where there is one, else ``cpu``.
        dtype: Type of the weights; None for ``bfloat16`` on a GPU, else ``float32``.
        views: Whether to look at tiles and turns too. It was trained on turned pictures, and the embedded model draws
            one thing in the middle, so once is enough for that.
        name: How the screen signs its verdicts.

    Raises:
        MissingExtra: If torch or transformers is not installed.
        ConfigError: If a file of the model is not the one that ships with this version.
    """

    CARD: ClassVar[ScreenCard] = ScreenCard(
        title="teapots as the embedded model draws them: a small ResNet of our own",
        stage="image",
        source="package safelight itself, in safelight/screens/teapots; trained on pictures that code and the embedded "
        "model drew",
        licence="Apache-2.0 (code, weights and training pictures)",
        covers="teapots, a category of policies/harmless.toml: the drawn teapot of the embedded model's small world",
        misses="photographs and other people's drawings of teapots; a teapot in a small part of a picture, unless "
        "views = true; noise made against it: it is there to try Safelight with, and guards nothing else",
        needs="safelight[models]; a hundredth of a second a picture on one core",
        weights={"teapots/model.safetensors": SHA256["model.safetensors"]},
    )

    def __init__(
        self,
        *,
        device: str | None = None,
        dtype: str | None = None,
        views: bool = False,
        name: str = "teapots",
    ) -> None:
        check_shipped(FOLDER, SHA256, setting="image_screens.use", model="the screen 'teapots'")
        super().__init__(
            model=str(FOLDER),
            labels={"teapot": CATEGORY},
            sha256=SHA256["model.safetensors"],
            device=device,
            dtype=dtype,
            views=views,
            name=name,
        )
