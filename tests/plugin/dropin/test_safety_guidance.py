from __future__ import annotations

import inspect
from collections.abc import Mapping
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import tiny_pipelines
from safelight.dropin.safety_guidance import check_guidance, check_step, steered
from safelight.errors import ConfigError, InvalidRequest
from tiny_sdxl import tiny_sdxl
from trained_sdxl import trained_tokenizer

CONCEPTS = "teapots, kettles"


def parameters(cls: Any = diffusers.StableDiffusionXLPipeline) -> Mapping[str, inspect.Parameter]:
    return inspect.signature(cls.__call__).parameters


def changed(cls: Any = diffusers.StableDiffusionXLPipeline, *, count: Any = None, **arguments: Any) -> Any:
    return steered(arguments, parameters=parameters(cls), concepts=CONCEPTS, count=count)


def test_a_call_without_negatives_gets_the_concepts_as_its_negatives() -> None:
    found = changed(prompt="a cup")
    assert found == {"prompt": "a cup", "negative_prompt": CONCEPTS, "negative_prompt_2": CONCEPTS}


def test_the_concepts_stand_in_front_of_a_callers_own_negatives() -> None:
    found = changed(prompt="a cup", negative_prompt="fog", negative_prompt_2="rain")
    assert found["negative_prompt"] == f"{CONCEPTS}, fog"
    assert found["negative_prompt_2"] == f"{CONCEPTS}, rain"


@pytest.mark.parametrize("second", [None, ""])
def test_the_first_negative_stands_in_for_a_further_one_as_in_the_pipeline(second: Any) -> None:
    found = changed(prompt="a cup", negative_prompt="fog", negative_prompt_2=second)
    assert found["negative_prompt_2"] == f"{CONCEPTS}, fog"


def test_a_second_negative_alone_is_kept_behind_the_concepts() -> None:
    found = changed(prompt="a cup", negative_prompt_2="rain")
    assert (found["negative_prompt"], found["negative_prompt_2"]) == (CONCEPTS, f"{CONCEPTS}, rain")


def test_every_prompt_of_a_batch_is_steered() -> None:
    found = changed(prompt=["a", "b"], negative_prompt=["fog", ""], count=2)
    assert found["negative_prompt"] == found["negative_prompt_2"] == [f"{CONCEPTS}, fog", CONCEPTS]
    assert changed(prompt=["a", "b"], negative_prompt="fog", count=2)["negative_prompt"] == [f"{CONCEPTS}, fog"] * 2
    assert changed(prompt=["a"], count=1)["negative_prompt"] == [CONCEPTS]


def test_three_encoders_get_three_negatives_and_one_gets_one() -> None:
    three = changed(diffusers.StableDiffusion3Pipeline, prompt="a", negative_prompt_3="fog")
    assert (three["negative_prompt_2"], three["negative_prompt_3"]) == (CONCEPTS, f"{CONCEPTS}, fog")
    assert set(changed(diffusers.StableDiffusionPipeline, prompt="a")) == {"prompt", "negative_prompt"}


@given(st.text(max_size=2000), st.none() | st.text(max_size=50))
def test_nothing_that_a_caller_writes_stands_before_the_concepts_or_is_lost(first: str, second: str | None) -> None:
    found = changed(prompt="a", negative_prompt=first, negative_prompt_2=second)
    for name, own in (("negative_prompt", first), ("negative_prompt_2", second or first)):
        assert found[name].startswith(CONCEPTS) and found[name].endswith(own)


def test_the_arguments_of_the_caller_are_left_alone() -> None:
    own = {"prompt": ["a"], "negative_prompt": ["fog"]}
    steered(own, parameters=parameters(), concepts=CONCEPTS, count=1)
    assert own == {"prompt": ["a"], "negative_prompt": ["fog"]}


@pytest.mark.parametrize("scale", [1.0, 1, 0.0, -3, float("nan"), True, "7", [7.0]])
def test_a_scale_that_turns_guidance_off_is_refused_and_named(scale: Any) -> None:
    with pytest.raises(InvalidRequest, match="pass more") as refused:
        changed(prompt="a", guidance_scale=scale)
    assert refused.value.field == "guidance_scale"


def test_a_scale_of_none_is_the_default() -> None:
    assert changed(prompt="a", guidance_scale=None)["negative_prompt"] == CONCEPTS


def test_flux_needs_its_true_scale_whatever_the_other_one_says() -> None:
    for given_scales in ({}, {"guidance_scale": 7.0}, {"true_cfg_scale": 1.0}):
        with pytest.raises(InvalidRequest) as refused:
            changed(diffusers.FluxPipeline, prompt="a", **given_scales)
        assert refused.value.field == "true_cfg_scale"
    assert changed(diffusers.FluxPipeline, prompt="a", true_cfg_scale=2.0, guidance_scale=0.0)["negative_prompt_2"]


def test_every_other_way_to_turn_guidance_off_or_cut_it_short_is_refused() -> None:
    refused = {
        "prior_guidance_scale": (diffusers.KandinskyV22CombinedPipeline, 1.0),
        "image_guidance_scale": (diffusers.StableDiffusionXLInstructPix2PixPipeline, 0.5),
        "max_sequence_length": (diffusers.StableDiffusion3Pipeline, 8),
        "cfg_trunc_ratio": (diffusers.Lumina2Pipeline, 0.1),
        "cfg_truncation": (diffusers.ZImagePipeline, 0.5),
        "tokenizer_max_length": (diffusers.PRXPipeline, 8),
    }
    for name, (cls, value) in refused.items():
        with pytest.raises(InvalidRequest) as error:
            changed(cls, prompt="a", **{name: value})
        assert error.value.field == name
    assert changed(diffusers.StableDiffusion3Pipeline, prompt="a", max_sequence_length=512)


