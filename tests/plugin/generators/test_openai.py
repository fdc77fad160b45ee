import io
from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np
import pytest
from PIL import Image

from safelight.encoding import MAX_BYTES, encode_jpeg, encode_png, encode_webp
from safelight.errors import ConfigError, GenerationFailed, InvalidRequest
from safelight.generators import Generator
from safelight.generators.openai import OpenAIGenerator
from safelight.request import GenerationRequest, Principal
from scripted_images import Answer, ScriptedImages, pictures, refuses, sends

ALICE = Principal("alice")


def noise(width: int = 64, height: int = 48, seed: int = 0) -> Image.Image:
    return Image.fromarray(np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8))


def asks(**more: object) -> GenerationRequest:
    return GenerationRequest("a lighthouse", ALICE, **({"width": 64, "height": 48} | more))  # type: ignore[arg-type]


def nothing(done: int, total: int) -> None:
    pass


@contextmanager
def served(
    *script: Answer, timeout_s: float = 20.0, model: str = "sdxl"
) -> Iterator[tuple[OpenAIGenerator, ScriptedImages]]:
    with ScriptedImages(*script) as server:
        generator = OpenAIGenerator(api_base=server.base, model=model, api_key="sk-own", timeout_s=timeout_s)
        try:
            yield generator, server
        finally:
            generator.close()


def png(image: Image.Image) -> bytes:
    return encode_png(image).data


def test_pictures_come_back_pixel_by_pixel_and_in_order() -> None:
    made = [noise(seed=1), noise(seed=2)]
    with served(pictures(*map(png, made))) as (generator, server):
        assert isinstance(generator, Generator)
        got = generator.generate(asks(n=2), nothing)
    assert [picture.tobytes() for picture in got] == [picture.tobytes() for picture in made]
    path, headers, body = server.asked[0]
    assert path == "/v1/images/generations"
    assert headers["authorization"] == "Bearer sk-own"
    assert body == {"model": "sdxl", "prompt": "a lighthouse", "n": 2, "size": "64x48", "response_format": "b64_json"}


def test_everything_that_is_set_is_sent_under_the_names_of_vllm_omni() -> None:
    request = asks(negative_prompt="fog", seed=7, steps=9, guidance_scale=4.5)
    with served(pictures(png(noise()))) as (generator, server):
        generator.generate(request, nothing)
    assert server.body == {
        "model": "sdxl",
        "prompt": "a lighthouse",
        "n": 1,
        "size": "64x48",
        "response_format": "b64_json",
        "negative_prompt": "fog",
        "seed": 7,
        "num_inference_steps": 9,
        "guidance_scale": 4.5,
    }


def test_without_a_size_the_servers_own_is_taken() -> None:
    with served(pictures(png(noise(40, 24)))) as (generator, server):
        (got,) = generator.generate(asks(width=None, height=None), nothing)
    assert got.size == (40, 24)
    assert "size" not in server.body


def test_models_that_always_answer_with_the_picture_are_not_asked_for_it() -> None:
    with served(pictures(png(noise())), model="gpt-image-2") as (generator, server):
        generator.generate(asks(), nothing)
    assert "response_format" not in server.body


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"prompt_2": "a pier"}, "prompt_2"),
        ({"negative_prompt_2": "a pier"}, "negative_prompt_2"),
        ({"extra_texts": {"style": "a pier"}}, "style"),
        ({"width": None}, "width"),
        ({"height": None}, "height"),
    ],
)
def test_what_the_api_cannot_carry_is_refused_by_name_and_nothing_is_sent(
    changes: dict[str, object], field: str
) -> None:
    with served(pictures(png(noise()))) as (generator, server):
        with pytest.raises(InvalidRequest) as caught:
            generator.generate(asks(**changes), nothing)
        assert server.asked == []
    assert caught.value.field == field


@pytest.mark.parametrize("encode", [encode_jpeg, encode_webp])
def test_lossy_pictures_are_read_too(encode: Callable[[Image.Image], object]) -> None:
    encoded = encode(noise())
    with served(pictures(encoded.data)) as (generator, _):  # type: ignore[attr-defined]
        (got,) = generator.generate(asks(), nothing)
    assert got.tobytes() == encoded.image.tobytes()  # type: ignore[attr-defined]


def moving() -> bytes:
    buffer = io.BytesIO()
    noise(seed=1).save(buffer, "WEBP", save_all=True, append_images=[noise(seed=2)])
    return buffer.getvalue()


def gif() -> bytes:
    buffer = io.BytesIO()
    noise().save(buffer, "GIF")
    return buffer.getvalue()


@pytest.mark.parametrize(
    ("answer", "problem"),
    [
        (pictures(), "0 pictures instead of 1"),
        (pictures(png(noise()), png(noise())), "2 pictures instead of 1"),
        (pictures(png(noise(63, 48))), "another size"),
        (pictures(png(noise(48, 64))), "another size"),
        (pictures(png(noise())[:-400]), "no whole PNG"),
        (pictures(moving()), "more than one frame"),
        (pictures(gif()), "no whole PNG"),
        (pictures(b"zorblax"), "no whole PNG"),
        (pictures(png(Image.new("RGB", (4097, 8)))), "4097x8 pixels"),
        (sends({"created": 1, "data": [{"b64_json": "%%%"}]}), "not base64"),
        (sends({"created": 1, "data": [{"b64_json": "\u00e9"}]}), "not base64"),
        (sends({"created": 1, "data": [{"b64_json": ""}]}), "no b64_json"),
        (sends({"created": 1, "data": [{"b64_json": 7}]}), "no b64_json"),
        (sends({"created": 1, "data": [None]}), "no b64_json"),
        (sends({"created": 1, "data": None}), "no list"),
        (sends({"created": 1, "data": "zorblax"}), "no list"),
        (sends({}), "no list"),
        (sends([]), "no list"),
        (sends(None), "no list"),
        (Answer(body=b"<html>zorblax", headers={"Content-Type": "text/html"}), "no list"),
        (Answer(body=b"{zorblax"), "no answer"),
        (Answer(body=b""), "no answer"),
    ],
)
def test_an_answer_that_is_not_the_asked_pictures_fails(answer: Answer, problem: str) -> None:
    with served(answer) as (generator, _), pytest.raises(GenerationFailed, match=problem) as caught:
        generator.generate(asks(), nothing)
    assert "zorblax" not in str(caught.value)


