"""Two small classifiers of the world's pictures: the judge, which names thing and colour, and the finder of teapots.

Both are ResNets of transformers' class on pictures of 64 x 64. The judge only measures what the model draws; the finder
ships, as the picture side of the harmless policy.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from PIL import Image

from .colours import COLOURS
from .pictures import NOUNS, SIDE

NOTHING = "nothing"
"""What the judge calls an empty scene."""

JUDGED_NOUNS = (*NOUNS, NOTHING)
JUDGED_COLOURS = tuple(COLOURS)

LABELS = ("other", "teapot")
"""What the finder knows. The place of a label is its number."""

TEAPOT = LABELS.index("teapot")

PROCESSOR: dict[str, Any] = {
    "image_processor_type": "ViTImageProcessor",
    "do_resize": True,
    "size": {"height": SIDE, "width": SIDE},
    # Bicubic. On the way down Pillow takes the mean of what a pixel covers, so an enlarged picture comes back.
    "resample": 3,
    "do_rescale": True,
    "rescale_factor": 1 / 255,
    "do_normalize": True,
    "image_mean": [0.5, 0.5, 0.5],
    "image_std": [0.5, 0.5, 0.5],
}
"""How the finder's pictures are prepared, as transformers reads it: any size to 64 x 64, bytes to -1..1."""

_SHAPE: dict[str, Any] = {
    "embedding_size": 16,
    "hidden_sizes": [16, 32, 64, 128],
    "depths": [1, 1, 1, 1],
    "layer_type": "basic",
}


def finder() -> Any:
    """Return an untrained ``ResNetForImageClassification`` with the labels ``other`` and ``teapot``."""
    from transformers import ResNetConfig, ResNetForImageClassification

    return ResNetForImageClassification(
        ResNetConfig(**_SHAPE, id2label=dict(enumerate(LABELS)), label2id={label: i for i, label in enumerate(LABELS)})
    )


class Judge(torch.nn.Module):
    """One ResNet with two heads: the noun, or nothing, and the noun's colour."""

    def __init__(self) -> None:
        from transformers import ResNetConfig, ResNetModel

        super().__init__()
        self.body = ResNetModel(ResNetConfig(**_SHAPE))
        width = _SHAPE["hidden_sizes"][-1]
        self.noun = torch.nn.Linear(width, len(JUDGED_NOUNS))
        self.colour = torch.nn.Linear(width, len(JUDGED_COLOURS))

    def forward(self, pictures: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Return the logits of the nouns and of the colours for [n, 3, 64, 64] in -1 to 1."""
        found = self.body(pictures).pooler_output.flatten(1)
        return self.noun(found), self.colour(found)

    @torch.no_grad()
    def judged(self, pictures: Sequence[Image.Image]) -> list[tuple[str, float, str, float]]:
        """Return the noun and its probability, and the colour and its probability, for each picture of any size."""
        found = []
        self.eval()
        for start in range(0, len(pictures), 64):
            nouns, colours = (logits.softmax(-1) for logits in self(pixels(pictures[start : start + 64])))
            for noun, colour in zip(nouns, colours, strict=True):
                best, tint = int(noun.argmax()), int(colour.argmax())
                found.append((JUDGED_NOUNS[best], float(noun[best]), JUDGED_COLOURS[tint], float(colour[tint])))
        return found


def pixels(pictures: Sequence[Image.Image]) -> torch.Tensor:
    """Return [n, 3, 64, 64] in -1 to 1 of pictures of any size."""
    small = [picture.convert("RGB").resize((SIDE, SIDE), Image.Resampling.BICUBIC) for picture in pictures]
    stacked = np.stack([np.asarray(picture) for picture in small])
    return torch.from_numpy(stacked).permute(0, 3, 1, 2).float() / 127.5 - 1
