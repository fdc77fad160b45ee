from __future__ import annotations

import inspect
import warnings
from collections.abc import Iterable, Iterator, Sequence
from functools import cache
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import diffusers
import numpy as np
import pytest
import torch
from diffusers import DiffusionPipeline, StableDiffusionXLPipeline
from diffusers.callbacks import MultiPipelineCallbacks, SDXLCFGCutoffCallback
from diffusers.models.autoencoders.vae import DiagonalGaussianDistribution
from PIL import Image
from torch import nn

import safelight
from fakes import MARKER, SENTINEL, FakeJudge, has_marker, make_guard
from safelight.dropin.carried import carried_texts
from safelight.dropin.channels import Call, Treatment, read_call, ruling
from safelight.dropin.pipeline_classes import check_class
from safelight.dropin.sealed import SealedTensor
from safelight.errors import ConfigError, InvalidRequest, UnjudgedChannel
from tiny_pipelines import BUILDERS, inputs, photo
from tiny_sdxl import tiny_sdxl

SIZE = {"height": 64, "width": 64, "num_inference_steps": 1}
TOKEN = "<Zorblax>"
ADAPTER = "zorblax"
_GATHERING = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)

NO_PICTURES = frozenset(
    # Moving pictures.
    "allegro animatediff anyflow chronoedit cogvideo consisid easyanimate helios hunyuan_video hunyuan_video1_5"
    " i2vgen_xl kandinsky6 latte ltx ltx2 lucy mochi motif_video pia sana_video sana_wm skyreels_v2"
    " stable_video_diffusion text_to_video_synthesis wan"
    # Sounds, texts, shapes, proteins.
    " ace_step audioldm audioldm2 dance_diffusion diffusion_gemma llada2 longcat_audio_dit musicldm rfd4_proteina"
    " shap_e stable_audio stable_audio_3".split()
)
"""The packages of diffusers whose pipelines make none. What is new is in no list, and so has to be ruled on."""

MOVING = frozenset({"Cosmos2VideoToWorldPipeline", "Cosmos2_5_PredictBasePipeline", "Cosmos2_5_TransferPipeline"}) | {
    "AnimateDiffPAGPipeline",
    "Cosmos3OmniPipeline",
    "CosmosTextToWorldPipeline",
    "CosmosVideoToWorldPipeline",
    "Kandinsky5I2VPipeline",
    "Kandinsky5T2VPipeline",
}
"""The like of them in packages that make still pictures too."""


@cache
def picture_pipelines() -> frozenset[type[Any]]:
    """Every pipeline of diffusers that makes pictures."""
    found = set()
    with warnings.catch_warnings():
        # Some modules warn, when they are read, of what they use themselves.
        warnings.simplefilter("ignore")
        for name in dir(diffusers):
            cls = getattr(diffusers, name, None) if "Pipeline" in name else None
            if isinstance(cls, type) and issubclass(cls, DiffusionPipeline) and name not in MOVING:
                if not NO_PICTURES & set(cls.__module__.split(".")):
                    found.add(cls)
    return frozenset(found - {DiffusionPipeline})


def unruled(pipelines: Iterable[type[Any]]) -> set[str]:
    """Return pipeline and name of every parameter that nobody has ruled on."""
    return {
        f"{cls.__name__}.{parameter.name}"
        for cls in pipelines
        for parameter in inspect.signature(cls.__call__).parameters.values()
        if parameter.name != "self" and parameter.kind not in _GATHERING and ruling(parameter.name) is None
    }


def test_somebody_has_ruled_on_every_parameter_of_every_pipeline_that_makes_pictures() -> None:
    pipelines = picture_pipelines()
    names = {cls.__name__ for cls in pipelines}
    families = ("StableDiffusion", "StableDiffusionXL", "StableDiffusion3", "Flux")
    assert {f"{family}{task}Pipeline" for family in families for task in ("", "Img2Img", "Inpaint")} <= names
    assert {"StableDiffusionXLControlNetUnionPipeline", "FluxKontextPipeline", "FluxFillPipeline"} <= names
    assert {"StableDiffusionXLPAGPipeline", "QwenImageEditPlusPipeline", "ZImagePipeline"} <= names
    assert len(pipelines) > 180
    assert unruled(pipelines) == set(), "diffusers added these; read what they carry, and add them to channel_table.py"


