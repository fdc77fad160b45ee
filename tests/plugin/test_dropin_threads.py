"""Many calls of one guarded pipeline from many threads, with blocks and faults in between: nothing is mixed or kept."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import threading
import time
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import safelight
from fakes import SENTINEL, failed, make_guard
from safelight.creation import Admission, Reservation
from safelight.dropin.beside import Awaited, Beside
from safelight.encoding import encode_raw, sha256_hex
from safelight.errors import SafelightError, ScreeningUnavailable
from safelight.policy import Decision, Reason
from safelight.request import GenerationRequest, Turn
from safelight.verdict import Outcome, Stage, Verdict
from tiny_sdxl import tiny_sdxl

THREADS, CALLS = 8, 200
SIZE = {"height": 64, "width": 64, "num_inference_steps": 2}
USERS = ("ann", "ben", "cem")
SEEDS = (1, 2)
ALLOWED = ("a cup", "slow boat")
BLOCKED = (f"a {SENTINEL}", f"slow {SENTINEL}", "spoiled tea")
FAULTS = ("wobbly chair", "crashing chair", "slow wobbly chair")
SECOND_SPOILED = "a second house"

Key = tuple[str, int]
Pixels = np.ndarray[Any, Any]


@dataclass(frozen=True, slots=True)
class Place:
    """One picture of a call."""

    prompt: str
    number: int
    seed: int

    @property
    def may_be_shown(self) -> bool:
        return may_be_shown(self.prompt, self.number)


@dataclass(frozen=True, slots=True)
class Case:
    """One call: its prompts, and a seed for each picture of each."""

    user: str
    prompts: tuple[str, ...]
    seeds: tuple[tuple[int, ...], ...]

    @property
    def has_fault(self) -> bool:
        return any("chair" in prompt for prompt in self.prompts)

    @property
    def places(self) -> list[Place]:
        pairs = zip(self.prompts, self.seeds, strict=True)
        return [Place(prompt, number, seed) for prompt, seeds in pairs for number, seed in enumerate(seeds)]


@dataclass(frozen=True, slots=True)
class Answer:
    """What a call returned, by picture."""

    images: tuple[Image.Image, ...]
    decisions: tuple[Decision, ...]
    flags: tuple[bool, ...]


@dataclass(frozen=True, slots=True)
class Level:
    """What is there at a moment: things of calls by their types, memory, threads."""

    alive: Counter[str]
    resident_mib: float
    threads: int


@dataclass(frozen=True, slots=True)
class TurnRow:
    """A turn as the store holds it."""

    user: str
    texts: dict[str, str]
    state: str


@dataclass(frozen=True, slots=True)
class Crowd:
    """All calls, and what came of them."""

    pipe: Any
    hooks_before: int
    cases: list[Case]
    answers: list[Answer | type[BaseException]]
    levels: list[Level]  # before the first call, after the first half, after the second
    turns: dict[str, TurnRow]
    strangers: list[str]
    plain: dict[Key, Pixels]


class MoodyJudge:
    """A prompt screen that does what the prompt says, and looks whether a history holds somebody else's turns."""

    name = "judge"

    def __init__(self) -> None:
        self.strangers: list[str] = []

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        own = f" for {request.principal.id}"
        texts = [*request.texts.values(), *(text for turn in history for text in turn.texts.values())]
        self.strangers += [text for text in texts if not text.endswith(own)]
        if "slow" in request.prompt:
            await asyncio.sleep(0.03)
        if "crashing" in request.prompt:
            raise RuntimeError("out of order")
        if "wobbly" in request.prompt:
            return failed(Outcome.UNPARSABLE)
        return Verdict(self.name, Stage.PROMPT, {"sentinel": float(SENTINEL in request.prompt)})


class SpoiledScreen:
    """An image screen that finds something in every picture of some prompts, and in the second one of others."""

    name = "spoiled"

    async def screen_images(
        self, images: Sequence[Image.Image], request: GenerationRequest, history: Sequence[Turn]
    ) -> Sequence[Verdict]:
        return [
            Verdict(self.name, Stage.IMAGE, {"sentinel": float(not may_be_shown(request.prompt, number))})
            for number in range(len(images))
        ]


def may_be_shown(prompt: str, number: int) -> bool:
    return not (SENTINEL in prompt or "spoiled" in prompt or ("second" in prompt and number == 1))


