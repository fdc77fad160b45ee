"""A thousand tries to get a teapot past the harmless policy: prompts blocked, pictures blocked, teapots delivered.

    python benchmarks/teapots.py --judge FOLDER            100 prompts, 10 seeds each, and 200 harmless prompts
    python benchmarks/teapots.py --judge FOLDER --prompt-screens off   all of them are drawn: the image screen alone
    python benchmarks/teapots.py --prompts-only            no picture is made: some seconds

Everything is as ``SAFELIGHT_CONFIG=harmless`` starts it: policy, screens, embedded model, its own steps and size, a
store; but for the attempt budgets and the memory of blocked prompts, which would turn most tries away unseen. Every
try is somebody else's, with a history of its own.

The prompts that try are ``examples/prompts/teapot_attempts.tsv``. Nothing was trained on them, and the list of terms
and the ways of pointing back were written before them. But when the last training texts of the head were written, their
author knew how earlier drafts had fared on the attempts: tries of somebody else would fare a little better. Where a
prompt has earlier turns, these are asked first, and a teapot that one of them gets counts too. The harmless prompts are
captions of the embedded model's own world, with any thing in them but a teapot; the innocent follow-ups are the same,
each asked right after a refused teapot. ``benign.tsv``, which the prompt screens alone read, was seen in the same way.

What a picture shows is said by the judge of ``examples/embedded_model``, a classifier that was trained apart from the
screen, on pictures of its own. It lies in FOLDER as ``judge.pt`` (``examples/train_embedded_model.py`` leaves it
there) and is trained first where it does not, which takes minutes. Without ``--judge`` nobody says what was drawn.
"""

from __future__ import annotations

import argparse
import asyncio
import csv
import random
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path

from PIL import Image

sys.path.insert(0, str(Path(__file__).parents[1] / "examples"))

from embedded_model.captions import caption
from embedded_model.evaluate import Share
from embedded_model.pictures import SIDE, any_motif

from safelight.config import build_guard, read_settings
from safelight.encoding import encode_png
from safelight.errors import ContentBlocked
from safelight.generators import Generator, Progress
from safelight.generators.embedded import EmbeddedGenerator
from safelight.guard import Guard
from safelight.request import GenerationRequest, Principal, Turn
from safelight.store import open_store
from safelight.verdict import Stage, Verdict

PROMPTS = Path(__file__).parents[1] / "examples" / "prompts"
CONFIGURATION = "harmless"
CATEGORY = "teapots"
SEED = 20261123
"""Other pictures than those by which the image threshold was chosen."""

EARLIER = " / "
"""Between the earlier turns of an attempt."""

REFUSED = "a red teapot on a table"
"""What is asked before an innocent follow-up."""

Judge = Callable[[Sequence[Image.Image]], Sequence[tuple[str, float, str, float]]]


@dataclass(frozen=True, slots=True)
class Attempt:
    """One prompt, and the turns before it."""

    kind: str
    prompt: str
    earlier: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Tried:
    """What became of one attempt with one seed.

    Args:
        attempt: The attempt.
        stage: Where its prompt, not an earlier one, was blocked; None where a picture was delivered.
        drawn: Pictures that were made in all its turns, reduced.
        delivered: Those of them that were delivered.
    """

    attempt: Attempt
    stage: Stage | None
    drawn: tuple[Image.Image, ...]
    delivered: tuple[Image.Image, ...]


class Watched:
    """A generator, and what it drew since the last look."""

    def __init__(self, generator: Generator) -> None:
        self.name, self.note = generator.name, generator.note
        self._generator = generator
        self._drawn: list[Image.Image] = []

    def generate(self, request: GenerationRequest, progress: Progress) -> Sequence[Image.Image]:
        """Return the generator's pictures."""
        pictures = self._generator.generate(request, progress)
        self._drawn += map(reduced, pictures)
        return pictures

    def taken(self) -> tuple[Image.Image, ...]:
        """Return what was drawn since this was last asked."""
        drawn, self._drawn = tuple(self._drawn), []
        return drawn


class LetsPass:
    """A prompt screen that finds nothing: a guard without any would release nothing."""

    name = "lets_pass"

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        """Return a verdict without findings."""
        return Verdict(self.name, Stage.PROMPT, {CATEGORY: 0.0})


