from __future__ import annotations

import copy
import inspect
import json
import logging
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline, StableDiffusionXLPipeline
from safetensors import safe_open
from safetensors.torch import load_file

from hub_cache import write_to_cache
from safelight.dropin.adapter_loaders import recording_loaders
from safelight.dropin.adapter_source import Source
from safelight.dropin.carried import LORA, TOKENS, Adapter, carried, carried_texts
from safelight.encoding import sha256_hex
from tiny_adapters import ip_adapter_weights, write_inversion, write_ip_adapter, write_lora
from tiny_sdxl import tiny_sdxl

CUP = "cup.safetensors"
TEA = {"prompt": "tea"}
SECOND = pytest.mark.filterwarnings("ignore:Already found a `peft_config` attribute")
"""peft warns of every adapter after the first."""


def recording(pipe: Any) -> Any:
    """Give a pipeline the methods under test, as the guarded class has them, and nothing else of it."""
    cls = type(pipe)
    pipe.__class__ = type(cls.__name__, (cls,), recording_loaders(cls))
    return pipe


@pytest.fixture
def pipe() -> Any:
    return recording(tiny_sdxl())


@pytest.fixture
def lora(pipe: Any, tmp_path: Path) -> Path:
    """A folder with a LoRA for the U-Net and the first text encoder."""
    return write_lora(tmp_path / "private", pipe, name=CUP, text_encoder=True)


def digest(path: Path) -> str:
    return sha256_hex(path.read_bytes())


def from_file(path: Path) -> tuple[Source, ...]:
    return (Source(file=path.name, sha256=digest(path)),)


def loras(pipe: Any) -> dict[str, tuple[Source, ...]]:
    """Return the LoRAs in use: each has one source, wherever it is."""
    found = [adapter for adapter in carried(pipe, TEA) if adapter.channel == LORA]
    assert len({adapter.name for adapter in found}) == len(found)
    return {adapter.name: adapter.sources for adapter in found}


def test_the_methods_keep_names_signatures_and_documentation_and_only_those_there_are_are_replaced() -> None:
    cls = StableDiffusionXLPipeline
    made = recording_loaders(cls)
    assert len(made) == 8
    for name, method in made.items():
        plain = getattr(cls, name)
        assert (method.__name__, method.__doc__) == (name, plain.__doc__)
        assert inspect.signature(method) == inspect.signature(plain)
    assert recording_loaders(object) == {}


@pytest.mark.parametrize("form", ["file", "path", "folder", "folder and name", "keyword"])
def test_a_lora_of_this_machine_is_known_by_its_files_name_and_digest(pipe: Any, lora: Path, form: str) -> None:
    if form == "keyword":
        pipe.load_lora_weights(pretrained_model_name_or_path_or_dict=str(lora), weight_name=CUP)
    else:
        given: Any = {"file": str(lora / CUP), "path": lora / CUP}.get(form, str(lora))
        pipe.load_lora_weights(given, **({"weight_name": CUP} if form == "folder and name" else {}))
    assert loras(pipe) == {"default_0": from_file(lora / CUP)}
    assert carried_texts(pipe, TEA) == {"lora": f"default_0 ({CUP})"}


def test_in_a_folder_with_several_files_the_one_that_was_loaded_is_recorded(pipe: Any, lora: Path) -> None:
    usual = "pytorch_lora_weights.safetensors"
    write_lora(lora, pipe, name=usual, seed=8)
    pipe.load_lora_weights(str(lora))
    assert loras(pipe) == {"default_0": from_file(lora / usual)}


def test_a_pickled_lora_is_chosen_and_recorded_where_there_is_no_other(pipe: Any, lora: Path, tmp_path: Path) -> None:
    folder = tmp_path / "old"
    folder.mkdir()
    torch.save(load_file(lora / CUP), folder / "cup.bin")
    pipe.load_lora_weights(str(folder))
    assert loras(pipe) == {"default_0": from_file(folder / "cup.bin")}


def test_a_lora_of_the_hub_is_known_by_repository_file_and_revision(pipe: Any, lora: Path, tmp_path: Path) -> None:
    data = (lora / CUP).read_bytes()
    write_to_cache(tmp_path, "owner/cups", {f"sdxl/{CUP}": data}, branch="v2")
    pipe.load_lora_weights(
        "owner/cups", subfolder="sdxl", weight_name=CUP, revision="v2", cache_dir=tmp_path, local_files_only=True
    )
    assert loras(pipe) == {"default_0": (Source("owner/cups", f"sdxl/{CUP}", "v2", sha256_hex(data)),)}
    assert carried_texts(pipe, TEA) == {"lora": f"default_0 (owner/cups/sdxl/{CUP})"}


