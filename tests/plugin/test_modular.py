from __future__ import annotations

import copy
import logging
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import timedelta
from functools import cache, partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import FluxAutoBlocks, ModularPipelineBlocks, StableDiffusion3AutoBlocks, StableDiffusionXLAutoBlocks
from peft import LoraConfig
from PIL import Image

import safelight
from fakes import ALICE, MARKER, SENTINEL, FakeJudge, FaultyStore, MarkerScreen, failed, make_guard
from safelight.channel_table import PICTURES, TEXTS
from safelight.enforcement import Enforcement
from safelight.errors import (
    ConfigError,
    ContentBlocked,
    CoolDown,
    GenerationFailed,
    InvalidRequest,
    ScreeningUnavailable,
    StoreUnavailable,
    UnjudgedChannel,
    UnscreenedPipeline,
)
from safelight.guard import Guard
from safelight.modular import ImageGuardBlock, PromptGuardBlock
from safelight.policy import Action, Reason
from safelight.rules import Consequence, EnforcementRule, Limit
from safelight.store.blocked_prompts import BlockedPrompts
from safelight.store.sqlite import SQLiteStore
from safelight.store.strikes import Strikes
from safelight.verdict import Outcome, Stage, Verdict
from tiny_pipelines import flux, sd3, sdxl_controlnet
from tiny_sdxl import tiny_sdxl

SIZE = {"height": 64, "width": 64, "num_inference_steps": 2}
BLACK = ((0, 0),) * 3


class Nth:
    """An image screen that finds something in the pictures at some places of each batch."""

    name = "nth"

    def __init__(self, *places: int) -> None:
        self.places = places

    async def screen_images(self, images: Sequence[Image.Image], request: Any, history: Any) -> Sequence[Verdict]:
        return [Verdict("nth", Stage.IMAGE, {"sentinel": float(place in self.places)}) for place in range(len(images))]


class Between(ModularPipelineBlocks):  # type: ignore[misc]
    """Somebody else's block, which does whatever it is told to the state."""

    def __init__(self, act: Callable[[Any], Any]) -> None:
        super().__init__()
        self._act = act

    def __call__(self, components: Any, state: Any) -> tuple[Any, Any]:
        return components, self._act(state) or state


@cache
def shared_parts() -> Mapping[str, Any]:
    return dict(tiny_sdxl().components)


def with_parts(blocks: Any, parts: Mapping[str, Any] | None = None, *, folder: Path | None = None) -> Any:
    pipe = blocks.init_pipeline(folder)
    given = shared_parts() if parts is None else parts
    pipe.update_components(
        **{name: part for name, part in given.items() if part is not None and name in pipe.component_names}
    )
    return pipe


def guarded_blocks(guard: Guard | None = None, *, kind: Any = StableDiffusionXLAutoBlocks, **more: Any) -> Any:
    on_block = more.pop("on_block", "black")
    blocks = kind()
    blocks.sub_blocks.insert("prompt_guard", PromptGuardBlock(guard or make_guard(), **more), 0)
    blocks.sub_blocks.insert("image_guard", ImageGuardBlock(on_block), len(blocks.sub_blocks))
    return blocks


def guarded(guard: Guard | None = None, **more: Any) -> Any:
    return with_parts(guarded_blocks(guard, **more))


def spoilt(*places: int) -> Guard:
    return make_guard(image_screens=[Nth(*places)])


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


@pytest.fixture
def steps() -> Iterator[list[int]]:
    """One entry for each time that the model runs."""
    taken: list[int] = []
    hook = shared_parts()["unet"].register_forward_pre_hook(lambda module, args: taken.append(1))
    yield taken
    hook.remove()


@cache
def plain() -> Any:
    return with_parts(StableDiffusionXLAutoBlocks())


def marked(*, side: int = 64) -> Image.Image:
    picture = Image.new("RGB", (side, side), (40, 90, 30))
    picture.paste(MARKER, (8, 8, 40, 40))
    return picture


def ramp() -> Image.Image:
    return Image.linear_gradient("L").resize((64, 64)).convert("RGB")


