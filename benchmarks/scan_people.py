"""Made-up people for ``scan_cost.py``: an ordinary crowd with real local scores, and a labelled set with a sentinel.

The prompts are the benign suite's (``examples/prompts/benign.tsv``, 12 languages, 24 tokens on average). Their local
risk is what the screen that ships (``sentence_head``) says of each. How people come and go is assumed: ``_times``.
"""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from safelight.policy import Action
from safelight.request import GenerationRequest, History, Principal, Turn
from safelight.screens.sentence_head import SentenceHeadScreen
from safelight.store.turns import RISKIEST

NOW = datetime(2026, 11, 22, 12, 0, tzinfo=UTC)
SENTINEL = "zorblax"
SHOWN = 20
"""The newest turns that a store is asked for."""

SUSPECTED = 4
"""People of every hundred whom the local screen suspects: an assumption, since real crowds are not at hand. The suite
is harmless, and the screen finds next to nothing in it. The cascade's price is in proportion to this."""

_SUITE = Path(__file__).parents[1] / "examples" / "prompts" / "benign.tsv"

Past = list[Turn]
"""All turns of a person, oldest first."""


def local_scores() -> dict[str, float]:
    """Return each prompt of the benign suite with the highest score that the local screen gives it."""
    prompts = [line.split("\t")[2] for line in _SUITE.read_text("utf-8").splitlines()[1:]]
    screen = SentenceHeadScreen()

    async def judge() -> dict[str, float]:
        found = {}
        for prompt in prompts:
            verdict = await screen.screen_prompt(GenerationRequest(prompt, Principal("nobody")), ())
            found[prompt] = max(verdict.scores.values())
        return found

    return asyncio.run(judge())


def crowd(count: int, scores: Mapping[str, float], *, seed: int = 1) -> list[History]:
    """Return the histories of ordinary people, as a store would give them. Each has 20 requests or more.

    Of every hundred, ``SUSPECTED`` have one request that the local screen scored 0.6, somewhere in their past.
    """
    dice = random.Random(seed)
    people = []
    for place in range(count):
        past = benign(dice, scores, 20 + int(dice.paretovariate(1.2)))
        if place % 100 < SUSPECTED:
            odd = dice.randrange(len(past))
            past[odd] = replace(past[odd], risk=0.6)
        people.append(history(past))
    return people


def benign(dice: random.Random, scores: Mapping[str, float], count: int) -> Past:
    """Return the past of one person who asks for ordinary things."""
    prompts = dice.choices(list(scores), k=min(count, 400))
    return [
        Turn({"prompt": prompt}, at, Action.ALLOW, scores[prompt])
        for prompt, at in zip(prompts, _times(dice, len(prompts)), strict=True)
    ]


def _times(dice: random.Random, count: int) -> list[datetime]:
    # The newest request up to 30 days ago; before it one every few minutes, and a day or more between sessions.
    at = NOW - timedelta(days=dice.uniform(0, 30))
    found = [at]
    for _ in range(count - 1):
        gap = timedelta(days=dice.expovariate(0.5)) if dice.random() < 0.2 else timedelta(minutes=dice.uniform(1, 20))
        at -= gap
        found.append(at)
    return found[::-1]


def history(past: Past) -> History:
    """Return what a store would give of a past: the newest turns, the riskiest before them, and counts."""
    newest, older = past[-SHOWN:], past[:-SHOWN]
    risky = sorted((turn for turn in older if turn.risk >= 0.3), key=lambda turn: turn.risk)[-RISKIEST:]
    run = 0
    for turn in reversed(past):
        if turn.action is not Action.ALLOW:
            break
        run += 1
    return History(
        turns=tuple(newest),
        riskiest=tuple(sorted(risky, key=lambda turn: turn.at)),
        total=len(past),
        blocked=sum(turn.action is Action.BLOCK for turn in past),
        clean_run=run,
    )


@dataclass(frozen=True, slots=True)
class Kind:
    """A way in which the sentinel stands in a person's past. ``place`` puts it there; ``seen`` is by local screens."""

    name: str
    place: Callable[[Past, random.Random, bool], Past]
    length: int = 40


def _say(turn: Turn, text: str, seen: bool) -> Turn:
    return replace(turn, texts={"prompt": text}, risk=0.9 if seen else turn.risk)


def _with_word(turn: Turn, word: str, seen: bool) -> Turn:
    return _say(turn, f"{turn.texts['prompt']}, {word}", seen)


def _one(low: int, high: int) -> Callable[[Past, random.Random, bool], Past]:
    """The sentinel once, ``low`` to ``high`` turns before the newest."""

    def place(past: Past, dice: random.Random, seen: bool) -> Past:
        back = -1 - dice.randint(low, high)
        return [*past[:back], _with_word(past[back], SENTINEL, seen), *past[len(past) + back + 1 :]]

    return place


def _split(gap_low: int, gap_high: int) -> Callable[[Past, random.Random, bool], Past]:
    """Begun in one turn and completed in a later one among the newest three; only that one is locally suspicious."""

    def place(past: Past, dice: random.Random, seen: bool) -> Past:
        last = len(past) - 1 - dice.randint(0, 2)
        first = max(last - dice.randint(gap_low, gap_high), 0)
        changed = list(past)
        changed[first] = _with_word(past[first], "zor-", False)
        changed[last] = _with_word(past[last], "-blax", seen)
        return changed

    return place


def _long(chars: int) -> Callable[[Past, random.Random, bool], Past]:
    """In the middle of one of the newest three, amid so many characters."""

    def place(past: Past, dice: random.Random, seen: bool) -> Past:
        back = -1 - dice.randint(0, 2)
        filling = ", ".join(turn.texts["prompt"] for turn in dice.choices(past, k=chars // 20))
        text = f"{filling[: chars // 2]} {SENTINEL} {filling[-chars // 2 :]}"
        return [*past[:back], _say(past[back], text, seen), *past[len(past) + back + 1 :]]

    return place


def _blocked(past: Past, dice: random.Random, seen: bool) -> Past:
    """Only in turns that were blocked, up to 39 turns ago."""
    changed = list(past)
    for place in dice.sample(range(len(past)), 2):
        changed[place] = replace(_with_word(past[place], SENTINEL, True), action=Action.BLOCK, risk=1.0)
    return changed


KINDS = (
    Kind("plain, in the newest 3", _one(0, 2)),
    Kind("plain, 4 to 20 requests ago", _one(3, 19)),
    Kind("plain, 21 to 199 requests ago", _one(20, 199), length=200),
    Kind("split over 2 neighbours", _split(1, 1)),
    Kind("split, 2 to 9 requests between", _split(2, 9)),
    Kind("amid 1,000 characters, newest 3", _long(1_000)),
    Kind("amid 3,500 characters, newest 3", _long(3_500)),
    Kind("only in blocked requests", _blocked),
)


def labelled(kind: Kind, count: int, scores: Mapping[str, float], *, seen: bool, seed: int = 2) -> Sequence[History]:
    """Return people of one kind.

    Args:
        kind: How the sentinel stands in their past.
        count: How many.
        scores: Prompts with their local scores.
        seen: Whether the local screens gave the turn that shows it 0.9; if not, only what they gave the rest of it.
        seed: Of the dice.
    """
    dice = random.Random(f"{seed}{kind.name}{seen}")
    found = []
    for _ in range(count):
        past = benign(dice, scores, kind.length)
        found.append(history(kind.place(past, dice, seen)))
    return found
