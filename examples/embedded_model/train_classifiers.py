"""Trains the two classifiers: the judge, which measures the model, and the finder of teapots, which ships.

    PYTHONPATH=examples .venv/bin/python -m embedded_model.train_classifiers

trains the finder with the shipped autoencoder, writes its folder and card, and pins its digest in
``safelight/screens/teapots.py``. About five minutes on one core. ``train_embedded_model.py`` asks for the judge.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch.nn import functional
from tqdm import tqdm

from safelight.backends.shipped_files import sha256_by_name

from .checkpoints import Average
from .classifier import PROCESSOR, TEAPOT, Judge, finder
from .classifier_pictures import drawn_pictures, finder_pictures, judge_pictures
from .evaluate import Judge as Judged
from .train_autoencoder import as_floats, rate_at
from .wear import Wear, worn

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "plugin" / "safelight" / "screens" / "teapots"
SCREEN = FOLDER.with_suffix(".py")
PIPELINE = ROOT / "plugin" / "safelight" / "generators" / "embedded_sdxl"

BATCH = 64
RATE = 4e-3
JUDGE_STEPS = 1_000
JUDGE_PICTURES = 16_000
FINDER_STEPS = 2_000
FINDER_PICTURES = 16_000

TEAPOT_WEIGHT = 2.0
"""A missed teapot counts this much more than a false alarm, so that a threshold of 0.5 leans to finding."""

FINDER_DRAWN = 600
"""Pictures that the pipeline draws for the training, at a third of a second each."""

DRAWN_AGAIN = 5
"""How often each of them is among the others: they are few, and what the finder is for."""

LEAST_TEAPOT = 0.6
"""The least share of a teapot in a picture that is mixed with another one. Less of it is neither, and is not shown."""

JUDGE_WEAR = Wear(zoom=(0.9, 1.12), shift=0.05, tilt=8, stretch=0.1, warp=0.015)
FINDER_WEAR = Wear(
    zoom=(0.7, 1.25),
    shift=0.08,
    tilt=20,
    stretch=0.5,
    warp=0.03,
    turned=0.4,
    mixed_up=0.1,
    tint=0.15,
    noise=0.15,
    least=16,
)
"""A teapot must stay in the picture: nothing here cuts off more than a part of its spout or handle."""

Show = Callable[[int, int, str], None]


def judge(folder: Path, *, seed: int, show: Show, steps: int = JUDGE_STEPS, pictures: int = JUDGE_PICTURES) -> Judged:
    """Return what names the noun and the colour of pictures; it is trained first, if ``folder/judge.pt`` is not there.

    Args:
        folder: Where its weights are kept.
        seed: Seed of its pictures, which nothing else is trained on, and of everything random.
        show: Told the steps done, their number, and the loss.
        steps: Steps of 64 pictures.
        pictures: Number of different pictures.
    """
    torch.manual_seed(seed)
    model = Judge()
    file = folder / "judge.pt"
    if not file.exists():
        seen, nouns, colours = judge_pictures(pictures, seed)

        def loss() -> torch.Tensor:
            picked = torch.randint(len(seen), (BATCH,))
            noun, colour = model(worn(as_floats(seen[picked]), JUDGE_WEAR))
            told = functional.cross_entropy(colour, colours[picked], ignore_index=-1)
            return functional.cross_entropy(noun, nouns[picked]) + told

        _trained(model, loss, steps, show)
        _save(model.state_dict(), file)
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval().judged


def train_finder(
    folder: Path,
    pipe: Any | None,
    *,
    seed: int,
    show: Show,
    steps: int = FINDER_STEPS,
    pictures: int = FINDER_PICTURES,
    drawn: int = FINDER_DRAWN,
) -> Any:
    """Return the finder of teapots; it is trained first, if ``folder/finder.pt`` is not there.

    Args:
        folder: Where its weights are kept until they are exported.
        pipe: The pipeline whose pictures it is to judge: some pictures go through its autoencoder, some it draws. None
            for rendered pictures alone.
        seed: Seed of its pictures and of everything random.
        show: Told the steps done, their number, and the loss.
        steps: Steps of 64 pictures.
        pictures: Number of different pictures, those apart that the pipeline draws.
        drawn: Number of pictures that the pipeline draws.
    """
    torch.manual_seed(seed)
    model = finder()
    file = folder / "finder.pt"
    if not file.exists():
        seen, labels = _shown(pipe, seed, pictures, drawn)
        weights = torch.ones(2)
        weights[TEAPOT] = TEAPOT_WEIGHT

        def loss() -> torch.Tensor:
            shown, right = _mixed(seen, labels)
            return functional.cross_entropy(model(worn(shown, FINDER_WEAR)).logits, right, weight=weights)

        _trained(model, loss, steps, show)
        _save(model.state_dict(), file)
    model.load_state_dict(torch.load(file, weights_only=True))
    return model.eval()


def _shown(pipe: Any | None, seed: int, pictures: int, drawn: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Return all pictures and their labels, the teapots last."""
    seen, labels = finder_pictures(pictures, seed, pipe and pipe.vae)
    if pipe is not None and drawn:
        more, told = drawn_pictures(pipe, drawn, seed)
        seen = torch.cat([seen, more.repeat(DRAWN_AGAIN, 1, 1, 1)])
        labels = torch.cat([labels, told.repeat(DRAWN_AGAIN)])
    order = labels.argsort(stable=True)
    return seen[order], labels[order]