@pytest.mark.parametrize("form", ["pil", "np", "pt"])
def test_an_allowed_picture_is_the_one_that_the_plain_pipeline_makes(form: str) -> None:
    call = {"prompt": ["a cup", "a boat"], "num_images_per_prompt": 2, "output_type": form, **SIZE}
    wanted = plain()(**call, generator=seeded(), output="images")
    state = guarded()(**call, generator=seeded())
    assert type(state.get("images")) is type(wanted)
    for made, expected in zip(state.get("images"), wanted, strict=True):
        assert np.array_equal(np.asarray(made), np.asarray(expected))
    assert state.get("nsfw_content_detected") == [False] * 4
    assert [decision.allows for decision in state.get("decisions")] == [True] * 4


@pytest.mark.parametrize("task", ["text", "image"])
@pytest.mark.parametrize("kind", [FluxAutoBlocks, StableDiffusion3AutoBlocks])
def test_other_modular_pipelines_are_guarded_too(kind: Any, task: str) -> None:
    parts = (flux if kind is FluxAutoBlocks else sd3)().components
    call = {"prompt": "a cup", "num_images_per_prompt": 2, **SIZE}
    if task == "image":
        call |= {"image": ramp(), "strength": 0.5, "num_inference_steps": 4}
    wanted = with_parts(kind(), parts)(**call, generator=seeded(), output="images")
    state = with_parts(guarded_blocks(spoilt(1), kind=kind), parts)(**call, generator=seeded())
    assert state.get("nsfw_content_detected") == [False, True]
    assert np.array_equal(np.asarray(state.get("images")[0]), np.asarray(wanted[0]))
    assert state.get("images")[1].getextrema() == BLACK


@pytest.mark.parametrize("form", ["pil", "np", "pt"])
def test_a_blocked_picture_is_black_at_its_place_in_every_form(form: str) -> None:
    state = guarded(spoilt(1))(prompt="tea", num_images_per_prompt=3, output_type=form, **SIZE)
    assert state.get("nsfw_content_detected") == [False, True, False]
    means = [float(np.asarray(image, dtype="float32").mean()) for image in state.get("images")]
    assert means[1] == 0.0
    assert min(means[0], means[2]) > 0.0
    assert len({np.asarray(image).shape for image in state.get("images")}) == 1


def test_a_blocked_picture_is_blurred_where_that_was_asked() -> None:
    call = {"prompt": "tea", "num_images_per_prompt": 2, "output_type": "np", **SIZE}
    made = plain()(**call, generator=seeded(), output="images")
    shown = guarded(spoilt(1), on_block="blur")(**call, generator=seeded(), output="images")
    assert np.array_equal(shown[0], made[0])
    assert 0 < shown[1].mean()
    assert np.abs(np.diff(shown[1], axis=0)).mean() < np.abs(np.diff(made[1], axis=0)).mean() / 4


@pytest.mark.parametrize("channel", ["prompt", "prompt_2", "negative_prompt", "negative_prompt_2"])
def test_every_text_is_judged_before_any_other_block_runs(channel: str, steps: list[int]) -> None:
    pipe = guarded()
    with pytest.raises(ContentBlocked) as blocked:
        pipe(**{"prompt": "tea", channel: f"a {SENTINEL}"}, **SIZE)
    assert blocked.value.decision.stage is Stage.PROMPT
    assert steps == []


def test_one_blocked_prompt_of_a_list_does_not_lose_the_others() -> None:
    prompts = ["a cup", SENTINEL, "a boat"]
    alone = plain()(prompt=["a cup", "a boat"], generator=[seeded(1), seeded(3)], output="images", **SIZE)
    state = guarded()(prompt=prompts, generator=[seeded(1), seeded(2), seeded(3)], **SIZE)
    images = state.get("images")
    assert state.get("nsfw_content_detected") == [False, True, False]
    assert [decision.stage for decision in state.get("decisions")] == [Stage.IMAGE, Stage.PROMPT, Stage.IMAGE]
    assert images[1].getextrema() == BLACK
    assert [np.array_equal(images[place], alone[k]) for k, place in enumerate((0, 2))] == [True, True]
    assert state.get("prompt") == prompts


