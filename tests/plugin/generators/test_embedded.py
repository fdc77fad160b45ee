import hashlib
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionXLPipeline
from diffusers.utils import logging as diffusers_logging

from safelight.errors import ConfigError
from safelight.generators import Generator
from safelight.generators.embedded import EmbeddedGenerator, _build_into
from safelight.request import GenerationRequest, Principal
from tiny_sdxl import tiny_sdxl

SMALL = GenerationRequest("a lighthouse", Principal("alice"), width=64, height=64, seed=5, steps=2)


def nothing(done: int, total: int) -> None:
    pass


@pytest.fixture(scope="module")
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("cache")


@pytest.fixture(scope="module")
def generator(cache: Path) -> EmbeddedGenerator:
    return EmbeddedGenerator(cache_dir=str(cache))


def digests(folder: Path) -> dict[str, str]:
    files = sorted(path for path in folder.rglob("*") if path.is_file())
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def test_it_says_what_it_is(generator: EmbeddedGenerator) -> None:
    assert isinstance(generator, Generator)
    assert generator.name == "safelight-embedded-sdxl"
    assert "untrained" in generator.note
    assert "noise" in generator.note
    assert "diffusers" in generator.note


def test_what_is_kept_is_a_true_sdxl_in_safetensors(generator: EmbeddedGenerator, cache: Path) -> None:
    (folder,) = cache.iterdir()
    pipe = DiffusionPipeline.from_pretrained(folder, local_files_only=True)
    assert type(pipe) is StableDiffusionXLPipeline
    assert pipe.vae_scale_factor == 8
    assert {path.suffix for path in folder.rglob("*") if path.is_file()} == {".json", ".safetensors"}
    assert sum(path.stat().st_size for path in folder.rglob("*") if path.is_file()) < 8 * 2**20


@pytest.mark.parametrize(
    "size",
    [(8, 8), (64, 64), (333, 77), (256, 256), (512, 512), (1024, 1024), (1792, 1024), (1024, 1792), (4096, 8)],
)
def test_every_size_that_clients_ask_for_is_answered_exactly(
    generator: EmbeddedGenerator, size: tuple[int, int]
) -> None:
    (picture,) = generator.generate(replace(SMALL, width=size[0], height=size[1]), nothing)
    assert (picture.size, picture.mode) == (size, "RGB")
    assert np.asarray(picture).std() > 20


def test_without_a_size_it_has_its_own(generator: EmbeddedGenerator) -> None:
    (picture,) = generator.generate(replace(SMALL, width=None, height=None), nothing)
    assert picture.size == (512, 512)


def test_pictures_are_varied_noise_and_not_flat(generator: EmbeddedGenerator) -> None:
    for seed in range(3):
        (picture,) = generator.generate(replace(SMALL, seed=seed, width=256, height=256, steps=None), nothing)
        pixels = np.asarray(picture)
        assert pixels.std(axis=(0, 1)).min() > 30
        assert len(np.unique(pixels)) > 200


def test_another_prompt_makes_a_visibly_other_picture(generator: EmbeddedGenerator) -> None:
    first, second = (
        np.asarray(generator.generate(replace(SMALL, prompt=prompt, width=256, height=256), nothing)[0], np.int16)
        for prompt in ("a lighthouse", "a bowl of cherries")
    )
    # More than a twentieth of the range, on average over all pixels.
    assert np.abs(first - second).mean() > 13


def test_a_picture_can_be_made_again_by_another_generator(generator: EmbeddedGenerator, cache: Path) -> None:
    (first,) = generator.generate(SMALL, nothing)
    (second,) = EmbeddedGenerator(cache_dir=str(cache)).generate(SMALL, nothing)
    assert first.tobytes() == second.tobytes()


def test_several_pictures_differ_and_can_be_made_again_alone(generator: EmbeddedGenerator) -> None:
    pictures = generator.generate(replace(SMALL, n=3), nothing)
    (third,) = generator.generate(replace(SMALL, seed=7), nothing)
    assert len({picture.tobytes() for picture in pictures}) == 3
    assert pictures[2].tobytes() == third.tobytes()


class Stopped(Exception):
    pass


def test_it_can_be_stopped_at_a_step_and_used_again(generator: EmbeddedGenerator) -> None:
    seen: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        seen.append((done, total))
        if done == 3:
            raise Stopped

    with pytest.raises(Stopped):
        generator.generate(replace(SMALL, steps=None), stop)
    assert seen == [(1, 8), (2, 8), (3, 8)]
    assert len(generator.generate(SMALL, nothing)) == 1


def test_every_build_is_the_same_and_leaves_the_random_state_alone(tmp_path: Path) -> None:
    for place, seed in (("a", 1), ("b", 2)):
        torch.manual_seed(seed)
        before = torch.get_rng_state()
        tiny_sdxl().save_pretrained(tmp_path / place)
        assert torch.equal(torch.get_rng_state(), before)
    assert digests(tmp_path / "a") == digests(tmp_path / "b")


def test_the_second_of_two_builders_keeps_the_firsts_build_and_leaves_nothing_behind(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "model"
    _build_into(folder)
    (folder / "mark").touch()
    _build_into(folder)
    assert (folder / "mark").exists()
    assert list(folder.parent.iterdir()) == [folder]


def test_half_a_model_in_the_cache_stops_the_start_and_says_what_to_delete(tmp_path: Path) -> None:
    folder = tmp_path / "embedded-sdxl-1"
    _build_into(folder)
    (folder / "unet" / "diffusion_pytorch_model.safetensors").unlink()
    with pytest.raises(ConfigError, match="generator.cache_dir.*embedded-sdxl-1.*delete that folder"):
        EmbeddedGenerator(cache_dir=str(tmp_path))


def test_a_cache_that_cannot_be_written_stops_the_start(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(ConfigError, match="generator.cache_dir"):
        EmbeddedGenerator(cache_dir=str(tmp_path / "file"))


def test_the_users_cache_folder_is_the_default(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    EmbeddedGenerator()
    assert [path.name for path in (tmp_path / "safelight").iterdir()] == ["embedded-sdxl-1"]


def test_loading_prints_nothing_and_puts_the_libraries_back(cache: Path, capfd: pytest.CaptureFixture[str]) -> None:
    before = diffusers_logging.get_verbosity(), diffusers_logging.is_progress_bar_enabled()
    EmbeddedGenerator(cache_dir=str(cache))
    assert (diffusers_logging.get_verbosity(), diffusers_logging.is_progress_bar_enabled()) == before
    assert "".join(capfd.readouterr()) == ""


def test_no_threads_at_all_are_refused(cache: Path) -> None:
    with pytest.raises(ConfigError, match="generator.threads"):
        EmbeddedGenerator(cache_dir=str(cache), threads=0)
