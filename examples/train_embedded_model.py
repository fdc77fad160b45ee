"""Trains the embedded model: an autoencoder, then a denoiser with two text encoders, on pictures that it draws itself.

    python examples/train_embedded_model.py
    torchrun --nproc-per-node 2 examples/train_embedded_model.py    # two processes, for two idle cores

It can be stopped at any time and goes on where it was when it is started again. On one core without AMX it takes about
an hour and a half; on a GPU it was not tried. The finished pipeline and its card go into the package's folder; the
digests that it prints go into ``safelight/generators/embedded_files.py``. The screen ``teapots`` learns from its
drawings, so it is trained anew after it: ``python -m embedded_model.train_classifiers --again`` in ``examples``.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path
from typing import Any

import torch
from embedded_model import workers
from embedded_model.card import Figures, card
from embedded_model.evaluate import asked, drawn, hits, seconds_a_picture, sheet
from embedded_model.export import export, megabytes, pipeline
from embedded_model.train_autoencoder import STEPS as AUTOENCODER_STEPS
from embedded_model.train_autoencoder import rendered, signal_to_noise, train_autoencoder
from embedded_model.train_classifiers import judge
from embedded_model.train_denoiser import PICTURES, train_denoiser
from embedded_model.train_denoiser import STEPS as DENOISER_STEPS
from embedded_model.vocabulary import kept_tokenizer
from tqdm import tqdm

from safelight.generators.embedded_files import as_source, sha256_by_name

ROOT = Path(__file__).parents[1]
SHEET_SEED = 64
ROW = (0, 7, 20, 21, 23, 44, 47, 60)
"""Places in the sheet of those that the README shows."""

FIGURES_SEED = 1_000_000
"""Pictures of the figures have other seeds than those of the sheet."""


def main(arguments: list[str] | None = None) -> None:
    """Train what is not trained yet, export it, measure it, and write its card."""
    options = _options(arguments)
    torch.set_num_threads(options.threads)
    workers.join()
    options.work.mkdir(parents=True, exist_ok=True)
    words = kept_tokenizer(options.work, options.seed)
    common = {"device": options.device, "seed": options.seed}
    with _Bar("autoencoder") as bar:
        autoencoder = train_autoencoder(options.work, steps=options.autoencoder_steps, show=bar.show, **common)
    with _Bar("denoiser") as bar:
        model, scale = train_denoiser(
            options.work,
            autoencoder,
            words,
            steps=options.denoiser_steps,
            pictures=options.pictures,
            show=bar.show,
            **common,
        )
    if workers.rank() > 0:
        return
    export(pipeline(autoencoder, model, words, scale), options.out)
    measure(options, signal_to_noise(autoencoder, rendered(500, options.seed + 2)))


def measure(options: argparse.Namespace, decibels: float) -> None:
    """Measure the exported pipeline, as it will be loaded; write its figures, its sheet and its card."""
    from diffusers import StableDiffusionXLPipeline

    pipe = StableDiffusionXLPipeline.from_pretrained(
        options.out, dtype=torch.float32, local_files_only=True, add_watermarker=False
    )
    pipe.set_progress_bar_config(disable=True)
    with _Bar("judge") as bar:
        seen = judge(options.work, seed=options.seed + 3, show=bar.show)
    nouns, colours, wrong = hits(pipe, seen, count=options.cases, seed=FIGURES_SEED)
    wanted = asked(64, SHEET_SEED)
    pictures = list(drawn(pipe, [one.prompt for one in wanted], seed=SHEET_SEED))
    options.sheets.mkdir(parents=True, exist_ok=True)
    sheet(pictures, [one.prompt for one in wanted]).save(options.sheets / "embedded_model.png", optimize=True)
    row = [pictures[i] for i in ROW]
    sheet(row, [wanted[i].prompt for i in ROW]).save(options.sheets / "embedded_row.png", optimize=True)
    # For somebody who does not know what was asked for.
    sheet(pictures, None).save(options.work / "sheet_without_prompts.png")
    (options.work / "sheet_prompts.json").write_text(json.dumps([one.prompt for one in wanted]), encoding="utf-8")
    figures = Figures(
        nouns=str(nouns),
        colours=str(colours),
        decibels=round(decibels, 1),
        seconds=round(seconds_a_picture(pipe), 2),
        megabytes=round(megabytes(options.out), 1),
        autoencoder_steps=options.autoencoder_steps,
        denoiser_steps=options.denoiser_steps,
        torch=torch.__version__,
        seed=options.seed,
    )
    (options.out / "README.md").write_text(card(figures), encoding="utf-8")
    print(*wrong, sep="\n")
    print(figures)
    print(as_source(sha256_by_name(options.out)))


class _Bar:
    """A progress bar that the first process shows and the others do not."""

    def __init__(self, title: str) -> None:
        self._bar: Any = tqdm(desc=title, disable=workers.rank() > 0, file=sys.stderr)

    def show(self, done: int, total: int, note: str) -> None:
        self._bar.total = total
        self._bar.set_postfix_str(note, refresh=False)
        self._bar.update(done - self._bar.n)

    def __enter__(self) -> _Bar:
        return self

    def __exit__(self, *problem: object) -> None:
        self._bar.close()


def _options(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--work", type=Path, default=ROOT / "build" / "embedded_model", help="folder of checkpoints")
    parser.add_argument("--out", type=Path, default=ROOT / "plugin" / "safelight" / "generators" / "embedded_sdxl")
    parser.add_argument("--sheets", type=Path, default=ROOT / "docs", help="folder of the contact sheet")
    parser.add_argument("--device", default="cuda" if torch.cuda.is_available() else "cpu")
    parser.add_argument("--threads", type=int, default=1, help="CPU threads; one where the machine is shared")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--autoencoder-steps", type=int, default=AUTOENCODER_STEPS)
    parser.add_argument("--denoiser-steps", type=int, default=DENOISER_STEPS)
    parser.add_argument("--pictures", type=int, default=PICTURES, help="different pictures for the denoiser")
    parser.add_argument("--cases", type=int, default=500, help="pictures that the figures are taken from")
    return parser.parse_args(arguments)


if __name__ == "__main__":
    main()