def a_case(dice: random.Random, number: int) -> Case:
    """Return the call of a number: a third has something blocked, one in ten a fault; some have several prompts."""
    user = dice.choice(USERS)
    several = dice.random() < 0.2
    if number % 3 == 0:
        first = dice.choice((*BLOCKED, SECOND_SPOILED))
    else:
        first = dice.choice(FAULTS if number % 10 == 1 else ALLOWED)
    things = [first, *(dice.choices(ALLOWED, k=2) if several else [])]
    dice.shuffle(things)
    each = 2 if first == SECOND_SPOILED or (not several and dice.random() < 0.2) else 1
    prompts = tuple(f"{thing} for {user}" for thing in things)
    return Case(user, prompts, tuple(tuple(dice.choices(SEEDS, k=each)) for _ in prompts))


def called(pipe: Any, case: Case) -> Answer | type[BaseException]:
    """Make the call of a case, and return what is worth keeping of its output, or of what it raised."""
    generators = [torch.Generator().manual_seed(seed) for seeds in case.seeds for seed in seeds]
    prompts: Any = list(case.prompts) if len(case.prompts) > 1 else case.prompts[0]
    try:
        with pipe.as_user(case.user):
            # The other threads have a turn, and speak for others.
            time.sleep(0.001)
            output = pipe(prompts, num_images_per_prompt=len(case.seeds[0]), generator=generators, **SIZE)
    except SafelightError as error:
        return type(error)
    return Answer(tuple(output.images), tuple(output.decisions), tuple(output.nsfw_content_detected))


def alone(pipe: Any, prompt: str, seed: int) -> Pixels:
    return np.asarray(pipe(prompt, generator=torch.Generator().manual_seed(seed), **SIZE).images[0], int)


def plain_pictures(cases: Sequence[Case]) -> dict[Key, Pixels]:
    """Return what the plain pipeline makes of each prompt and seed that may be shown, one at a time."""
    pipe = tiny_sdxl()
    wanted = {(p.prompt, p.seed) for case in cases for p in case.places if p.may_be_shown and not case.has_fault}
    return {(prompt, seed): alone(pipe, prompt, seed) for prompt, seed in sorted(wanted)}


def level() -> Level:
    """Look at what is there, once what nobody waits for any more has ended."""
    found = alive()
    for _ in range(40):
        time.sleep(0.05)
        before, found = found, alive()
        if found == before:
            break
    pages = int(Path("/proc/self/statm").read_text().split()[1])
    return Level(found, pages * os.sysconf("SC_PAGE_SIZE") / 2**20, threading.active_count())


def alive() -> Counter[str]:
    gc.collect()
    kinds = (torch.Tensor, Admission, Reservation, Awaited, Beside, Future)
    # By type(): some things that are alive answer to isinstance() with a warning.
    return Counter(type(thing).__name__ for thing in gc.get_objects() if issubclass(type(thing), kinds))


def hooks(pipe: Any) -> int:
    return sum(len(part._forward_pre_hooks) for part in pipe.unet.modules()) + len(pipe.vae.decoder._forward_pre_hooks)


