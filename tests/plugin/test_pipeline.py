from __future__ import annotations

import asyncio
import copy
import inspect
import pickle
import subprocess
import sys
import threading
from collections.abc import Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from diffusers import (
    AutoPipelineForImage2Image,
    DiffusionPipeline,
    StableDiffusionXLImg2ImgPipeline,
    StableDiffusionXLPipeline,
)
from PIL import Image

import safelight
from fakes import (
    ALICE,
    SENTINEL,
    FakeJudge,
    FaultyStore,
    MarkerScreen,
    failed,
    make_guard,
    sentinel_policy,
    sentinel_screen,
)
from safelight.encoding import encode_raw, sha256_hex
from safelight.enforcement import Enforcement
from safelight.errors import (
    ConfigError,
    ContentBlocked,
    CoolDown,
    InvalidRequest,
    ScreeningUnavailable,
    UnjudgedChannel,
    UnscreenedPipeline,
)
from safelight.guard import Guard
from safelight.policy import Reason
from safelight.request import Principal
from safelight.rules import Consequence, EnforcementRule, Limit
from safelight.store.blocked_prompts import BlockedPrompts
from safelight.store.sqlite import SQLiteStore
from safelight.store.strikes import Strikes
from safelight.verdict import Outcome, Stage, Verdict
from tiny_sdxl import tiny_sdxl

SIZE = {"height": 64, "width": 64, "num_inference_steps": 2}


class Nth:
    """An image screen that finds something in the pictures at some places of each batch."""

    name = "nth"

    def __init__(self, *places: int) -> None:
        self.places = places

    async def screen_images(self, images: Sequence[Image.Image], request: Any, history: Any) -> Sequence[Verdict]:
        return [Verdict("nth", Stage.IMAGE, {"sentinel": float(place in self.places)}) for place in range(len(images))]


@pytest.fixture
def pipe() -> StableDiffusionXLPipeline:
    return tiny_sdxl()


def guard(*, spoil: Sequence[int] = (), **more: Any) -> Guard:
    return make_guard(image_screens=[Nth(*spoil)], **more)


def seeded(seed: int = 0) -> torch.Generator:
    return torch.Generator().manual_seed(seed)


def test_protect_returns_the_same_object_still_of_its_class(pipe: Any) -> None:
    plain = inspect.signature(StableDiffusionXLPipeline.__call__)
    guarded = safelight.protect(pipe, guard())
    assert guarded is pipe
    assert isinstance(guarded, StableDiffusionXLPipeline)
    assert type(guarded).__name__ == "StableDiffusionXLPipeline"
    assert type(guarded).__module__ == StableDiffusionXLPipeline.__module__
    assert inspect.signature(type(guarded).__call__) == plain


def test_an_allowed_picture_is_the_one_that_the_plain_pipeline_makes(pipe: Any) -> None:
    plain = pipe("a cup of tea", generator=seeded(), **SIZE).images[0]
    output = safelight.protect(pipe, guard())("a cup of tea", generator=seeded(), **SIZE)
    assert np.array_equal(np.asarray(output.images[0]), np.asarray(plain))
    assert output.nsfw_content_detected == [False]
    assert list(output.keys()) == ["images"]


def test_what_is_delivered_is_in_the_store_by_its_hash(pipe: Any) -> None:
    own = guard()
    output = safelight.protect(pipe, own)("a cup of tea", **SIZE)
    digest = sha256_hex(encode_raw(output.images[0]).data)
    assert [decision.allows for decision in own.store.decisions(image_sha256=digest)] == [True]
    assert output.decisions[0].image_sha256 == digest


@pytest.mark.parametrize("kind", ["pil", "np", "pt"])
def test_a_blocked_picture_is_black_at_its_place_in_every_form(pipe: Any, kind: str) -> None:
    pipe = safelight.protect(pipe, guard(spoil=[1]))
    output = pipe("tea", num_images_per_prompt=3, output_type=kind, **SIZE)
    assert output.nsfw_content_detected == [False, True, False]
    means = [float(np.asarray(image, dtype="float32").mean()) for image in output.images]
    assert means[1] == 0.0
    assert min(means[0], means[2]) > 0.0
    if kind == "pil":
        assert output.images[1].size == output.images[0].size
    else:
        assert output.images.shape == ((3, 64, 64, 3) if kind == "np" else (3, 3, 64, 64))


