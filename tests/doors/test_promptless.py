"""Pipelines that are asked without a text: by a picture, by a number, or by nothing at all."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import (
    ConsistencyModelPipeline,
    DDIMPipeline,
    DDIMScheduler,
    DDPMPipeline,
    DDPMScheduler,
    DiTPipeline,
    DiTTransformer2DModel,
    KandinskyV22Pipeline,
    LDMSuperResolutionPipeline,
    RePaintPipeline,
    RePaintScheduler,
    StableDiffusionImageVariationPipeline,
    StableDiffusionImg2ImgPipeline,
    UNet2DConditionModel,
    UNet2DModel,
    VQModel,
)
from PIL import Image

import safelight
import tiny_parts as parts
from fakes import MARKER, SENTINEL, FakeJudge, make_guard, sentinel_screen
from safelight.dropin.call_request import EMBEDDINGS, NO_TEXT
from safelight.errors import InvalidRequest, UnjudgedChannel
from safelight.guard import Guard
from safelight.verdict import Stage, Verdict
from tiny_pipelines import mask, photo, sd15

STEPS = {"num_inference_steps": 2}
REPAINTING = {"num_inference_steps": 4, "jump_length": 1, "jump_n_sample": 1}
BLOCKS = {"block_out_channels": (16, 16), "layers_per_block": 1, "norm_num_groups": 8}
"""Of every U-Net and autoencoder here."""


class Last:
    """An image screen that finds something in the last picture of each batch.

    Args:
        after: How many batches come before, in which it finds nothing: those of input pictures.
    """

    name = "last"

    def __init__(self, *, after: int = 0) -> None:
        self.after = after

    async def screen_images(self, images: Any, request: Any, history: Any) -> list[Verdict]:
        self.after -= 1
        scores = [0.0] * len(images) if self.after >= 0 else [*[0.0] * (len(images) - 1), 1.0]
        return [Verdict("last", Stage.IMAGE, {"sentinel": score}) for score in scores]


def plain_unet(*, channels: int = 3, shown: int = 0, **more: Any) -> Any:
    down, up = ("DownBlock2D",) * 2, ("UpBlock2D",) * 2
    kinds = {"down_block_types": down, "up_block_types": up, "add_attention": False}
    sizes = {"sample_size": 16, "in_channels": channels + shown, "out_channels": channels}
    return parts.seeded(UNet2DModel, **BLOCKS, **kinds, **sizes, **more)


def ddpm() -> Any:
    return DDPMPipeline(unet=plain_unet(), scheduler=DDPMScheduler())


def ddim() -> Any:
    return DDIMPipeline(unet=plain_unet(), scheduler=DDIMScheduler())


def consistency() -> Any:
    scheduler = diffusers.CMStochasticIterativeScheduler(num_train_timesteps=4)
    return ConsistencyModelPipeline(unet=plain_unet(num_class_embeds=5), scheduler=scheduler)


def dit() -> Any:
    """Build one that knows the names of its classes."""
    sizes = {"num_attention_heads": 2, "attention_head_dim": 8, "in_channels": 4, "out_channels": 8, "num_layers": 1}
    model = parts.seeded(DiTTransformer2DModel, **sizes, sample_size=8, patch_size=2, num_embeds_ada_norm=1000)
    names = {3: "cup, mug", 4: SENTINEL}
    return DiTPipeline(transformer=model, vae=sd15().vae, scheduler=DDIMScheduler(), id2label=names)


def variation() -> Any:
    own = {"image_encoder": parts.image_encoder(), "feature_extractor": parts.feature_extractor()}
    base = sd15()
    shared = {name: getattr(base, name) for name in ("vae", "unet", "scheduler")}
    return StableDiffusionImageVariationPipeline(**shared, **own, safety_checker=None, requires_safety_checker=False)


def larger() -> Any:
    """Build one that makes a picture twice as large."""
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    vqvae = parts.seeded(VQModel, **BLOCKS, **kinds, latent_channels=3, num_vq_embeddings=16)
    return LDMSuperResolutionPipeline(vqvae=vqvae, unet=plain_unet(shown=3), scheduler=DDIMScheduler())


def repaint() -> Any:
    return RePaintPipeline(unet=plain_unet(), scheduler=RePaintScheduler())


def decoder() -> Any:
    """Build Kandinsky's, which is handed a picture's embeddings."""
    down, up = ("ResnetDownsampleBlock2D", "SimpleCrossAttnDownBlock2D"), ("SimpleCrossAttnUpBlock2D",) * 1
    unet = parts.seeded(
        UNet2DConditionModel,
        **BLOCKS,
        in_channels=4,
        out_channels=8,
        addition_embed_type="image",
        down_block_types=down,
        up_block_types=(*up, "ResnetUpsampleBlock2D"),
        mid_block_type="UNetMidBlock2DSimpleCrossAttn",
        encoder_hid_dim=8,
        encoder_hid_dim_type="image_proj",
        cross_attention_dim=16,
        attention_head_dim=4,
        resnet_time_scale_shift="scale_shift",
        class_embed_type=None,
    )
    kinds = {"down_block_types": ("DownEncoderBlock2D",) * 2, "up_block_types": ("UpDecoderBlock2D",) * 2}
    movq = parts.seeded(VQModel, **BLOCKS, **kinds, latent_channels=4, num_vq_embeddings=16)
    return KandinskyV22Pipeline(unet=unet, scheduler=DDIMScheduler(), movq=movq)


ASKED: Mapping[str, tuple[Callable[[], Any], dict[str, Any], int]] = {
    "ddpm": (ddpm, STEPS, 1),
    "ddpm, three": (ddpm, STEPS | {"batch_size": 3}, 3),
    "ddim": (ddim, STEPS | {"batch_size": 2, "eta": 1.0}, 2),
    "consistency": (consistency, {"num_inference_steps": 1, "batch_size": 2, "class_labels": [1, 4]}, 2),
    "dit": (dit, STEPS | {"class_labels": [3, 5]}, 2),
    "variation": (variation, STEPS | {"image": photo(), "height": 64, "width": 64}, 1),
    "variation, two of two": (
        variation,
        STEPS | {"image": [photo(), photo(shade=90)], "num_images_per_prompt": 2, "height": 64, "width": 64},
        4,
    ),
    "larger": (larger, STEPS | {"image": photo()}, 1),
    "repaint": (repaint, REPAINTING | {"image": photo(32), "mask_image": mask(32)}, 1),
}
"""By name: how the pipeline is built, what it is asked with, and how many pictures come."""


PICTURED = ("variation", "variation, two of two", "larger", "repaint")
"""Those that are asked with a picture."""

# Of RePaint's own way to read a picture.
pytestmark = pytest.mark.filterwarnings("ignore:The preprocess method is deprecated:FutureWarning")


def quiet(pipe: Any) -> Any:
    torch.set_num_threads(1)
    pipe.set_progress_bar_config(disable=True)
    return pipe


def built(name: str) -> tuple[Any, dict[str, Any]]:
    build, given, _ = ASKED[name]
    return quiet(build()), given | {"generator": torch.Generator().manual_seed(3)}


def guarded(name: str, guard: Guard | None = None, **how: Any) -> tuple[Any, dict[str, Any]]:
    pipe, given = built(name)
    return safelight.protect(pipe, guard or make_guard(), **how), given


def marked(side: int = 64) -> Image.Image:
    picture = photo(side)
    picture.paste(MARKER, (4, 4, 28, 28))
    return picture


@contextmanager
def counted(pipe: Any) -> Iterator[list[int]]:
    """Yield a list with one entry for each time that the model has run."""
    ran: list[int] = []
    model = getattr(pipe, "unet", None) or pipe.transformer
    hook = model.register_forward_pre_hook(lambda module, args: ran.append(1))
    yield ran
    hook.remove()


@pytest.mark.parametrize("form", ["pil", "np", "pt"])
@pytest.mark.parametrize("name", ASKED)
def test_what_is_allowed_is_what_the_plain_pipeline_makes(name: str, form: str) -> None:
    pipe, given = built(name)
    wanted = pipe(**given, output_type=form).images
    pipe, given = guarded(name)
    output = pipe(**given, output_type=form)
    assert len(wanted) == ASKED[name][2]
    assert type(output.images) is type(wanted)
    assert all(np.array_equal(np.asarray(own), np.asarray(one)) for own, one in zip(output.images, wanted, strict=True))
    assert output.nsfw_content_detected == [False] * len(wanted)
    assert len(output.decisions) == len(wanted)


@pytest.mark.parametrize("name", ASKED)
def test_a_blocked_picture_that_comes_out_is_black_and_no_other(name: str) -> None:
    count = ASKED[name][2]
    pipe, given = guarded(name, make_guard(image_screens=[Last(after=1 if name in PICTURED else 0)]))
    images = pipe(**given, output_type="np").images
    assert [bool(image.any()) for image in images] == [True] * (count - 1) + [False]


@pytest.mark.parametrize("name", PICTURED)
def test_a_marked_picture_that_goes_in_is_blocked_before_a_step(name: str) -> None:
    pipe, given = guarded(name)
    side = given["image"].width if isinstance(given["image"], Image.Image) else 64
    listed = isinstance(given["image"], list)
    given["image"] = [photo(side), marked(side)] if listed else marked(side)
    with counted(pipe) as ran:
        output = pipe(**given)
    assert ran == []
    assert output.nsfw_content_detected == [True] * ASKED[name][2]
    assert not any(np.asarray(image).any() for image in output.images)


def test_one_request_stands_for_all_pictures_of_a_call_without_a_text() -> None:
    judge = FakeJudge()
    guard = make_guard(prompt_screens=[judge])
    pipe, given = guarded("ddpm, three", guard)
    decisions = pipe(**given).decisions
    assert [dict(request.texts) for request, _ in judge.seen] == [{"prompt": NO_TEXT}]
    assert len({decision.request_id for decision in decisions}) == 1
    assert [decision.index for decision in decisions] == [0, 1, 2]


def test_the_names_of_the_classes_that_a_call_asks_for_are_judged() -> None:
    judge = FakeJudge()
    pipe, given = guarded("dit", make_guard(prompt_screens=[judge, sentinel_screen()]), screening="before")
    pipe(**given)
    assert judge.seen[0][0].texts["class_labels.names"] == "cup, mug\n5"
    with counted(pipe) as ran:
        output = pipe(**given | {"class_labels": [3, 4]})
    assert output.nsfw_content_detected == [True, True]
    assert ran == []


@pytest.mark.parametrize("value", [SENTINEL, [1.5], torch.ones(2), ["3"], [[3]]])
def test_a_class_is_a_whole_number(value: Any) -> None:
    pipe, given = guarded("dit")
    with pytest.raises(InvalidRequest, match="class_labels: must be a whole number"):
        pipe(**given | {"class_labels": value})


@pytest.mark.parametrize("value", [0, -1, 1.5, [2], SENTINEL])
def test_the_number_of_pictures_is_a_whole_one(value: Any) -> None:
    pipe, given = guarded("ddpm")
    with pytest.raises(InvalidRequest, match="batch_size: must be a whole number"):
        pipe(**given | {"batch_size": value})


@pytest.mark.parametrize("name", ["variation", "larger", "repaint"])
def test_numbers_that_each_of_these_reads_in_its_own_way_are_refused_as_a_picture(name: str) -> None:
    pipe, given = guarded(name)
    for numbers in (torch.zeros(1, 3, 32, 32), np.zeros((32, 32, 3), dtype="float32"), torch.zeros(1, 4, 8, 8)):
        with pytest.raises(InvalidRequest, match="image: must be a PIL picture"):
            pipe(**given | {"image": numbers})


@pytest.mark.parametrize("name", [name for name in ASKED if name != "larger"])
def test_what_is_withheld_before_it_was_made_has_the_size_that_it_would_have_had(name: str) -> None:
    pipe, given = built(name)
    wanted = [image.size for image in pipe(**given).images]
    judge = FakeJudge(answer=lambda request: Verdict("judge", Stage.PROMPT, {"sentinel": 1.0}))
    pipe, given = guarded(name, make_guard(prompt_screens=[judge]))
    assert [image.size for image in pipe(**given).images] == wanted


@pytest.mark.parametrize("name", ["ddpm", "larger", "dit", "repaint"])
def test_latents_are_not_given_where_there_is_no_text(name: str) -> None:
    pipe, given = guarded(name)
    with counted(pipe) as ran, pytest.raises(InvalidRequest, match="output_type"):
        pipe(**given, output_type="latent")
    assert ran == []


def test_a_text_that_is_taken_beside_the_pictures_is_judged() -> None:
    class Avoiding(StableDiffusionImageVariationPipeline):  # type: ignore[misc]
        def __call__(self, image: Any, negative_prompt: str = "", **more: Any) -> Any:
            return super().__call__(image, **more)

    pipe = quiet(Avoiding(**variation().components, requires_safety_checker=False))
    pipe = safelight.protect(pipe, make_guard())
    given = ASKED["variation"][1]
    assert pipe(**given, negative_prompt="fog").nsfw_content_detected == [False]
    assert pipe(**given, negative_prompt=SENTINEL).nsfw_content_detected == [True]


def test_a_class_that_hands_its_prompt_on_by_name_is_read_as_the_one_that_it_hands_it_to() -> None:
    class Handing(StableDiffusionImg2ImgPipeline):  # type: ignore[misc]
        def __call__(self, **given: Any) -> Any:
            return super().__call__(**given)

    pipe = safelight.protect(sd15(cls=Handing), make_guard())
    given = STEPS | {"strength": 1.0, "image": torch.rand(1, 3, 64, 64)}
    assert pipe(prompt="a cup", **given).nsfw_content_detected == [False]
    assert pipe(prompt=f"a {SENTINEL}", **given).nsfw_content_detected == [True]


def test_a_decoder_of_embeddings_needs_them_to_be_allowed() -> None:
    judge = FakeJudge()
    ones = torch.ones(2, 8)
    given = {
        "image_embeds": ones,
        "negative_image_embeds": -ones,
        "height": 64,
        "width": 64,
        "num_images_per_prompt": 2,
    }
    wanted = quiet(decoder())(**given, **STEPS, generator=torch.Generator().manual_seed(3)).images
    guard = make_guard(prompt_screens=[judge], image_screens=[Last()])
    with pytest.raises(UnjudgedChannel, match="image_embeds"):
        safelight.protect(quiet(decoder()), guard)(**given, **STEPS)
    pipe = safelight.protect(quiet(decoder()), guard, allow={"embeddings"})
    output = pipe(**given, **STEPS, generator=torch.Generator().manual_seed(3))
    assert output.nsfw_content_detected == [False, True] * 2
    same = [np.array_equal(np.asarray(own), np.asarray(one)) for own, one in zip(output.images, wanted, strict=True)]
    assert same == [True, False] * 2
    assert [request.prompt for request, _ in judge.seen] == [EMBEDDINGS] * 2
