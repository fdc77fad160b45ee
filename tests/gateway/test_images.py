import base64
import hashlib
import io
from pathlib import Path

import openai
import pytest
from PIL import Image

from gateway_fakes import Painter, WordScreen
from gateway_server import Served, serving
from safelight.verdict import Stage


def opened(data: bytes) -> Image.Image:
    image = Image.open(io.BytesIO(data))
    image.load()
    return image


def test_a_picture_arrives_as_a_png_of_the_asked_size(gateway: Served) -> None:
    with gateway.client() as client:
        answer = client.images.generate(prompt="a red teapot", model="gpt-image-1", size="128x72")
    assert answer.data is not None and answer.data[0].b64_json is not None
    image = opened(base64.b64decode(answer.data[0].b64_json))
    assert (image.format, image.size) == ("PNG", (128, 72))
    assert (answer.size, answer.output_format, answer.background) == ("128x72", "png", "opaque")
    assert answer.usage is not None and answer.usage.total_tokens == 0


def test_after_a_200_the_store_holds_the_proof_for_the_very_bytes(gateway: Served) -> None:
    answer = gateway.post(prompt="a red teapot").json()
    digest = hashlib.sha256(base64.b64decode(answer["data"][0]["b64_json"])).hexdigest()
    about = answer["safelight"]
    found = gateway.store.decisions(request_id=about["request_id"])
    assert [(decision.stage, decision.allows) for decision in found] == [(Stage.PROMPT, True), (Stage.IMAGE, True)]
    assert found[1].image_sha256 == digest == about["pictures"][0]["sha256"]
    assert gateway.store.is_releasable(about["request_id"], digest, about["policy"])


def test_the_answer_carries_the_receipt_in_its_body_and_in_headers(gateway: Served) -> None:
    response = gateway.post(prompt="a red teapot")
    about = response.json()["safelight"]
    assert about["screens"] == {"prompt": ["words"], "image": ["markers"]}
    assert response.headers["x-safelight-screens"] == "prompt=words; image=markers"
    assert response.headers["x-request-id"] == about["request_id"]
    assert response.headers["x-safelight-decision"] == about["decision_id"]
    assert response.headers["x-safelight-pictures"] == about["pictures"][0]["decision_id"]
    assert int(response.headers["openai-processing-ms"]) >= 0
    assert "x-safelight-withheld" not in response.headers


def test_a_link_can_be_fetched_without_a_key(gateway: Served) -> None:
    with gateway.client() as client:
        answer = client.images.generate(prompt="a red teapot", response_format="url", size="64x64")
    assert answer.data is not None and answer.data[0].url is not None and answer.data[0].b64_json is None
    fetched = gateway.http.get(answer.data[0].url)
    assert fetched.status_code == 200 and fetched.headers["content-type"] == "image/png"
    assert opened(fetched.content).size == (64, 64)
    assert answer.data[0].url.startswith(f"{gateway.address}/v1/images/files/")


@pytest.mark.parametrize("change", [("sig=", "sig=0"), ("exp=", "exp=1"), (".png", ".jpeg")])
def test_a_changed_link_opens_nothing(gateway: Served, change: tuple[str, str]) -> None:
    url = gateway.post(prompt="a red teapot", response_format="url").json()["data"][0]["url"]
    assert gateway.http.get(url.replace(*change)).status_code == 403
    assert gateway.http.get(url.partition("?")[0]).status_code == 403


@pytest.mark.parametrize(
    ("model", "member"), [("dall-e-3", "url"), ("dall-e-2", "url"), ("gpt-image-1", "b64_json"), (None, "b64_json")]
)
def test_without_a_response_format_the_model_id_decides(gateway: Served, model: str | None, member: str) -> None:
    answer = gateway.post(prompt="a red teapot", model=model).json()
    assert list(answer["data"][0]) == [member]


@pytest.mark.parametrize("output_format", ["png", "jpeg", "webp"])
def test_the_output_format_is_what_was_asked(gateway: Served, output_format: str) -> None:
    response = gateway.post(prompt="a red teapot", output_format=output_format, output_compression=80)
    answer = response.json()
    image = opened(base64.b64decode(answer["data"][0]["b64_json"]))
    assert image.format == output_format.upper() and answer["output_format"] == output_format


def test_only_the_pictures_that_may_leave_arrive(tmp_path: Path) -> None:
    with serving(tmp_path, generator=Painter(marked=frozenset({2}))) as gateway, gateway.client() as client:
        raw = client.images.with_raw_response.generate(prompt="teapots", n=4)
        answer = raw.parse()
    assert answer.data is not None and len(answer.data) == 3
    assert all(item.b64_json for item in answer.data)
    assert raw.headers["x-safelight-withheld"] == "2"
    about = answer.model_extra["safelight"] if answer.model_extra else {}
    assert about["withheld"] == [2] and [entry["index"] for entry in about["pictures"]] == [0, 1, 3]
    assert about["withheld_because"][0]["categories"] == ["violence"]