@pytest.mark.parametrize(
    "name",
    ["negative_prompt_embeds", "negative_pooled_prompt_embeds", "prompt_embeds", "negative_prompt_attention_mask"],
)
def test_embeddings_are_refused_since_words_do_not_reach_them(name: str) -> None:
    with pytest.raises(InvalidRequest, match="cannot be steered") as refused:
        changed(prompt="a", **{name: torch.zeros(1)})
    assert refused.value.field == name


def test_what_only_shapes_guidance_is_left_alone() -> None:
    found = changed(prompt="a", guidance_rescale=0.7, clip_skip=1, guidance_scale=2.0)
    assert (found["guidance_rescale"], found["clip_skip"], found["guidance_scale"]) == (0.7, 1, 2.0)


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sdxl_inpaint", "refiner", "sd3", "flux"])
def test_pipelines_with_a_negative_half_can_be_steered(name: str) -> None:
    pipe = tiny_pipelines.BUILDERS[name]()
    check_guidance(pipe, type(pipe), CONCEPTS)


def test_concepts_of_one_token_too_many_are_refused_with_both_numbers() -> None:
    pipe = tiny_sdxl()
    # A letter is a token here; two are the marks around them.
    check_guidance(pipe, type(pipe), "x" * 75)
    with pytest.raises(ConfigError, match=r"guidance\.concepts: have 78 tokens.* reads 77"):
        check_guidance(pipe, type(pipe), "x" * 76)


def test_no_concepts_and_no_way_to_steer_are_refused() -> None:
    pipe = tiny_sdxl()
    with pytest.raises(ConfigError, match=r"guidance\.concepts: is empty"):
        check_guidance(pipe, type(pipe), "")
    for cls in (diffusers.FluxControlPipeline, diffusers.HunyuanImagePipeline):
        with pytest.raises(ConfigError, match="no negative prompt that it could steer by"):
            check_guidance(pipe, cls, CONCEPTS)
    pipe.tokenizer = pipe.tokenizer_2 = None
    with pytest.raises(ConfigError, match="no tokenizer"):
        check_guidance(pipe, type(pipe), CONCEPTS)


def test_a_distilled_model_is_refused() -> None:
    pipe = tiny_sdxl()
    pipe.unet.register_to_config(time_cond_proj_dim=32)
    with pytest.raises(ConfigError, match="distilled"):
        check_guidance(pipe, type(pipe), CONCEPTS)


def test_a_callback_that_turns_guidance_off_in_the_midst_of_a_call_is_found_out() -> None:
    pipe = tiny_sdxl()
    pipe._guidance_scale = 5.0
    check_step(pipe)
    pipe._guidance_scale = 0.0
    with pytest.raises(InvalidRequest, match="turned off during the call"):
        check_step(pipe)
    check_step(object())


def made(pipe: Any, name: str, **arguments: Any) -> np.ndarray[Any, Any]:
    given = tiny_pipelines.inputs(name) | arguments
    return np.asarray(pipe(**given, generator=torch.Generator().manual_seed(0)).images[0])


def test_sdxls_model_is_given_the_concepts_on_its_negative_half() -> None:
    pipe = tiny_sdxl()
    with torch.no_grad():
        _, wanted, _, pooled = pipe.encode_prompt("a cup of tea", negative_prompt=CONCEPTS)
    seen: list[tuple[torch.Tensor, torch.Tensor]] = []

    def see(module: Any, args: Any, named: dict[str, Any]) -> None:
        seen.append((named["encoder_hidden_states"][0], named["added_cond_kwargs"]["text_embeds"][0]))

    pipe.unet.register_forward_pre_hook(see, with_kwargs=True)
    made(pipe, "sdxl", **changed(prompt="a cup of tea"))
    assert len(seen) == tiny_pipelines.STEPS
    assert all(torch.equal(hidden, wanted[0]) and torch.equal(text, pooled[0]) for hidden, text in seen)


def test_a_long_negative_of_a_caller_pushes_no_concept_out_of_the_encoder() -> None:
    tokenizer = trained_tokenizer()
    found = changed(prompt="a", negative_prompt="fog " * 200)
    read = tokenizer(found["negative_prompt"], max_length=77, truncation=True).input_ids
    assert tokenizer.decode(read, skip_special_tokens=True).replace(" ", "").startswith("teapots,kettles,fog")


@pytest.mark.parametrize("name", ["sd15", "sdxl", "sd3", "flux"])
def test_steering_changes_the_picture_and_no_steering_changes_nothing(name: str) -> None:
    pipe = tiny_pipelines.BUILDERS[name]()
    scales = {"true_cfg_scale": 4.0, "negative_prompt": ""} if name == "flux" else {}
    # The tiny inputs' own shorter texts would be refused.
    lengths = {"max_sequence_length": None} if name in ("sd3", "flux") else {}
    own = {key: value for key, value in (tiny_pipelines.inputs(name) | scales | lengths).items() if value is not None}

    def picture(arguments: dict[str, Any]) -> np.ndarray[Any, Any]:
        return np.asarray(pipe(**arguments, generator=torch.Generator().manual_seed(0)).images[0])

    plain = picture(own)
    assert np.array_equal(picture(own), plain)
    assert not np.array_equal(picture(changed(type(pipe), **own)), plain)
