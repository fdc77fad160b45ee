"""The turnstile, the shelf and the memory of answers, each alone and with a clock of the test's own."""

from __future__ import annotations

import asyncio
import contextlib
from urllib.parse import parse_qs, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from gateway_fakes import Painter
from safelight.encoding import Encoded
from safelight.errors import InvalidRequest, UnjudgedChannel
from safelight.request import GenerationRequest, Principal
from safelight_gateway.parameters import STEPS, read_parameters
from safelight_gateway.problems import Problem, Reply
from safelight_gateway.repeats import Repeats
from safelight_gateway.shelf import Kept, Shelf
from safelight_gateway.turnstile import Turnstile


class Clock:
    now = 1_000.0

    def __call__(self) -> float:
        return self.now


def picture(size: int = 100) -> Encoded:
    return Encoded(b"x" * size, Image.new("RGB", (8, 8)), "image/png")


def fetch(shelf: Shelf, link: str) -> Kept:
    parts = urlsplit(link)
    query = parse_qs(parts.query)
    return shelf.get(parts.path.rpartition("/")[2], until=query["exp"][0], signature=query["sig"][0])


def status_of(call: object) -> int:
    with pytest.raises(Problem) as caught:
        call()  # type: ignore[operator]
    return caught.value.status


def test_a_turnstile_turns_away_one_too_many_and_lets_in_the_next() -> None:
    clock = Clock()
    turnstile = Turnstile(2, clock=clock)
    with turnstile.entered():
        with turnstile.entered():
            with pytest.raises(Problem) as caught, turnstile.entered():
                raise AssertionError("let in")
            assert caught.value.status == 429 and caught.value.headers["retry-after"] == "1"
            clock.now += 1_000
        turnstile.check()
        with turnstile.entered(), pytest.raises(Problem) as caught:
            turnstile.check()
        # The last request took long, so clients are told to wait longer, but never without end.
        assert caught.value.headers["retry-after"] == "60"
    turnstile.check()


def test_a_generation_that_runs_on_keeps_its_place() -> None:
    turnstile = Turnstile(1)
    inside: list[int] = []

    class Watching(Painter):
        def generate(self, request: GenerationRequest, progress: object) -> list[Image.Image]:
            # The client has left; the turnstile must not let another one in yet.
            inside.append(status_of(turnstile.check))
            return []

    generator = turnstile.counting(Watching())
    generator.generate(GenerationRequest("a teapot", Principal("k")), lambda done, total: None)
    assert inside == [429] and generator.name == "painter"
    turnstile.check()


def test_a_shelf_gives_what_it_signed_until_it_expires() -> None:
    clock = Clock()
    shelf = Shelf(lambda: b"k" * 32, clock=clock, kept_s=60)
    link = shelf.put(picture())
    assert fetch(shelf, link) == Kept(b"x" * 100, "image/png", 1_060)
    clock.now += 60
    assert status_of(lambda: fetch(shelf, link)) == 403


def test_a_shelf_forgets_the_oldest_pictures_first() -> None:
    shelf = Shelf(lambda: b"k" * 32, max_bytes=250)
    links = [shelf.put(picture()) for _ in range(3)]
    assert status_of(lambda: fetch(shelf, links[0])) == 404
    assert fetch(shelf, links[1]).data == fetch(shelf, links[2]).data == b"x" * 100


def test_a_link_of_another_secret_opens_nothing() -> None:
    first, second = Shelf(lambda: b"k" * 32), Shelf(lambda: b"l" * 32)
    assert status_of(lambda: fetch(second, first.put(picture()))) == 403


@given(st.text(), st.text(), st.text())
def test_no_made_up_link_opens_anything(name: str, until: str, signature: str) -> None:
    shelf = Shelf(lambda: b"k" * 32)
    shelf.put(picture())
    assert status_of(lambda: shelf.get(name, until=until, signature=signature)) == 403


class Worker:
    def __init__(self, status: int = 200) -> None:
        self.status = status
        self.calls = 0
        self.go = asyncio.Event()
        self.go.set()

    async def __call__(self) -> Reply:
        self.calls += 1
        await self.go.wait()
        return Reply(self.status, b"x" * 100)


async def test_twenty_simultaneous_repeats_are_worked_on_once() -> None:
    repeats, worker = Repeats(), Worker()
    worker.go.clear()
    calls = [asyncio.create_task(repeats.once("k", "one", b"body", worker)) for _ in range(20)]
    await asyncio.sleep(0)
    worker.go.set()
    results = await asyncio.gather(*calls, return_exceptions=True)
    assert worker.calls == 1
    assert sum(isinstance(result, Reply) for result in results) == 1
    assert {result.status for result in results if isinstance(result, Problem)} == {409}
    assert (await repeats.once("k", "one", b"body", worker)).headers == {"idempotent-replayed": "true"}
    assert worker.calls == 1


