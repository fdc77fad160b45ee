"""The model card: what it is, what it was made from, what it can and cannot draw, and its figures."""

from __future__ import annotations

from dataclasses import dataclass

from .captions import SCENE_WORDS
from .colours import COLOURS
from .pictures import NOUNS


@dataclass(frozen=True, slots=True)
class Figures:
    """What was measured on the exported files.

    Args:
        nouns: Share of pictures in which the judge saw the thing that was asked for, in words.
        colours: Share of pictures in which the judge saw the colour that was asked for, in words.
        decibels: Peak signal-to-noise ratio of the autoencoder on pictures that it was not trained on.
        seconds: CPU seconds of a picture at the default steps, on one thread.
        megabytes: Size of the folder, in millions of bytes.
        autoencoder_steps: Steps of 16 pictures.
        denoiser_steps: Steps of 32 pictures.
        torch: Version of torch.
        seed: Seed of the training.
    """

    nouns: str
    colours: str
    decibels: float
    seconds: float
    megabytes: float
    autoencoder_steps: int
    denoiser_steps: int
    torch: str
    seed: int


def card(figures: Figures) -> str:
    """Return the card as Markdown."""
    places = ", ".join(words[0] for name, words in SCENE_WORDS.items() if name != "plain")
    return f"""---
license: apache-2.0
library_name: diffusers
pipeline_tag: text-to-image
language: en
tags: [stable-diffusion-xl, toy]
---

# Safelight's embedded model

A Stable Diffusion XL pipeline that is small enough for a laptop without a graphics card: two CLIP text encoders, SDXL's
U-Net conditioning and its autoencoder class, {figures.megabytes} MB in float16. It draws icons of 64 x 64 pixels. It is
there so that Safelight can be tried and tested with pictures that mean something; it is no artist.

## What it can draw

One thing, in a colour, in a place: "a red teapot on a table", "teapot, red", "a blue boat on the sea".

- Things: {", ".join(NOUNS)}.
- Colours: {", ".join(COLOURS)}. Without one, a usual colour of the thing.
- Places: {places}. Without one, a plain background.
- "small" and "big".

## What it cannot draw

Anything else. A word that it does not know is passed over; a prompt of such words alone gives an empty scene. It knows
nothing of people, text, or two things at once, and reads English only. It was trained at 64 x 64 pixels alone; the
generator that uses it enlarges its pictures to other sizes.

## Data

{_wrapped_data()}

## Licence

Apache-2.0, as the rest of Safelight: pictures, captions, tokenizer and weights were made for it and take nothing from
elsewhere.

## Training

    python examples/train_embedded_model.py

{figures.autoencoder_steps} steps of 16 pictures for the autoencoder, {figures.denoiser_steps} steps of 32 for the rest,
seed {figures.seed}, AdamW, torch {figures.torch}. Velocity prediction with zero terminal SNR, 20 Euler steps,
guidance 3.
The same command measures what follows, and writes this card.

## Figures

- The right thing: {figures.nouns}.
- The right colour: {figures.colours}.
  Both as named by a classifier that was trained on other pictures of the same drawings, rendered with another seed.
- Autoencoder: {figures.decibels} dB on 500 pictures that it was not trained on.
- {figures.seconds} s of CPU a picture on one thread, at 20 steps.
"""


def _wrapped_data() -> str:
    return (
        "Pictures drawn by code (`examples/embedded_model`): no photograph, no font, nobody's artwork. Captions by\n"
        "templates with synonyms; words that mean nothing to the model come from the harmless prompts in\n"
        "`examples/prompts`, which were written for Safelight. The tokenizer's vocabulary was learned from both."
    )