def test_a_tuple_keeps_its_arity(pipe: Any) -> None:
    result = safelight.protect(pipe, guard())("tea", return_dict=False, **SIZE)
    assert isinstance(result, tuple)
    assert len(result) == 1
    assert isinstance(result[0][0], Image.Image)


@pytest.mark.parametrize("screening", ["before", "beside"])
def test_a_blocked_prompt_gives_black_pictures_of_the_asked_size(pipe: Any, screening: Any) -> None:
    pipe = safelight.protect(pipe, guard(), screening=screening)
    output = pipe(f"a {SENTINEL}", num_images_per_prompt=2, height=64, width=128)
    assert [image.size for image in output.images] == [(128, 64)] * 2
    assert [image.getextrema() for image in output.images] == [((0, 0),) * 3] * 2
    assert output.nsfw_content_detected == [True, True]
    assert output.decisions[0].stage is Stage.PROMPT
    assert type(output).__name__ == "StableDiffusionXLPipelineOutput"


def test_a_blocked_prompt_costs_no_step_where_the_judges_go_first(pipe: Any) -> None:
    steps: list[int] = []
    pipe.unet.register_forward_pre_hook(lambda module, args: steps.append(1))
    safelight.protect(pipe, guard(), screening="before")(f"a {SENTINEL}", **SIZE)
    assert steps == []


def test_one_blocked_prompt_of_a_list_does_not_lose_the_others(pipe: Any) -> None:
    generators = [seeded(1), seeded(2), seeded(3)]
    alone = pipe("a boat", generator=seeded(3), **SIZE).images[0]
    pipe = safelight.protect(pipe, guard())
    output = pipe(["a cup", SENTINEL, "a boat"], generator=generators, **SIZE)
    assert output.nsfw_content_detected == [False, True, False]
    assert output.images[1].getextrema() == ((0, 0),) * 3
    difference = np.abs(np.asarray(output.images[2], int) - np.asarray(alone, int))
    assert difference.max() <= 1


def test_blocked_content_is_raised_where_that_was_asked(pipe: Any) -> None:
    safelight.protect(pipe, guard(spoil=[0]), on_block="raise")
    with pytest.raises(ContentBlocked) as blocked:
        pipe(SENTINEL, **SIZE)
    assert blocked.value.decision.stage is Stage.PROMPT
    with pytest.raises(ContentBlocked) as blocked:
        pipe("tea", **SIZE)
    assert blocked.value.decision.stage is Stage.IMAGE


@pytest.mark.parametrize("channel", ["prompt_2", "negative_prompt", "negative_prompt_2"])
def test_every_text_channel_is_judged(pipe: Any, channel: str) -> None:
    output = safelight.protect(pipe, guard())("tea", **{channel: SENTINEL}, **SIZE)
    assert output.nsfw_content_detected == [True]


def test_texts_passed_by_position_are_judged(pipe: Any) -> None:
    assert safelight.protect(pipe, guard())("tea", SENTINEL).nsfw_content_detected == [True]


