"""What diffusers documents around a call: schedulers, memory, speed, saving, copies and pipelines made from others."""

from __future__ import annotations

import copy
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import diffusers
import pytest
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    AutoPipelineForInpainting,
    AutoPipelineForText2Image,
    DiffusionPipeline,
)
from diffusers.models.attention_processor import AttnProcessor

import safelight
from fakes import make_guard
from safelight.errors import ContentBlocked, UnscreenedPipeline
from snippets import (
    FORBIDDEN,
    PROMPT,
    LateJudge,
    build,
    guard_with,
    guarded,
    is_black,
    kept_plain,
    same,
    seed,
)
from tiny_pipelines import TEXT_TO_IMAGE, inputs

FAMILIES = list(TEXT_TO_IMAGE)


def call(name: str, pipe: Any, prompt: str, **more: Any) -> Any:
    return pipe(**inputs(name, prompt=prompt) | {"generator": seed()} | more).images[0]


def model_of(pipe: Any) -> Any:
    return pipe.unet if hasattr(pipe, "unet") else pipe.transformer


SCHEDULERS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("sd15", "DDPMScheduler", {}),
    ("sd15", "EulerAncestralDiscreteScheduler", {}),
    # Two calls of the model a step.
    ("sd15", "HeunDiscreteScheduler", {}),
    ("sd15", "PNDMScheduler", {"skip_prk_steps": True}),
    ("sd15", "UniPCMultistepScheduler", {}),
    ("sdxl", "DDIMScheduler", {"rescale_betas_zero_snr": True, "timestep_spacing": "trailing"}),
    ("sdxl", "DPMSolverMultistepScheduler", {"use_karras_sigmas": True}),
    ("sd3", "FlowMatchEulerDiscreteScheduler", {"use_karras_sigmas": True}),
    ("flux", "FlowMatchEulerDiscreteScheduler", {"shift": 1.0}),
)


@pytest.mark.parametrize(("name", "scheduler", "more"), SCHEDULERS)
def test_another_scheduler(name: str, scheduler: str, more: dict[str, Any]) -> None:
    def exchange(pipe: Any, prompt: str) -> Any:
        pipe.scheduler = getattr(diffusers, scheduler).from_config(pipe.scheduler.config, **more)
        return call(name, pipe, prompt, num_inference_steps=4)

    pipe = same(name, exchange, fresh=True)
    assert is_black(call(name, pipe, FORBIDDEN))


def _free_u(pipe: Any) -> None:
    pipe.enable_freeu(s1=0.9, s2=0.2, b1=1.3, b2=1.4)


def _group_offload(pipe: Any) -> None:
    cpu = torch.device("cpu")
    pipe.enable_group_offload(onload_device=cpu, offload_device=cpu, offload_type="leaf_level")


def _layerwise(pipe: Any) -> None:
    model_of(pipe).enable_layerwise_casting(storage_dtype=torch.float8_e4m3fn, compute_dtype=torch.float32)


SETTINGS: dict[str, tuple[list[str], Callable[[Any], object]]] = {
    "progress bar": (["sdxl", "flux"], lambda pipe: pipe.set_progress_bar_config(disable=True, desc="made")),
    "to": (["sdxl", "flux"], lambda pipe: pipe.to("cpu")),
    "model offload": (["sdxl_img2img", "sd3"], lambda pipe: pipe.enable_model_cpu_offload(device="cpu")),
    "group offload": (["sdxl", "flux"], _group_offload),
    "slices": (["sdxl"], lambda pipe: pipe.vae.enable_slicing()),
    "tiles": (["flux"], lambda pipe: pipe.vae.enable_tiling()),
    "free u": (["sd15"], _free_u),
    "fused projections": (["sdxl"], lambda pipe: pipe.fuse_qkv_projections()),
    "sliced attention": (["sd15"], lambda pipe: pipe.enable_attention_slicing()),
    "attention of another kind": (["sd15"], lambda pipe: pipe.unet.set_attn_processor(AttnProcessor())),
    "channels last": (["sdxl"], lambda pipe: pipe.unet.to(memory_format=torch.channels_last)),
    "stored in 8 bits": (["flux"], _layerwise),
    "half precision": (["sdxl"], lambda pipe: pipe.to(dtype=torch.bfloat16)),
}


@pytest.mark.parametrize(("label", "name"), [(label, name) for label, (names, _) in SETTINGS.items() for name in names])
def test_a_setting_works_as_ever(label: str, name: str) -> None:
    def set_and_call(pipe: Any, prompt: str) -> list[Any]:
        SETTINGS[label][1](pipe)
        return [call(name, pipe, prompt), call(name, pipe, prompt)]

    pipe = same(name, set_and_call, fresh=True)
    assert is_black(call(name, pipe, FORBIDDEN))


@pytest.mark.parametrize("name", ["sd15", "flux"])
def test_a_setting_made_before_the_pipeline_is_guarded(name: str) -> None:
    pipe = build(name)
    plain = call(name, pipe, PROMPT)
    pipe.enable_model_cpu_offload(device="cpu")
    pipe.vae.enable_slicing()
    ours = guarded(pipe)
    assert call(name, ours, PROMPT) == plain
    assert is_black(call(name, ours, FORBIDDEN))