def test_a_picture_that_is_too_long_is_refused_before_it_is_decoded() -> None:
    # Valid base64 all through, so that only its length can be the reason.
    with served(sends({"data": [{"b64_json": "A" * (MAX_BYTES // 3 * 4 + 8)}]})) as (generator, _):
        with pytest.raises(GenerationFailed, match="too large"):
            generator.generate(asks(), nothing)


def test_addresses_are_not_followed() -> None:
    with ScriptedImages(sends({})) as elsewhere:
        address = elsewhere.base + "/picture.png"
        with served(sends({"created": 1, "data": [{"url": address}]})) as (generator, _):
            with pytest.raises(GenerationFailed, match="addresses are not followed"):
                generator.generate(asks(), nothing)
        assert elsewhere.asked == []


def test_redirects_are_not_followed() -> None:
    with ScriptedImages(pictures(png(noise()))) as elsewhere:
        there = Answer(307, b"", {"Location": elsewhere.base + "/images/generations"})
        with served(there) as (generator, _), pytest.raises(GenerationFailed, match="HTTP status 307"):
            generator.generate(asks(), nothing)
        assert elsewhere.asked == []


@pytest.mark.parametrize("code", ["moderation_blocked", "content_policy_violation"])
def test_a_refusal_on_safety_grounds_is_told_without_the_upstreams_words(code: str) -> None:
    with served(refuses(code, message="you asked for a lighthouse")) as (generator, server):
        with pytest.raises(GenerationFailed, match="refused the request on safety grounds") as caught:
            generator.generate(asks(), nothing)
        assert len(server.asked) == 1
    error: BaseException | None = caught.value
    while error is not None:
        assert "lighthouse" not in str(error)
        error = error.__cause__ or error.__context__


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 422])
def test_an_error_is_told_by_its_status_alone(status: int) -> None:
    with served(refuses("zorblax", status, message="zorblax")) as (generator, server):
        with pytest.raises(GenerationFailed, match=f"HTTP status {status}") as caught:
            generator.generate(asks(), nothing)
        assert len(server.asked) == 1
    assert "zorblax" not in str(caught.value)


def test_a_busy_server_is_asked_three_times_and_no_more() -> None:
    busy = Answer(503, b"{}", {"Content-Type": "application/json", "retry-after-ms": "1"})
    with served(busy) as (generator, server), pytest.raises(GenerationFailed, match="HTTP status 503"):
        generator.generate(asks(), nothing)
    assert len(server.asked) == 3


def test_a_server_that_recovers_is_good_enough() -> None:
    busy = Answer(429, b"{}", {"Content-Type": "application/json", "retry-after-ms": "1"})
    with served(busy, pictures(png(noise()))) as (generator, server):
        assert len(generator.generate(asks(), nothing)) == 1
    assert len(server.asked) == 2


def test_a_server_that_hangs_is_given_up() -> None:
    with served(Answer(act="hang"), timeout_s=0.05) as (generator, _):
        with pytest.raises(GenerationFailed, match="did not answer in time"):
            generator.generate(asks(), nothing)


def test_a_connection_that_breaks_is_a_failure() -> None:
    with served(Answer(act="drop")) as (generator, _), pytest.raises(GenerationFailed, match="cannot be reached"):
        generator.generate(asks(), nothing)


def test_a_stop_before_the_start_sends_nothing() -> None:
    def stop(done: int, total: int) -> None:
        raise GenerationFailed("stopped")

    with served(pictures(png(noise()))) as (generator, server):
        with pytest.raises(GenerationFailed, match="stopped"):
            generator.generate(asks(), stop)
        assert server.asked == []
        assert len(generator.generate(asks(), nothing)) == 1


def test_progress_begins_at_none_and_ends_at_all() -> None:
    seen: list[tuple[int, int]] = []
    with served(pictures(png(noise()))) as (generator, _):
        generator.generate(asks(), lambda done, total: seen.append((done, total)))
    assert seen == [(0, 1), (1, 1)]


def test_no_key_of_the_environment_reaches_the_server(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-another-server")
    with ScriptedImages(pictures(png(noise()))) as server:
        generator = OpenAIGenerator(api_base=server.base, model="m")
        generator.generate(asks(), nothing)
        generator.close()
    assert "sk-of-another-server" not in str(server.asked)


@pytest.mark.parametrize("api_base", ["", "127.0.0.1:8000/v1", "file:///etc/hostname", "http://"])
def test_an_address_that_is_none_is_refused_at_the_start(api_base: str) -> None:
    with pytest.raises(ConfigError, match="generator.api_base"):
        OpenAIGenerator(api_base=api_base, model="m")


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, float("nan")])
def test_a_timeout_that_is_none_is_refused_at_the_start(timeout_s: float) -> None:
    with pytest.raises(ConfigError, match="generator.timeout_s"):
        OpenAIGenerator(api_base="http://127.0.0.1:1/v1", model="m", timeout_s=timeout_s)
