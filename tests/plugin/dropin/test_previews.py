from __future__ import annotations

import gc
import importlib
import math
import weakref
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import AutoencoderKL, AutoencoderTiny
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import tiny_pipelines
from fakes import MARKER
from linear_vae import linear_vae
from safelight.dropin import latent_colours as module
from safelight.dropin.denoised import without_noise
from safelight.dropin.previews import Previews, check_previews, due, preview_pictures
from safelight.errors import ConfigError
from tiny_sdxl import tiny_sdxl

NEAR = 3
"""By how much, of 255, a colour may be off for an encoder that is linear."""


@pytest.fixture
def pipe() -> Any:
    made = tiny_sdxl()
    made.vae = linear_vae(scaling_factor=0.13)
    return made


def flux() -> Any:
    made = tiny_pipelines.flux()
    made.vae = linear_vae(channels=16, scaling_factor=0.36, shift_factor=0.12)
    return made


def scene(*, width: int = 64, height: int = 64) -> Image.Image:
    """A slope with the marker in its lower left quarter."""
    picture = Image.linear_gradient("L").resize((width, height)).convert("RGB")
    picture.paste(MARKER, (0, height // 2, width // 2, height))
    return picture


def encoded(pipe: Any, *pictures: Image.Image) -> torch.Tensor:
    """Return the latents that the pipeline's own VAE makes, as the pipeline would have them."""
    pixels = pipe.image_processor.preprocess(list(pictures))
    config = pipe.vae.config
    with torch.no_grad():
        latents = pipe.vae.encode(pixels.to(pipe.vae.dtype)).latent_dist.mode()
    scaled: torch.Tensor = (latents - (getattr(config, "shift_factor", None) or 0.0)) * config.scaling_factor
    return scaled


def small(picture: Image.Image) -> np.ndarray[Any, Any]:
    return np.asarray(picture.reduce(8), dtype=int)


def shown(pipe: Any, latents: torch.Tensor, *, height: int = 64, width: int = 64, **more: Any) -> list[Image.Image]:
    return preview_pictures(pipe, latents, more.pop("previews", Previews()), height=height, width=width, **more)


@pytest.mark.parametrize("at", [(), (0.0,), (1.0,), (0.5, 40), (math.nan,), "0.4", (True,)])
def test_shares_that_are_none_are_refused(at: Any) -> None:
    with pytest.raises(ConfigError, match=r"previews\.at"):
        Previews(at=at)


def test_a_decoder_that_cannot_decode_is_refused() -> None:
    with pytest.raises(ConfigError, match=r"previews\.decoder"):
        Previews(decoder=object())


def test_what_is_no_previews_is_refused(pipe: Any) -> None:
    with pytest.raises(ConfigError, match="Previews, not bool"):
        check_previews(pipe, True)  # type: ignore[arg-type]


def test_a_single_share_may_be_given_as_a_number() -> None:
    assert Previews(at=0.5).at == (0.5,)  # type: ignore[arg-type]


@given(st.lists(st.floats(0.01, 0.99), min_size=1, max_size=3), st.integers(1, 60))
def test_each_share_is_looked_at_once_as_soon_as_it_is_done_and_never_after_the_last_step(
    at: list[float], total: int
) -> None:
    steps = [step for step in range(total) if due(Previews(at), step, total)]
    wanted = {next(step for step in range(total) if step + 1 >= share * total) for share in at}
    assert set(steps) == wanted - {total - 1}


@pytest.mark.parametrize("colour", [MARKER, (255, 255, 255), (0, 0, 0), (30, 60, 90), (200, 120, 40)])
@pytest.mark.parametrize("channels", [4, 16])
def test_a_patch_of_a_colour_is_shown_in_that_colour(channels: int, colour: tuple[int, int, int]) -> None:
    pipe = tiny_sdxl()
    pipe.vae = linear_vae(channels=channels, scaling_factor=0.36, shift_factor=0.12)
    [picture] = shown(pipe, encoded(pipe, Image.new("RGB", (64, 64), colour)))
    assert picture.mode == "RGB"
    assert np.abs(np.asarray(picture, dtype=int) - colour).max() <= NEAR


def test_a_marker_stays_a_marker_at_its_place_and_nowhere_else(pipe: Any) -> None:
    [picture] = shown(pipe, encoded(pipe, scene()))
    assert np.abs(np.asarray(picture, dtype=int) - small(scene())).max() <= NEAR


@pytest.mark.parametrize(("height", "width"), [(64, 64), (64, 128), (128, 64)])
def test_packed_latents_are_shown_the_right_way_up(height: int, width: int) -> None:
    pipe, source = flux(), scene(width=width, height=height)
    latents = encoded(pipe, source)
    packed = pipe._pack_latents(latents, 1, 16, height // 8, width // 8)
    [picture] = shown(pipe, packed, height=height, width=width)
    assert picture.size == (width // 8, height // 8)
    assert np.abs(np.asarray(picture, dtype=int) - small(source)).max() <= NEAR


def test_a_packed_picture_of_unknown_size_is_shown_square() -> None:
    pipe = flux()
    packed = pipe._pack_latents(encoded(pipe, scene()), 1, 16, 8, 8)
    assert preview_pictures(pipe, packed, Previews(), height=None, width=None)[0].size == (8, 8)


def test_latents_with_means_and_spreads_by_channel_are_read(pipe: Any) -> None:
    means, spreads = [0.5, -1.0, 2.0, 0.0], [1.0, 3.0, 0.5, 2.0]
    pipe.vae = linear_vae(scaling_factor=0.13, latents_mean=means, latents_std=spreads)
    given = encoded(pipe, scene()) / 0.13
    mean, spread = (torch.tensor(values).view(1, 4, 1, 1) for values in (means, spreads))
    [picture] = shown(pipe, (given - mean) * 0.13 / spread)
    assert np.abs(np.asarray(picture, dtype=int) - small(scene())).max() <= NEAR


def test_a_vae_is_learned_once_and_forgotten_with_it(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    calls: list[int] = []
    plain = AutoencoderKL.encode

    def counted(*args: Any, **named: Any) -> Any:
        calls.append(1)
        return plain(*args, **named)

    monkeypatch.setattr(AutoencoderKL, "encode", counted)
    check_previews(pipe, Previews())
    learned = len(calls)
    check_previews(pipe, Previews())
    assert (learned > 0, len(calls)) == (True, learned)
    known, gone = len(module._known), weakref.ref(pipe.vae)
    pipe.vae = None
    gc.collect()
    assert (gone(), len(module._known)) == (None, known - 1)


def test_learning_a_vae_leaves_random_state_precision_and_place_alone(pipe: Any) -> None:
    pipe.vae = linear_vae(scaling_factor=0.13, force_upcast=True).half()
    before = torch.get_rng_state()
    check_previews(pipe, Previews())
    assert torch.equal(torch.get_rng_state(), before)
    assert {(part.dtype, part.device.type) for part in pipe.vae.parameters()} == {(torch.float16, "cpu")}


def test_a_vae_that_lies_elsewhere_until_it_is_called_is_learned_and_stays_there(pipe: Any) -> None:
    # By its name: it ships no types.
    accelerate: Any = importlib.import_module("accelerate")
    latents = encoded(pipe, scene())
    accelerate.cpu_offload(pipe.vae, torch.device("cpu"))
    [picture] = shown(pipe, latents)
    assert {part.device.type for part in pipe.vae.parameters()} == {"meta"}
    assert np.abs(np.asarray(picture, dtype=int) - small(scene())).max() <= NEAR


def test_the_decoder_of_the_vae_is_not_run(pipe: Any) -> None:
    pipe.vae.decoder.register_forward_pre_hook(lambda module, args: pytest.fail("decoded"))
    assert len(shown(pipe, encoded(pipe, scene(), scene()))) == 2


def test_a_vae_that_gives_no_numbers_is_refused(pipe: Any) -> None:
    with torch.no_grad():
        pipe.vae.encoder.conv_out.bias.fill_(math.nan)
    with pytest.raises(ConfigError, match="no finite numbers"):
        check_previews(pipe, Previews())


def test_a_vae_for_videos_is_refused(pipe: Any) -> None:
    pipe.vae.encoder.conv_in = torch.nn.Conv3d(3, 8, 3)
    with pytest.raises(ConfigError, match="videos"):
        check_previews(pipe, Previews())


def test_a_pipeline_without_a_vae_is_refused(pipe: Any) -> None:
    pipe.vae = None
    with pytest.raises(ConfigError, match="no VAE"):
        check_previews(pipe, Previews())


def test_a_pipeline_that_packs_in_another_way_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    pipe = flux()
    monkeypatch.setattr(type(pipe), "_unpack_latents", staticmethod(lambda latents, ids: latents))
    with pytest.raises(ConfigError, match="packs its latents"):
        check_previews(pipe, Previews())


def tiny_decoder(channels: int = 4) -> AutoencoderTiny:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return AutoencoderTiny(
            latent_channels=channels,
            encoder_block_out_channels=(8, 8, 8, 8),
            decoder_block_out_channels=(8, 8, 8, 8),
            num_encoder_blocks=(1, 1, 1, 1),
            num_decoder_blocks=(1, 1, 1, 1),
        ).eval()


def test_a_tiny_decoder_shows_what_it_makes_of_the_latents(pipe: Any) -> None:
    previews = Previews(decoder=tiny_decoder())
    check_previews(pipe, previews)
    latents = encoded(pipe, scene())
    [picture] = shown(pipe, latents, previews=previews)
    with torch.no_grad():
        own = pipe.image_processor.postprocess(previews.decoder.decode(latents).sample)[0]
    assert picture.size == (64, 64)
    assert np.abs(np.asarray(picture, dtype=int) - np.asarray(own, dtype=int)).max() <= 1


def test_any_decoder_may_be_given_and_a_large_picture_is_made_smaller(pipe: Any) -> None:
    class Plain:
        def decode(self, latents: torch.Tensor) -> Any:
            return type("Decoded", (), {"sample": torch.ones(1, 3, 1024, 512)})()

    pipe.vae = None
    check_previews(pipe, Previews(decoder=Plain()))
    [picture] = shown(pipe, torch.zeros(1, 4, 8, 8), previews=Previews(decoder=Plain()))
    assert (picture.size, picture.getextrema()) == ((256, 512), ((255, 255),) * 3)


def test_the_decoder_that_waits_for_the_judges_is_refused(pipe: Any) -> None:
    with pytest.raises(ConfigError, match="pipeline's own"):
        check_previews(pipe, Previews(decoder=pipe.vae))


def test_a_decoder_of_another_model_is_refused(pipe: Any) -> None:
    with pytest.raises(ConfigError, match="16 channels, and the pipeline has 4"):
        check_previews(pipe, Previews(decoder=tiny_decoder(16)))


def test_latents_of_nan_are_shown_as_something_and_end_no_call(pipe: Any) -> None:
    assert len(shown(pipe, torch.full((2, 4, 8, 8), math.nan))) == 2


SD = {"beta_start": 0.00085, "beta_end": 0.012, "beta_schedule": "scaled_linear"}
NO_FRESH_NOISE: dict[str, Any] = {
    "Euler": diffusers.EulerDiscreteScheduler(**SD),
    "DPM++": diffusers.DPMSolverMultistepScheduler(**SD, use_karras_sigmas=True),
    "UniPC": diffusers.UniPCMultistepScheduler(**SD),
    "DDIM": diffusers.DDIMScheduler(**SD, clip_sample=False),
    "PNDM": diffusers.PNDMScheduler(**SD, skip_prk_steps=True),
    "flow": diffusers.FlowMatchEulerDiscreteScheduler(shift=3.0),
    "UniPC, flow": diffusers.UniPCMultistepScheduler(use_flow_sigmas=True, prediction_type="flow_prediction"),
}
FRESH_NOISE: dict[str, Any] = {
    "Euler ancestral": diffusers.EulerAncestralDiscreteScheduler(**SD),
    "DDPM": diffusers.DDPMScheduler(**SD, clip_sample=False),
    "LCM": diffusers.LCMScheduler(**SD),
}


def half_way(scheduler: Any, picture: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor, int]:
    """Let a scheduler take a fifth of its steps less than half, with a model that knows the picture it will make."""
    noise = torch.Generator().manual_seed(2)
    scheduler.set_timesteps(20)
    latents = torch.randn(picture.shape, generator=noise) * float(getattr(scheduler, "init_noise_sigma", 1.0))
    before, done = latents, len(scheduler.timesteps) * 2 // 5
    flow = scheduler.config.get("prediction_type") == "flow_prediction" or not hasattr(scheduler, "alphas_cumprod")
    for time in scheduler.timesteps[:done]:
        before = latents
        if flow:
            output = (latents - picture) / (time / 1000)
        else:
            kept = scheduler.alphas_cumprod[min(int(time), 999)]
            output = (scheduler.scale_model_input(latents, time) - kept.sqrt() * picture) / (1 - kept).sqrt()
        more = {"generator": noise} if "generator" in scheduler.step.__code__.co_varnames else {}
        latents = scheduler.step(output, time, latents, **more)[0]
    return before, latents, done


def soft_picture() -> torch.Tensor:
    coarse = torch.randn((1, 4, 4, 4), generator=torch.Generator().manual_seed(1))
    return torch.nn.functional.interpolate(coarse, size=(32, 32), mode="bicubic")


def off(found: torch.Tensor, picture: torch.Tensor) -> float:
    return float((found - picture).pow(2).mean().sqrt() / picture.std())


@pytest.mark.parametrize("name", NO_FRESH_NOISE)
def test_two_steps_tell_the_picture_from_the_noise(name: str) -> None:
    scheduler, picture = NO_FRESH_NOISE[name], soft_picture()
    before, latents, done = half_way(scheduler, picture)
    assert off(latents, picture) > 0.5
    assert off(without_noise(scheduler, latents, before, index=done), picture) < 0.1


@pytest.mark.parametrize("name", [*NO_FRESH_NOISE, *FRESH_NOISE])
def test_one_step_or_fresh_noise_gives_a_blurred_picture_rather_than_a_noisy_one(name: str) -> None:
    scheduler, picture = (NO_FRESH_NOISE | FRESH_NOISE)[name], soft_picture()
    before, latents, done = half_way(scheduler, picture)
    for given_before in (None, before) if name in FRESH_NOISE else (None,):
        found = without_noise(scheduler, latents, given_before, index=done)
        assert off(found, picture) < 0.75 * off(latents, picture)


def test_latents_of_a_scheduler_that_nobody_knows_are_shown_as_they_are() -> None:
    latents = soft_picture()
    assert torch.equal(without_noise(object(), latents, latents, index=3), latents)
    assert torch.equal(without_noise(NO_FRESH_NOISE["DDIM"], latents, index=None), latents)


@pytest.mark.parametrize(
    "name", ["sd15", "sd15_img2img", "sdxl", "sdxl_inpaint", "refiner", "sd3", "flux", "flux_img2img"]
)
def test_the_latents_of_a_running_pipeline_are_shown_after_every_step(name: str) -> None:
    pipe = tiny_pipelines.BUILDERS[name]()
    found: list[list[Image.Image]] = []
    before: list[torch.Tensor] = []

    def look(running: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        now = tensors["latents"]
        known = {"before": before[-1] if before else None, "step": step, "total": running.num_timesteps}
        found.append(shown(running, now, **known))
        before.append(now)
        return {}

    given = tiny_pipelines.inputs(name, steps=3)
    pipe(**given, output_type="latent", callback_on_step_end=look)
    assert [[picture.size for picture in row] for row in found] == [[(8, 8)]] * 3


def test_looking_changes_nothing_about_the_picture() -> None:
    def made(callback: Any) -> Any:
        pipe = tiny_pipelines.sdxl()
        given = tiny_pipelines.inputs("sdxl", steps=3)
        return pipe(**given, generator=torch.Generator().manual_seed(0), callback_on_step_end=callback).images[0]

    def look(running: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        shown(running, tensors["latents"], step=step, total=3)
        return {}

    assert np.array_equal(np.asarray(made(look)), np.asarray(made(None)))
