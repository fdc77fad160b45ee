"""LoRAs, learned words and IP-Adapters, loaded and used as diffusers documents it, on guarded pipelines."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import DDIMScheduler, LCMScheduler
from diffusers.image_processor import IPAdapterMaskProcessor
from safetensors.torch import load_file

import tiny_parts
from fakes import MARKER, SENTINEL, FakeJudge, make_guard
from safelight import protect
from safelight.errors import UnjudgedChannel
from snippets import FORBIDDEN, PROMPT, build, guarded, is_black, kept_plain, same, seed
from tiny_adapters import write_inversion, write_ip_adapter, write_lora, write_sdxl_inversion
from tiny_pipelines import inputs, mask, photo, size

SMALL = {"num_inference_steps": 2} | size()
# What PEFT says of the documented calls themselves, guarded or not.
pytestmark = pytest.mark.filterwarnings("ignore:Already (found a|unmerged):UserWarning")

IP = {"subfolder": "sdxl_models", "weight_name": "ip-adapter_sdxl.safetensors"}


def call(name: str, pipe: Any, prompt: str, **more: Any) -> Any:
    return pipe(**inputs(name, prompt=prompt) | {"generator": seed()} | more).images[0]


@pytest.fixture
def loras(tmp_path: Path) -> Path:
    """A folder with two LoRAs for SDXL."""
    pipe = build("sdxl")
    write_lora(tmp_path, pipe, name="toy_face_sdxl.safetensors", text_encoder=True, seed=1)
    return write_lora(tmp_path, pipe, name="pixel-art-xl.safetensors", seed=2)


def test_the_tutorial_on_loras(loras: Path) -> None:
    def tutorial(pipe: Any, prompt: str) -> list[Any]:
        made = []
        pipe.load_lora_weights(loras, weight_name="toy_face_sdxl.safetensors", adapter_name="toy")
        made.append(call("sdxl", pipe, prompt, cross_attention_kwargs={"scale": 0.9}))
        pipe.load_lora_weights(loras, weight_name="pixel-art-xl.safetensors", adapter_name="pixel")
        pipe.set_adapters("pixel")
        made.append(call("sdxl", pipe, prompt, cross_attention_kwargs={"scale": 0.9}))
        pipe.set_adapters(["pixel", "toy"], adapter_weights=[0.5, 1.0])
        made.append(call("sdxl", pipe, prompt, cross_attention_kwargs={"scale": 1.0}))
        assert pipe.get_active_adapters() == ["pixel", "toy"]
        assert set(pipe.get_list_adapters()) == {"unet", "text_encoder"}
        pipe.disable_lora()
        made.append(call("sdxl", pipe, prompt))
        pipe.enable_lora()
        pipe.set_adapters("pixel", {"unet": {"down": 1, "mid": 0, "up": 0}})
        made.append(call("sdxl", pipe, prompt))
        pipe.delete_adapters("toy")
        made.append(call("sdxl", pipe, prompt))
        return made

    pipe = same("sdxl", tutorial, fresh=True)
    assert is_black(call("sdxl", pipe, FORBIDDEN))


@pytest.mark.parametrize("name", ["sd15", "sd3", "flux"])
def test_a_lora_is_loaded_fused_and_unloaded(name: str, tmp_path: Path) -> None:
    write_lora(tmp_path, build(name), text_encoder=True)
    scale = "cross_attention_kwargs" if name == "sd15" else "joint_attention_kwargs"

    def use(pipe: Any, prompt: str) -> list[Any]:
        made = []
        pipe.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors")
        made.append(call(name, pipe, prompt))
        made.append(call(name, pipe, prompt, **{scale: {"scale": 0.5}}))
        pipe.fuse_lora(lora_scale=0.7)
        made.append(call(name, pipe, prompt))
        pipe.unfuse_lora()
        made.append(call(name, pipe, prompt))
        pipe.unload_lora_weights()
        made.append(call(name, pipe, prompt))
        return made

    pipe = same(name, use, fresh=True)
    pipe.load_lora_weights(tmp_path, weight_name="pytorch_lora_weights.safetensors")
    assert is_black(call(name, pipe, FORBIDDEN))


def test_a_lora_that_was_fused_and_taken_off_is_saved_with_the_pipeline(tmp_path: Path) -> None:
    def fuse(pipe: Any, prompt: str) -> Any:
        write_lora(tmp_path, pipe)
        pipe.load_lora_weights(tmp_path, adapter_name="style", weight_name="pytorch_lora_weights.safetensors")
        pipe.fuse_lora(adapter_names=["style"], lora_scale=1.0)
        pipe.unload_lora_weights()
        pipe.save_pretrained(tmp_path / "fused")
        again = guarded(type(build("sdxl")).from_pretrained(tmp_path / "fused", add_watermarker=False))
        again.set_progress_bar_config(disable=True)
        return [call("sdxl", pipe, prompt), call("sdxl", again, prompt)]

    same("sdxl", fuse, fresh=True)


def test_a_loras_name_is_read_by_the_judge(loras: Path) -> None:
    judge = FakeJudge()
    pipe = protect(build("sdxl"), make_guard(prompt_screens=[judge]))
    pipe.load_lora_weights(loras, weight_name="pixel-art-xl.safetensors", adapter_name=f"{SENTINEL}-style")
    assert is_black(call("sdxl", pipe, PROMPT))
    assert any(SENTINEL in text for text in judge.seen[0][0].texts.values())


def test_a_learned_word_of_stable_diffusion(tmp_path: Path) -> None:
    path = write_inversion(tmp_path, "<cat-toy>")

    def use(pipe: Any, prompt: str) -> list[Any]:
        pipe.load_textual_inversion(path)
        wall = f"a drawing on a wall with a <cat-toy> on it, {prompt}"
        made = pipe(wall, num_images_per_prompt=2, guidance_scale=7.5, generator=seed(), **SMALL).images
        pipe.unload_textual_inversion()
        return [*made, call("sd15", pipe, wall)]

    pipe = same("sd15", use, fresh=True)
    pipe.load_textual_inversion(path)
    assert is_black(call("sd15", pipe, f"a <cat-toy> beside {FORBIDDEN}"))


def test_a_learned_word_of_sdxl_in_the_negative_prompt(tmp_path: Path) -> None:
    state = load_file(write_sdxl_inversion(tmp_path))

    def use(pipe: Any, prompt: str) -> Any:
        pipe.load_textual_inversion(
            state["clip_g"], token="unaesthetic", text_encoder=pipe.text_encoder_2, tokenizer=pipe.tokenizer_2
        )
        pipe.load_textual_inversion(
            state["clip_l"], token="unaesthetic", text_encoder=pipe.text_encoder, tokenizer=pipe.tokenizer
        )
        return call("sdxl", pipe, prompt, negative_prompt="unaesthetic")

    pipe = same("sdxl", use, fresh=True)
    assert is_black(call("sdxl", pipe, FORBIDDEN, negative_prompt="unaesthetic"))


def adapted(pipe: Any, folder: Path) -> Any:
    write_ip_adapter(folder, pipe, subfolder=IP["subfolder"], name=IP["weight_name"])
    pipe.load_ip_adapter(folder, **IP)
    pipe.set_ip_adapter_scale(0.6)
    return pipe


IP_CLASSES = ["sd15", "sdxl", "sdxl_img2img", "sdxl_inpaint", "sdxl_controlnet"]


@pytest.mark.parametrize("name", IP_CLASSES)
def test_an_ip_adapter_and_its_picture(name: str, tmp_path: Path) -> None:
    def use(pipe: Any, prompt: str) -> Any:
        adapted(pipe, tmp_path)
        return call(name, pipe, prompt, ip_adapter_image=photo(shade=80), negative_prompt="low quality")

    pipe = same(name, use, fresh=True)
    assert is_black(call(name, pipe, FORBIDDEN, ip_adapter_image=photo()))
    pipe.unload_ip_adapter()
    assert call(name, pipe, PROMPT) == call(name, kept_plain(name), PROMPT)


@pytest.mark.parametrize("name", ["sd15", "sdxl_inpaint"])
def test_a_marked_picture_for_an_ip_adapter_is_blocked(name: str, tmp_path: Path) -> None:
    marked = photo()
    marked.paste(MARKER, (8, 8, 40, 40))
    pipe = guarded(adapted(build(name), tmp_path))
    assert is_black(call(name, pipe, PROMPT, ip_adapter_image=marked))
    assert is_black(call(name, pipe, PROMPT, ip_adapter_image=[[photo(), marked]]))
    assert not is_black(call(name, pipe, "a boat", ip_adapter_image=photo()))


def test_several_ip_adapters_with_lists_of_pictures(tmp_path: Path) -> None:
    def use(pipe: Any, prompt: str) -> list[Any]:
        names = ["plus.safetensors", "face.safetensors"]
        for name in names:
            write_ip_adapter(tmp_path, pipe, subfolder="sdxl_models", name=name)
        pipe.scheduler = DDIMScheduler.from_config(pipe.scheduler.config)
        pipe.load_ip_adapter(tmp_path, subfolder="sdxl_models", weight_name=names)
        pipe.set_ip_adapter_scale([0.7, 0.3])
        styles = [photo(shade=shade) for shade in (0, 90, 180)]
        made = [call("sdxl", pipe, prompt, ip_adapter_image=[styles, photo(shade=250)])]
        pipe.set_ip_adapter_scale([{"up": {"block_0": [0.0, 1.0]}}, 0.3])
        return [*made, call("sdxl", pipe, prompt, ip_adapter_image=[styles, photo(shade=250)])]

    pipe = same("sdxl", use, fresh=True)
    assert is_black(call("sdxl", pipe, FORBIDDEN, ip_adapter_image=[[photo()], photo()]))


def test_an_ip_adapter_beside_a_lora_in_four_steps(tmp_path: Path) -> None:
    def use(pipe: Any, prompt: str) -> Any:
        write_lora(tmp_path, pipe, name="lcm.safetensors")
        adapted(pipe, tmp_path)
        pipe.load_lora_weights(tmp_path, weight_name="lcm.safetensors")
        pipe.scheduler = LCMScheduler.from_config(pipe.scheduler.config)
        return call("sd15", pipe, prompt, ip_adapter_image=photo(), num_inference_steps=4, guidance_scale=1)

    pipe = same("sd15", use, fresh=True)
    assert is_black(call("sd15", pipe, FORBIDDEN, ip_adapter_image=photo()))


def test_embeddings_of_a_picture_are_refused_until_they_are_allowed(tmp_path: Path) -> None:
    def use(pipe: Any, prompt: str) -> Any:
        adapted(pipe, tmp_path)
        embeddings = pipe.prepare_ip_adapter_image_embeds(
            ip_adapter_image=photo(),
            ip_adapter_image_embeds=None,
            device="cpu",
            num_images_per_prompt=1,
            do_classifier_free_guidance=True,
        )
        return call("sdxl", pipe, prompt, ip_adapter_image_embeds=embeddings)

    with pytest.raises(UnjudgedChannel, match="ip_adapter_image_embeds.*embeddings"):
        use(guarded(build("sdxl")), PROMPT)
    same("sdxl", use, fresh=True, allow={"embeddings"})


def test_masks_for_ip_adapters_are_refused_by_name(tmp_path: Path) -> None:
    pipe = guarded(adapted(build("sdxl"), tmp_path))
    masks = IPAdapterMaskProcessor().preprocess([mask()], height=64, width=64)
    with pytest.raises(UnjudgedChannel, match="cross_attention_kwargs"):
        call("sdxl", pipe, PROMPT, ip_adapter_image=photo(), cross_attention_kwargs={"ip_adapter_masks": masks})


def test_an_image_encoder_of_ones_own(tmp_path: Path) -> None:
    def use(pipe: Any, prompt: str) -> Any:
        pipe.register_modules(image_encoder=tiny_parts.image_encoder().to(torch.float32))
        return call("sdxl", adapted(pipe, tmp_path), prompt, ip_adapter_image=photo())

    same("sdxl", use, fresh=True)
