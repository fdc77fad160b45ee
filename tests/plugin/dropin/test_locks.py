"""Who waits for whom: pipelines that share a part, calls within calls, and copies."""

from __future__ import annotations

import copy
import gc
import json
import pickle
import threading
import weakref
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import DDIMScheduler, StableDiffusionXLImg2ImgPipeline
from diffusers.models.controlnets import MultiControlNetModel
from peft import LoraConfig, get_peft_model

import safelight
import tiny_parts as parts
from fakes import make_guard
from safelight.dropin.locks import held, parts_with_state
from safelight.dropin.seals import lock_of
from safelight.errors import GenerationFailed
from safelight.store.sqlite import SQLiteStore
from tiny_pipelines import flux, inputs, sdxl

STEPS = 2
SIZE: dict[str, Any] = {"height": 64, "width": 64, "num_inference_steps": STEPS}


class Pipe:
    """What a pipeline is to its locks: attributes."""

    def __init__(self, **components: Any) -> None:
        self.__dict__.update(components)


class Slotted:
    """A scheduler that nobody can have a weak reference to."""

    __slots__ = ()

    def set_timesteps(self) -> None: ...


class Unhashable:
    """A scheduler that has no hash, and is equal to all of its kind."""

    __hash__ = None  # type: ignore[assignment]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Unhashable)

    def set_timesteps(self) -> None: ...


def is_free(pipe: Any) -> bool:
    """Return whether another thread could have the pipeline now."""

    def ask() -> bool:
        try:
            with held(parts_with_state(pipe), wait=False):
                return True
        except GenerationFailed:
            return False

    with ThreadPoolExecutor(1) as other:
        return other.submit(ask).result(30)


def in_threads(*acts: Callable[[], Any]) -> list[Any]:
    """Run each in a thread, and return what they return."""
    with ThreadPoolExecutor(len(acts)) as threads:
        return [future.result(60) for future in [threads.submit(act) for act in acts]]


@pytest.fixture(scope="module")
def whole() -> dict[str, Any]:
    return dict(sdxl().components)


@pytest.mark.parametrize("name", ["unet", "vae", "text_encoder_2", "tokenizer", "scheduler"])
def test_pipelines_that_share_one_part_take_turns(whole: dict[str, Any], name: str) -> None:
    one, other = Pipe(**whole), Pipe(**{name: whole[name]})
    with lock_of(other):
        assert not is_free(one)
    with lock_of(one):
        assert not is_free(other)
    assert is_free(one)
    assert is_free(other)


def test_pipelines_of_which_each_has_its_own_parts_do_not_wait(whole: dict[str, Any]) -> None:
    with lock_of(Pipe(**whole)):
        assert is_free(sdxl())


def test_an_image_processor_keeps_nothing_and_is_shared_freely() -> None:
    extractor = parts.feature_extractor()
    with lock_of(Pipe(unet=parts.unet(), feature_extractor=extractor)):
        assert is_free(Pipe(unet=parts.unet(), feature_extractor=extractor))


def test_the_tokenizer_inside_a_processor_counts(whole: dict[str, Any]) -> None:
    with lock_of(Pipe(processor=Pipe(tokenizer=whole["tokenizer"]))):
        assert not is_free(Pipe(tokenizer=whole["tokenizer"]))


def _compiled(model: Any) -> Any:
    return torch.compile(model, backend="eager")


def _adapted(model: Any) -> Any:
    return get_peft_model(model, LoraConfig(r=2, target_modules=["to_q"]))


@pytest.mark.parametrize(
    "wrap",
    [_compiled, torch.nn.DataParallel, _adapted, lambda model: _compiled(_adapted(model))],
    ids=["compiled", "parallel", "peft", "both"],
)
def test_a_wrapped_model_shares_the_lock_of_what_it_wraps(wrap: Callable[[Any], Any]) -> None:
    model = parts.unet()
    wrapped = wrap(model)
    with lock_of(Pipe(unet=wrapped)):
        assert not is_free(Pipe(unet=model))
    with lock_of(Pipe(unet=model)):
        assert not is_free(Pipe(unet=wrapped))


def test_several_controlnets_in_one_count_each() -> None:
    model = parts.unet()
    nets = [parts.controlnet(model), parts.controlnet(model)]
    with lock_of(Pipe(controlnet=MultiControlNetModel(nets))):
        assert not is_free(Pipe(controlnet=nets[1]))


@pytest.mark.parametrize("kind", [Slotted, Unhashable])
def test_parts_without_weak_references_or_hashes_have_locks(kind: type[Any]) -> None:
    shared = kind()
    with lock_of(Pipe(scheduler=shared)):
        assert not is_free(Pipe(scheduler=shared))
    with lock_of(Pipe(scheduler=Unhashable())):
        assert is_free(Pipe(scheduler=Unhashable()))


def test_copies_and_pickles_have_locks_of_their_own(whole: dict[str, Any]) -> None:
    pipe = Pipe(scheduler=whole["scheduler"], tokenizer=whole["tokenizer"], unet=whole["unet"])
    with lock_of(pipe):
        copied, pickled = copy.deepcopy(pipe), pickle.loads(pickle.dumps(pipe))
        assert is_free(copied)
        assert is_free(pickled)
        assert not is_free(copy.copy(pipe))