def test_a_parameter_that_diffusers_adds_is_named() -> None:
    class NewerPipeline:
        def __call__(self, prompt: str, mood_prompt: str = "", **kwargs: Any) -> None:
            raise NotImplementedError

    assert unruled([NewerPipeline, StableDiffusionXLPipeline]) == {"NewerPipeline.mood_prompt"}


def refused_classes(pipelines: Iterable[type[Any]]) -> dict[str, str]:
    """Return the classes that cannot be guarded, by name, and why."""
    found = {}
    for cls in pipelines:
        try:
            check_class(cls)
        except ConfigError as refused:
            found[cls.__name__] = str(refused)
    return found


def test_every_pipeline_that_makes_pictures_can_be_guarded_but_for_those_that_call_them_something_else() -> None:
    refused = refused_classes(picture_pipelines())
    priors = {name for name in refused if "Prior" in name}
    assert {"KandinskyPriorPipeline", "StableCascadePriorPipeline", "FluxPriorReduxPipeline"} <= priors
    named_otherwise = {"MarigoldDepthPipeline", "MarigoldIntrinsicsPipeline", "MarigoldNormalsPipeline"}
    named_otherwise |= {"Kandinsky5I2IPipeline", "Kandinsky5T2IPipeline", "StableDiffusionLDM3DPipeline"}
    assert set(refused) - priors == named_otherwise | {"VersatileDiffusionPipeline"}
    assert refused.keys() == {name for name, why in refused.items() if name in why}


def test_a_pipeline_of_moving_pictures_is_refused_when_it_is_to_be_guarded() -> None:
    moving = [getattr(diffusers, name) for name in ("WanPipeline", "StableVideoDiffusionPipeline", *MOVING)]
    assert len(refused_classes(moving)) == len(moving)


def test_a_class_that_lacks_a_parameter_is_refused_with_its_name_and_the_parameters() -> None:
    class Bare(DiffusionPipeline):  # type: ignore[misc]
        def __call__(self, prompt: str) -> None:
            raise NotImplementedError

    class Half(Bare):
        def __call__(self, prompt: str, output_type: str = "pil") -> None:
            raise NotImplementedError

    class Gathering(Bare):
        def __call__(self, *args: Any, **more: Any) -> None:
            raise NotImplementedError

    refused = refused_classes([Bare, Half, Gathering, DiffusionPipeline])
    assert "Bare.__call__ has no parameter 'output_type' and no 'return_dict'" in refused["Bare"]
    assert "Half.__call__ has no parameter 'return_dict'" in refused["Half"]
    assert set(refused) == {"Bare", "Half", "DiffusionPipeline"}


def test_what_nobody_has_ruled_on_is_refused_in_other_words_than_what_is_refused_by_ruling() -> None:
    assert ruling("mood_prompt") is None
    with pytest.raises(UnjudgedChannel, match="mood_prompt: Safelight does not know"):
        read_call({"prompt": "tea", "mood_prompt": "tea"})
    known = ruling("prompt_embeds")
    assert known is not None and known.treatment is Treatment.REFUSED
    with pytest.raises(UnjudgedChannel) as caught:
        read_call({"prompt": "tea", "prompt_embeds": torch.zeros(1)})
    assert str(caught.value) == f"prompt_embeds: {known.note}"


def every_ruled_name() -> list[str]:
    names = {name for cls in picture_pipelines() for name in inspect.signature(cls.__call__).parameters}
    return sorted(name for name in names if ruling(name) is not None)


