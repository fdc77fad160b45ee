from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLPipeline
from diffusers.pipelines import auto_pipeline
from torch import nn

import safelight
from fakes import SENTINEL, FakeJudge, make_guard
from safelight.carried import carried_texts
from safelight.channels import Treatment, read_call, ruling
from safelight.errors import InvalidRequest, UnjudgedChannel
from tiny_sdxl import tiny_sdxl

SIZE = {"height": 64, "width": 64, "num_inference_steps": 1}
TOKEN = "<Zorblax>"
ADAPTER = "zorblax"
_FAMILIES = ("StableDiffusion", "Flux")
_GATHERING = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)


def guarded_pipelines() -> set[type[Any]]:
    """Every text-to-image pipeline that can be loaded by a model's name; of the great families every pipeline."""
    tables = vars(auto_pipeline)
    families = [tables[f"AUTO_{task}_PIPELINES_MAPPING"] for task in ("IMAGE2IMAGE", "INPAINT")]
    related = {cls for table in families for cls in table.values() if cls.__name__.startswith(_FAMILIES)}
    return related | set(tables["AUTO_TEXT2IMAGE_PIPELINES_MAPPING"].values())


def unruled(pipelines: Iterable[type[Any]]) -> set[str]:
    """Return pipeline and name of every parameter that nobody has ruled on."""
    return {
        f"{cls.__name__}.{parameter.name}"
        for cls in pipelines
        for parameter in inspect.signature(cls.__call__).parameters.values()
        if parameter.name != "self" and parameter.kind not in _GATHERING and ruling(parameter.name) is None
    }


def test_somebody_has_ruled_on_every_parameter_that_diffusers_pipelines_have() -> None:
    pipelines = guarded_pipelines()
    names = {cls.__name__ for cls in pipelines}
    assert {"StableDiffusionPipeline", "StableDiffusionXLInpaintPipeline", "StableDiffusion3Pipeline"} <= names
    assert {"StableDiffusionXLPipeline", "StableDiffusionXLImg2ImgPipeline", "FluxPipeline"} <= names
    assert unruled(pipelines) == set(), "diffusers added these; read what they carry, and add them to channel_table.py"


def test_a_parameter_that_diffusers_adds_is_named() -> None:
    class NewerPipeline:
        def __call__(self, prompt: str, mood_prompt: str = "", **kwargs: Any) -> None:
            raise NotImplementedError

    assert unruled([NewerPipeline, StableDiffusionXLPipeline]) == {"NewerPipeline.mood_prompt"}


def test_what_nobody_has_ruled_on_is_refused_in_other_words_than_what_is_refused_by_ruling() -> None:
    assert ruling("mood_prompt") is None
    with pytest.raises(UnjudgedChannel, match="mood_prompt: Safelight does not know"):
        read_call({"prompt": "tea", "mood_prompt": "tea"})
    known = ruling("prompt_embeds")
    assert known is not None and known.treatment is Treatment.REFUSED
    with pytest.raises(UnjudgedChannel, match=known.note):
        read_call({"prompt": "tea", "prompt_embeds": torch.zeros(1)})


def every_ruled_name() -> list[str]:
    names = {name for cls in guarded_pipelines() for name in inspect.signature(cls.__call__).parameters}
    return sorted(name for name in names if ruling(name) is not None)


def test_a_text_is_judged_or_refused_or_left_out_in_every_place() -> None:
    for name in every_ruled_name():
        ruled = ruling(name)
        assert ruled is not None
        if ruled.treatment is Treatment.JUDGED:
            assert read_call({"prompt": "tea", name: SENTINEL}).texts[0][name] == SENTINEL
        elif name in ("return_dict", "callback_on_step_end_tensor_inputs"):
            # Taken out: the one is used as a truth value only, the other says nothing without a callback.
            assert SENTINEL not in read_call({"prompt": "tea", name: SENTINEL}).arguments.values()
        else:
            with pytest.raises(InvalidRequest, match=name):
                read_call({"prompt": "tea", name: SENTINEL})


@pytest.mark.parametrize("name", ["caption_upsample_temperature", "prompt_upsampling", "system_prompt"])
def test_nothing_may_rewrite_a_prompt_after_it_was_judged(name: str) -> None:
    with pytest.raises(UnjudgedChannel, match="rewrite the prompt"):
        read_call({"prompt": "tea", name: 1.0})


class Adapted(nn.Module):
    """A layer as peft leaves it, where peft is not installed."""

    merged_adapters: tuple[str, ...] = ()
    disable_adapters = False

    def __init__(self, base: nn.Module, name: str) -> None:
        super().__init__()
        self.base = base
        self.active_adapters = [name]

    def forward(self, *args: Any, **kwargs: Any) -> Any:
        return self.base(*args, **kwargs)


def add_adapter(pipe: Any, name: str) -> None:
    """Put an adapter on one layer of the U-Net: a real one, where there is a library for it."""
    if find_spec("peft"):
        config = import_module("peft").LoraConfig
        pipe.unet.add_adapter(config(r=2, target_modules=["to_q"]), adapter_name=name)
    else:
        attention = next(module for module in pipe.unet.modules() if hasattr(module, "to_q"))
        attention.to_q = Adapted(attention.to_q, name)


