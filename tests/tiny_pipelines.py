"""A very small pipeline of each class that is guarded: true diffusers classes, random weights, no network.

Two builds of one have the same weights. All run on one thread, without a progress bar; 64 x 64 pixels in two steps take
a fraction of a second.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from copy import deepcopy
from functools import cache
from typing import Any

import torch
from diffusers import (
    DDIMScheduler,
    EulerDiscreteScheduler,
    FlowMatchEulerDiscreteScheduler,
    FluxControlNetPipeline,
    FluxImg2ImgPipeline,
    FluxInpaintPipeline,
    FluxPipeline,
    StableDiffusion3Img2ImgPipeline,
    StableDiffusion3Pipeline,
    StableDiffusionControlNetPipeline,
    StableDiffusionImg2ImgPipeline,
    StableDiffusionInpaintPipeline,
    StableDiffusionPipeline,
    StableDiffusionXLControlNetPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLInpaintPipeline,
)
from PIL import Image

import tiny_parts as parts
from tiny_sdxl import tiny_sdxl

SIDE = 64
STEPS = 2


def sd15(*, checker: bool | None = None, cls: Any = StableDiffusionPipeline, **more: Any) -> Any:
    """Build a Stable Diffusion 1.5 pipeline.

    Args:
        checker: None for no safety checker; else a real one that flags no picture (False) or every one (True).
        cls: The class, and in ``more`` the parts that it has beside the usual ones, or instead of them.
        more: See there.
    """
    given = {
        **_of_sdxl("vae", "text_encoder", "tokenizer"),
        "unet": parts.unet(),
        "scheduler": DDIMScheduler(
            beta_start=0.00085,
            beta_end=0.012,
            beta_schedule="scaled_linear",
            steps_offset=1,
            clip_sample=False,
            set_alpha_to_one=False,
        ),
        "safety_checker": None if checker is None else parts.safety_checker(flags=checker),
        "feature_extractor": None if checker is None else parts.feature_extractor(),
        "requires_safety_checker": checker is not None,
    }
    return _quiet(cls(**given | more))


def sd15_img2img(*, checker: bool | None = None) -> Any:
    return sd15(checker=checker, cls=StableDiffusionImg2ImgPipeline)


def sd15_inpaint(*, checker: bool | None = None) -> Any:
    """Build one as of an inpainting checkpoint: its model is shown the mask and the masked picture."""
    return sd15(checker=checker, cls=StableDiffusionInpaintPipeline, unet=parts.unet(in_channels=9))


def sd15_controlnet(*, checker: bool | None = None) -> Any:
    model = parts.unet()
    return sd15(checker=checker, cls=StableDiffusionControlNetPipeline, unet=model, controlnet=parts.controlnet(model))


def sdxl() -> Any:
    return _quiet(deepcopy(_sdxl()))


def sdxl_img2img() -> Any:
    return _like(sdxl(), StableDiffusionXLImg2ImgPipeline)


def sdxl_inpaint() -> Any:
    return _like(sdxl(), StableDiffusionXLInpaintPipeline)


def sdxl_controlnet() -> Any:
    base = sdxl()
    return _like(base, StableDiffusionXLControlNetPipeline, controlnet=parts.controlnet(base.unet))


def refiner(base: Any = None) -> Any:
    """Build an SDXL refiner: image to image, with the second text encoder alone; it shares what it can of a base."""
    given = (base or sdxl()).components
    missing = {"text_encoder": None, "tokenizer": None, "image_encoder": None, "feature_extractor": None}
    own = {
        "unet": parts.refiner_unet(),
        "scheduler": EulerDiscreteScheduler.from_config(given["scheduler"].config),
        "requires_aesthetics_score": True,
        "add_watermarker": False,
    }
    return _quiet(StableDiffusionXLImg2ImgPipeline(**given | missing | own))


def sd3(*, cls: Any = StableDiffusion3Pipeline) -> Any:
    shared = _of_sdxl("text_encoder", "tokenizer", "text_encoder_2", "tokenizer_2")
    return _quiet(
        cls(
            **shared | {"text_encoder": parts.projected(shared["text_encoder"])},
            transformer=parts.sd3_transformer(),
            scheduler=FlowMatchEulerDiscreteScheduler(shift=3.0),
            vae=parts.wide_vae(),
            text_encoder_3=parts.t5(),
            tokenizer_3=parts.t5_tokenizer(),
        )
    )


def sd3_img2img() -> Any:
    return sd3(cls=StableDiffusion3Img2ImgPipeline)


def flux(*, cls: Any = FluxPipeline, **more: Any) -> Any:
    given = {
        **_of_sdxl("text_encoder", "tokenizer"),
        "scheduler": FlowMatchEulerDiscreteScheduler(shift=3.0, use_dynamic_shifting=True),
        "vae": parts.wide_vae(),
        "text_encoder_2": parts.t5(),
        "tokenizer_2": parts.t5_tokenizer(),
        "transformer": parts.flux_transformer(),
    }
    return _quiet(cls(**given | more))


def flux_img2img() -> Any:
    return flux(cls=FluxImg2ImgPipeline)


def flux_inpaint() -> Any:
    return flux(cls=FluxInpaintPipeline)


def flux_controlnet() -> Any:
    model = parts.flux_transformer()
    return flux(cls=FluxControlNetPipeline, transformer=model, controlnet=parts.flux_controlnet(model))


@cache
def _sdxl() -> Any:
    return tiny_sdxl()


def _of_sdxl(*names: str) -> dict[str, Any]:
    """Return parts of ``tiny_sdxl``, copied from one that nobody else has."""
    return {name: deepcopy(getattr(_sdxl(), name)) for name in names}


def _like(base: Any, cls: Any, **more: Any) -> Any:
    return _quiet(cls(**base.components, **more, add_watermarker=False))


def _quiet(pipe: Any) -> Any:
    torch.set_num_threads(1)
    pipe.set_progress_bar_config(disable=True)
    return pipe


BUILDERS: Mapping[str, Callable[[], Any]] = {
    "sd15": sd15,
    "sd15_img2img": sd15_img2img,
    "sd15_inpaint": sd15_inpaint,
    "sd15_controlnet": sd15_controlnet,
    "sdxl": sdxl,
    "sdxl_img2img": sdxl_img2img,
    "sdxl_inpaint": sdxl_inpaint,
    "sdxl_controlnet": sdxl_controlnet,
    "refiner": refiner,
    "sd3": sd3,
    "sd3_img2img": sd3_img2img,
    "flux": flux,
    "flux_img2img": flux_img2img,
    "flux_inpaint": flux_inpaint,
    "flux_controlnet": flux_controlnet,
}
"""Every pipeline that can be built here, by name."""

TEXT_TO_IMAGE = tuple(name for name in BUILDERS if name in ("sd15", "sdxl", "sd3", "flux"))


def inputs(name: str, *, prompt: Any = "a cup of tea", steps: int = STEPS, side: int = SIDE) -> dict[str, Any]:
    """Return the least arguments that a call of the named pipeline needs: prompt, pictures, size and steps.

    ``steps`` is how many are run: those that are given a picture skip one more, so that the picture shows.
    """
    # By default both read hundreds of tokens.
    short = {"max_sequence_length": 32} if name.startswith(("sd3", "flux")) else {}
    given = {"prompt": prompt, "num_inference_steps": steps, **short}
    if "controlnet" in name:
        return given | {"control_image" if name == "flux_controlnet" else "image": photo(side)} | size(side)
    if name in TEXT_TO_IMAGE:
        return given | size(side)
    given |= {"image": photo(side), "num_inference_steps": steps + 1, "strength": steps / (steps + 1)}
    if "inpaint" in name:
        return given | {"mask_image": mask(side)} | size(side)
    # The others have no such parameters: they take the picture's.
    return given | (size(side) if name == "flux_img2img" else {})


def size(side: int = SIDE) -> dict[str, int]:
    return {"height": side, "width": side}


def photo(side: int = SIDE, *, shade: int = 0) -> Image.Image:
    """Return a harmless input picture: a slope from one colour to another, other ones for another shade."""
    slope = Image.linear_gradient("L").resize((side, side))
    return Image.merge("RGB", (slope, slope.rotate(90), Image.new("L", (side, side), shade % 256)))


def mask(side: int = SIDE) -> Image.Image:
    """Return a mask whose right half is white: to be painted anew."""
    picture = Image.new("L", (side, side), 0)
    picture.paste(255, (side // 2, 0, side, side))
    return picture
