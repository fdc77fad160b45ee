from __future__ import annotations

import copy
import pickle
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import StableDiffusionXLImg2ImgPipeline
from safetensors.torch import load_file

import safelight
from fakes import ALICE, POLICY, SENTINEL, FakeJudge, make_guard
from hub_cache import write_to_cache
from safelight.dropin.adapter_loaders import recording_loaders
from safelight.dropin.adapter_source import Source
from safelight.dropin.carried import Adapter, carried, check_adapters
from safelight.encoding import sha256_hex
from safelight.errors import UnjudgedChannel
from safelight.normalise import views
from safelight.policy import Policy
from tiny_adapters import ip_adapter_weights, write_inversion, write_lora
from tiny_sdxl import tiny_sdxl

CUP = "cup.safetensors"
WORD = "learned_embeds.safetensors"
TEA = {"prompt": "tea"}
SIZE = {"height": 64, "width": 64, "num_inference_steps": 2}


def recording(pipe: Any) -> Any:
    cls = type(pipe)
    pipe.__class__ = type(cls.__name__, (cls,), recording_loaders(cls))
    return pipe


@pytest.fixture
def pipe() -> Any:
    return recording(tiny_sdxl())


@pytest.fixture
def folder(pipe: Any, tmp_path: Path) -> Path:
    """A folder with a LoRA for the U-Net and a learned word for the first text encoder."""
    write_inversion(write_lora(tmp_path, pipe, name=CUP), "<shard>")
    return tmp_path


def policy(adapters: str) -> Policy:
    return Policy.parse(f"{POLICY}\n[adapters]\n{adapters}")


def digest(path: Path) -> str:
    return f"sha256:{sha256_hex(path.read_bytes())}"


@pytest.mark.parametrize(
    "source",
    [
        Source("latent-consistency/lcm-lora-sdxl", "pytorch_lora_weights.safetensors", sha256="0123456789abcdef" * 4),
        Source("KappaNeuro/studio-ghibli-style", "Studio Ghibli Style.safetensors", "a" * 40),
        Source("SG161222/RealVisXL_V4.0", "add-detail-xl.safetensors"),
        Source("", "my cups 23.safetensors", sha256="3" * 64),
    ],
    ids=lambda source: source.name,
)
def test_what_a_judge_reads_of_a_source_looks_like_no_code(source: Source) -> None:
    text = Adapter("lora", "default_0", (source,)).text
    assert text == f"default_0 ({source.name})"
    assert [view.kind for view in views(text) if view.evident] == []


def test_texts_of_other_calls_use_no_token_of_this_one(pipe: Any, folder: Path) -> None:
    pipe.load_textual_inversion(str(folder / WORD))
    assert carried(pipe, {"prompt": "tea", "image.prompt": "a <shard>"}) == ()


def test_looking_for_tokens_does_not_disturb_a_call_in_another_thread(pipe: Any, folder: Path) -> None:
    pipe.load_textual_inversion(str(folder / WORD))
    backend = pipe.tokenizer.backend_tokenizer
    # What a call sets before it reads its prompt.
    backend.enable_truncation(3)
    backend.enable_padding(length=9)
    assert [adapter.name for adapter in carried(pipe, {"prompt": "one two three four <shard>"})] == ["<shard>"]
    assert (backend.truncation["max_length"], backend.padding["length"]) == (3, 9)


@pytest.mark.parametrize("listed", [CUP, "the digest"])
def test_what_is_on_the_list_passes(pipe: Any, folder: Path, listed: str) -> None:
    pipe.load_lora_weights(str(folder), weight_name=CUP)
    entry = digest(folder / CUP) if listed == "the digest" else listed
    check_adapters(pipe, TEA, policy(f'loras = ["{entry}"]'))


def test_what_is_not_on_the_list_is_refused_with_the_entries_that_would_allow_it(pipe: Any, folder: Path) -> None:
    pipe.load_lora_weights(str(folder), weight_name=CUP, adapter_name="pixel")
    with pytest.raises(UnjudgedChannel) as refused:
        check_adapters(pipe, TEA, policy("loras = []"))
    assert refused.value.field == "lora"
    assert str(refused.value) == (
        f"lora: 'pixel' is not listed: add '{CUP}' or '{digest(folder / CUP)}' to loras under [adapters] of the policy"
    )
    assert str(folder) not in str(refused.value)