def marked() -> Image.Image:
    return Image.new("RGB", (16, 16), MARKER)


NAMES = "callback_on_step_end_tensor_inputs"
"""Holds names of the pipeline's own tensors, and is taken out."""


def test_a_text_is_judged_or_refused_in_every_place() -> None:
    for name in every_ruled_name():
        ruled = ruling(name)
        assert ruled is not None
        for value in (SENTINEL, [SENTINEL], {"text": SENTINEL}):
            if ruled.note == "a text or a list of texts" and not isinstance(value, dict):
                call = read_call({"prompt": ["tea"], name: value})
                assert call.texts[0][name] == SENTINEL
            elif name != NAMES or not isinstance(value, list):
                with pytest.raises(InvalidRequest, match=name):
                    read_call({"prompt": ["tea"], name: value})


def test_a_picture_or_a_tensor_is_judged_or_refused_in_every_place() -> None:
    judged = []
    for name in every_ruled_name():
        for value in (marked(), [marked()], [[marked()]], torch.zeros(1, 4, 8, 8), [np.zeros((2, 8, 8, 4))]):
            try:
                call = read_call({"prompt": "tea", name: value})
            except InvalidRequest as refused:
                assert refused.field == name
            else:
                assert has_marker(call.pictures[0][name][0])
                judged.append(name)
    assert {"image", "mask_image", "control_image", "control_mask", "ip_adapter_image"} < set(judged)


@pytest.mark.parametrize("name", ["caption_upsample_temperature", "prompt_upsampling", "system_prompt", "use_pe"])
def test_nothing_may_rewrite_a_prompt_after_it_was_judged(name: str) -> None:
    with pytest.raises(UnjudgedChannel, match="rewrite the prompt|must be False"):
        read_call({"prompt": "tea", name: 1.0})


class Rewriter:
    def __call__(self, prompt: str, use_pe: bool = True) -> None:
        raise NotImplementedError


def test_a_rewriting_of_the_prompt_has_to_be_switched_off() -> None:
    assert read_call({"prompt": "tea", "use_pe": False}, pipe=Rewriter()).arguments == {"use_pe": False}
    with pytest.raises(UnjudgedChannel, match="use_pe: must be False"):
        read_call({"prompt": "tea"}, pipe=Rewriter())


@pytest.mark.parametrize(
    ("name", "setting"),
    [
        ("prompt_embeds", "embeddings"),
        ("negative_pooled_prompt_embeds", "embeddings"),
        ("ip_adapter_image_embeds", "embeddings"),
        ("latents", "latents"),
        ("masked_image_latents", "latents"),
        ("image", "latents"),
    ],
)
def test_what_no_screen_reads_names_the_setting_that_lets_it_in(name: str, setting: str) -> None:
    given: dict[str, Any] = {"prompt": "tea", name: torch.ones(1, 4, 8, 8)}
    with pytest.raises(UnjudgedChannel, match=rf"{name}: .* allow={{'{setting}'}} in .*protect.* or PromptGuard"):
        read_call(given, allow={"embeddings", "latents", "callbacks"} - {setting})
    call = read_call(given, allow={setting})
    assert call.arguments[name].sum() == 4 * 64
    given[name].zero_()
    assert call.arguments[name].sum() == 4 * 64, "what is passed on is a copy"
    assert call.pictures == ({},)


@pytest.mark.parametrize("value", [SENTINEL, [SENTINEL], object(), [torch.zeros(1), SENTINEL]])
def test_only_tensors_are_let_in_unread(value: Any) -> None:
    with pytest.raises(InvalidRequest, match="prompt_embeds: must be a plain tensor"):
        read_call({"prompt_embeds": value}, allow={"embeddings"})