TENSOR = torch.zeros(1, 4, 8, 8)
REFUSED = {
    "latents": TENSOR,
    "prompt_embeds": TENSOR,
    "negative_prompt_embeds": TENSOR,
    "pooled_prompt_embeds": TENSOR,
    "negative_pooled_prompt_embeds": TENSOR,
    "ip_adapter_image_embeds": [TENSOR],
    "output_type": "raw",
    "cross_attention_kwargs": {"ip_adapter_masks": [TENSOR]},
    "callback": print,
    "something_new": 1,
    "generator": "not a generator",
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_channel_that_nobody_can_judge_is_refused_by_name(pipe: Any, name: str) -> None:
    pipe = safelight.protect(pipe, guard())
    with pytest.raises(UnjudgedChannel, match=name):
        pipe("tea", **{name: REFUSED[name]}, **SIZE)


def test_numbers_that_carry_tensors_are_refused(pipe: Any) -> None:
    with pytest.raises(ValueError, match="guidance_scale"):
        safelight.protect(pipe, guard())("tea", guidance_scale=TENSOR, **SIZE)


def test_a_step_callback_without_tensors_works_and_cannot_return_any(pipe: Any) -> None:
    seen: list[tuple[int, dict[str, Any]]] = []

    def callback(pipe: Any, step: int, timestep: Any, tensors: dict[str, Any]) -> dict[str, Any]:
        seen.append((step, dict(tensors)))
        return {}

    pipe = safelight.protect(pipe, guard())
    pipe("tea", callback_on_step_end=callback, callback_on_step_end_tensor_inputs=[], **SIZE)
    assert seen == [(0, {}), (1, {})]
    with pytest.raises(UnjudgedChannel, match="callback_on_step_end"):
        pipe(
            "tea",
            callback_on_step_end=lambda *args: {"latents": TENSOR},
            callback_on_step_end_tensor_inputs=[],
            **SIZE,
        )
    assert pipe("tea", **SIZE).nsfw_content_detected == [False]


def test_a_fault_of_ours_raises_whatever_is_done_about_blocks(pipe: Any) -> None:
    judge = FakeJudge(answer=lambda request: failed(Outcome.TIMEOUT))
    safelight.protect(pipe, guard(prompt_screens=[judge]))
    with pytest.raises(ScreeningUnavailable):
        pipe("tea", **SIZE)


@pytest.mark.parametrize("failing", ["reserve", "record prompt", "record image", "is_releasable"])
def test_a_store_that_fails_lets_nothing_out(pipe: Any, failing: str) -> None:
    safelight.protect(pipe, guard(store=FaultyStore(failing)))
    with pytest.raises(ScreeningUnavailable):
        pipe("tea", **SIZE)


def test_a_picture_of_nan_is_a_fault_and_not_a_block(pipe: Any) -> None:
    safelight.protect(pipe, guard())
    with torch.no_grad():
        pipe.vae.decoder.conv_out.weight.fill_(float("nan"))
    with pytest.raises(safelight.GenerationFailed, match="finite"):
        pipe("tea", **SIZE)


@pytest.mark.parametrize("output_type", ["pil", "np", "pt"])
def test_one_picture_of_nan_is_black_is_no_block_and_does_not_lose_the_others(
    pipe: Any, output_type: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    plain = pipe.image_processor.postprocess

    def spoiled(image: Any, **options: Any) -> Any:
        made = plain(image, **options)
        made[1] = float("nan")
        return made

    monkeypatch.setattr(pipe.image_processor, "postprocess", spoiled)
    safelight.protect(pipe, guard())
    output = pipe("tea", num_images_per_prompt=3, output_type=output_type, **SIZE)
    assert [one.reason for one in output.decisions] == [Reason.CLEAR, Reason.GENERATION_FAILED, Reason.CLEAR]
    assert output.nsfw_content_detected == [False, False, False]
    highest = [float(np.asarray(image).max()) for image in output.images]
    assert highest[1] == 0 and min(highest[0], highest[2]) > 0


def test_a_black_picture_of_the_model_is_a_fault_and_not_a_block(pipe: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(pipe.image_processor, "postprocess", lambda image, **_: np.zeros((1, 64, 64, 3), "float32"))
    guarding = guard(spoil=[0])
    safelight.protect(pipe, guarding, principal=ALICE, on_block="raise")
    with pytest.raises(safelight.GenerationFailed, match="show nothing"):
        pipe("tea", **SIZE)
    # As where the generator raises: the turn is a fault of ours, and no clean one.
    known = guarding.store.history(ALICE, limit=3)
    assert ([turn.action for turn in known.turns], known.clean_run) == ([None], 0)


def test_a_pipeline_made_from_a_guarded_one_does_not_run_until_it_is_guarded(pipe: Any) -> None:
    safelight.protect(pipe, guard())
    for make in (StableDiffusionXLPipeline, StableDiffusionXLImg2ImgPipeline, AutoPipelineForImage2Image):
        clone = make.from_pipe(pipe, dtype=torch.float32)
        extra = {} if make is StableDiffusionXLPipeline else {"image": Image.new("RGB", (64, 64))}
        arguments = {"num_inference_steps": 4} if extra else SIZE
        with pytest.raises(UnscreenedPipeline):
            clone("tea", **extra, **arguments)
    clone = StableDiffusionXLPipeline.from_pipe(pipe, dtype=torch.float32)
    assert safelight.protect(clone, guard())("tea", **SIZE).nsfw_content_detected == [False]
    assert pipe("tea", **SIZE).nsfw_content_detected == [False]


def test_saving_writes_the_true_class_and_loads_again(pipe: Any, tmp_path: Path) -> None:
    safelight.protect(pipe, guard()).save_pretrained(tmp_path)
    assert type(DiffusionPipeline.from_pretrained(tmp_path)) is StableDiffusionXLPipeline


COPIES: dict[str, Any] = {
    "deepcopy": copy.deepcopy,
    "copy": copy.copy,
    "pickle": lambda pipe: pickle.loads(pickle.dumps(pipe)),
}


@pytest.mark.parametrize("way", COPIES)
def test_a_copy_is_guarded_by_the_same_guard(pipe: Any, way: str) -> None:
    own = guard()
    safelight.protect(pipe, own, principal=ALICE, on_block="raise")
    # Once it was called, transformers hangs hooks on a text encoder that no pickle takes, guarded or not.
    twin = COPIES[way](pipe)
    plain = pipe("a cup of tea", generator=seeded(), **SIZE)
    again = twin("a cup of tea", generator=seeded(), **SIZE)
    assert type(twin) is type(pipe)
    assert twin is not pipe
    assert np.array_equal(np.asarray(again.images[0]), np.asarray(plain.images[0]))
    assert own.store.decisions(request_id=again.decisions[0].request_id)
    with pytest.raises(ContentBlocked):
        twin(SENTINEL, **SIZE)
    with pytest.raises(UnscreenedPipeline):
        twin.unet(torch.zeros(1, 4, 8, 8), 0, torch.zeros(1, 77, 96))


def test_a_pickle_that_arrives_in_another_process_does_not_run_until_it_is_guarded(pipe: Any, tmp_path: Path) -> None:
    safelight.protect(pipe, guard())
    (tmp_path / "pipe.pickle").write_bytes(pickle.dumps(pipe))
    code = """
import pickle, sys
from safelight import UnscreenedPipeline
pipe = pickle.loads(open(sys.argv[1], "rb").read())
for call in (lambda: pipe("tea"), lambda: pipe.unet(1)):
    try:
        call()
    except UnscreenedPipeline as error:
        print(type(pipe).__name__, str(error)[-60:])
"""
    command = [sys.executable, "-W", "ignore", "-c", code, str(tmp_path / "pipe.pickle")]
    ran = subprocess.run(command, capture_output=True, text=True, timeout=120, check=True)
    lines = ran.stdout.splitlines()
    assert len(lines) == 2
    assert lines[0].startswith("StableDiffusionXLPipeline")
    assert "protect(pipe, guard)" in lines[0]


def test_a_call_is_made_for_the_user_it_is_made_for(pipe: Any) -> None:
    judge = FakeJudge()
    pipe = safelight.protect(pipe, guard(prompt_screens=[judge]), principal=ALICE)
    with pipe.as_user("bob"):
        pipe("zor", **SIZE)
        with pipe.as_user(Principal("carol", person="her cat")):
            pipe("zor", **SIZE)
    pipe("zor", **SIZE)
    assert [request.principal for request, _ in judge.seen] == [
        Principal("bob"),
        Principal("carol", person="her cat"),
        ALICE,
    ]
    with pipe.as_user("bob"):
        assert pipe("blax", **SIZE).nsfw_content_detected == [True]
    with pipe.as_user("dora"):
        assert pipe("blax", **SIZE).nsfw_content_detected == [False]


def test_as_user_holds_for_all_pipelines_of_a_guard_in_one_thread(pipe: Any) -> None:
    judge, stranger = FakeJudge(), FakeJudge()
    pipe = safelight.protect(pipe, guard(prompt_screens=[judge]), principal=ALICE)
    copied = copy.deepcopy(pipe)
    other = safelight.protect(tiny_sdxl(), guard(prompt_screens=[stranger]), principal=ALICE)
    with pipe.as_user("bob"):
        copied("tea", **SIZE)
        other("tea", **SIZE)
        thread = threading.Thread(target=pipe, args=("tea",), kwargs=SIZE)
        thread.start()
        thread.join()
    assert [request.principal.id for request, _ in judge.seen] == ["bob", ALICE.id]
    assert [request.principal for request, _ in stranger.seen] == [ALICE]


async def test_a_call_in_an_executor_names_its_person_itself(pipe: Any) -> None:
    judge = FakeJudge()
    pipe = safelight.protect(pipe, guard(prompt_screens=[judge]), principal="the shop")
    loop = asyncio.get_running_loop()
    with pipe.as_user("bob"):
        await loop.run_in_executor(None, lambda: pipe("tea", principal="alice", **SIZE))
        await asyncio.to_thread(pipe, "tea", **SIZE)
    await loop.run_in_executor(None, lambda: pipe("tea", **SIZE))
    assert [request.principal.id for request, _ in judge.seen] == ["alice", "bob", "the shop"]


@pytest.mark.parametrize("nobody", ["", "  ", 7, None])
def test_a_user_without_a_name_is_refused(pipe: Any, nobody: Any) -> None:
    pipe = safelight.protect(pipe, guard())
    with pytest.raises(InvalidRequest, match="principal"), pipe.as_user(nobody):
        pipe("tea", **SIZE)
    if nobody is not None:
        with pytest.raises(InvalidRequest, match="principal"):
            pipe("tea", principal=nobody, **SIZE)
        with pytest.raises(InvalidRequest, match="principal"):
            safelight.protect(pipe, guard(), principal=nobody)


def test_a_class_that_gives_no_numbers_is_refused_before_the_first_call(pipe: Any) -> None:
    class Bare(StableDiffusionXLPipeline):  # type: ignore[misc]
        def __call__(self, prompt: str) -> Any:
            raise NotImplementedError

    with pytest.raises(ConfigError, match=r"Bare.__call__ has no parameter 'output_type' and no 'return_dict'"):
        safelight.protect(Bare(**pipe.components, add_watermarker=False), guard())


def test_what_is_no_guard_is_refused(pipe: Any) -> None:
    with pytest.raises(ConfigError, match="guard: must be a safelight.Guard"):
        safelight.protect(pipe, "strict")  # type: ignore[arg-type]


def test_a_pause_that_a_call_brings_about_begins_after_it(pipe: Any) -> None:
    store = SQLiteStore(":memory:")
    limit = Limit(2, timedelta(minutes=10), Consequence.COOL_DOWN, timedelta(minutes=10))
    rule = EnforcementRule(limits=(limit,), near_duplicate=0, remember=timedelta())
    own = Guard(
        sentinel_policy(),
        store,
        prompt_screens=[sentinel_screen()],
        image_screens=[Nth()],
        enforcement=Enforcement(rule, Strikes(store), BlockedPrompts(store), secret=b"secret"),
    )
    pipe = safelight.protect(pipe, own)
    output = pipe(["a cup", SENTINEL, f"two {SENTINEL} birds", "a boat"], **SIZE)
    assert output.nsfw_content_detected == [False, True, True, False]
    with pytest.raises(CoolDown):
        pipe("a cup", **SIZE)
    with pytest.raises(CoolDown):
        pipe(["a cup", "a boat"], **SIZE)


def test_moving_and_settings_still_work(pipe: Any) -> None:
    pipe = safelight.protect(pipe, guard()).to("cpu")
    pipe.set_progress_bar_config(disable=True)
    pipe.enable_attention_slicing()
    assert pipe("tea", **SIZE).nsfw_content_detected == [False]


def test_history_hangs_on_the_principal(pipe: Any) -> None:
    judge = FakeJudge()
    pipe = safelight.protect(pipe, guard(prompt_screens=[judge]), principal=ALICE)
    pipe("zor", **SIZE)
    assert pipe("blax", **SIZE).nsfw_content_detected == [True]


def test_protecting_again_changes_the_guard_and_does_not_stack(pipe: Any) -> None:
    first, second = FakeJudge(), FakeJudge()
    safelight.protect(pipe, guard(prompt_screens=[first]))
    safelight.protect(pipe, guard(prompt_screens=[second]))
    pipe("tea", **SIZE)
    assert (len(first.seen), len(second.seen)) == (0, 1)


def test_calls_from_several_threads_take_turns(pipe: Any) -> None:
    pipe = safelight.protect(pipe, guard())
    results: dict[str, list[bool]] = {}
    prompts = ["a cup", SENTINEL, "a boat", "a house"]

    def call(prompt: str) -> None:
        results[prompt] = pipe(prompt, **SIZE).nsfw_content_detected

    threads = [threading.Thread(target=call, args=(prompt,)) for prompt in prompts]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert results == {prompt: [prompt == SENTINEL] for prompt in prompts}


async def test_it_can_be_called_inside_a_running_event_loop(pipe: Any) -> None:
    assert safelight.protect(pipe, guard())("tea", **SIZE).nsfw_content_detected == [False]


def test_what_is_no_pipeline_is_refused() -> None:
    with pytest.raises(ConfigError, match="needs a diffusers pipeline"):
        safelight.protect(object(), guard())


@pytest.mark.parametrize(
    "wrong",
    [{"on_block": "grey"}, {"screening": "later"}, {"allow": ["everything"]}, {"allow": "all"}, {"guidance": "strong"}],
)
def test_an_unknown_option_is_refused_with_what_there_is(pipe: Any, wrong: Any) -> None:
    with pytest.raises(ConfigError, match=f"{next(iter(wrong))}: must be "):
        safelight.protect(pipe, guard(), **wrong)


def test_marker_and_sentinel_screens_of_the_default_guard_run(pipe: Any) -> None:
    own = make_guard(prompt_screens=[sentinel_screen()], image_screens=[MarkerScreen()])
    output = safelight.protect(pipe, own)("tea", **SIZE)
    assert output.decisions[0].screens == ("marker",)


def test_the_end_of_a_long_prompt_is_not_quoted_in_a_log(pipe: Any, caplog: pytest.LogCaptureFixture) -> None:
    safelight.protect(pipe, guard())("word " * 200 + "unmistakable", **SIZE)
    assert "unmistakable" not in caplog.text


def test_a_picture_with_an_alpha_channel_does_not_leave(pipe: Any) -> None:
    from diffusers import AutoencoderKL

    pipe.vae = AutoencoderKL.from_config({**pipe.vae.config, "out_channels": 4})
    with pytest.raises(safelight.GenerationFailed, match="neither grey nor RGB"):
        safelight.protect(pipe, guard())("tea", **SIZE)


def test_a_model_that_was_exchanged_is_sealed_too(pipe: Any) -> None:
    safelight.protect(pipe, guard())
    pipe.unet = copy.deepcopy(tiny_sdxl().unet)
    clone = StableDiffusionXLPipeline.from_pipe(pipe, dtype=torch.float32)
    with pytest.raises(UnscreenedPipeline):
        clone("tea", **SIZE)
    assert pipe("tea", **SIZE).nsfw_content_detected == [False]


def test_a_text_that_answers_differently_each_time_is_read_once(pipe: Any) -> None:
    class Shifty(str):
        def __bool__(self) -> bool:
            return False

        def __str__(self) -> str:
            return "tea"

    assert safelight.protect(pipe, guard())("tea", negative_prompt=Shifty(SENTINEL), **SIZE).nsfw_content_detected == [
        True
    ]


def test_a_new_pipeline_of_a_guarded_class_does_not_run_unguarded(pipe: Any) -> None:
    safelight.protect(pipe, guard())
    with pytest.raises(UnscreenedPipeline):
        type(pipe)(**pipe.components)("tea", **SIZE)