def test_a_lora_in_memory_has_a_digest_and_no_name_to_be_judged(pipe: Any, lora: Path) -> None:
    pipe.load_lora_weights(load_file(lora / CUP), adapter_name="cup")
    (source,) = loras(pipe)["cup"]
    assert (source.name, len(source.sha256)) == ("", 64)
    assert carried_texts(pipe, TEA) == {"lora": "cup"}
    again = recording(tiny_sdxl())
    again.load_lora_weights(load_file(lora / CUP), adapter_name="cup")
    assert loras(again) == {"cup": (source,)}


def test_a_file_that_cannot_be_loaded_leaves_no_record_and_diffusers_own_error(pipe: Any, tmp_path: Path) -> None:
    for given in (tmp_path / "empty", tmp_path / "none" / CUP):
        given.parent.mkdir(exist_ok=True)
        (tmp_path / "empty").mkdir(exist_ok=True)
        with pytest.raises((OSError, ValueError)):
            pipe.load_lora_weights(str(given), local_files_only=True)
    with pytest.raises(TypeError, match="pretrained_model_name_or_path_or_dict"):
        pipe.load_lora_weights()
    assert loras(pipe) == {}


@SECOND
def test_what_was_loaded_before_or_around_the_pipeline_has_no_source(lora: Path) -> None:
    pipe = tiny_sdxl()
    pipe.load_lora_weights(str(lora), adapter_name="before")
    recording(pipe)
    pipe.unet.load_lora_adapter(str(lora), weight_name=CUP, prefix="unet", adapter_name="around")
    pipe.load_lora_weights(str(lora), adapter_name="after")
    pipe.set_adapters(["before", "around", "after"])
    assert loras(pipe) == {"before": (), "around": (), "after": from_file(lora / CUP)}


@SECOND
def test_only_what_is_switched_on_is_carried_and_its_source_stays(pipe: Any, lora: Path) -> None:
    write_lora(lora, pipe, name="b.safetensors", seed=8)
    pipe.load_lora_weights(str(lora), weight_name=CUP, adapter_name="a")
    pipe.load_lora_weights(str(lora), weight_name="b.safetensors", adapter_name="b")
    a, b = from_file(lora / CUP), from_file(lora / "b.safetensors")
    pipe.set_adapters("b")
    assert loras(pipe) == {"b": b}
    pipe.set_adapters(["a", "b"], adapter_weights=[0.5, 1.0])
    assert loras(pipe) == {"a": a, "b": b}
    pipe.disable_lora()
    assert loras(pipe) == {}
    pipe.enable_lora()
    pipe.delete_adapters("a")
    assert loras(pipe) == {"b": b}
    pipe.unload_lora_weights()
    assert loras(pipe) == {}


def test_a_name_that_is_used_again_outside_has_not_the_old_source(pipe: Any, lora: Path) -> None:
    pipe.load_lora_weights(str(lora), adapter_name="a")
    pipe.delete_adapters("a")
    unguarded = StableDiffusionXLPipeline(**pipe.components)
    unguarded.load_lora_weights(str(lora), adapter_name="a")
    assert loras(pipe) == {"a": ()}


def test_what_is_fused_stays_known_when_the_layers_are_gone_and_goes_when_it_is_unfused(pipe: Any, lora: Path) -> None:
    expected = {"a": from_file(lora / CUP)}
    pipe.load_lora_weights(str(lora), adapter_name="a")
    pipe.fuse_lora(components=["unet", "text_encoder"])
    pipe.disable_lora()
    assert loras(pipe) == expected
    pipe.unfuse_lora(components=["unet"])
    assert loras(pipe) == expected
    pipe.unfuse_lora(components=["text_encoder"])
    assert loras(pipe) == {}
    pipe.enable_lora()
    pipe.fuse_lora(components=["unet"])
    pipe.unload_lora_weights()
    assert loras(pipe) == expected
    # Diffusers forgets it in a pipeline that is made of the same parts; the parts do not.
    assert loras(StableDiffusionXLImg2ImgPipeline(**pipe.components)) == expected


