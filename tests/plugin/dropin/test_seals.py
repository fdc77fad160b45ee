"""Models that run inside a guarded call only, wrapped or not, and what is asked before they do."""

from __future__ import annotations

import asyncio
import contextvars
import threading
from collections.abc import Callable, Sequence
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionPipeline, StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from peft import LoraConfig, get_peft_model

import safelight
from fakes import SENTINEL, make_guard
from safelight.dropin.plain_run import can_be_stopped
from safelight.dropin.seals import asks_before_decoding
from safelight.errors import UnscreenedPipeline
from safelight.request import GenerationRequest, Turn
from safelight.verdict import Stage, Verdict
from tiny_pipelines import sd15, sdxl

SIZE: dict[str, Any] = {"height": 64, "width": 64, "num_inference_steps": 2}


class Parallel(torch.nn.DataParallel[Any]):
    """As people write it who want to go on asking the model for its configuration."""

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("module"), name)


def _adapted(model: Any) -> Any:
    return get_peft_model(model, LoraConfig(r=2, target_modules=["to_q"]))


class Custom(torch.nn.Module):
    """A model of somebody's own around another."""

    def __init__(self, inner: Any) -> None:
        super().__init__()
        self.inner = inner
        self.more = torch.nn.Linear(2, 2)

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.inner(*args, **kwargs)

    def __getattr__(self, name: str) -> Any:
        try:
            return super().__getattr__(name)
        except AttributeError:
            return getattr(super().__getattr__("inner"), name)


WRAPPERS = [_adapted, Parallel, Custom, lambda model: Custom(Custom(model))]
IDS = ["peft", "parallel", "custom", "twice"]


@pytest.mark.parametrize("wrap", WRAPPERS, ids=IDS)
@pytest.mark.parametrize("when", ["before", "after"])
def test_a_model_may_be_wrapped_before_or_after_it_is_guarded(wrap: Callable[[Any], Any], when: str) -> None:
    pipe: Any = sdxl()
    if when == "before":
        pipe.unet = wrap(pipe.unet)
    pipe = safelight.protect(pipe, make_guard())
    if when == "after":
        pipe.unet = wrap(pipe.unet)
    assert pipe("a cup", **SIZE).nsfw_content_detected == [False]
    assert pipe(f"a {SENTINEL}", **SIZE).nsfw_content_detected == [True]


@pytest.mark.parametrize("wrap", WRAPPERS, ids=IDS)
def test_pipelines_made_from_one_with_a_wrapped_model_refuse_to_run(wrap: Callable[[Any], Any]) -> None:
    inner = sdxl().unet
    pipe: Any = sdxl()
    pipe.unet = wrap(inner)
    pipe = safelight.protect(pipe, make_guard())
    copied = StableDiffusionXLPipeline(**pipe.components, add_watermarker=False)
    unwrapped = StableDiffusionXLPipeline(**pipe.components | {"unet": inner}, add_watermarker=False)
    for other in (copied, unwrapped):
        with pytest.raises(UnscreenedPipeline):
            other("a cup", **SIZE)


def test_a_wrapped_decoder_runs_inside_a_guarded_call_only() -> None:
    pipe = safelight.protect(sdxl(), make_guard())
    pipe.vae.decoder = Custom(pipe.vae.decoder)
    assert pipe("a cup", **SIZE).nsfw_content_detected == [False]
    with pytest.raises(UnscreenedPipeline):
        pipe.vae.decode(torch.zeros(1, 4, 8, 8))