def test_a_file_of_a_listed_name_with_other_bytes_is_refused_where_the_digest_is_listed(
    pipe: Any, folder: Path
) -> None:
    listed = digest(folder / CUP)
    write_lora(folder, pipe, name=CUP, seed=8)
    pipe.load_lora_weights(str(folder), weight_name=CUP)
    with pytest.raises(UnjudgedChannel, match="default_0"):
        check_adapters(pipe, TEA, policy(f'loras = ["{listed}"]'))


def test_a_folder_that_is_called_like_a_repository_is_none(
    pipe: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write_lora(folder / "owner" / "cups", pipe, name=CUP)
    write_to_cache(folder / "cache", "owner/mugs", {CUP: (folder / CUP).read_bytes()})
    monkeypatch.chdir(folder)
    rule = policy('loras = ["owner/cups", "owner/mugs"]')
    pipe.load_lora_weights("owner/mugs", weight_name=CUP, cache_dir="cache", local_files_only=True)
    check_adapters(pipe, TEA, rule)
    pipe.unload_lora_weights()
    pipe.load_lora_weights("owner/cups", weight_name=CUP)
    with pytest.raises(UnjudgedChannel, match=CUP):
        check_adapters(pipe, TEA, rule)


def test_tensors_in_memory_are_allowed_by_the_digest_that_the_refusal_names(pipe: Any, folder: Path) -> None:
    pipe.load_lora_weights(load_file(folder / CUP))
    with pytest.raises(UnjudgedChannel, match="add 'sha256:") as refused:
        check_adapters(pipe, TEA, policy(f'loras = ["{CUP}"]'))
    entry = str(refused.value).split("'")[3]
    check_adapters(pipe, TEA, policy(f'loras = ["{entry}"]'))


def test_what_nobody_knows_the_source_of_is_refused_only_where_there_is_a_list(folder: Path) -> None:
    pipe = tiny_sdxl()
    pipe.load_lora_weights(str(folder), weight_name=CUP)
    pipe.load_textual_inversion(str(folder / WORD))
    recording(pipe)
    texts = {"prompt": "a <shard>"}
    check_adapters(pipe, texts, policy(""))
    with pytest.raises(
        UnjudgedChannel, match=r"^lora: 'default_0' .* not known, .*; load it from a file after protect\(\)"
    ):
        check_adapters(pipe, texts, policy(f'loras = ["{CUP}"]'))
    with pytest.raises(UnjudgedChannel, match=r"^textual_inversion: '<shard>' .* not known"):
        check_adapters(pipe, texts, policy(f'textual_inversions = ["{WORD}"]'))


@pytest.mark.parametrize("channel", ["prompt", "negative_prompt_2"])
def test_a_token_has_to_be_listed_only_where_a_text_uses_it(pipe: Any, folder: Path, channel: str) -> None:
    pipe.load_textual_inversion(str(folder / WORD))
    none = policy("textual_inversions = []")
    check_adapters(pipe, TEA, none)
    with pytest.raises(UnjudgedChannel, match=f"^textual_inversion: .*add '{WORD}'"):
        check_adapters(pipe, {"prompt": "tea", channel: "a <shard>"}, none)
    check_adapters(pipe, {channel: "a <shard>"}, policy(f'loras = []\ntextual_inversions = ["{WORD}"]'))


def test_all_files_that_a_token_may_have_come_from_must_be_listed(pipe: Any, folder: Path) -> None:
    other = folder / "other.safetensors"
    other.write_bytes((folder / WORD).read_bytes())
    pipe.load_textual_inversion([str(folder / WORD), str(other)], token=["<a>", "<b>"])
    with pytest.raises(UnjudgedChannel, match="add 'other"):
        check_adapters(pipe, {"prompt": "<a>"}, policy(f'textual_inversions = ["{WORD}"]'))
    check_adapters(pipe, {"prompt": "<a>"}, policy(f'textual_inversions = ["{WORD}", "{other.name}"]'))


def test_one_that_is_switched_off_does_not_count_and_a_fused_one_does(pipe: Any, folder: Path) -> None:
    none = policy("loras = []")
    pipe.load_lora_weights(str(folder), weight_name=CUP)
    pipe.disable_lora()
    check_adapters(pipe, TEA, none)
    pipe.enable_lora()
    pipe.fuse_lora(components=["unet"])
    pipe.unload_lora_weights()
    with pytest.raises(UnjudgedChannel, match=CUP):
        check_adapters(pipe, TEA, none)


def test_an_ip_adapter_has_no_list(pipe: Any) -> None:
    pipe.unet._load_ip_adapter_weights([ip_adapter_weights(pipe.unet)])
    check_adapters(pipe, TEA, policy("loras = []\ntextual_inversions = []"))


# Through protect().


@pytest.fixture
def judge() -> FakeJudge:
    return FakeJudge()


def guarded(judge: FakeJudge, adapters: str = "") -> Any:
    return safelight.protect(
        tiny_sdxl(), make_guard(prompt_screens=[judge], policy=policy(adapters)), principal=ALICE, on_block="raise"
    )


def test_name_and_source_are_in_the_turn_and_before_the_judge(judge: FakeJudge, folder: Path) -> None:
    pipe = guarded(judge)
    pipe.load_lora_weights(str(folder), weight_name=CUP)
    pipe.load_textual_inversion(str(folder / WORD))
    pipe("a <shard>", negative_prompt="<shard> cups", **SIZE)
    texts = judge.seen[0][0].texts
    assert texts == {
        "prompt": "a <shard>",
        "negative_prompt": "<shard> cups",
        "lora": f"default_0 ({CUP})",
        "textual_inversion": f"<shard> ({WORD})",
        "negative_prompt_textual_inversion": f"<shard> ({WORD})",
    }
    assert pipe._safelight.guard().guard.store.history(ALICE, limit=1)[0].texts == texts


def test_the_name_of_a_file_is_enough_to_be_blocked(judge: FakeJudge, folder: Path) -> None:
    pipe = guarded(judge)
    (folder / CUP).rename(folder / f"{SENTINEL}.safetensors")
    pipe.load_lora_weights(str(folder / f"{SENTINEL}.safetensors"))
    with pytest.raises(safelight.ContentBlocked):
        pipe("tea", **SIZE)


def test_a_refused_adapter_costs_no_step_no_turn_and_no_strike(judge: FakeJudge, folder: Path) -> None:
    pipe = guarded(judge, "loras = []")
    pipe.load_lora_weights(str(folder), weight_name=CUP)
    steps: list[int] = []
    pipe.unet.register_forward_pre_hook(lambda module, args: steps.append(1))
    for _ in range(4):
        with pytest.raises(UnjudgedChannel, match="lora"):
            pipe("tea", **SIZE)
    assert (steps, judge.seen) == ([], [])
    assert list(pipe._safelight.guard().guard.store.history(ALICE, limit=1)) == []
    pipe.disable_lora()
    assert pipe("tea", **SIZE).nsfw_content_detected == [False]


def test_copies_pickles_and_pipelines_made_from_it_know_the_source(judge: FakeJudge, folder: Path) -> None:
    pipe = guarded(judge)
    pipe.load_lora_weights(str(folder), weight_name=CUP)
    known = carried(pipe, TEA)
    assert known[0].sources[0].file == CUP
    assert carried(copy.deepcopy(pipe), TEA) == known
    assert carried(pickle.loads(pickle.dumps(pipe)), TEA) == known
    assert carried(StableDiffusionXLImg2ImgPipeline.from_pipe(pipe, dtype=torch.float32), TEA) == known
    pipe.to(torch.float32)
    assert carried(pipe, TEA) == known


def test_a_lora_changes_the_picture_as_it_does_in_the_plain_pipeline(judge: FakeJudge, folder: Path) -> None:
    pictures = []
    for pipe in (tiny_sdxl(), guarded(judge)):
        pipe.load_lora_weights(str(folder), weight_name=CUP)
        pictures.append(pipe("tea", generator=torch.Generator().manual_seed(3), **SIZE).images[0])
    assert pictures[0].tobytes() == pictures[1].tobytes()