@pytest.mark.parametrize("on_block", ["black", "raise"])
@pytest.mark.parametrize("name", FAMILIES)
def test_an_offloaded_pipeline_is_freed_after_a_stop_and_works_again(name: str, on_block: Any) -> None:
    judge = LateJudge()
    pipe = build(name)
    plain = call(name, pipe, PROMPT)
    pipe.enable_model_cpu_offload(device="cpu")
    freed: list[int] = []
    free = pipe.maybe_free_model_hooks

    def free_and_count() -> None:
        freed.append(1)
        free()

    pipe.maybe_free_model_hooks = free_and_count
    safelight.protect(pipe, guard_with(judge), on_block=on_block)
    decoded: list[int] = []
    pipe.vae.decoder.register_forward_hook(lambda *args: decoded.append(1))
    # The judge finds out only when the first step is being taken.
    model_of(pipe).register_forward_hook(lambda *args: judge.may_answer.set())
    if on_block == "raise":
        with pytest.raises(ContentBlocked):
            call(name, pipe, FORBIDDEN)
    else:
        assert is_black(call(name, pipe, FORBIDDEN))
    assert (decoded, freed) == ([], [1])
    assert call(name, pipe, PROMPT) == plain
    assert (decoded, freed) == ([1], [1, 1])


@pytest.mark.parametrize(("in_place", "before"), [(True, False), (False, True), (False, False)])
def test_a_compiled_model(in_place: bool, before: bool) -> None:
    def compile_model() -> None:
        if in_place:
            pipe.transformer.compile(backend="eager")
        else:
            pipe.transformer = torch.compile(pipe.transformer, backend="eager")

    pipe = build("flux")
    if before:
        compile_model()
    guarded(pipe)
    if not before:
        compile_model()
    plain = call("flux", kept_plain("flux"), PROMPT)
    assert [call("flux", pipe, PROMPT) == plain for _ in range(2)] == [True, True]
    assert is_black(call("flux", pipe, FORBIDDEN))


@pytest.mark.parametrize("name", ["sd15", "sdxl_controlnet", "refiner", "flux"])
def test_a_guarded_pipeline_is_saved_and_loaded_as_what_it_is(name: str, tmp_path: Path) -> None:
    ours = guarded(build(name))
    plain = type(build(name))
    ours.save_pretrained(tmp_path)
    again = DiffusionPipeline.from_pretrained(tmp_path)
    assert type(again) is plain
    again.set_progress_bar_config(disable=True)
    assert call(name, again, PROMPT) == call(name, ours, PROMPT)
    assert is_black(call(name, guarded(again), FORBIDDEN))


FROM_PIPE = {
    ("sd15", "sd15_img2img"): AutoPipelineForImage2Image,
    ("sd15", "sd15_inpaint"): AutoPipelineForInpainting,
    ("sdxl", "sdxl_img2img"): AutoPipelineForImage2Image,
    ("sdxl_img2img", "sdxl"): AutoPipelineForText2Image,
    ("sd3", "sd3_img2img"): AutoPipelineForImage2Image,
    ("flux", "flux_img2img"): AutoPipelineForImage2Image,
    ("flux_inpaint", "flux"): AutoPipelineForText2Image,
    ("sd15_controlnet", "sd15_controlnet"): AutoPipelineForText2Image,
}


def _screens_or_refuses(name: str, pipe: Any) -> bool:
    """Return whether a pipeline that came from a guarded one is guarded; let none of its pictures through otherwise."""
    pipe.set_progress_bar_config(disable=True)
    try:
        return is_black(call(name, pipe, FORBIDDEN))
    except UnscreenedPipeline:
        return False


@pytest.mark.parametrize(("name", "made"), FROM_PIPE)
def test_a_pipeline_made_from_a_guarded_one_is_guarded_or_does_not_run(name: str, made: str) -> None:
    auto = FROM_PIPE[name, made]
    plain = auto.from_pipe(kept_plain(name))
    plain.set_progress_bar_config(disable=True)
    expected = call(made, plain, PROMPT)
    first = guarded(build(name))
    for clone in (
        auto.from_pipe(first),
        type(plain).from_pipe(first, dtype=torch.float32),
        _of_components(plain, first),
    ):
        if not _screens_or_refuses(made, clone):
            with pytest.raises(UnscreenedPipeline):
                call(made, clone, PROMPT)
        assert call(made, guarded(clone), PROMPT) == expected
        assert is_black(call(made, guarded(clone), FORBIDDEN))
    # And the first one is still as it was.
    assert call(name, first, PROMPT) == call(name, kept_plain(name), PROMPT)
    assert is_black(call(name, first, FORBIDDEN))


def _of_components(plain: Any, first: Any) -> Any:
    """Make one by hand, as is documented for sharing the models."""
    parts = {name: part for name, part in first.components.items() if name in plain.components}
    more = {"requires_safety_checker": False} if "safety_checker" in parts else {}
    return type(plain)(**parts, **more)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_copy_of_a_guarded_pipeline_is_guarded(name: str) -> None:
    first = guarded(build(name))
    again = copy.deepcopy(first)
    assert type(again).__name__ == type(first).__name__
    assert model_of(again) is not model_of(first)
    assert call(name, again, PROMPT) == call(name, kept_plain(name), PROMPT)
    assert is_black(call(name, again, FORBIDDEN))
    assert call(name, first, PROMPT) == call(name, kept_plain(name), PROMPT)


@pytest.mark.parametrize("name", FAMILIES)
def test_a_pickle_of_a_guarded_pipeline_comes_back_unfit_to_run_unguarded(name: str) -> None:
    again = pickle.loads(pickle.dumps(guarded(build(name))))
    if not _screens_or_refuses(name, again):
        with pytest.raises(UnscreenedPipeline):
            call(name, again, PROMPT)
    again = safelight.protect(again, make_guard())
    assert call(name, again, PROMPT) == call(name, kept_plain(name), PROMPT)
    assert is_black(call(name, again, FORBIDDEN))