def test_prompts_that_are_embeddings_are_counted_and_have_no_text() -> None:
    given = {"prompt_embeds": torch.zeros(2, 7, 8), "negative_prompt": "fog"}
    call = read_call(given, allow={"embeddings"})
    assert call.texts == ({"negative_prompt": "fog"},) * 2
    assert call.arguments_for([1])["negative_prompt"] == ["fog"]
    assert call.arguments_for([1])["prompt_embeds"].shape == (1, 7, 8)
    assert not read_call({"prompt_embeds": torch.zeros(1, 7, 8)}, allow={"embeddings"}).batched


def test_a_call_without_prompt_and_embeddings_is_refused() -> None:
    empty: list[dict[str, Any]] = [{}, {"prompt": None}, {"negative_prompt": "tea"}, {"prompt": []}]
    for nothing in empty:
        with pytest.raises(InvalidRequest, match="prompt"):
            read_call(nothing, allow={"embeddings", "latents"})


@pytest.mark.parametrize("blank", ["", " ", "\n"])
def test_a_blank_prompt_is_passed_on_and_is_nothing_to_judge(blank: str) -> None:
    call = read_call({"prompt": blank, "prompt_2": "tea"})
    assert call.texts == ({"prompt_2": "tea"},)
    assert call.arguments_for([0])["prompt"] == blank
    assert read_call({"prompt": ["tea", blank]}).arguments_for([1])["prompt"] == [blank]


@pytest.mark.parametrize("value", ["latents", "PIL", "", 1, ["pil"], SENTINEL, marked()])
def test_an_output_of_an_unknown_form_is_refused_without_repeating_it(value: Any) -> None:
    with pytest.raises(UnjudgedChannel, match="output_type") as caught:
        read_call({"prompt": "tea", "output_type": value})
    assert SENTINEL not in str(caught.value)


def test_the_four_forms_of_output_are_known() -> None:
    for form in ("pil", "np", "pt", "latent"):
        assert read_call({"prompt": "tea", "output_type": form}).output_type == form


def test_lists_that_are_passed_on_are_copies() -> None:
    generators, scales = [torch.Generator()], [1.0]
    call = read_call({"prompt": ["tea"], "generator": generators, "controlnet_conditioning_scale": scales})
    scales.append(SENTINEL)  # type: ignore[arg-type]
    generators.clear()
    assert call.arguments["controlnet_conditioning_scale"] == [1.0]
    assert len(call.arguments["generator"]) == 1


class Sown(torch.Generator):
    """A generator that could answer with chosen noise."""


@pytest.mark.parametrize("value", [Sown(), [torch.Generator(), Sown()], 3, torch.zeros(1)])
def test_only_plain_generators_are_passed_on(value: Any) -> None:
    with pytest.raises(UnjudgedChannel, match="generator"):
        read_call({"prompt": "tea", "generator": value})


@pytest.mark.parametrize("value", [{"scale": SENTINEL}, {"ip_adapter_masks": [marked()]}, {"scale": 1.0, "x": 1}, [1]])
def test_of_the_attentions_arguments_only_a_scale_is_passed_on(value: Any) -> None:
    for name in ("cross_attention_kwargs", "joint_attention_kwargs"):
        with pytest.raises(InvalidRequest, match=name):
            read_call({"prompt": "tea", name: value})
        assert read_call({"prompt": "tea", name: {"scale": 0.5}}).arguments[name] == {"scale": 0.5}


def test_a_callback_is_taken_out_with_the_tensors_that_it_asks_for() -> None:
    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        raise NotImplementedError

    call = read_call({"prompt": "tea", "callback_on_step_end": callback})
    assert (call.callback, call.callback_tensors) == (callback, ("latents",))
    asking = {"callback_on_step_end": callback, "callback_on_step_end_tensor_inputs": ["latents", "prompt_embeds"]}
    call = read_call({"prompt": "tea", **asking})
    assert call.callback_tensors == ("latents", "prompt_embeds")
    assert call.arguments_for([0]) == {"prompt": "tea"}