def test_of_two_that_were_fused_under_one_name_both_are_known(pipe: Any, lora: Path) -> None:
    write_lora(lora, pipe, name="b.safetensors", seed=8)
    for name in (CUP, "b.safetensors"):
        pipe.load_lora_weights(str(lora), weight_name=name, adapter_name="a")
        pipe.fuse_lora(components=["unet"])
        pipe.unload_lora_weights()
    assert set(carried(pipe, TEA)) == {Adapter(LORA, "a", from_file(lora / name)) for name in (CUP, "b.safetensors")}
    assert carried_texts(pipe, TEA) == {"lora": f"a ({CUP})\na (b.safetensors)"}


def test_what_was_fused_before_and_unloaded_after_stays_known_by_name(lora: Path) -> None:
    pipe = tiny_sdxl()
    pipe.load_lora_weights(str(lora), adapter_name="a")
    pipe.fuse_lora(components=["unet"])
    recording(pipe).unload_lora_weights()
    pipe._merged_adapters = set()
    assert loras(pipe) == {"a": ()}


def test_a_fused_one_that_is_deleted_keeps_its_source(pipe: Any, lora: Path) -> None:
    pipe.load_lora_weights(str(lora), adapter_name="a")
    pipe.fuse_lora(components=["unet"])
    pipe.delete_adapters("a")
    assert loras(pipe) == {"a": from_file(lora / CUP)}


def test_swapping_weights_under_a_name_changes_the_source_and_failing_to_do_so_leaves_none(
    pipe: Any, lora: Path
) -> None:
    # Text encoders cannot be swapped.
    for name, seed in (("a.safetensors", 1), ("b.safetensors", 2)):
        write_lora(lora, pipe, name=name, seed=seed)
    pipe.load_lora_weights(str(lora), weight_name="a.safetensors", adapter_name="a")
    pipe.load_lora_weights(str(lora), weight_name="b.safetensors", adapter_name="a", hotswap=True)
    assert loras(pipe) == {"a": from_file(lora / "b.safetensors")}
    with pytest.raises(OSError):
        pipe.load_lora_weights(str(lora), weight_name="c.safetensors", adapter_name="a", hotswap=True)
    assert loras(pipe) == {"a": ()}


def test_sources_travel_with_copies_and_pickles_of_the_parts(pipe: Any, lora: Path) -> None:
    pipe.load_lora_weights(str(lora), adapter_name="a")
    _load_token(pipe, lora, "<shard>")
    expected = carried(pipe, {"prompt": "a <shard>"})
    assert [adapter.sources != () for adapter in expected] == [True, True]
    for components in (copy.deepcopy(pipe.components), pickle.loads(pickle.dumps(pipe.components))):
        assert carried(StableDiffusionXLPipeline(**components), {"prompt": "a <shard>"}) == expected


def test_saving_writes_nothing_of_ours(pipe: Any, lora: Path, tmp_path: Path) -> None:
    pipe.load_lora_weights(str(lora), adapter_name="a")
    _load_token(pipe, lora, "<shard>")
    pipe.fuse_lora(components=["text_encoder"])
    pipe.unet.save_lora_adapter(tmp_path / "saved", adapter_name="a", weight_name=CUP)
    pipe.unload_lora_weights()
    pipe.save_pretrained(tmp_path / "saved")
    with safe_open(tmp_path / "saved" / CUP, "pt") as file:
        assert "safelight" not in json.dumps(file.metadata())
    for path in (tmp_path / "saved").rglob("*"):
        assert "safelight" not in path.name
        if path.suffix in (".json", ".txt"):
            assert "safelight" not in path.read_text("utf-8"), path
    StableDiffusionXLPipeline.from_pretrained(tmp_path / "saved")


def _load_token(pipe: Any, folder: Path, token: str, **more: Any) -> Path:
    path = write_inversion(folder, token)
    pipe.load_textual_inversion(str(path), **more)
    return path


def tokens(pipe: Any, text: str) -> dict[str, tuple[Source, ...]]:
    return {item.name: item.sources for item in carried(pipe, {"prompt": text}) if item.channel == TOKENS}