def test_extras_reach_the_generator_and_unknown_fields_do_not(tmp_path: Path) -> None:
    painter = Painter()
    with serving(tmp_path, generator=painter) as gateway, gateway.client() as client:
        raw = client.images.with_raw_response.generate(
            prompt="a teapot",
            style="vivid",
            extra_body={
                "negative_prompt": "cups",
                "prompt_2": "porcelain",
                "seed": 7,
                "num_inference_steps": 9,
                "guidance_scale": 4,
                "wibble": "steam",
                "lora": None,
            },
        )
    request = painter.asked[0]
    assert dict(request.texts) == {"prompt": "a teapot", "prompt_2": "porcelain", "negative_prompt": "cups"}
    assert (request.seed, request.steps, request.guidance_scale) == (7, 9, 4)
    assert raw.headers["x-safelight-ignored"] == "style,wibble"


def test_a_stream_ends_with_the_screened_picture_and_shows_nothing_before(gateway: Served) -> None:
    with gateway.client() as client:
        events = list(client.images.generate(prompt="a teapot", stream=True, partial_images=2, size="64x64"))
    assert [event.type for event in events] == ["image_generation.completed"]
    assert opened(base64.b64decode(events[0].b64_json)).size == (64, 64)
    assert events[0].type == "image_generation.completed" and events[0].usage.total_tokens == 0


def test_a_block_comes_before_a_stream_begins(gateway: Served) -> None:
    with gateway.client() as client, pytest.raises(openai.BadRequestError) as caught:
        client.images.generate(prompt="a zorblax", stream=True)
    assert caught.value.code == "moderation_blocked"


async def test_the_asynchronous_client_works_alike(gateway: Served) -> None:
    async with openai.AsyncOpenAI(base_url=f"{gateway.address}/v1", api_key=gateway.token) as client:
        answer = await client.images.generate(prompt="a red teapot", n=2)
        assert answer.data is not None and len(answer.data) == 2
        with pytest.raises(openai.BadRequestError):
            await client.images.generate(prompt="a zorblax")


def test_models_are_listed_and_shown(gateway: Served) -> None:
    with gateway.client() as client:
        ids = [model.id for model in client.models.list()]
        assert ids[0] == "painter" and "dall-e-3" in ids and "gpt-image-1" in ids
        assert client.models.retrieve("painter").owned_by == "safelight"
        with pytest.raises(openai.NotFoundError) as caught:
            client.models.retrieve("org/other")
    assert caught.value.code == "model_not_found"


def test_a_person_sees_only_its_own_history(tmp_path: Path) -> None:
    screen = WordScreen()
    with serving(tmp_path, prompt_screens=[screen]) as gateway, gateway.client() as client:
        client.images.generate(prompt="first of ann", user="ann")
        client.images.generate(prompt="first of bob", user="bob")
        client.images.generate(prompt="second of ann", user="bob", extra_body={"safety_identifier": "ann"})
    shown = [[turn.texts["prompt"] for turn in history] for _, history in screen.asked]
    assert shown == [[], [], ["first of ann"]]
    assert {request.principal.id for request, _ in screen.asked} == {gateway.key_id}


def test_the_person_is_echoed(gateway: Served) -> None:
    assert gateway.post(prompt="a teapot", safety_identifier="ann").json()["safety_identifier"] == "ann"
    assert "safety_identifier" not in gateway.post(prompt="a teapot").json()


def test_a_repeated_request_with_its_key_is_worked_on_once(tmp_path: Path) -> None:
    painter = Painter()
    with serving(tmp_path, generator=painter) as gateway:
        first = gateway.post(headers={"idempotency-key": "one"}, prompt="a teapot")
        second = gateway.post(headers={"idempotency-key": "one"}, prompt="a teapot")
        other = gateway.post(headers={"idempotency-key": "one"}, prompt="a cup")
    assert first.content == second.content and second.headers["idempotent-replayed"] == "true"
    assert len(painter.asked) == 1
    assert (other.status_code, other.json()["error"]["code"]) == (422, "idempotency_key_reused")


@pytest.mark.parametrize("host", [b"[::", b"a b", b"x:99999", b"evil.example/path?", b"\xe9", b""])
def test_an_odd_host_header_breaks_nothing(gateway: Served, host: bytes) -> None:
    headers = {b"authorization": f"Bearer {gateway.token}".encode(), b"host": host}
    body = {"prompt": "a teapot", "response_format": "url"}
    response = gateway.http.post(f"{gateway.address}/v1/images/generations", headers=headers, json=body)
    assert response.status_code in (200, 400)