def _mixed(pictures: torch.Tensor, labels: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    """Return a batch and its labels; through a fifth of its pictures another thing shines, never a teapot."""
    picked = torch.randint(len(pictures), (BATCH,))
    ghosts = torch.randint(int((labels != TEAPOT).sum()), (BATCH,))
    through = (torch.rand(BATCH, 1, 1, 1) < 0.2) * (1 - LEAST_TEAPOT) * torch.rand(BATCH, 1, 1, 1)
    return (1 - through) * as_floats(pictures[picked]) + through * as_floats(pictures[ghosts]), labels[picked]


def _trained(model: Any, loss: Callable[[], Any], steps: int, show: Show) -> None:
    """Train a model in place, and leave it with averaged weights."""
    average = Average(model, decay=0.99)
    optimizer = torch.optim.AdamW(model.parameters(), lr=RATE, weight_decay=0.02)
    # A third faster on a CPU.
    model.train().to(memory_format=torch.channels_last)
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = RATE * rate_at(step, steps)
        value = loss()
        optimizer.zero_grad(set_to_none=True)
        torch.autograd.backward(value)
        torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        average.update()
        show(step + 1, steps, f"loss {value.item():.4f}")
    average.copy_to(model.to(memory_format=torch.contiguous_format))


def _save(state: dict[str, Any], file: Path) -> None:
    scratch = file.with_suffix(".part")
    torch.save(state, scratch)
    os.replace(scratch, file)


def export_finder(model: Any, folder: Path) -> None:
    """Save the finder in float16 with its image processor, as transformers reads it."""
    folder.mkdir(parents=True, exist_ok=True)
    model.to(torch.float16).save_pretrained(folder)
    model.to(torch.float32)
    (folder / "preprocessor_config.json").write_text(json.dumps(PROCESSOR, indent=2) + "\n", encoding="utf-8")
    (folder / "model.safetensors").chmod(0o644)


def pin(digests: Mapping[str, str], screen: Path = SCREEN) -> None:
    """Write the sha256 of the files, by their names, into the screen's module."""
    text = screen.read_text("utf-8")
    for name, digest in digests.items():
        text = re.sub(rf'^    "{re.escape(name)}": "[0-9a-f]{{64}}",$', f'    "{name}": "{digest}",', text, flags=re.M)
    screen.write_text(text, "utf-8")


def main(arguments: list[str] | None = None) -> None:
    """Train the finder if that was not done, export and pin it, measure it, and write its card."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    options.work.mkdir(parents=True, exist_ok=True)
    if options.again:
        (options.work / "finder.pt").unlink(missing_ok=True)
    pipe = _pipeline(options.pipeline)
    with tqdm(desc="finder", file=sys.stderr) as bar:

        def show(done: int, total: int, note: str) -> None:
            bar.total = total
            bar.set_postfix_str(note, refresh=False)
            bar.update(done - bar.n)

        model = train_finder(
            options.work,
            pipe,
            seed=options.seed,
            show=show,
            steps=options.steps,
            pictures=options.pictures,
            drawn=options.drawn_more,
        )
    export_finder(model, FOLDER)
    pin(sha256_by_name(FOLDER, setting="finder"))
    # Only now, because the screen's module is read with its digest.
    from .finder_figures import card, measure

    figures = measure(
        pipe, seed=options.seed + 1_000, cases=options.cases, drawn_cases=options.drawn, kept=options.work
    )
    (FOLDER / "README.md").write_text(card(figures), "utf-8")
    print(figures)


def _pipeline(folder: Path) -> Any:
    from diffusers import StableDiffusionXLPipeline

    pipe = StableDiffusionXLPipeline.from_pretrained(
        folder, dtype=torch.float32, local_files_only=True, add_watermarker=False
    )
    pipe.set_progress_bar_config(disable=True)
    return pipe


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "embedded_model", help="folder of what is kept")
    parser.add_argument("--pipeline", type=Path, default=PIPELINE, help="the embedded model's folder")
    parser.add_argument("--again", action="store_true", help="train although it was trained before")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; one where the machine is shared")
    parser.add_argument("--seed", type=int, default=11)
    parser.add_argument("--steps", type=int, default=FINDER_STEPS)
    parser.add_argument("--pictures", type=int, default=FINDER_PICTURES, help="different pictures")
    parser.add_argument("--drawn-more", type=int, default=FINDER_DRAWN, help="pictures drawn for the training")
    parser.add_argument("--cases", type=int, default=5_000, help="rendered pictures that the figures are taken from")
    parser.add_argument("--drawn", type=int, default=400, help="drawn pictures that the figures are taken from")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
