"""The judge at work beside the pipeline: what may run ahead of it, and what waits."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.callbacks import MultiPipelineCallbacks, PipelineCallback, SDXLCFGCutoffCallback

import safelight
from fakes import SENTINEL, MarkerScreen, failed, make_guard
from safelight.dropin.sealed import SealedTensor
from safelight.errors import ContentBlocked, ScreeningUnavailable, UnjudgedChannel
from safelight.guard import Guard
from safelight.policy import Action
from safelight.request import GenerationRequest, Turn
from safelight.verdict import Outcome, Stage, Verdict
from tiny_pipelines import refiner, sd15, sdxl, sdxl_img2img
from tiny_sdxl import tiny_sdxl

STEPS = 6
SIZE: dict[str, Any] = {"height": 64, "width": 64, "num_inference_steps": STEPS}


class LateJudge:
    """A judge that answers once it is told to, and counts how often it was asked."""

    name = "late"

    def __init__(self, answer: Callable[[GenerationRequest], Verdict] | None = None) -> None:
        self.go = threading.Event()
        self.called = threading.Event()
        self.asked = 0
        self._answer = answer

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        self.asked += 1
        self.called.set()
        assert await asyncio.to_thread(self.go.wait, 30)
        if self._answer is not None:
            return self._answer(request)
        return Verdict(self.name, Stage.PROMPT, {"sentinel": float(SENTINEL in request.prompt)})


class Watched:
    """A pipeline whose steps and decodings are counted, and that lets the judge answer at a step."""

    def __init__(
        self,
        pipe: Any,
        judge: LateJudge | None = None,
        *,
        go_at: int | None = None,
        until: Callable[[], bool] | None = None,
    ) -> None:
        self.steps = 0
        self.decodings = 0
        self.stepped = threading.Condition()
        self._judge = judge
        self._go_at = go_at
        self._until = until
        pipe.unet.register_forward_hook(self._after_step)
        pipe.vae.decoder.register_forward_hook(self._after_decoding)

    def _after_step(self, *args: Any) -> None:
        with self.stepped:
            self.steps += 1
            self.stepped.notify_all()
        if self._judge is None or self._go_at is None or self.steps < self._go_at:
            return
        self._judge.go.set()
        # The steps of a tiny model may all be over before a slow machine has written a ruling down, and handed it on.
        while self._until is not None:
            time.sleep(0.01)
            if self._until():
                break

    def _after_decoding(self, *args: Any) -> None:
        self.decodings += 1

    def wait_for_step(self, step: int) -> bool:
        with self.stepped:
            return self.stepped.wait_for(lambda: self.steps >= step, timeout=30)


@pytest.fixture
def pipe() -> Any:
    return tiny_sdxl()


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def same(one: Any, other: Any) -> bool:
    return np.array_equal(np.asarray(one), np.asarray(other))


def is_black(image: Any) -> bool:
    return bool(np.asarray(image).max() == 0)


def is_blocked(guard: Guard) -> bool:
    return guard.store.history(safelight.Principal("local"), limit=9).blocked > 0


@pytest.mark.parametrize("go_at", [1, STEPS - 1, STEPS])
def test_an_allow_at_any_step_gives_the_plain_picture(pipe: Any, go_at: int) -> None:
    plain = pipe("a cup", generator=seeded(), **SIZE).images[0]
    judge = LateJudge()
    safelight.protect(pipe, make_guard(prompt_screens=[judge]))
    watched = Watched(pipe, judge, go_at=go_at)
    output = pipe("a cup", generator=seeded(), **SIZE)
    assert same(output.images[0], plain)
    assert (watched.steps, watched.decodings, judge.asked) == (STEPS, 1, 1)


def test_every_step_runs_ahead_of_a_slow_judge_and_no_latent_is_decoded_before_it_answers(pipe: Any) -> None:
    judge = LateJudge()
    safelight.protect(pipe, make_guard(prompt_screens=[judge]))
    watched = Watched(pipe)
    outputs: list[Any] = []
    call = threading.Thread(target=lambda: outputs.append(pipe("a cup", **SIZE)))
    call.start()
    assert watched.wait_for_step(STEPS)
    call.join(0.2)
    assert call.is_alive()
    assert watched.decodings == 0
    judge.go.set()
    call.join(30)
    assert watched.decodings == 1
    assert outputs[0].nsfw_content_detected == [False]


def test_a_block_stops_the_pipeline_before_its_end_and_decodes_nothing(pipe: Any) -> None:
    judge = LateJudge()
    guard = make_guard(prompt_screens=[judge])
    safelight.protect(pipe, guard)
    watched = Watched(pipe, judge, go_at=2, until=lambda: is_blocked(guard))
    output = pipe(SENTINEL, **{**SIZE, "num_inference_steps": 40})
    assert output.nsfw_content_detected == [True]
    assert is_black(output.images[0])
    assert 2 <= watched.steps < 40
    assert watched.decodings == 0


def test_a_block_after_the_last_step_decodes_nothing(pipe: Any) -> None:
    judge = LateJudge()
    safelight.protect(pipe, make_guard(prompt_screens=[judge]))
    watched = Watched(pipe, judge, go_at=STEPS)
    assert pipe(SENTINEL, **SIZE).nsfw_content_detected == [True]
    assert (watched.steps, watched.decodings) == (STEPS, 0)


@pytest.mark.parametrize("go_at", [2, STEPS])
def test_a_fault_of_the_judge_ends_the_call_and_closes_the_turn(pipe: Any, go_at: int) -> None:
    judge = LateJudge(answer=lambda request: failed(Outcome.TIMEOUT, "late"))
    guard = make_guard(prompt_screens=[judge])
    safelight.protect(pipe, guard)
    watched = Watched(pipe, judge, go_at=go_at)
    with pytest.raises(ScreeningUnavailable):
        pipe(["a cup", "a boat"], **SIZE)
    assert watched.decodings == 0
    history = guard.store.history(safelight.Principal("local"), limit=10)
    assert history.total == 2
    assert history.clean_run == 0


def test_nothing_is_spent_before_the_judge_where_the_judge_goes_first(pipe: Any) -> None:
    judge = LateJudge()
    safelight.protect(pipe, make_guard(prompt_screens=[judge]), screening="before")
    watched = Watched(pipe)
    call = threading.Thread(target=pipe, args=("a cup",), kwargs=SIZE)
    call.start()
    assert judge.called.wait(30)
    call.join(0.2)
    assert (watched.steps, judge.asked) == (0, 1)
    judge.go.set()
    call.join(30)
    assert watched.steps == STEPS


@pytest.mark.parametrize("go_at", [2, STEPS])
def test_a_late_block_of_one_prompt_leaves_the_others_as_they_would_be(pipe: Any, go_at: int) -> None:
    prompts = ["a cup", SENTINEL, "a boat"]
    plain = pipe(prompts, generator=seeded(), num_images_per_prompt=2, **SIZE).images
    judge = LateJudge()
    safelight.protect(pipe, make_guard(prompt_screens=[judge]))
    watched = Watched(pipe, judge, go_at=go_at)
    output = pipe(prompts, generator=seeded(), num_images_per_prompt=2, **SIZE)
    assert output.nsfw_content_detected == [False, False, True, True, False, False]
    assert all(same(output.images[place], plain[place]) for place in (0, 1, 4, 5))
    assert is_black(output.images[2]) and is_black(output.images[3])
    # No step was done twice for anybody.
    assert watched.steps == STEPS


def test_latents_of_a_blocked_prompt_are_empty_when_they_are_decoded(pipe: Any) -> None:
    judge = LateJudge()
    safelight.protect(pipe, make_guard(prompt_screens=[judge]))
    Watched(pipe, judge, go_at=STEPS)
    decoded: list[torch.Tensor] = []
    pipe.vae.post_quant_conv.register_forward_pre_hook(lambda module, args: decoded.append(args[0].clone()))
    pipe(["a cup", SENTINEL], **SIZE)
    assert [bool(row.any()) for row in decoded[0]] == [True, False]


class Uncalled(StableDiffusionXLPipeline):  # type: ignore[misc]
    """Knows no step callback, as older pipelines do not."""

    def __call__(
        self,
        prompt: Any = None,
        height: int | None = None,
        width: int | None = None,
        num_inference_steps: int = 50,
        generator: Any = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        return super().__call__(
            prompt,
            height=height,
            width=width,
            num_inference_steps=num_inference_steps,
            generator=generator,
            output_type=output_type,
            return_dict=return_dict,
        )


@pytest.mark.parametrize("go_at", [2, STEPS])
def test_a_pipeline_without_step_callbacks_waits_before_it_decodes_and_loses_nobody(pipe: Any, go_at: int) -> None:
    pipe = Uncalled(**pipe.components, add_watermarker=False)
    pipe.set_progress_bar_config(disable=True)
    prompts = ["a cup", SENTINEL]
    plain = pipe("a cup", generator=seeded(1), **SIZE).images[0]
    judge = LateJudge()
    safelight.protect(pipe, make_guard(prompt_screens=[judge]))
    watched = Watched(pipe, judge, go_at=go_at)
    output = pipe(prompts, generator=[seeded(1), seeded(2)], **SIZE)
    assert output.nsfw_content_detected == [False, True]
    assert np.abs(np.asarray(output.images[0], int) - np.asarray(plain, int)).max() <= 1
    assert is_black(output.images[1])
    assert watched.decodings == 1


def test_blocks_that_are_raised_stop_the_whole_batch(pipe: Any) -> None:
    judge = LateJudge()
    guard = make_guard(prompt_screens=[judge])
    safelight.protect(pipe, guard, on_block="raise")
    watched = Watched(pipe, judge, go_at=2, until=lambda: is_blocked(guard))
    with pytest.raises(ContentBlocked) as blocked:
        pipe(["a cup", SENTINEL, "a boat"], **{**SIZE, "num_inference_steps": 40})
    assert blocked.value.decision.stage is Stage.PROMPT
    assert watched.steps < 40
    assert watched.decodings == 0
    assert all(
        turn.action is not None or turn.risk == 0 for turn in guard.store.history(safelight.Principal("local"), limit=9)
    )


def test_a_stopped_call_frees_the_models_hooks_and_the_next_call_works(pipe: Any) -> None:
    plain = pipe("a cup", generator=seeded(), **SIZE).images[0]
    freed: list[int] = []
    own = pipe.maybe_free_model_hooks

    def free() -> None:
        freed.append(1)
        own()

    pipe.maybe_free_model_hooks = free
    judge = LateJudge()
    safelight.protect(pipe, make_guard(prompt_screens=[judge]))
    Watched(pipe, judge, go_at=2)
    pipe(SENTINEL, **SIZE)
    assert freed == [1]
    assert same(pipe("a cup", generator=seeded(), **SIZE).images[0], plain)
    assert freed == [1, 1]


def test_a_blocked_call_does_not_wait_for_its_turn(pipe: Any) -> None:
    entered, leave = threading.Event(), threading.Event()

    def hold(*args: Any) -> dict[str, Any]:
        entered.set()
        assert leave.wait(30)
        return {}

    safelight.protect(pipe, make_guard())
    other = threading.Thread(target=pipe, args=("a cup",), kwargs={**SIZE, "callback_on_step_end": hold})
    other.start()
    assert entered.wait(30)
    # The other call holds the model until this one has its answer.
    assert pipe(SENTINEL, **SIZE).nsfw_content_detected == [True]
    assert other.is_alive()
    leave.set()
    other.join(30)
    assert pipe("a cup", **SIZE).nsfw_content_detected == [False]


def test_a_caller_that_interrupts_waits_for_the_judge_all_the_same(pipe: Any) -> None:
    def stop(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipe._interrupt = step == 1
        return tensors

    plain = pipe("a cup", generator=seeded(), callback_on_step_end=stop, **SIZE).images[0]
    judge = LateJudge()
    safelight.protect(pipe, make_guard(prompt_screens=[judge]))
    watched = Watched(pipe)
    outputs: list[Any] = []
    call = threading.Thread(
        target=lambda: outputs.append(pipe("a cup", generator=seeded(), callback_on_step_end=stop, **SIZE))
    )
    call.start()
    assert watched.wait_for_step(2)
    call.join(0.2)
    assert (call.is_alive(), watched.decodings) == (True, 0)
    judge.go.set()
    call.join(30)
    assert watched.steps == 2
    assert same(outputs[0].images[0], plain)


def test_a_callback_is_handed_latents_that_it_cannot_read_and_may_return(pipe: Any) -> None:
    pipe = safelight.protect(pipe, make_guard())
    shapes: list[Any] = []

    def look(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        shapes.append(tuple(tensors["latents"].shape))
        return tensors

    assert pipe("a cup", callback_on_step_end=look, **SIZE).nsfw_content_detected == [False]
    assert shapes == [(1, 4, 8, 8)] * STEPS
    with pytest.raises(UnjudgedChannel, match="allow={'callbacks'}"):
        pipe("a cup", callback_on_step_end=lambda *args: print(args[3]["latents"].mean()), **SIZE)


@pytest.mark.parametrize(
    "returned",
    [
        lambda tensors: {"latents": torch.zeros(1, 4, 8, 8)},
        lambda tensors: {"latents": tensors["latents"].clone()},
        lambda tensors: {"prompt_embeds": torch.zeros(1, 77, 96)},
    ],
)
def test_a_callback_that_returns_other_tensors_is_refused_unless_callbacks_are_allowed(
    pipe: Any, returned: Callable[[dict[str, Any]], dict[str, Any]]
) -> None:
    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        return returned(tensors) if step == STEPS - 1 else {}

    safelight.protect(pipe, make_guard())
    with pytest.raises(UnjudgedChannel, match="allow={'callbacks'}"):
        pipe("a cup", callback_on_step_end=callback, **SIZE)
    safelight.protect(pipe, make_guard(), allow={"callbacks"})
    assert pipe("a cup", callback_on_step_end=callback, **SIZE).nsfw_content_detected == [False]


class Own(PipelineCallback):  # type: ignore[misc]
    """A caller's own class of callback, which wants to read the latents."""

    tensor_inputs = ("latents",)

    def __init__(self) -> None:
        self.handed: list[Any] = []

    def __call__(self, pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        self.handed.append(tensors["latents"])
        return tensors

    def callback_fn(self, *args: Any) -> dict[str, Any]:
        return {}


@pytest.mark.parametrize("several", [False, True])
def test_a_callers_own_class_of_callback_is_handed_no_open_latents(pipe: Any, several: bool) -> None:
    own = Own()
    safelight.protect(pipe, make_guard())
    pipe("a cup", callback_on_step_end=MultiPipelineCallbacks([own]) if several else own, **SIZE)
    assert {type(latents) for latents in own.handed} == {SealedTensor}


def test_a_callback_that_diffusers_ships_does_its_work(pipe: Any) -> None:
    cutoff = SDXLCFGCutoffCallback(cutoff_step_ratio=0.5)
    plain = pipe("a cup", generator=seeded(), callback_on_step_end=cutoff, **SIZE).images[0]
    whole = pipe("a cup", generator=seeded(), **SIZE).images[0]
    safelight.protect(pipe, make_guard())
    found = pipe("a cup", generator=seeded(), callback_on_step_end=cutoff, **SIZE).images[0]
    assert same(found, plain)
    assert not same(found, whole)


def test_a_picture_that_an_allowed_callback_made_is_still_looked_at(pipe: Any) -> None:
    screen = MarkerScreen()
    safelight.protect(pipe, make_guard(image_screens=[screen]), allow={"callbacks"})
    pipe("a cup", callback_on_step_end=lambda *args: {"latents": args[3]["latents"] * 2}, **SIZE)
    assert screen.seen == 1


def test_a_call_that_the_pipeline_itself_refuses_leaves_no_turn_open(pipe: Any) -> None:
    judge = LateJudge()
    guard = make_guard(prompt_screens=[judge])
    safelight.protect(pipe, guard)
    with pytest.raises(ValueError, match="divisible by 8"):
        pipe("a cup", height=63, width=64)
    judge.go.set()
    (turn,) = guard.store.history(safelight.Principal("local"), limit=9).turns
    assert turn.action is not Action.ALLOW
    assert pipe("a cup", **SIZE).nsfw_content_detected == [False]


def test_a_prompt_that_a_base_refused_is_refused_by_the_refiner_as_the_same_attempt() -> None:
    judge = LateJudge()
    judge.go.set()
    guard = make_guard(prompt_screens=[judge])
    base = safelight.protect(sdxl(), guard)
    second = safelight.protect(refiner(base), guard)
    prompts = ["a cup", SENTINEL, "a boat"]
    half = base(prompts, height=64, width=64, num_inference_steps=4, denoising_end=0.5, output_type="latent")
    asked = judge.asked
    output = second(prompts, image=half.images, num_inference_steps=4, denoising_start=0.5)
    assert output.nsfw_content_detected == [False, True, False]
    assert [is_black(image) for image in output.images] == [False, True, False]
    assert [image.size for image in output.images] == [(64, 64)] * 3
    assert output.decisions[1] == half.decisions[1]
    assert judge.asked == asked + 2
    assert guard.store.history(safelight.Principal("local"), limit=9).blocked == 1


def test_refused_latents_are_refused_under_any_prompt_and_however_they_were_cut() -> None:
    guard = make_guard()
    base = safelight.protect(sdxl(), guard)
    second = safelight.protect(refiner(base), guard)
    half = base([SENTINEL, "a cup"], output_type="latent", height=64, width=64, num_inference_steps=2).images
    for latents, refused in ((half[0][None, :], True), (half[1:], False), (half[:1].to("cpu"), True)):
        output = second("a boat", image=latents, num_inference_steps=4, strength=0.5)
        assert output.nsfw_content_detected == [refused]
        assert is_black(output.images[0]) == refused
        assert output.images[0].size == (64, 64)


def test_the_pipelines_own_checker_that_blackens_every_picture_is_no_fault() -> None:
    pipe = safelight.protect(sd15(checker=True), make_guard())
    output = pipe("a cup", height=64, width=64, num_inference_steps=2)
    assert output.nsfw_content_detected == [True]
    assert is_black(output.images[0])


def test_latents_that_a_callback_kept_take_their_words_along_to_another_pipeline() -> None:
    judge = LateJudge(
        answer=lambda request: Verdict(
            "late", Stage.PROMPT, {"sentinel": float(any(SENTINEL in text for text in request.texts.values()))}
        )
    )
    guard = make_guard(prompt_screens=[judge])
    first, second = safelight.protect(sdxl(), guard), safelight.protect(sdxl_img2img(), guard)
    kept: list[Any] = []

    def keep(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        kept.append(tensors["latents"])
        if step == STEPS - 1:
            judge.go.set()
        return tensors

    assert first(SENTINEL, callback_on_step_end=keep, **SIZE).nsfw_content_detected == [True]
    output = second("a cup", image=kept[-1], num_inference_steps=4, strength=0.5)
    assert output.nsfw_content_detected == [True]
    assert is_black(output.images[0])


def test_an_error_of_a_block_holds_no_picture(pipe: Any) -> None:
    safelight.protect(pipe, make_guard(image_screens=[Finds()]), on_block="raise")
    with pytest.raises(ContentBlocked) as blocked:
        pipe("a cup", **SIZE)
    held: list[Any] = []
    frame = blocked.value.__traceback__
    while frame is not None:
        held += frame.tb_frame.f_locals.values()
        frame = frame.tb_next
    assert not [value for value in held if isinstance(value, (np.ndarray, torch.Tensor))]
    assert blocked.value.__context__ is None
    assert {type(value).__name__ for value in held} & {"_GuardedCall", "StableDiffusionXLPipelineOutput"} == set()


class Finds:
    """An image screen that finds the sentinel everywhere."""

    name = "finds"

    async def screen_images(self, images: Sequence[Any], request: Any, history: Any) -> Sequence[Verdict]:
        return [Verdict(self.name, Stage.IMAGE, {"sentinel": 1.0}) for _ in images]