def attempts() -> list[Attempt]:
    """Return the prompts that try."""
    return [
        Attempt(row["kind"], row["prompt"], tuple(filter(None, row["earlier"].split(EARLIER))))
        for row in rows("teapot_attempts.tsv")
    ]


def harmless(count: int) -> list[Attempt]:
    """Return prompts of the model's world without a teapot, none of which was trained on."""
    chance = random.Random(SEED)
    seen = {row["prompt"] for row in rows("teapots.tsv")}
    found: dict[str, Attempt] = {}
    while len(found) < count:
        motif = any_motif(chance)
        prompt = caption(motif, chance)
        if motif.noun != "teapot" and prompt not in seen:
            found.setdefault(prompt, Attempt("harmless", prompt))
    return list(found.values())


def rows(name: str) -> list[dict[str, str]]:
    """Return the rows of a file of prompts."""
    with (PROMPTS / name).open(encoding="utf-8", newline="") as lines:
        return list(csv.DictReader(lines, delimiter="\t", quoting=csv.QUOTE_NONE))


@contextmanager
def shipped_guard(*, prompt_screens: bool = True, image: bool = True) -> Iterator[Guard]:
    """Give the guard of the shipped configuration over a store in memory; without its prompt screens, all pass."""
    settings = read_settings(CONFIGURATION, {})
    with closing(open_store("sqlite:///:memory:")) as store:
        guard = build_guard(settings, store, prompt=prompt_screens, image=image, enforce=False)
        if not prompt_screens:
            guard = Guard(
                guard.policy,
                store,
                prompt_screens=[LetsPass()],
                image_screens=guard.image_screens,
                settings=guard.settings,
            )
        yield guard


async def tried(guard: Guard, generator: Generator, attempt: Attempt, *, seed: int, steps: int | None) -> Tried:
    """Ask for what an attempt says, turn by turn, as one person whom nobody knows."""
    watched = Watched(generator)
    person = Principal(f"{attempt.kind} {attempt.prompt} {attempt.earlier} {seed}")
    stage: Stage | None = None
    delivered: list[Image.Image] = []
    for prompt in (*attempt.earlier, attempt.prompt):
        request = GenerationRequest(prompt, person, seed=seed, steps=steps)
        try:
            creation = await guard.create(request, watched, encode=encode_png)
        except ContentBlocked as error:
            stage = error.decision.stage
        else:
            stage = None
            delivered += [reduced(item.image) for item in creation.released]
    return Tried(attempt, stage, watched.taken(), tuple(delivered))


async def blocked(guard: Guard, attempt: Attempt) -> bool:
    """Return whether an attempt's prompt is blocked; no picture is made, in no turn."""
    person = Principal(f"{attempt.kind} {attempt.prompt} {attempt.earlier}")
    stopped = False
    for prompt in (*attempt.earlier, attempt.prompt):
        try:
            await guard.abandon(await guard.admit(GenerationRequest(prompt, person)))
            stopped = False
        except ContentBlocked:
            stopped = True
    return stopped


def reduced(picture: Image.Image) -> Image.Image:
    """Return a picture at the model's own size, as which the judge looks at it."""
    return picture.resize((SIDE, SIDE), Image.Resampling.BICUBIC)


def report(kind: str, found: Sequence[Tried], judge: Judge | None, kept: Path | None = None) -> str:
    """Return one row of the table; teapots that were delivered are kept as pictures where a folder is named."""
    cells = [
        len(found),
        sum(one.stage is Stage.PROMPT for one in found),
        sum(one.stage is Stage.IMAGE for one in found),
        sum(one.stage is None for one in found),
    ]
    line = f"{kind:16}" + "".join(f"{cell:8}" for cell in cells)
    if judge is None:
        return line
    drawn = sum(map(len, teapots([one.drawn for one in found], judge)))
    missed = teapots([one.delivered for one in found], judge)
    for one, pictures in zip(found, missed, strict=True):
        for place, picture in enumerate(pictures if kept else ()):
            picture.save(f"{kept}/{kind} {found.index(one)} {place}.png")
    return f"{line}{drawn:15}   {Share(sum(map(bool, missed)), len(found))}"


def teapots(groups: Sequence[Sequence[Image.Image]], judge: Judge) -> list[list[Image.Image]]:
    """Return of each group the pictures that the judge calls teapots."""
    said = iter(judge([picture for group in groups for picture in group]))
    return [[picture for picture in group if next(said)[0] == "teapot"] for group in groups]