def test_blocked_content_is_raised_where_that_was_asked(steps: list[int]) -> None:
    pipe = guarded(spoilt(1), on_block="raise")
    with pytest.raises(ContentBlocked) as blocked:
        pipe(prompt=["tea", SENTINEL], **SIZE)
    assert blocked.value.decision.stage is Stage.PROMPT
    assert steps == []
    with pytest.raises(ContentBlocked) as blocked:
        pipe(prompt="tea", num_images_per_prompt=2, **SIZE)
    assert blocked.value.decision.stage is Stage.IMAGE


REFUSED = {
    "denoiser_input_fields": {"prompt_embeds": torch.zeros(1, 77, 96)},
    "ip_adapter_embeds": [torch.zeros(1, 1, 8)],
    "latents": torch.zeros(1, 4, 8, 8),
    "image_latents": torch.zeros(1, 4, 8, 8),
    "controlnet_cond": torch.zeros(1, 3, 64, 64),
    "preprocess_kwargs": {"resize_mode": "fill"},
    "cross_attention_kwargs": {"attention_mask": torch.zeros(1)},
    "output_type": "latent",
}


@pytest.mark.parametrize("name", REFUSED)
def test_what_nobody_can_judge_is_refused_by_its_name(name: str, steps: list[int]) -> None:
    pipe = guarded()
    with pytest.raises(UnjudgedChannel) as refused:
        pipe(prompt="tea", **{name: REFUSED[name]}, **SIZE)
    assert refused.value.field == ("prompt_embeds" if name == "denoiser_input_fields" else name)
    assert steps == []


@pytest.mark.parametrize("kind", [StableDiffusionXLAutoBlocks, FluxAutoBlocks, StableDiffusion3AutoBlocks])
def test_every_input_of_every_supported_pipeline_is_judged_or_refused(kind: Any) -> None:
    pipe = guarded_blocks(kind=kind).init_pipeline()
    names = [param.name for param in kind().inputs if param.name is not None]
    assert "prompt" in names
    for name in names:
        for value in (SENTINEL, marked(), torch.zeros(1, 4, 8, 8), {"text": SENTINEL}):
            judged = (name in TEXTS and value == SENTINEL) or (name in PICTURES and isinstance(value, Image.Image))
            with pytest.raises(ContentBlocked if judged else InvalidRequest):
                pipe(**{"prompt": "tea", name: value})


def test_what_stands_in_a_state_and_no_block_takes_is_refused() -> None:
    pipe = guarded()
    state = pipe(prompt="tea", **SIZE)
    state.set("somebodys_own", torch.zeros(1))
    with pytest.raises(UnjudgedChannel, match="somebodys_own"):
        pipe(state=state)


@pytest.mark.parametrize("name", ["image", "mask_image", "control_image", "ip_adapter_image"])
def test_input_pictures_are_screened_before_any_other_block_runs(name: str, steps: list[int]) -> None:
    screen = MarkerScreen()
    pipe = guarded(make_guard(image_screens=[screen]))
    with pytest.raises(ContentBlocked) as blocked:
        pipe(**{"prompt": "tea", "image": ramp(), name: marked()}, **SIZE)
    assert blocked.value.decision.stage is Stage.IMAGE
    assert steps == []


@pytest.mark.parametrize("task", ["img2img", "inpaint", "control"])
def test_an_allowed_input_picture_leads_to_the_same_picture(task: str) -> None:
    parts = sdxl_controlnet().components if task == "control" else None
    call = {"prompt": "tea", **SIZE, "num_inference_steps": 4}
    call |= {"control_image": ramp()} if task == "control" else {"image": ramp(), "strength": 0.5}
    if task == "inpaint":
        call["mask_image"] = Image.linear_gradient("L").resize((64, 64))
    wanted = with_parts(StableDiffusionXLAutoBlocks(), parts)(**call, generator=seeded(), output="images")
    images = with_parts(guarded_blocks(), parts)(**call, generator=seeded(), output="images")
    assert np.array_equal(np.asarray(images[0]), np.asarray(wanted[0]))