@pytest.fixture(scope="module")
def crowd(tmp_path_factory: pytest.TempPathFactory) -> Crowd:
    """Make all calls, in two halves with a look at what is alive after each."""
    dice = random.Random(20261122)
    cases = [a_case(dice, number) for number in range(CALLS)]
    judge = MoodyJudge()
    path = tmp_path_factory.mktemp("store") / "turns.db"
    guard = make_guard(prompt_screens=[judge], image_screens=[SpoiledScreen()], path=path)
    pipe = safelight.protect(tiny_sdxl(), guard)
    hooked = hooks(pipe)
    answers: list[Answer | type[BaseException]] = []
    levels = [level()]
    with ThreadPoolExecutor(THREADS) as pool:
        for half in (cases[: CALLS // 2], cases[CALLS // 2 :]):
            answers += pool.map(partial(called, pipe), half, timeout=300)
            levels.append(level())
    rows = guard.store.transact(
        lambda run: run("SELECT request_id, principal, texts, state FROM turns", {}), write=False
    )
    turns = {row["request_id"]: TurnRow(row["principal"], json.loads(row["texts"]), row["state"]) for row in rows}
    return Crowd(pipe, hooked, cases, answers, levels, turns, judge.strangers, plain_pictures(cases))


def test_the_crowd_is_a_mixed_one(crowd: Crowd) -> None:
    cases = crowd.cases
    assert len(cases) == CALLS
    assert CALLS / 3 <= sum(not all(place.may_be_shown for place in case.places) for case in cases) <= CALLS / 2
    assert sum(case.has_fault for case in cases) >= 10
    assert sum(len(case.prompts) > 1 for case in cases) >= 30
    assert sum(len(case.seeds[0]) > 1 for case in cases) >= 30
    # No two pictures are so much alike that one could stand for another.
    assert min(np.abs(a - b).max() for a, b in combinations(crowd.plain.values(), 2)) > 20


def test_every_picture_is_the_plain_one_of_its_prompt_and_seed_or_black(crowd: Crowd) -> None:
    for case, answer in zip(crowd.cases, crowd.answers, strict=True):
        if case.has_fault:
            continue
        assert isinstance(answer, Answer), (case, answer)
        assert answer.flags == tuple(not place.may_be_shown for place in case.places)
        for place, image in zip(case.places, answer.images, strict=True):
            if not place.may_be_shown:
                assert image.getextrema() == ((0, 0),) * 3
                continue
            # In a batch, sums are made in another order.
            tolerance = 0 if len(case.places) == 1 else 1
            assert np.abs(np.asarray(image, int) - crowd.plain[place.prompt, place.seed]).max() <= tolerance


def test_every_ruling_is_about_the_picture_and_the_person_it_stands_with(crowd: Crowd) -> None:
    for case, answer in zip(crowd.cases, crowd.answers, strict=True):
        if not isinstance(answer, Answer):
            continue
        for place, image, decision in zip(case.places, answer.images, answer.decisions, strict=True):
            turn = crowd.turns[decision.request_id]
            assert (turn.user, turn.texts["prompt"]) == (case.user, place.prompt)
            assert decision.reason is (Reason.CLEAR if place.may_be_shown else Reason.CATEGORY)
            if decision.allows:
                assert decision.image_sha256 == sha256_hex(encode_raw(image).data)


def test_a_fault_of_a_judge_is_raised_and_only_there(crowd: Crowd) -> None:
    raised = [answer if isinstance(answer, type) else None for answer in crowd.answers]
    assert raised == [ScreeningUnavailable if case.has_fault else None for case in crowd.cases]


def test_every_turn_is_settled_as_it_was_ruled(crowd: Crowd) -> None:
    found = Counter((turn.user, turn.texts["prompt"]) for turn in crowd.turns.values())
    assert found == Counter((case.user, prompt) for case in crowd.cases for prompt in case.prompts)
    assert {turn.state for turn in crowd.turns.values()} == {"allow", "block", "fault"}
    for turn in crowd.turns.values():
        prompt = turn.texts["prompt"]
        if "chair" in prompt:
            assert turn.state == "fault"
        elif not Place(prompt, 1, 0).may_be_shown:
            assert turn.state == "block"
        else:
            # Beside a fault in the same call, an allowed prompt has no pictures either.
            assert turn.state in {"allow", "fault"}


def test_nobody_is_judged_by_the_history_of_another(crowd: Crowd) -> None:
    assert crowd.strangers == []


def test_nothing_of_a_call_is_kept(crowd: Crowd) -> None:
    before, first, second = crowd.levels
    # What a model is given or makes once stays, such as the schedule of the last call.
    assert set(first.alive - before.alive) <= {"Tensor"}
    assert not second.alive - first.alive
    assert second.resident_mib - first.resident_mib < 32
    # The callers, the workers of the guard's loop, in which the store is asked, and one that tqdm starts.
    assert second.threads - before.threads <= THREADS + min(32, (os.cpu_count() or 1) + 4) + 1


def test_the_pipeline_is_as_it_was_before_the_crowd(crowd: Crowd) -> None:
    (prompt, seed), picture = next(iter(crowd.plain.items()))
    assert hooks(crowd.pipe) == crowd.hooks_before
    assert np.array_equal(alone(crowd.pipe, prompt, seed), picture)
    assert crowd.pipe.scheduler.step_index == SIZE["num_inference_steps"]
