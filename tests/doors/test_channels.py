"""The sentinel in disguise, in every channel of every door: a judge is always shown it byte for byte."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

import gradio as gr
import openai
import pytest
from starlette.requests import Request

import safelight
from disguises_of_zorblax import ALL
from fakes import SENTINEL, FakeGenerator, FakeJudge, MarkerScreen, make_guard, sentinel_policy, sentinel_screen
from gateway_server import Served, serving
from page_fakes import page_runtime
from safelight.config import Runtime
from safelight.verdict import Stage, Verdict
from safelight_ui.creating import Creating
from safelight_ui.doorkeeper import VISITOR
from safelight_ui.notices import Notices
from safelight_ui.pictures import PictureFolder
from safelight_ui.visitors import Visitors
from tiny_sdxl import tiny_sdxl

DISGUISES = {"plain": f"a {SENTINEL} in a field", **ALL}
SIZE = {"height": 64, "width": 64, "num_inference_steps": 1}
TEXTS = ("prompt", "prompt_2", "negative_prompt", "negative_prompt_2")
CARRIED = ("lora", "textual_inversion", "negative_prompt_textual_inversion")
OVER_HTTP = (*TEXTS, "prompt_3", "negative_prompt_3")
ON_THE_PAGE = ("prompt", "negative_prompt")
SHARE = 0.9

Ask = Callable[[str, str], bool]
"""Puts a text into a channel, and returns whether the request was blocked."""


def seeing_nothing() -> FakeJudge:
    """Return a judge that keeps what it is shown, and leaves the finding to the local screen after it."""
    return FakeJudge(answer=lambda request: Verdict("judge", Stage.PROMPT, {"sentinel": 0.0}))


def every_turn(channels: tuple[str, ...], *, at_once: int = 2) -> Iterator[tuple[str, str]]:
    """Yield channel and text: every disguise in so many channels, other ones each time."""
    for place, text in enumerate(DISGUISES.values()):
        for step in range(at_once):
            channel = channels[(place + step) % len(channels)]
            # No tokenizer reads a learned token that holds one of its own marks: it divides the text there first.
            if not (channel.endswith("textual_inversion") and "<|endoftext|>" in text):
                yield channel, text


def check(ask: Ask, judge: FakeJudge, channels: tuple[str, ...], door: str) -> int:
    """Ask for every disguise, check what the judge was shown each time, and return how many were let through."""
    asked = list(every_turn(channels, at_once=min(2, len(channels))))
    blocked = 0
    for channel, text in asked:
        shown = len(judge.seen)
        blocked += ask(channel, text)
        assert len(judge.seen) == shown + 1
        assert judge.seen[-1][0].texts[channel].encode() == text.encode(), (door, channel)
    assert {channel for channel, _ in asked} == set(channels)
    assert len({text for _, text in asked}) >= 90
    print(f"{door}: {blocked} of {len(asked)} recognised by the local screen")
    assert blocked >= SHARE * len(asked)
    return len(asked) - blocked


@pytest.fixture
def judge() -> FakeJudge:
    return seeing_nothing()


def test_the_drop_in_shows_every_channel_to_the_judge(judge: FakeJudge) -> None:
    guard = make_guard(prompt_screens=[judge, sentinel_screen()])
    # Beside the judge a step may be taken for a text that is then blocked.
    pipe = safelight.protect(tiny_sdxl(), guard, screening="before")
    steps: list[int] = []
    pipe.unet.register_forward_pre_hook(lambda module, args: steps.append(1))

    def ask(channel: str, text: str) -> bool:
        texts = {"prompt": "tea", channel: text} if channel in TEXTS else {"prompt": "tea"}
        with_name = _carrying(pipe, channel, text) if channel in CARRIED else texts
        try:
            flags: list[bool] = pipe(**{**texts, **with_name}, **SIZE).nsfw_content_detected
        finally:
            _forget(pipe)
        return flags[0]

    assert len(steps) == check(ask, judge, (*TEXTS, *CARRIED), "drop-in")


def _carrying(pipe: Any, channel: str, name: str) -> Mapping[str, str]:
    """Give the pipeline a LoRA or a learned token of that name, and return the texts that use it."""
    if channel == "lora":
        # What fuse_lora() remembers.
        pipe._merged_adapters = {name}
        return {}
    pipe.tokenizer.add_tokens(name)
    pipe.text_encoder.resize_token_embeddings(len(pipe.tokenizer), mean_resizing=False)
    return {"prompt" if channel == "textual_inversion" else "negative_prompt": f"a {name} cup"}


def _forget(pipe: Any) -> None:
    pipe._merged_adapters = set()
    pipe.unload_textual_inversion()


def test_a_channel_that_a_pipeline_carries_is_enough_to_be_blocked(judge: FakeJudge) -> None:
    pipe = safelight.protect(tiny_sdxl(), make_guard(prompt_screens=[judge, sentinel_screen()]))
    pipe._merged_adapters = {"z0rbl4x"}
    output = pipe("tea", **SIZE)
    assert output.nsfw_content_detected == [True]
    assert output.decisions[0].stage is Stage.PROMPT


@pytest.fixture
def generator() -> FakeGenerator:
    return FakeGenerator()


@pytest.fixture
def served(judge: FakeJudge, generator: FakeGenerator, tmp_path: Path) -> Iterator[Served]:
    with serving(
        tmp_path,
        generator=generator,
        prompt_screens=[judge, sentinel_screen()],
        image_screens=[MarkerScreen()],
        policy=sentinel_policy(),
    ) as served:
        yield served


def test_the_gateway_shows_every_channel_to_the_judge(
    served: Served, judge: FakeJudge, generator: FakeGenerator
) -> None:
    with served.client(max_retries=0) as client:

        def ask(channel: str, text: str) -> bool:
            prompt, further = (text, {}) if channel == "prompt" else ("tea", {channel: text})
            try:
                client.images.generate(prompt=prompt, size="64x64", extra_body=further)
            except openai.BadRequestError as error:
                assert error.code == "moderation_blocked"
                return True
            return False

        assert len(generator.requests) == check(ask, judge, OVER_HTTP, "gateway")


STEERING = ("lora", "loras", "lora_path", "adapters", "textual_inversion", "ip_adapter", "cross_attention_kwargs")
IGNORED = ("style", "style_preset", "system_prompt", "prompt_4", "workflow", "parameters", "metadata", "filename")
WHO = ("user", "safety_identifier")


@pytest.mark.parametrize("name", STEERING)
def test_a_name_of_weights_is_refused_over_http_with_its_field(
    served: Served, generator: FakeGenerator, name: str
) -> None:
    answer = served.post(json.dumps({"prompt": "tea", name: SENTINEL}).encode())
    assert (answer.status_code, answer.json()["error"]["param"]) == (400, name)
    assert generator.requests == []


def test_a_text_that_is_ignored_over_http_is_named_and_reaches_no_generator(
    served: Served, generator: FakeGenerator, judge: FakeJudge
) -> None:
    answer = served.post(
        json.dumps({"prompt": "tea", "size": "64x64", **dict.fromkeys((*IGNORED, *WHO), SENTINEL)}).encode()
    )
    assert answer.status_code == 200
    assert answer.headers["x-safelight-ignored"].split(",") == sorted(IGNORED)
    assert generator.requests[0] is judge.seen[0][0]
    assert generator.requests[0].texts == {"prompt": "tea"}
    assert generator.requests[0].principal.person == SENTINEL


@pytest.fixture
def page(judge: FakeJudge, generator: FakeGenerator, tmp_path: Path) -> Iterator[Creating]:
    plain = page_runtime(tmp_path, generator)  # type: ignore[arg-type]  # any generator will do
    guard = make_guard(store=plain.store, prompt_screens=[judge, sentinel_screen()])  # type: ignore[arg-type]
    folder = PictureFolder(Visitors(bytes(32)))
    yield Creating(Runtime(plain.settings, guard, generator, plain.store), folder, Notices(guard.policy))
    folder.close()
    plain.store.close()


async def created(page: Creating, prompt: str, negative_prompt: str | None) -> list[Any]:
    """Press Create, and return the pictures that the page then shows."""
    scope = {"type": "http", "client": ("127.0.0.1", 5), "headers": [], VISITOR: "somebody"}
    size = ("64", "64", "1", None)
    request = gr.Request(request=Request(scope))
    progress: Any = lambda *args, **more: None  # noqa: E731  # what Gradio hands in moves a bar
    shown = [each async for each in page.create(prompt, negative_prompt, 1, None, True, *size, request, progress)]
    files: list[Any] = shown[-1][0]
    return files


def test_the_page_shows_every_channel_to_the_judge(page: Creating, judge: FakeJudge, generator: FakeGenerator) -> None:
    def ask(channel: str, text: str) -> bool:
        before = len(generator.requests)
        fields = {"prompt": "tea", "negative_prompt": None, channel: text}
        files = asyncio.run(created(page, **fields))  # type: ignore[arg-type]
        assert len(files) == len(generator.requests) - before
        return not files

    assert len(generator.requests) == check(ask, judge, ON_THE_PAGE, "page")


def test_no_two_doors_read_a_request_differently(page: Creating, served: Served, judge: FakeJudge) -> None:
    negative = "(fog:1.2)<|endoftext|>\u200b\n"
    with served.client(max_retries=0) as client:
        client.images.generate(prompt="tea", size="64x64", extra_body={"negative_prompt": negative})
    asyncio.run(created(page, "tea", negative))
    safelight.protect(tiny_sdxl(), make_guard(prompt_screens=[judge]))("tea", negative_prompt=negative, **SIZE)
    texts = [dict(request.texts) for request, _ in judge.seen]
    assert texts == [{"prompt": "tea", "negative_prompt": negative}] * 3