def test_diffusers_own_callbacks_say_themselves_what_they_need() -> None:
    cutoff = SDXLCFGCutoffCallback(cutoff_step_ratio=0.5)
    for callback in (cutoff, MultiPipelineCallbacks([cutoff])):
        call = read_call({"prompt": "tea", "callback_on_step_end": callback})
        assert call.callback_tensors == ("prompt_embeds", "add_text_embeds", "add_time_ids")


@pytest.mark.parametrize("name", ["callback", "prior_callback_on_step_end"])
def test_callbacks_of_other_kinds_are_refused_always(name: str) -> None:
    with pytest.raises(UnjudgedChannel, match=f"{name}: it is handed latents"):
        read_call({"prompt": "tea", name: print}, allow={"callbacks", "latents", "embeddings"})


def test_a_callback_that_cannot_be_called_or_asks_for_no_names_is_refused() -> None:
    for given in ({"callback_on_step_end": SENTINEL}, {"callback_on_step_end_tensor_inputs": [marked()]}):
        with pytest.raises(InvalidRequest, match="callback_on_step_end"):
            read_call({"prompt": "tea", **given})


def sealed(*prompts: str, rows: int = 1) -> SealedTensor:
    return SealedTensor(torch.ones(rows, 4, 8, 8), [{"prompt": prompt} for prompt in prompts])


@pytest.mark.parametrize("name", ["latents", "image", "image_latents", "control_image"])
def test_sealed_latents_are_opened_and_bring_their_texts_along(name: str) -> None:
    call = read_call({"prompt": "tea", name: sealed("a cup", "a pot")})
    assert call.texts == ({"prompt": "tea", f"{name}.prompt": "a cup\na pot"},)
    assert type(call.arguments[name]) is torch.Tensor
    # The shape of one picture that was taken out of a batch, and of a list of them.
    assert type(read_call({"prompt": "tea", name: sealed("a cup")[0]}).arguments[name]) is torch.Tensor
    assert type(read_call({"prompt": "tea", name: list(sealed("a cup"))}).arguments[name][0]) is torch.Tensor


def test_texts_that_the_call_says_itself_are_not_said_twice() -> None:
    given = {"prompt": ["a cup", "a pot"], "image": sealed("a cup", "a pot", rows=2)}
    assert read_call(given).texts == ({"prompt": "a cup"}, {"prompt": "a pot"})


@pytest.mark.parametrize("name", ["mask_image", "ip_adapter_image", "prompt_embeds", "guidance_scale", "generator"])
def test_sealed_latents_are_refused_where_no_latents_belong(name: str) -> None:
    with pytest.raises(InvalidRequest, match=name):
        read_call({"prompt": "tea", name: sealed("a cup")}, allow={"embeddings", "latents"})


class Pipe:
    """What is asked of a pipeline: its name, and its parts."""

    def __init__(self, name: str, controlnet: str = "") -> None:
        self.__class__ = type(name, (Pipe,), {})
        self.controlnet = type(controlnet, (), {})() if controlnet else None


def shades(call: Call, name: str = "image") -> list[list[int]]:
    return [[int(np.asarray(image)[0, 0, 0]) for image in own[name]] for own in call.pictures]


def photos(*levels: int) -> list[Image.Image]:
    return [Image.new("RGB", (8, 8), (level, 0, 0)) for level in levels]


def test_one_picture_belongs_to_every_prompt() -> None:
    assert shades(read_call({"prompt": ["tea", "milk"], "image": photos(7)[0]})) == [[7], [7]]
    img2img = Pipe("FluxImg2ImgPipeline")
    assert shades(read_call({"prompt": ["tea", "milk"], "image": photos(7)}, pipe=img2img)) == [[7], [7]]


def batch(levels: Sequence[int]) -> torch.Tensor:
    return torch.stack([torch.full((3, 8, 8), level / 255) for level in levels])