def test_one_blocked_input_picture_of_a_list_does_not_lose_the_others() -> None:
    call = {"strength": 0.5, **SIZE, "num_inference_steps": 4}
    alone = plain()(prompt=["a boat"], image=[ramp()], generator=[seeded(2)], output="images", **call)
    pipe = guarded()
    generators = [seeded(1), seeded(2)]
    state = pipe(prompt=["a cup", "a boat"], image=[marked(), ramp()], generator=generators, **call)
    assert state.get("nsfw_content_detected") == [True, False]
    assert state.get("images")[0].getextrema() == BLACK
    assert np.array_equal(np.asarray(state.get("images")[1]), np.asarray(alone[0]))


def test_embeddings_pass_where_they_are_allowed_and_their_pictures_are_screened() -> None:
    encoder = StableDiffusionXLAutoBlocks().sub_blocks["text_encoder"]
    embeds = with_parts(encoder)(prompt="tea", negative_prompt="").get_by_kwargs("denoiser_input_fields")
    blocks = guarded_blocks(spoilt(0), allow=["embeddings"])
    blocks.sub_blocks.pop("text_encoder")
    pipe = with_parts(blocks)
    state = pipe(denoiser_input_fields=embeds, num_images_per_prompt=2, **SIZE)
    assert state.get("nsfw_content_detected") == [True, False]


def test_without_an_image_block_at_the_end_nothing_begins(steps: list[int]) -> None:
    judge = FakeJudge()
    for after in (None, Between(lambda state: None)):
        blocks = guarded_blocks(make_guard(prompt_screens=[judge]))
        if after is None:
            blocks.sub_blocks.pop("image_guard")
        else:
            blocks.sub_blocks.insert("after", after, len(blocks.sub_blocks))
        pipe = with_parts(blocks)
        with pytest.raises(UnscreenedPipeline):
            pipe(prompt="tea", **SIZE)
        assert steps == []
    assert judge.seen == []


def test_without_a_prompt_block_nothing_comes_out() -> None:
    blocks = guarded_blocks()
    blocks.sub_blocks.pop("prompt_guard")
    with pytest.raises(UnscreenedPipeline):
        with_parts(blocks)(prompt="tea", **SIZE)


def test_an_admission_is_of_no_use_in_another_state() -> None:
    blocks = guarded_blocks()
    blocks.sub_blocks.insert("copies", Between(copy.deepcopy), len(blocks.sub_blocks) - 1)
    with pytest.raises(UnscreenedPipeline):
        with_parts(blocks)(prompt="tea", **SIZE)


@pytest.mark.parametrize("name", ["prompt", "negative_prompt"])
def test_a_text_that_is_changed_after_it_was_judged_lets_nothing_out(name: str) -> None:
    guard = make_guard()
    blocks = guarded_blocks(guard, principal=ALICE)
    blocks.sub_blocks.insert("rewriter", Between(lambda state: state.set(name, "another")), 1)
    with pytest.raises(UnscreenedPipeline, match=name):
        with_parts(blocks)(prompt="tea", **SIZE)
    assert [turn.action for turn in guard.store.history(ALICE, limit=9).turns] == [None]


@pytest.mark.parametrize("outputs", [None, "latents", ["latents", "prompt_embeds"]])
def test_nothing_but_what_was_handed_over_and_released_stays_in_the_state(outputs: Any) -> None:
    answer = guarded(spoilt(0))(prompt="tea", generator=seeded(), output=outputs, **SIZE)
    if outputs is not None:
        assert answer is None or set(answer.values()) == {None}
        return
    left = {name for name, value in answer.values.items() if value is not None}
    asked = {"prompt", "generator", *SIZE, "images", "nsfw_content_detected", "decisions"}
    assert asked <= left
    assert not [name for name, value in answer.values.items() if isinstance(value, torch.Tensor)]
    assert left <= asked | {param.name for param in StableDiffusionXLAutoBlocks().inputs}


def test_a_state_can_be_used_again_and_is_judged_again() -> None:
    judge = FakeJudge()
    pipe = guarded(make_guard(prompt_screens=[judge]))
    first = pipe(prompt="tea", output_type="np", generator=seeded(), **SIZE)
    again = pipe(state=first, generator=seeded(), prompt="a boat")
    assert [request.prompt for request, _ in judge.seen] == ["tea", "a boat"]
    assert again.get("images").shape == first.get("images").shape
    with pytest.raises(ContentBlocked):
        pipe(state=again, prompt=SENTINEL)


