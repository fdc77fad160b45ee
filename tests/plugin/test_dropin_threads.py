"""Many calls of one guarded pipeline from many threads, with blocks and faults among them: nothing is mixed up or kept."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import random
import threading
from collections import Counter
from collections.abc import Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
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
from safelight.errors import ScreeningUnavailable
from safelight.guard import Guard
from safelight.policy import Reason
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
class Case:
    """One call: its prompts, and a seed for each picture of each."""

    user: str
    prompts: tuple[str, ...]
    seeds: tuple[tuple[int, ...], ...]

    @property
    def has_fault(self) -> bool:
        return any("chair" in prompt for prompt in self.prompts)


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


def called(pipe: Any, case: Case) -> Any:
    """Make the call of a case, and return its output."""
    generators = [torch.Generator().manual_seed(seed) for seeds in case.seeds for seed in seeds]
    prompts: Any = list(case.prompts) if len(case.prompts) > 1 else case.prompts[0]
    with pipe.as_user(case.user):
        return pipe(prompts, num_images_per_prompt=len(case.seeds[0]), generator=generators, **SIZE)


def plain_pictures(cases: Sequence[Case]) -> dict[Key, Pixels]:
    """Return what the plain pipeline makes of each prompt and seed that may be shown, one at a time."""
    pipe = tiny_sdxl()
    wanted = {
        (prompt, seed): None
        for case in cases
        for prompt, seeds in zip(case.prompts, case.seeds, strict=True)
        for number, seed in enumerate(seeds)
        if may_be_shown(prompt, number) and not case.has_fault
    }
    return {
        (prompt, seed): np.asarray(pipe(prompt, generator=torch.Generator().manual_seed(seed), **SIZE).images[0], int)
        for prompt, seed in wanted
    }


def check_output(case: Case, output: Any, plain: dict[Key, Pixels], turns: dict[str, tuple[str, str]]) -> None:
    """Hold every picture of an output against its prompt's, and every ruling against its turn."""
    places = [
        (prompt, number, seed)
        for prompt, seeds in zip(case.prompts, case.seeds, strict=True)
        for number, seed in enumerate(seeds)
    ]
    assert len(output.images) == len(output.decisions) == len(places)
    for (prompt, number, seed), image, decision in zip(places, output.images, output.decisions, strict=True):
        shown = may_be_shown(prompt, number)
        assert turns[decision.request_id] == (case.user, prompt)
        assert decision.allows is shown
        if shown:
            assert decision.image_sha256 == sha256_hex(encode_raw(image).data)
            assert np.abs(np.asarray(image, int) - plain[prompt, seed]).max() <= 1
        else:
            assert decision.reason is Reason.CATEGORY
            assert image.getextrema() == ((0, 0),) * 3
    assert output.nsfw_content_detected == [not may_be_shown(prompt, number) for prompt, number, _ in places]


def turns_of(guard: Guard) -> list[dict[str, Any]]:
    return guard.store.transact(lambda run: run("SELECT request_id, principal, texts, state FROM turns", {}), write=False)


def check_turns(cases: Sequence[Case], rows: Sequence[dict[str, Any]]) -> None:
    """Look that every prompt of every call has its turn, settled as it was ruled, under the name of who asked."""
    found = Counter((row["principal"], json.loads(row["texts"])["prompt"]) for row in rows)
    assert found == Counter((case.user, prompt) for case in cases for prompt in case.prompts)
    sound = {prompt for case in cases if not case.has_fault for prompt in case.prompts}
    for row in rows:
        prompt = json.loads(row["texts"])["prompt"]
        if "chair" in prompt:
            assert row["state"] == "fault"
        elif prompt.startswith(BLOCKED):
            assert row["state"] == "block"
        else:
            # A picture that was blocked makes its turn a block; a fault beside it makes it a fault.
            assert row["state"] in {"allow", "block" if "second" in prompt else "fault"}
            assert row["state"] == "allow" or "second" in prompt or prompt in sound


def alive() -> Counter[str]:
    """Return how many things that belong to a single call exist."""
    gc.collect()
    kinds = (torch.Tensor, Admission, Reservation, Awaited, Beside, Future)
    things = (thing for thing in gc.get_objects() if issubclass(type(thing), kinds))
    return Counter("Tensor" if issubclass(type(thing), torch.Tensor) else type(thing).__name__ for thing in things)


def resident_mib() -> float:
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 2**20


def test_x(tmp_path: Path) -> None:
    dice = random.Random(20261122)
    cases = [a_case(dice, number) for number in range(CALLS)]
    print(Counter(c.has_fault for c in cases), Counter(len(c.prompts) for c in cases), Counter(len(c.seeds[0]) for c in cases))
    import time; t=time.process_time(); w=time.time()
    plain = plain_pictures(cases)
    print(len(plain), time.process_time()-t)
    judge = MoodyJudge()
    guard = make_guard(prompt_screens=[judge], image_screens=[SpoiledScreen()], path=tmp_path / "turns.db")
    pipe = safelight.protect(tiny_sdxl(), guard)
    levels=[]
    with ThreadPoolExecutor(THREADS) as pool:
        for half in range(4):
            mine = cases[half*50:half*50+50]
            futures = [pool.submit(called, pipe, case) for case in mine]
            answers = [f.exception(timeout=120) or f.result() for f in futures]
            rows = turns_of(guard)
            turns = {r["request_id"]: (r["principal"], json.loads(r["texts"])["prompt"]) for r in rows}
            for case, a in zip(mine, answers):
                if case.has_fault:
                    assert isinstance(a, ScreeningUnavailable), a
                else:
                    if isinstance(a, BaseException): raise a
                    check_output(case, a, plain, turns)
            del futures, answers, a
            print(alive(), resident_mib(), threading.active_count(), time.process_time()-t, time.time()-w)
    check_turns(cases, turns_of(guard))
    print(Counter(r["state"] for r in rows))
    assert judge.strangers == []
