"""The step callbacks that diffusers documents, on guarded pipelines."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
import torch
from diffusers import DPMSolverMultistepScheduler
from diffusers.callbacks import (
    IPAdapterScaleCutoffCallback,
    MultiPipelineCallbacks,
    SD3CFGCutoffCallback,
    SDCFGCutoffCallback,
    SDXLCFGCutoffCallback,
)
from PIL import Image

from safelight.errors import UnjudgedChannel
from snippets import FORBIDDEN, PROMPT, Snippet, build, guarded, is_black, kept_plain, kept_sealed, same, seed, withheld
from tiny_adapters import write_ip_adapter
from tiny_pipelines import BUILDERS, inputs, photo

STEPS = 4

INTERRUPTED = [name for name in BUILDERS if "control" not in name]


def call(name: str, pipe: Any, prompt: str, **more: Any) -> Any:
    return pipe(**inputs(name, prompt=prompt, steps=STEPS) | {"generator": seed()} | more).images[0]


OWN: dict[str, tuple[str, Callable[[], Any]]] = {
    "sd15": ("sd15", lambda: SDCFGCutoffCallback(cutoff_step_ratio=0.4)),
    "sd15_img2img": ("sd15_img2img", lambda: SDCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=2)),
    "sdxl": ("sdxl", lambda: SDXLCFGCutoffCallback(cutoff_step_ratio=0.4)),
    "sdxl_img2img": ("sdxl_img2img", lambda: SDXLCFGCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=2)),
    "sd3": ("sd3", lambda: SD3CFGCutoffCallback(cutoff_step_ratio=0.4)),
    "several": ("sdxl", lambda: MultiPipelineCallbacks([SDXLCFGCutoffCallback(cutoff_step_ratio=0.4)])),
}


@pytest.mark.parametrize("label", OWN)
def test_diffusers_own_callbacks(label: str) -> None:
    name, make = OWN[label]

    def cut_off(pipe: Any, prompt: str) -> Any:
        return call(name, pipe, prompt, negative_prompt="", guidance_scale=6.5, callback_on_step_end=make())

    same(name, cut_off)
    withheld(name, cut_off)


def test_diffusers_own_callback_with_another_scheduler() -> None:
    def cut_off(pipe: Any, prompt: str) -> Any:
        pipe.scheduler = DPMSolverMultistepScheduler.from_config(pipe.scheduler.config, use_karras_sigmas=True)
        return call("sdxl", pipe, prompt, callback_on_step_end=SDXLCFGCutoffCallback(cutoff_step_ratio=0.4))

    same("sdxl", cut_off, fresh=True)


def test_the_callback_that_cuts_an_ip_adapter_off(tmp_path: Any) -> None:
    def cut_off(pipe: Any, prompt: str) -> Any:
        write_ip_adapter(tmp_path, pipe, subfolder="models", name="ip.safetensors")
        pipe.load_ip_adapter(tmp_path, subfolder="models", weight_name="ip.safetensors")
        callback = IPAdapterScaleCutoffCallback(cutoff_step_ratio=None, cutoff_step_index=1)
        return call("sdxl", pipe, prompt, ip_adapter_image=photo(), callback_on_step_end=callback)

    same("sdxl", cut_off, fresh=True)


def dynamic_cfg(pipe: Any, prompt: str) -> Any:
    def callback(pipeline: Any, step_index: int, timestep: Any, callback_kwargs: dict[str, Any]) -> dict[str, Any]:
        if step_index == int(pipeline.num_timesteps * 0.4):
            prompt_embeds = callback_kwargs["prompt_embeds"]
            prompt_embeds = prompt_embeds.chunk(2)[-1]
            pipeline._guidance_scale = 0.0
            callback_kwargs["prompt_embeds"] = prompt_embeds
        return callback_kwargs

    return call(
        "sd15", pipe, prompt, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=["prompt_embeds"]
    )


def test_dynamic_guidance_changes_tensors_and_so_needs_leave() -> None:
    with pytest.raises(UnjudgedChannel, match="callback_on_step_end.*callbacks"):
        dynamic_cfg(guarded(kept_sealed("sd15")), PROMPT)
    same("sd15", dynamic_cfg, allow={"callbacks"})
    withheld("sd15", dynamic_cfg, allow={"callbacks"})


@pytest.mark.parametrize("name", INTERRUPTED)
def test_a_callback_interrupts_the_loop(name: str) -> None:
    steps: list[int] = []

    def interrupt(pipeline: Any, i: int, t: Any, callback_kwargs: dict[str, Any]) -> dict[str, Any]:
        steps.append(i)
        if i == 1:
            pipeline._interrupt = True
        return callback_kwargs

    def stopped(pipe: Any, prompt: str) -> Any:
        return call(name, pipe, prompt, callback_on_step_end=interrupt)

    # Nothing of the interruption is left in the pipeline afterwards.
    same(name, lambda pipe, prompt: [stopped(pipe, prompt), call(name, pipe, prompt)])
    assert steps == [0, 1] * 2
    withheld(name, stopped)


def test_a_call_that_was_interrupted_differs_from_a_whole_one() -> None:
    # Else the test above would show nothing.
    def interrupt(pipeline: Any, i: int, t: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        pipeline._interrupt = True
        return tensors

    whole = call("sdxl", kept_plain("sdxl"), PROMPT)
    assert whole != call("sdxl", kept_plain("sdxl"), PROMPT, callback_on_step_end=interrupt)


def test_progress_is_shown_without_any_tensor() -> None:
    seen: list[tuple[int, int]] = []

    def progress(pipeline: Any, step: int, timestep: Any, callback_kwargs: dict[str, Any]) -> dict[str, Any]:
        seen.append((step, pipeline.num_timesteps))
        assert pipeline.guidance_scale == 5.0
        return callback_kwargs

    same("sdxl", lambda pipe, prompt: call("sdxl", pipe, prompt, callback_on_step_end=progress))
    assert seen == [(step, STEPS) for step in range(STEPS)] * 2
    for tensors in ([], ["latents"], ["latents", "prompt_embeds", "add_time_ids"]):
        same("sdxl", _asking(progress, tensors))


def _asking(callback: Any, tensors: list[str]) -> Snippet:
    def ask(pipe: Any, prompt: str) -> Any:
        return call("sdxl", pipe, prompt, callback_on_step_end=callback, callback_on_step_end_tensor_inputs=tensors)

    return ask


def test_the_guidance_may_be_changed_on_the_way() -> None:
    def weaken(pipeline: Any, step: int, timestep: Any, callback_kwargs: dict[str, Any]) -> dict[str, Any]:
        pipeline._guidance_scale = 2.0
        return callback_kwargs

    same("sdxl", lambda pipe, prompt: call("sdxl", pipe, prompt, callback_on_step_end=weaken))


def latents_to_rgb(latents: torch.Tensor) -> Image.Image:
    weights = torch.tensor([[60.0, -60, 25, -70], [60, -5, 15, -50], [60, 10, -5, -35]])
    colours = torch.einsum("bcyx,rc->bryx", latents, weights) + torch.tensor([150.0, 140, 130])[:, None, None]
    return Image.fromarray(colours.clamp(0, 255)[0].byte().permute(1, 2, 0).numpy())


def test_half_made_pictures_are_displayed_only_with_leave(tmp_path: Any) -> None:
    def decode_tensors(pipe: Any, step: int, timestep: Any, callback_kwargs: dict[str, Any]) -> dict[str, Any]:
        latents_to_rgb(callback_kwargs["latents"]).save(tmp_path / f"{step}.png")
        return callback_kwargs

    display = _asking(decode_tensors, ["latents"])
    with pytest.raises(UnjudgedChannel, match="callbacks"):
        display(guarded(kept_sealed("sdxl")), PROMPT)
    assert list(tmp_path.iterdir()) == []
    same("sdxl", display, allow={"callbacks"})
    assert len(list(tmp_path.iterdir())) == STEPS


def test_a_callback_that_fails_ends_the_call_and_the_next_one_works() -> None:
    def fail(pipeline: Any, step: int, timestep: Any, callback_kwargs: dict[str, Any]) -> dict[str, Any]:
        raise KeyError("of the callback's own")

    pipe = guarded(kept_sealed("flux"))
    with pytest.raises(KeyError, match="of the callback's own"):
        call("flux", pipe, PROMPT, callback_on_step_end=fail)
    assert not is_black(call("flux", pipe, PROMPT))
    assert is_black(call("flux", pipe, FORBIDDEN))


def test_a_tensor_that_the_pipeline_does_not_hand_out_is_refused_as_ever() -> None:
    for pipe in (build("sdxl"), guarded(kept_sealed("sdxl"))):
        with pytest.raises(ValueError, match="callback_on_step_end_tensor_inputs"):
            _asking(lambda *args: args[-1], ["no_such_tensor"])(pipe, PROMPT)