def test_a_lock_keeps_no_part_alive() -> None:
    scheduler, model = DDIMScheduler(), parts.unet()
    with lock_of(Pipe(scheduler=scheduler, unet=model)):
        dying = [weakref.ref(part) for part in (scheduler, model)]
    del scheduler, model
    gc.collect()
    assert [reference() for reference in dying] == [None, None]


def test_the_same_thread_may_take_the_lock_again(whole: dict[str, Any]) -> None:
    pipe = Pipe(**whole)
    with lock_of(pipe), lock_of(pipe):
        assert not is_free(pipe)
    assert is_free(pipe)


def test_an_error_inside_frees_the_parts(whole: dict[str, Any]) -> None:
    pipe = Pipe(**whole)
    with pytest.raises(KeyError), lock_of(pipe):
        raise KeyError
    assert is_free(pipe)


def test_the_order_of_the_parts_is_of_no_account() -> None:
    one, two = DDIMScheduler(), DDIMScheduler()

    def take(*both: Any) -> None:
        for _ in range(2000):
            with held(both, wait=True):
                pass

    in_threads(lambda: take(one, two), lambda: take(two, one))


# Through protect().


def picture(pipe: Any, kwargs: dict[str, Any]) -> Any:
    return np.array(pipe(**kwargs | {"output_type": "np"}, generator=torch.Generator().manual_seed(1)).images)


# Diffusers' own way to make an autoencoder wider.
@pytest.mark.filterwarnings("ignore:.upcast_vae:FutureWarning")
@pytest.mark.parametrize("shared", ["scheduler", "vae", "text_encoder"])
def test_pipelines_with_a_part_in_common_make_the_same_pictures_side_by_side_as_alone(shared: str) -> None:
    guard = make_guard()
    first, own = sdxl(), sdxl().components
    if shared == "vae":
        # It is made wider for the time of decoding.
        first = first.to(torch.float16)
        own = {name: part.half() if isinstance(part, torch.nn.Module) else part for name, part in own.items()}
        first.vae.register_to_config(force_upcast=True)
    second = StableDiffusionXLImg2ImgPipeline(**own | {shared: getattr(first, shared)}, add_watermarker=False)
    second.set_progress_bar_config(disable=True)
    pairs = [
        (safelight.protect(first, guard), inputs("sdxl")),
        (safelight.protect(second, guard), inputs("sdxl_img2img")),
    ]
    alone = [picture(pipe, kwargs) for pipe, kwargs in pairs]
    found = in_threads(*(lambda pair=pair: [picture(*pair) for _ in range(4)] for pair in pairs))
    for pictures, expected in zip(found, alone, strict=True):
        assert all(np.array_equal(made, expected) for made in pictures)


def test_callbacks_that_call_one_anothers_pipelines_are_refused_instead_of_waiting_for_ever() -> None:
    store = SQLiteStore(":memory:")
    guard = make_guard(store=store)
    pipes = [safelight.protect(sdxl(), guard) for _ in range(2)]
    meeting = threading.Barrier(2, timeout=30)
    refused: list[str] = []

    def call(own: Any, other: Any) -> list[bool]:
        def visit(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
            if step == 0:
                meeting.wait()
                with pytest.raises(GenerationFailed, match="inside another guarded call") as error:
                    other("an inner call", **SIZE)
                refused.append(str(error.value))
                meeting.wait()
            return tensors

        return list(own("a cup", callback_on_step_end=visit, **SIZE).nsfw_content_detected)

    assert in_threads(lambda: call(*pipes), lambda: call(*reversed(pipes))) == [[False], [False]]
    assert len(refused) == 2
    # The turns of the refused calls are settled, and are nobody's fault but ours.
    rows = store.transact(lambda run: run("SELECT texts, state FROM turns", {}), write=False)
    states = {(json.loads(row["texts"])["prompt"], row["state"]) for row in rows}
    assert {state for _, state in states} <= {"allow", "fault"}
    assert {prompt for prompt, _ in states} == {"a cup", "an inner call"}


def test_a_callback_may_call_another_pipeline_that_is_free() -> None:
    guard = make_guard()
    outer, inner = safelight.protect(sdxl(), guard), safelight.protect(flux(), guard)
    made: list[Any] = []

    def visit(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        made.extend(inner("tea", **SIZE).images)
        return tensors

    assert outer("a cup", callback_on_step_end=visit, **SIZE).nsfw_content_detected == [False]
    assert len(made) == STEPS


def test_a_call_that_is_in_no_other_one_waits() -> None:
    pipe = safelight.protect(sdxl(), make_guard())
    with ThreadPoolExecutor(1) as other:
        with lock_of(pipe):
            waiting = other.submit(lambda: pipe("a cup", **SIZE).nsfw_content_detected)
            with pytest.raises(TimeoutError):
                waiting.result(0.2)
        assert waiting.result(30) == [False]