@pytest.mark.parametrize("form", [lambda levels: photos(*levels), batch, lambda levels: list(batch(levels))])
def test_as_many_pictures_as_prompts_belong_to_them_one_by_one_where_the_pipeline_takes_them_so(form: Any) -> None:
    given = {"prompt": ["tea", "milk"], "image": form([7, 9])}
    assert shades(read_call(given)) == [[7, 9], [7, 9]]
    assert shades(read_call(given, pipe=Pipe("Flux2Pipeline"))) == [[7, 9], [7, 9]]
    call = read_call(given, pipe=Pipe("StableDiffusionXLImg2ImgPipeline"))
    assert shades(call) == [[7], [9]]
    assert len(call.arguments_for([1])["image"]) == 1
    assert len(call.arguments_for([0, 1])["image"]) == 2


def test_pictures_for_several_controlnets_belong_to_every_prompt() -> None:
    given = {"prompt": ["tea", "milk"], "image": photos(7, 9)}
    name = "StableDiffusionXLControlNetPipeline"
    assert shades(read_call(given, pipe=Pipe(name, "ControlNetModel"))) == [[7], [9]]
    assert shades(read_call(given, pipe=Pipe(name, "MultiControlNetModel"))) == [[7, 9], [7, 9]]
    nested = given | {"image": [photos(7, 9), photos(8, 10)]}
    assert shades(read_call(nested, pipe=Pipe(name, "MultiControlNetModel"))) == [[7, 9, 8, 10]] * 2


def test_of_several_pictures_each_diffusers_may_mix_the_pairs_so_every_prompt_answers_for_all() -> None:
    given = {"prompt": ["tea", "milk"], "image": photos(7, 9), "num_images_per_prompt": 2}
    assert shades(read_call(given, pipe=Pipe("StableDiffusionImg2ImgPipeline"))) == [[7, 9], [7, 9]]


def test_one_picture_of_three_channels_stays_whole_when_one_of_three_prompts_is_dropped() -> None:
    wide = Pipe("StableDiffusionXLImg2ImgPipeline")
    for picture in (batch([7])[0], np.ones((3, 8, 3), dtype="float32")):
        part = read_call({"prompt": ["a", "b", "c"], "image": picture}, pipe=wide).arguments_for([0, 2])
        assert part["image"].shape == picture.shape
    pictures = np.stack([np.asarray(photo) / np.float32(255) for photo in photos(7, 8, 9)])
    part = read_call({"prompt": ["a", "b", "c"], "image": pictures}, pipe=wide).arguments_for([0, 2])
    assert (part["image"][:, 0, 0, 0] * 255).round().tolist() == [7, 9]


def test_masks_in_one_tensor_are_dropped_with_their_prompts_and_a_single_one_is_not() -> None:
    inpaint = Pipe("StableDiffusionXLInpaintPipeline")
    given = {"prompt": ["a", "b", "c"], "image": photos(7)[0]}
    masks = torch.stack([torch.full((8, 8), level / 4) for level in range(3)])
    part = read_call(given | {"mask_image": masks}, pipe=inpaint).arguments_for([0, 2])
    assert part["mask_image"][:, 0, 0].tolist() == [0, 0.5]
    for single in (masks[:1], np.ones((3, 8, 1), dtype="float32"), masks[0]):
        part = read_call(given | {"mask_image": single}, pipe=inpaint).arguments_for([0, 2])
        assert part["mask_image"].shape == single.shape


