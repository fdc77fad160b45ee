"""Runs a documented snippet of diffusers on a plain tiny pipeline and on a guarded one, and compares what they give."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from functools import cache
from typing import Any

import numpy as np
import torch

import safelight
import tiny_pipelines
from fakes import SENTINEL, MarkerScreen, make_guard
from safelight.guard import Guard
from safelight.request import GenerationRequest, Turn
from safelight.verdict import Stage, Verdict

PROMPT = "a cup of tea on a table"
FORBIDDEN = f"a {SENTINEL} on a table"

Snippet = Callable[[Any, str], Any]
"""Takes a pipeline and a prompt, and returns pictures in whatever form the snippet gets them."""


class LateJudge:
    """A prompt screen that answers when it is told to, and not before."""

    name = "late"

    def __init__(self) -> None:
        self.may_answer = threading.Event()

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        import asyncio

        # The limit is for a test that fails: it should end.
        await asyncio.to_thread(self.may_answer.wait, 20)
        found = any(SENTINEL in text for text in request.texts.values())
        return Verdict(self.name, Stage.PROMPT, {"sentinel": float(found)}, model="fake")


def guarded(pipe: Any, **protecting: Any) -> Any:
    """Return the pipeline, guarded by new fakes that look for the sentinel and for the marker."""
    return safelight.protect(pipe, make_guard(), **protecting)


@cache
def kept_plain(name: str) -> Any:
    """Return a plain pipeline that all tests share: they may call it, and change nothing about it."""
    return build(name)


@cache
def kept_sealed(name: str) -> Any:
    """Return another one that is guarded, and guarded anew by each test: they may call it, and change nothing more."""
    return guarded(build(name))


def same(name: str, snippet: Snippet, *, fresh: bool = False, **protecting: Any) -> Any:
    """Check that a snippet gives, guarded, what it gives plain, bit for bit, and that its pictures were looked at.

    The guarded pipeline is returned, as the snippet left it.

    Args:
        name: Of the pipeline, in ``tiny_pipelines.BUILDERS``.
        snippet: What is run on both.
        fresh: Whether it changes the pipeline, so that it needs one of its own.
        protecting: Passed on to ``protect``.
    """
    plain = arrays(snippet(build(name) if fresh else kept_plain(name), PROMPT))
    marker = MarkerScreen()
    own = make_guard(image_screens=[marker])
    pipe = safelight.protect(build(name) if fresh else kept_sealed(name), own, **protecting)
    ours = arrays(snippet(pipe, PROMPT))
    assert len(ours) == len(plain)
    assert all(np.array_equal(one, other) for one, other in zip(ours, plain, strict=True))
    # Else it would be no wonder that black is like black.
    assert all(one.any() for one in plain)
    assert marker.seen
    return pipe


def withheld(name: str, snippet: Snippet, *, fresh: bool = False, **protecting: Any) -> None:
    """Check that a snippet that asks for what is forbidden shows nothing: every number of every picture is nought."""
    pipe = guarded(build(name) if fresh else kept_sealed(name), **protecting)
    found = arrays(snippet(pipe, FORBIDDEN))
    assert found and not any(one.any() for one in found)


def build(name: str) -> Any:
    return tiny_pipelines.BUILDERS[name]()


def seed(number: int = 0) -> torch.Generator:
    return torch.Generator("cpu").manual_seed(number)


def arrays(given: Any) -> list[np.ndarray[Any, Any]]:
    """Return one array a picture, from an output, a tuple, a list, a batch or one picture."""
    if hasattr(given, "images"):
        given = given.images
    if isinstance(given, tuple):
        given = given[0]
    if isinstance(given, list):
        return [array for one in given for array in arrays(one)]
    array = given.numpy() if isinstance(given, torch.Tensor) else np.asarray(given)
    return list(array) if array.ndim == 4 else [array]


def is_black(given: Any) -> bool:
    return not any(array.any() for array in arrays(given))


def guard_with(judge: object) -> Guard:
    return make_guard(prompt_screens=[judge])