@pytest.mark.parametrize("where", ["between", "pictures"])
def test_a_turn_is_settled_when_a_block_raises(where: str) -> None:
    guard = make_guard()
    settled = threading.Event()
    close = guard.store.settle

    def settle(request_id: str, action: Action | None) -> None:
        close(request_id, action)
        settled.set()

    guard.store.settle = settle  # type: ignore[method-assign]
    blocks = guarded_blocks(guard, principal=ALICE)

    def act(state: Any) -> None:
        if where == "between":
            raise RuntimeError("out of memory")
        state.set("images", [])

    blocks.sub_blocks.insert("breaks", Between(act), len(blocks.sub_blocks) - 1)
    with pytest.raises(RuntimeError if where == "between" else GenerationFailed) as caught:
        with_parts(blocks)(prompt="tea", **SIZE)
    # The error's frames hold the state until whoever caught it lets it go.
    del caught
    assert settled.wait(5)


def test_a_fault_of_a_judge_is_no_block_and_costs_no_step(steps: list[int]) -> None:
    pipe = guarded(make_guard(prompt_screens=[FakeJudge(answer=lambda request: failed(Outcome.TIMEOUT))]))
    with pytest.raises(ScreeningUnavailable):
        pipe(prompt=["tea", "a cup"], **SIZE)
    assert steps == []


def test_a_store_that_fails_at_the_pictures_lets_nothing_out() -> None:
    pipe = guarded(make_guard(store=FaultyStore("record image")))
    with pytest.raises(StoreUnavailable):
        pipe(prompt="tea", **SIZE)


def test_a_picture_of_nan_is_withheld_as_a_fault_and_does_not_lose_the_others() -> None:
    def spoil(state: Any) -> None:
        state.get("images")[0] = np.nan

    blocks = guarded_blocks()
    blocks.sub_blocks.insert("spoils", Between(spoil), len(blocks.sub_blocks) - 1)
    state = with_parts(blocks)(prompt="tea", num_images_per_prompt=2, output_type="np", **SIZE)
    assert [decision.reason is Reason.GENERATION_FAILED for decision in state.get("decisions")] == [True, False]
    assert state.get("nsfw_content_detected") == [False, False]
    assert state.get("images")[0].max() == 0 < state.get("images")[1].max()


def leave(images: Any, state: Any) -> None:
    state.set("images", images)


def test_pictures_of_another_number_or_with_an_alpha_channel_are_not_let_out() -> None:
    for images in ([ramp(), ramp()], [ramp().convert("RGBA")], torch.zeros(1, 4, 8, 8), np.zeros((1, 64, 64, 3), int)):
        blocks = guarded_blocks()
        act = partial(leave, images)
        blocks.sub_blocks.insert("other", Between(act), len(blocks.sub_blocks) - 1)
        with pytest.raises(GenerationFailed):
            with_parts(blocks)(prompt="tea", **SIZE)


def test_a_call_may_name_who_asks() -> None:
    judge = FakeJudge()
    pipe = guarded(make_guard(prompt_screens=[judge]), principal=ALICE)
    for who in (None, "carol", ALICE):
        pipe(prompt="tea", principal=who, **SIZE)
    assert [request.principal.id for request, _ in judge.seen] == [ALICE.id, "carol", ALICE.id]
    with pytest.raises(InvalidRequest, match="principal"):
        pipe(prompt="tea", principal=5, **SIZE)


def test_models_that_another_guarded_pipeline_sealed_do_not_run() -> None:
    parts = safelight.protect(tiny_sdxl(), make_guard()).components
    with pytest.raises(UnscreenedPipeline):
        with_parts(guarded_blocks(), parts)(prompt="tea", **SIZE)


def test_where_one_prompt_cannot_be_judged_none_of_the_call_is_admitted() -> None:
    def answer(request: Any) -> Verdict:
        if request.prompt == "tea":
            return failed(Outcome.TIMEOUT)
        return Verdict("judge", Stage.PROMPT, {"sentinel": float(request.prompt == SENTINEL)})

    guard = make_guard(prompt_screens=[FakeJudge(answer=answer)])
    with pytest.raises(ScreeningUnavailable):
        guarded(guard, principal=ALICE)(prompt=["a cup", SENTINEL, "tea"], **SIZE)
    turns = guard.store.history(ALICE, limit=9).turns
    assert [turn.texts["prompt"] for turn in turns] == ["a cup", SENTINEL, "tea"]
    assert [turn.action for turn in turns] == [None, Action.BLOCK, None]