@pytest.mark.parametrize("form", [lambda levels: photos(*levels), batch])
def test_of_several_pictures_each_every_row_keeps_the_picture_that_it_would_have_had(form: Any) -> None:
    def left(*levels: int, name: str = "StableDiffusionXLInpaintPipeline", each: int = 2, count: int = 2) -> list[int]:
        prompts = ["a", "b", "c", "d"][:count]
        given = {"prompt": prompts, "image": form(levels), "num_images_per_prompt": each}
        part = read_call(given, pipe=Pipe(name)).arguments_for(range(1, count))
        found = part["image"]
        numbers = [
            np.asarray(image) / 255 if isinstance(image, Image.Image) else image[0, :, :, None] for image in found
        ]
        return [round(float(picture[0, 0, 0]) * 255) for picture in numbers]

    # The rows are a, a, b, b; over them diffusers lays 7, 9, 7, 9.
    assert left(7, 9) == [7, 9]
    assert left(1, 2, 3, 4) == [3, 4]
    assert left(7) == [7]
    assert left(7, 8, 9, count=3) == [9, 7, 8, 9]
    assert left(7, 9, each=1, count=4) == [9, 7, 9]
    # What does not come out even is refused by the pipeline itself.
    assert left(7, 8, 9) == [7, 8, 9]
    assert left(7, 9, name="FluxModularPipeline") == [9]


@pytest.mark.parametrize("name", ["sd15_img2img", "sdxl_inpaint", "flux_img2img", "flux_inpaint"])
def test_a_dropped_prompt_changes_no_picture_of_the_others(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    # Otherwise some pipelines draw numbers for each picture that they encode, and go on with others then.
    monkeypatch.setattr(DiagonalGaussianDistribution, "sample", lambda self, generator=None: self.mode())
    given = inputs(name, prompt=[SENTINEL, "a boat"]) | {"image": [photo(), photo(shade=200)]}
    if "mask_image" in given:
        given["mask_image"] = [given["mask_image"], given["mask_image"].rotate(90)]
    given |= {"num_images_per_prompt": 2, "output_type": "np"}

    def made(pipe: Any) -> Any:
        return pipe(**given, generator=[torch.Generator().manual_seed(seed) for seed in range(4)]).images

    wanted = made(BUILDERS[name]())
    images = made(safelight.protect(BUILDERS[name](), make_guard(), screening="before"))
    assert not images[:2].any()
    assert np.abs(images[2:] - wanted[2:]).max() < 0.01 < np.abs(wanted[2] - wanted[3]).max()


def test_the_pictures_of_a_controlnet_stay_with_their_prompts() -> None:
    given = {"prompt": ["a", "b"], "image": photos(1, 2), "control_image": photos(7, 9), "num_images_per_prompt": 2}
    pipe = Pipe("StableDiffusionControlNetImg2ImgPipeline", "ControlNetModel")
    part = read_call(given, pipe=pipe).arguments_for([1])
    assert [np.asarray(image)[0, 0, 0] for image in part["control_image"]] == [9]
    assert [np.asarray(image)[0, 0, 0] for image in part["image"]] == [1, 2]


def test_a_part_of_a_batch_takes_along_what_belongs_to_it() -> None:
    generators = [torch.Generator().manual_seed(seed) for seed in range(6)]
    given = {
        "prompt": ["a", "b", "c"],
        "prompt_2": "d",
        "num_images_per_prompt": 2,
        "generator": generators,
        "latents": torch.arange(6.0).reshape(6, 1, 1, 1),
        "negative_prompt_embeds": torch.arange(3.0).reshape(3, 1, 1),
        "ip_adapter_image_embeds": [torch.zeros(3, 1, 8)],
        "guidance_scale": 3.0,
    }
    part = read_call(given, allow={"latents", "embeddings"}).arguments_for([0, 2])
    assert (part["prompt"], part["prompt_2"], part["guidance_scale"]) == (["a", "c"], ["d", "d"], 3.0)
    assert part["generator"] == [generators[place] for place in (0, 1, 4, 5)]
    assert part["latents"].flatten().tolist() == [0, 1, 4, 5]
    assert part["negative_prompt_embeds"].flatten().tolist() == [0, 2]
    assert part["ip_adapter_image_embeds"][0].shape == (3, 1, 8)


def test_texts_and_tensors_of_a_call_are_not_in_its_repr() -> None:
    call = read_call({"prompt": SENTINEL, "latents": torch.zeros(1)}, allow={"latents"})
    assert SENTINEL not in repr(call) and "tensor" not in repr(call)


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
