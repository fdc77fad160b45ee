import json
import shutil
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from diffusers import AutoencoderKL, PNDMScheduler, StableDiffusionPipeline, UNet2DConditionModel

from safelight.errors import ConfigError, InvalidRequest, MissingExtra
from safelight.generators import Generator
from safelight.generators.diffusers import DiffusersGenerator
from safelight.request import GenerationRequest, Principal
from tiny_sdxl import tiny_sdxl

ALICE = Principal("alice")
SMALL = GenerationRequest("a lighthouse", ALICE, width=60, height=64, seed=5, steps=2)


def nothing(done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def sdxl(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("models") / "tiny-sdxl"
    tiny_sdxl().save_pretrained(folder)
    return folder


@pytest.fixture
def copy(sdxl: Path, tmp_path: Path) -> Path:
    return Path(shutil.copytree(sdxl, tmp_path / "copy"))


@pytest.fixture(scope="module")
def sd15(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The first generation: one text encoder, another scheduler, no second prompt."""
    parts = tiny_sdxl().components
    torch.manual_seed(0)
    unet = UNet2DConditionModel(
        sample_size=8,
        block_out_channels=(8, 16),
        layers_per_block=1,
        down_block_types=("DownBlock2D", "CrossAttnDownBlock2D"),
        up_block_types=("CrossAttnUpBlock2D", "UpBlock2D"),
        cross_attention_dim=32,
        attention_head_dim=4,
        norm_num_groups=4,
    )
    assert isinstance(parts["vae"], AutoencoderKL)
    pipe = StableDiffusionPipeline(
        vae=parts["vae"],
        text_encoder=parts["text_encoder"],
        tokenizer=parts["tokenizer"],
        unet=unet,
        # As SD 1.5 ships it; it takes one step more than it is asked for.
        scheduler=PNDMScheduler(skip_prk_steps=True, steps_offset=1),
        safety_checker=None,
        feature_extractor=None,
        requires_safety_checker=False,
    )
    folder = tmp_path_factory.mktemp("models") / "tiny-sd15"
    pipe.save_pretrained(folder)
    return folder


def test_an_sdxl_folder_makes_pictures_of_the_asked_size(sdxl: Path) -> None:
    generator = DiffusersGenerator(model=str(sdxl), steps=2)
    assert isinstance(generator, Generator)
    assert generator.name == "tiny-sdxl"
    assert "tiny-sdxl" in generator.note
    (picture,) = generator.generate(SMALL, nothing)
    assert (picture.size, picture.mode) == ((60, 64), "RGB")


def test_a_stable_diffusion_folder_makes_pictures_and_refuses_a_second_prompt(sd15: Path) -> None:
    generator = DiffusersGenerator(model=str(sd15), steps=2, name="first generation")
    assert generator.name == "first generation"
    seen: list[tuple[int, int]] = []
    (picture,) = generator.generate(SMALL, lambda done, total: seen.append((done, total)))
    assert picture.size == (60, 64)
    # Two steps that PNDM makes three of: the last report still says that all is done.
    assert seen == [(1, 3), (2, 3), (3, 3)]
    refused: list[dict[str, Any]] = [{"prompt_2": "a pier"}, {"negative_prompt_2": "a pier"}]
    for change in refused:
        with pytest.raises(InvalidRequest) as caught:
            generator.generate(replace(SMALL, **change), nothing)
        assert [caught.value.field] == list(change)


def test_the_dtype_can_be_chosen(sdxl: Path) -> None:
    (plain,) = DiffusersGenerator(model=str(sdxl), device="cpu").generate(SMALL, nothing)
    (half,) = DiffusersGenerator(model=str(sdxl), device="cpu", dtype="bfloat16").generate(SMALL, nothing)
    assert plain.size == half.size
    assert plain.tobytes() != half.tobytes()


@pytest.mark.parametrize(
    ("options", "key"),
    [
        ({"steps": 0}, "generator.steps"),
        ({"steps": 201}, "generator.steps"),
        ({"dtype": "int8"}, "generator.dtype"),
        ({"device": "toaster"}, "generator.device"),
        ({"device": "cpu", "offload": True}, "generator.offload"),
        ({"variant": "fp16"}, "generator.model"),
    ],
)
def test_a_wrong_option_stops_the_start_and_is_named(sdxl: Path, options: dict[str, Any], key: str) -> None:
    with pytest.raises(ConfigError, match=key) as caught:
        DiffusersGenerator(model=str(sdxl), **options)
    assert "\n" not in str(caught.value)


def test_a_folder_that_is_not_there_is_told_in_one_line(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="there is no folder .*nothing") as caught:
        DiffusersGenerator(model=str(tmp_path / "nothing"))
    assert "\n" not in str(caught.value)


def test_damaged_weights_stop_the_start(copy: Path) -> None:
    (copy / "unet" / "diffusion_pytorch_model.safetensors").write_bytes(b"zorblax" * 10)
    with pytest.raises(ConfigError, match="generator.model: cannot load"):
        DiffusersGenerator(model=str(copy))


def test_pickled_weights_are_not_read(copy: Path) -> None:
    weights = copy / "unet" / "diffusion_pytorch_model.safetensors"
    torch.save({}, weights.with_suffix(".bin"))
    weights.unlink()
    with pytest.raises(ConfigError, match="generator.model: cannot load"):
        DiffusersGenerator(model=str(copy))


def test_an_unknown_kind_of_pipeline_stops_the_start(copy: Path) -> None:
    index = json.loads((copy / "model_index.json").read_text())
    (copy / "model_index.json").write_text(json.dumps(index | {"_class_name": "NoSuchPipeline"}))
    with pytest.raises(ConfigError, match="NoSuchPipeline"):
        DiffusersGenerator(model=str(copy))


@pytest.mark.parametrize("place", ["pipeline", "unet"])
def test_code_that_comes_with_a_model_is_never_run(copy: Path, tmp_path: Path, place: str) -> None:
    trace = tmp_path / "ran"
    code = f"open({str(trace)!r}, 'w').close()\nclass Own:\n    pass\n"
    index = json.loads((copy / "model_index.json").read_text())
    if place == "unet":
        (copy / "unet" / "own.py").write_text(code)
        index["unet"] = ["own", "Own"]
    else:
        (copy / "pipeline.py").write_text(code)
        index["_class_name"] = ["pipeline", "Own"]
    (copy / "model_index.json").write_text(json.dumps(index))
    with pytest.raises(ConfigError, match="generator.model: cannot load"):
        DiffusersGenerator(model=str(copy))
    assert not trace.exists()


@pytest.mark.parametrize("module", ["torch", "diffusers"])
def test_a_missing_library_is_told_with_the_extra_to_install(
    sdxl: Path, module: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(MissingExtra, match=r"pip install 'safelight\[models\]'"):
        DiffusersGenerator(model=str(sdxl))