def tuned_layers(pipe: Any) -> Iterator[Any]:
    return (module for module in pipe.unet.modules() if hasattr(type(module), "merged_adapters"))


def add_token(pipe: Any, token: str, vectors: int = 1) -> None:
    for tokenizer, encoder in ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)):
        width = encoder.get_input_embeddings().weight.shape[1]
        pipe.load_textual_inversion({token: torch.zeros(vectors, width)}, tokenizer=tokenizer, text_encoder=encoder)


@pytest.fixture
def pipe() -> Any:
    return tiny_sdxl()


@pytest.fixture
def judge() -> FakeJudge:
    return FakeJudge()


def test_a_plain_pipeline_carries_nothing_and_clips_own_tokens_are_none(pipe: Any) -> None:
    assert carried_texts(pipe, {"prompt": "tea<|endoftext|><|startoftext|>"}) == {}


def test_an_active_adapter_is_judged_by_its_name(pipe: Any, judge: FakeJudge) -> None:
    pipe = safelight.protect(pipe, make_guard(prompt_screens=[judge], image_screens=[]), on_block="black")
    add_adapter(pipe, ADAPTER)
    assert pipe("tea", **SIZE).nsfw_content_detected == [True]
    assert judge.seen[0][0].texts == {"prompt": "tea", "lora": ADAPTER}


def test_an_adapter_that_is_switched_off_says_nothing_unless_it_is_fused(pipe: Any) -> None:
    add_adapter(pipe, ADAPTER)
    for layer in tuned_layers(pipe):
        if find_spec("peft"):
            layer.enable_adapters(False)
        else:
            layer.disable_adapters = True
    assert carried_texts(pipe, {"prompt": "tea"}) == {}
    for layer in tuned_layers(pipe):
        layer.merged_adapters = [ADAPTER]
    assert carried_texts(pipe, {"prompt": "tea"}) == {"lora": ADAPTER}


def test_a_fused_lora_is_named_even_after_its_layers_are_gone(pipe: Any) -> None:
    # What fuse_lora() remembers, and unload_lora_weights() leaves.
    pipe._merged_adapters = {"b", ADAPTER}
    assert pipe.fused_loras == {"b", ADAPTER}
    assert carried_texts(pipe, {"prompt": "tea"}) == {"lora": f"b\n{ADAPTER}"}


@pytest.mark.parametrize("channel", ["prompt", "prompt_2"])
def test_a_learned_token_is_named_as_it_was_loaded_in_whatever_case_it_is_used(pipe: Any, channel: str) -> None:
    add_token(pipe, TOKEN, vectors=2)
    texts = {"prompt": "tea", channel: "a <zorblax> cup"}
    assert carried_texts(pipe, texts) == {"textual_inversion": TOKEN}
    assert carried_texts(pipe, {"prompt": "tea"}) == {}


def test_a_learned_token_that_is_to_be_avoided_is_told_apart(pipe: Any) -> None:
    add_token(pipe, TOKEN)
    texts = {"prompt": "tea", "negative_prompt_2": f"{TOKEN} hands"}
    assert carried_texts(pipe, texts) == {"negative_prompt_textual_inversion": TOKEN}


def test_tokens_that_are_loaded_and_unloaded_on_a_guarded_pipeline_are_read_at_each_call(
    pipe: Any, judge: FakeJudge
) -> None:
    prompts = [f"a {TOKEN}", "tea"]
    pipe = safelight.protect(pipe, make_guard(prompt_screens=[judge]))
    pipe(prompts, **SIZE)
    add_token(pipe, TOKEN)
    flags = pipe(prompts, **SIZE).nsfw_content_detected
    for tokenizer, encoder in ((pipe.tokenizer, pipe.text_encoder), (pipe.tokenizer_2, pipe.text_encoder_2)):
        pipe.unload_textual_inversion(tokenizer=tokenizer, text_encoder=encoder)
    pipe(prompts, **SIZE)
    assert flags == [False, False]
    assert [dict(request.texts) for request, _ in judge.seen] == [
        {"prompt": prompts[0]},
        {"prompt": "tea"},
        {"prompt": prompts[0], "textual_inversion": TOKEN},
        {"prompt": "tea"},
        {"prompt": prompts[0]},
        {"prompt": "tea"},
    ]


def test_a_name_that_is_too_long_to_be_judged_is_refused(pipe: Any) -> None:
    pipe = safelight.protect(pipe, make_guard())
    pipe._merged_adapters = {"x" * 4_001}
    with pytest.raises(InvalidRequest, match="lora"):
        pipe("tea", **SIZE)


def test_learned_tokens_that_were_saved_with_a_pipeline_are_found_when_it_is_loaded(pipe: Any, tmp_path: Path) -> None:
    add_token(pipe, TOKEN)
    pipe.save_pretrained(tmp_path)
    loaded = StableDiffusionXLPipeline.from_pretrained(tmp_path)
    assert carried_texts(loaded, {"prompt": f"a {TOKEN}"}) == {"textual_inversion": TOKEN}