def test_a_learned_token_of_a_file_is_known_by_name_and_digest_where_it_is_used(pipe: Any, tmp_path: Path) -> None:
    path = _load_token(pipe, tmp_path, "<shard>")
    assert tokens(pipe, "a <shard>") == {"<shard>": from_file(path)}
    assert carried_texts(pipe, {"prompt": "a <shard>"}) == {"textual_inversion": "<shard> (learned_embeds.safetensors)"}
    assert tokens(pipe, "a cup") == {}


def test_a_learned_token_is_found_in_a_folder_and_on_the_hub(pipe: Any, tmp_path: Path) -> None:
    path = write_inversion(tmp_path, "<shard>")
    expected = digest(path)
    pipe.load_textual_inversion(str(tmp_path), token="<a>")
    write_to_cache(tmp_path, "owner/shard", {path.name: path.read_bytes()})
    pipe.load_textual_inversion("owner/shard", token="<b>", cache_dir=tmp_path, local_files_only=True)
    assert tokens(pipe, "<a> <b>") == {
        "<a>": (Source(file=path.name, sha256=expected),),
        "<b>": (Source("owner/shard", path.name, sha256=expected),),
    }


def test_every_vector_of_a_token_has_its_source_and_several_files_stand_for_all_their_tokens(pipe: Any) -> None:
    width = pipe.text_encoder.get_input_embeddings().weight.shape[1]
    pipe.load_textual_inversion([torch.zeros(2, width), torch.ones(1, width)], token=["<a>", "<b>"])
    found = tokens(pipe, "<a> <a>_1 <b>")
    assert set(found) == {"<a>", "<a>_1", "<b>"}
    assert len(set(found.values())) == 1
    assert len(found["<a>"]) == 2


def test_the_second_text_encoders_token_is_another(pipe: Any, tmp_path: Path) -> None:
    first = _load_token(pipe, tmp_path, "<shard>")
    width = pipe.text_encoder_2.get_input_embeddings().weight.shape[1]
    second = {"tokenizer": pipe.tokenizer_2, "text_encoder": pipe.text_encoder_2}
    StableDiffusionXLPipeline.load_textual_inversion(pipe, {"<shard>": torch.ones(width)}, **second)
    assert set(carried(pipe, {"prompt": "a <shard>"})) == {
        Adapter(TOKENS, "<shard>", from_file(first)),
        Adapter(TOKENS, "<shard>"),
    }


def test_unloading_a_token_forgets_its_source_and_keeps_the_others(pipe: Any, tmp_path: Path) -> None:
    path = _load_token(pipe, tmp_path, "<a>")
    pipe.load_textual_inversion(str(path), token="<b>")
    pipe.unload_textual_inversion("<a>")
    assert tokens(pipe, "<a> <b>") == {"<b>": from_file(path)}
    unguarded = StableDiffusionXLPipeline(**pipe.components)
    unguarded.unload_textual_inversion()
    unguarded.load_textual_inversion(str(path), token="<b>")
    assert tokens(pipe, "<b>") == {"<b>": ()}


def test_an_ip_adapter_is_on_record_by_its_source_until_it_is_unloaded(pipe: Any, tmp_path: Path) -> None:
    write_ip_adapter(tmp_path, pipe, subfolder="models", name="ip.safetensors")
    pipe.register_modules(image_encoder=None)
    pipe.load_ip_adapter(str(tmp_path), subfolder="models", weight_name="ip.safetensors")
    (adapter,) = carried(pipe, TEA)
    assert adapter.sources == from_file(tmp_path / "models" / "ip.safetensors")
    assert carried_texts(pipe, TEA) == {"ip_adapter": "ip_adapter (ip.safetensors)"}
    pipe.unload_ip_adapter()
    assert carried(pipe, TEA) == ()


def test_an_ip_adapter_that_was_loaded_before_is_on_record_without_a_source(pipe: Any) -> None:
    pipe.unet._load_ip_adapter_weights([ip_adapter_weights(pipe.unet)])
    assert carried_texts(pipe, TEA) == {"ip_adapter": "ip_adapter"}


def test_the_log_tells_what_was_loaded_and_no_folder(
    pipe: Any, lora: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, "safelight"):
        pipe.load_lora_weights(str(lora), adapter_name="a")
    assert [record.getMessage() for record in caplog.records if record.name == "safelight"] == [
        f"loaded LoRA 'a' from {CUP}, sha256:{digest(lora / CUP)}"
    ]
    assert "private" not in "".join(record.getMessage() for record in caplog.records if record.name == "safelight")