def test_a_model_of_another_guarded_pipeline_refuses_inside_a_call() -> None:
    guard = make_guard()
    one, other = safelight.protect(sdxl(), guard), safelight.protect(sdxl(), guard)
    clone = StableDiffusionXLImg2ImgPipeline.from_pipe(other, dtype=torch.float32)

    def visit(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        with pytest.raises(UnscreenedPipeline):
            clone.unet(torch.zeros(1, 4, 8, 8), 1, None)
        return tensors

    assert one("a cup", callback_on_step_end=visit, **SIZE).nsfw_content_detected == [False]


def test_what_was_started_inside_a_call_may_not_run_its_models_afterwards() -> None:
    pipe = safelight.protect(sdxl(), make_guard())
    kept: list[contextvars.Context] = []

    def visit(pipe: Any, step: int, time: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        kept.append(contextvars.copy_context())
        return tensors

    pipe("a cup", callback_on_step_end=visit, **SIZE)
    clone = StableDiffusionXLPipeline(**pipe.components, add_watermarker=False)
    clone.set_progress_bar_config(disable=True)
    with pytest.raises(UnscreenedPipeline):
        kept[0].run(clone, "a cup", **SIZE)
    assert kept[0].run(pipe, "a cup", **SIZE).nsfw_content_detected == [False]


# Before latents become pixels.


class Patient:
    """A judge that gives the pipeline time to do what it should not do before it has answered."""

    name = "patient"

    def __init__(self) -> None:
        self.decoded = threading.Event()

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        await asyncio.to_thread(self.decoded.wait, 0.2)
        return Verdict(self.name, Stage.PROMPT, {"sentinel": float(SENTINEL in request.prompt)})


class WithoutCallback(StableDiffusionPipeline):  # type: ignore[misc]
    """A class that calls nobody after its steps."""

    def __call__(
        self,
        prompt: str,
        height: int = 64,
        width: int = 64,
        num_inference_steps: int = 2,
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


def _compile_decode(vae: Any) -> None:
    vae.decode = torch.compile(vae.decode, backend="eager")


def _compile_inner_decode(vae: Any) -> None:
    vae._decode = torch.compile(vae._decode, backend="eager")


def _compile_decoder(vae: Any) -> None:
    vae.decoder.compile(backend="eager")


def _exchange_decoder(vae: Any) -> None:
    vae.decoder = torch.compile(vae.decoder, backend="eager")


def _compile_all(vae: Any) -> None:
    vae.compile(backend="eager")


@pytest.mark.parametrize(
    "compiled", [_compile_decode, _compile_inner_decode, _compile_decoder, _exchange_decoder, _compile_all]
)
def test_a_compiled_autoencoder_may_not_ask_before_it_decodes(compiled: Callable[[Any], None]) -> None:
    pipe = sd15(cls=WithoutCallback)
    assert asks_before_decoding(pipe)
    assert can_be_stopped(pipe, WithoutCallback)
    compiled(pipe.vae)
    assert not asks_before_decoding(pipe)
    assert not can_be_stopped(pipe, WithoutCallback)
    # After the last step it is made to wait whatever comes then.
    assert can_be_stopped(pipe, StableDiffusionPipeline)


def test_an_autoencoder_that_was_compiled_as_a_whole_asks() -> None:
    pipe = sd15(cls=WithoutCallback)
    pipe.vae = torch.compile(pipe.vae, backend="eager")
    assert asks_before_decoding(pipe)
    _compile_decode(pipe.vae)
    assert not asks_before_decoding(pipe)


def test_a_class_that_does_not_tell_how_many_steps_there_are_needs_the_autoencoder_to_ask() -> None:
    silent = type("Silent", (), {"__call__": StableDiffusionPipeline.__call__})
    pipe = sd15()
    assert can_be_stopped(pipe, silent)
    _compile_decode(pipe.vae)
    assert not can_be_stopped(pipe, silent)


@pytest.mark.parametrize("goes_round", [False, True])
def test_without_a_step_callback_nothing_is_decoded_before_the_judge_allows_it(goes_round: bool) -> None:
    judge = Patient()
    pipe = sd15(cls=WithoutCallback)
    # In place of a compiled one, whose graph has no place for hooks.
    decoder, conv = pipe.vae.decoder, pipe.vae.decoder.conv_out
    if goes_round:
        plain = pipe.vae.decode

        def decode(*args: Any, **kwargs: Any) -> Any:
            hooks = dict(decoder._forward_pre_hooks)
            decoder._forward_pre_hooks.clear()
            try:
                return plain(*args, **kwargs)
            finally:
                decoder._forward_pre_hooks.update(hooks)

        pipe.vae.decode = decode
    conv.register_forward_pre_hook(lambda module, args: judge.decoded.set())
    pipe = safelight.protect(pipe, make_guard(prompt_screens=[judge]))
    assert pipe(f"a {SENTINEL}").nsfw_content_detected == [True]
    assert not judge.decoded.is_set()
    assert pipe("a cup").nsfw_content_detected == [False]
    assert judge.decoded.is_set()