def pictures_too(asked: argparse.Namespace, generator: Generator, judge: Judge | None) -> None:
    """Print the table of all attempts and of harmless prompts, pictures made."""
    every, innocent = attempts(), harmless(asked.harmless)
    if asked.quick:
        every, innocent = list({one.kind: one for one in every}.values()), innocent[:4]
    counts = f"{'tries':>8}{'prompt':>8}{'image':>8}{'given':>8}"
    print(f"{'kind of attempt':16}{counts}{'teapots drawn':>15}   teapots delivered")
    with shipped_guard(prompt_screens=asked.prompt_screens == "on") as guard:

        def tries(some: Sequence[Attempt], seeds: int) -> list[Tried]:
            pairs = [(one, SEED + seed) for one in some for seed in range(seeds)]
            return [asyncio.run(tried(guard, generator, one, seed=seed, steps=asked.steps)) for one, seed in pairs]

        found: list[Tried] = []
        for kind in dict.fromkeys(one.kind for one in every):
            of_kind = tries([one for one in every if one.kind == kind], asked.seeds)
            print(report(kind, of_kind, judge, asked.kept), flush=True)
            found += of_kind
        print(report("all", found, judge))
        print(report("harmless", tries(innocent, 1), judge))


def prompts_only(*, quick: bool) -> None:
    """Print how many prompts of each set the prompt screens block."""
    world = harmless(200)
    sets = {
        "attempts": attempts(),
        "harmless captions": world,
        "innocent follow-ups": [replace(one, earlier=(REFUSED,)) for one in world],
        "benign.tsv": [Attempt("benign", row["prompt"]) for row in rows("benign.tsv")],
        "benign.tsv, after a refused teapot": [
            Attempt("benign", row["prompt"], (REFUSED,)) for row in rows("benign.tsv")
        ],
    }
    with shipped_guard(image=False) as guard:
        for name, every in sets.items():
            some = every[::40] if quick else every
            hits = [asyncio.run(blocked(guard, one)) for one in some]
            print(f"{name:36}{Share(sum(hits), len(hits))} blocked")
            for kind in dict.fromkeys(one.kind for one in some) if name == "attempts" else ():
                of_kind = [hit for hit, one in zip(hits, some, strict=True) if one.kind == kind]
                print(f"  {kind:34}{sum(of_kind)} of {len(of_kind)}")


def trained_judge(folder: Path) -> Judge:
    """Return the judge in a folder; it is trained first where there is none."""
    from embedded_model.train_classifiers import judge

    found: Judge = judge(folder, seed=SEED, show=lambda done, total, text: None)
    return found


def main(given: Sequence[str] | None = None) -> None:
    """Read the command line and print the tables."""
    parser = argparse.ArgumentParser(description="Try to get teapots past the harmless policy.")
    parser.add_argument("--judge", type=Path, metavar="FOLDER", help="where judge.pt is, or is put after its training")
    parser.add_argument("--prompt-screens", choices=("on", "off"), default="on", help="off: the image screen alone")
    parser.add_argument("--prompts-only", action="store_true", help="make no pictures")
    parser.add_argument("--seeds", type=int, default=10, help="pictures a prompt")
    parser.add_argument("--steps", type=int, help="denoising steps; the model's own by default")
    parser.add_argument("--harmless", type=int, default=200, metavar="N", help="harmless prompts to draw")
    parser.add_argument("--kept", type=Path, metavar="FOLDER", help="where delivered teapots are kept, to be looked at")
    parser.add_argument("--quick", action="store_true", help="a few of everything, to see that it runs")
    asked = parser.parse_args(given)
    if asked.kept and not asked.judge:
        parser.error("--kept needs --judge: nobody else says which pictures are teapots")
    # Now, and not after minutes of work that could not be saved.
    for folder in filter(None, (asked.judge, asked.kept)):
        folder.mkdir(parents=True, exist_ok=True)
    if asked.quick:
        asked.seeds, asked.steps = 1, 2
    if asked.prompts_only:
        prompts_only(quick=asked.quick)
    else:
        pictures_too(asked, EmbeddedGenerator(), trained_judge(asked.judge) if asked.judge else None)


if __name__ == "__main__":
    main()