async def test_keys_belong_to_a_principal_and_to_one_body() -> None:
    repeats, worker = Repeats(), Worker()
    await repeats.once("k", "one", b"body", worker)
    await repeats.once("l", "one", b"body", worker)
    assert worker.calls == 2
    with pytest.raises(Problem) as caught:
        await repeats.once("k", "one", b"other", worker)
    assert caught.value.status == 422


@pytest.mark.parametrize(("status", "calls"), [(200, 1), (400, 1), (500, 2), (503, 2), (429, 2), (499, 2)])
async def test_outcomes_are_remembered_and_faults_are_not(status: int, calls: int) -> None:
    repeats, worker = Repeats(), Worker(status)
    for _ in range(2):
        await repeats.once("k", "one", b"body", worker)
    assert worker.calls == calls


async def test_a_request_that_was_given_up_can_be_sent_again() -> None:
    repeats, worker = Repeats(), Worker()
    worker.go.clear()
    call = asyncio.create_task(repeats.once("k", "one", b"body", worker))
    await asyncio.sleep(0)
    call.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await call
    worker.go.set()
    assert (await repeats.once("k", "one", b"body", worker)).status == 200


async def test_answers_are_forgotten_by_age_and_by_size() -> None:
    clock, worker = Clock(), Worker()
    repeats = Repeats(clock=clock, max_bytes=250, kept_s=60)
    for key in ("one", "two", "three", "one", "three"):
        await repeats.once("k", key, b"body", worker)
    # 'one' had to make room, and 'two' for 'one' after it.
    assert worker.calls == 4
    clock.now += 60
    await repeats.once("k", "three", b"body", worker)
    assert worker.calls == 5


@pytest.mark.parametrize("key", ["", "x" * 256])
async def test_a_key_of_no_or_too_many_characters_is_refused(key: str) -> None:
    with pytest.raises(Problem) as caught:
        await Repeats().once("k", key, b"body", Worker())
    assert caught.value.status == 400


@pytest.mark.parametrize(("quality", "steps"), STEPS.items())
def test_quality_means_steps_unless_they_are_given(quality: str, steps: int | None) -> None:
    def asked(**more: object) -> int | None:
        data = {"prompt": "a teapot", "quality": quality, **more}
        return read_parameters(data, principal_id="k", models=["m"]).request.steps

    assert asked() == steps and asked(num_inference_steps=3) == 3


@given(st.dictionaries(st.from_regex(r"x_[a-z]{1,8}", fullmatch=True), st.text(min_size=1), max_size=5))
def test_nothing_of_an_unknown_field_is_in_the_request(unknown: dict[str, str]) -> None:
    plain = read_parameters({"prompt": "a teapot"}, principal_id="k", models=["m"])
    found = read_parameters({"prompt": "a teapot", **unknown}, principal_id="k", models=["m"])
    assert found.request == plain.request and found.ignored == tuple(sorted(unknown))


def test_only_names_that_fit_a_header_are_told() -> None:
    data = {"prompt": "a teapot", "a\r\nb": 1, "é": 1, "x" * 65: 1, "fine": 1}
    assert read_parameters(data, principal_id="k", models=["m"]).ignored == ("fine",)


@pytest.mark.parametrize("name", ["prompt_2", "prompt_3", "negative_prompt", "negative_prompt_2", "negative_prompt_3"])
def test_every_text_that_a_generator_could_read_is_a_channel(name: str) -> None:
    asked = read_parameters({"prompt": "a teapot", name: " porcelain\n"}, principal_id="k", models=["m"])
    assert asked.request.texts == {"prompt": "a teapot", name: " porcelain\n"} and asked.ignored == ()
    with pytest.raises(InvalidRequest, match=name):
        read_parameters({"prompt": "a teapot", name: ["porcelain"]}, principal_id="k", models=["m"])


@pytest.mark.parametrize("name", ["lora", "loras", "lora_path", "lora_weights", "adapters", "textual_inversion"])
def test_a_name_of_weights_is_refused_and_an_empty_one_is_none(name: str) -> None:
    with pytest.raises(UnjudgedChannel, match=name):
        read_parameters({"prompt": "a teapot", name: "porcelain"}, principal_id="k", models=["m"])
    assert read_parameters({"prompt": "a teapot", name: ""}, principal_id="k", models=["m"]).ignored == ()