def test_a_pause_that_a_call_brings_about_begins_after_it() -> None:
    store = SQLiteStore(":memory:")
    limit = Limit(1, timedelta(minutes=10), Consequence.COOL_DOWN, timedelta(minutes=10))
    rule = EnforcementRule(limits=(limit,), near_duplicate=0, remember=timedelta())
    guard = make_guard(store=store)
    guard.enforcement = Enforcement(rule, Strikes(store), BlockedPrompts(store), secret=b"secret")
    pipe = guarded(guard)
    state = pipe(prompt=["a cup", SENTINEL, "a boat"], **SIZE)
    assert state.get("nsfw_content_detected") == [False, True, False]
    with pytest.raises(CoolDown):
        pipe(prompt="a cup", **SIZE)


def test_a_lora_is_judged_by_its_name() -> None:
    parts = tiny_sdxl().components
    parts["unet"].add_adapter(LoraConfig(r=2, target_modules=["to_q"]), adapter_name=SENTINEL)
    with pytest.raises(ContentBlocked):
        with_parts(guarded_blocks(), parts)(prompt="tea", **SIZE)


def test_a_workflow_cut_out_of_guarded_blocks_is_guarded() -> None:
    pipe = with_parts(guarded_blocks().get_workflow("text2image"))
    assert pipe(prompt="tea", **SIZE).get("nsfw_content_detected") == [False]
    with pytest.raises(ContentBlocked):
        pipe(prompt=SENTINEL, **SIZE)


def test_what_was_saved_is_loaded_into_guarded_blocks(tmp_path: Path) -> None:
    guarded().save_config(tmp_path)
    pipe = with_parts(guarded_blocks(), folder=tmp_path)
    assert pipe(prompt="tea", **SIZE).get("nsfw_content_detected") == [False]
    with pytest.raises(ContentBlocked):
        pipe(prompt=SENTINEL, **SIZE)


def test_calls_from_several_threads_in_turn_keep_to_their_own_prompts() -> None:
    pipe = guarded()
    prompts = [f"{SENTINEL} {number}" if number % 3 == 0 else f"a cup {number}" for number in range(9)]
    wanted = {
        prompt: np.asarray(plain()(prompt=prompt, generator=seeded(), output="images", **SIZE)[0])
        for prompt in prompts
        if SENTINEL not in prompt
    }
    turns = threading.Lock()
    found: dict[str, Any] = {}

    def ask(prompt: str) -> None:
        with turns:
            try:
                found[prompt] = np.asarray(pipe(prompt=prompt, generator=seeded(), output="images", **SIZE)[0])
            except ContentBlocked:
                found[prompt] = None

    threads = [threading.Thread(target=ask, args=(prompt,)) for prompt in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert {prompt for prompt, picture in found.items() if picture is None} == set(prompts) - set(wanted)
    assert all(np.array_equal(found[prompt], picture) for prompt, picture in wanted.items())


def test_no_prompt_and_no_refusal_is_written_to_the_log(caplog: pytest.LogCaptureFixture) -> None:
    pipe = guarded()
    diffusers_log = logging.getLogger("diffusers")
    diffusers_log.addHandler(caplog.handler)
    try:
        pipe(prompt="a kettle " * 40, **SIZE)
        with pytest.raises(ContentBlocked):
            pipe(prompt=SENTINEL, **SIZE)
    finally:
        diffusers_log.removeHandler(caplog.handler)
    assert "kettle" not in caplog.text
    assert SENTINEL not in caplog.text
    assert [record for record in caplog.records if record.levelno >= logging.ERROR] == []


def test_wrong_settings_are_named() -> None:
    with pytest.raises(ConfigError, match="on_block"):
        ImageGuardBlock("grey")  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="allow"):
        PromptGuardBlock(make_guard(), allow=["callbacks"])
