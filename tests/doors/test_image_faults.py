"""Part B2 of the fault matrix, through the gateway: what each fault of an image screen or a picture comes to.

F31 (a judge that runs out of memory) and F32 (one that answers prose, or obeys what stands in a picture) are with the
judges: test_packed_pass.py, test_shieldgemma.py, test_vlm_api_judge.py, test_overlay_text.py.
"""

from __future__ import annotations

import asyncio
import base64
import io
import math
from collections.abc import Callable, Sequence
from pathlib import Path

import openai
import pytest
from PIL import Image

from gateway_fakes import MAGENTA, MarkerScreen, Painter
from gateway_process import configured, ended, started
from gateway_server import serving
from safelight.cli import main
from safelight.generators import Progress
from safelight.guard import GuardSettings
from safelight.policy import Action, Policy, Reason
from safelight.request import GenerationRequest, Turn
from safelight.verdict import Category, Outcome, Stage, Verdict


class Acting:
    """An image screen that does what it is told."""

    def __init__(self, act: Callable[[Sequence[Image.Image]], Sequence[Verdict]], name: str = "acting") -> None:
        self.name = name
        self.act = act

    async def screen_images(
        self, images: Sequence[Image.Image], request: GenerationRequest, history: Sequence[Turn]
    ) -> Sequence[Verdict]:
        return self.act(images)


class Hanging:
    """An image screen that answers an all-clear, late."""

    name = "hanging"

    async def screen_images(
        self, images: Sequence[Image.Image], request: GenerationRequest, history: Sequence[Turn]
    ) -> Sequence[Verdict]:
        await asyncio.sleep(30)
        return [clear(self.name)] * len(images)


class Empty(Painter):
    """Paints, but for the places in ``flat``, whose pictures are one colour all over."""

    def __init__(self, *flat: int, colour: tuple[int, int, int] = (0, 0, 0)) -> None:
        super().__init__()
        self.flat = flat
        self.colour = colour

    def generate(self, request: GenerationRequest, progress: Progress) -> Sequence[Image.Image]:
        pictures = list(super().generate(request, progress))
        for place in self.flat:
            pictures[place] = Image.new("RGB", pictures[place].size, self.colour)
        return pictures


def clear(name: str, score: float = 0.0) -> Verdict:
    return Verdict(name, Stage.IMAGE, {Category.VIOLENCE: score})


def raises(images: Sequence[Image.Image]) -> Sequence[Verdict]:
    raise RuntimeError("broke")


FAULTS: dict[str, Callable[[Sequence[Image.Image]], Sequence[Verdict]]] = {
    "raises": raises,
    "a score of NaN": lambda images: [clear("acting")] * (len(images) - 1) + [clear("acting", math.nan)],
    "a score above 1": lambda images: [clear("acting", 1.7)] * len(images),
    "a score below 0": lambda images: [clear("acting", -0.1)] * len(images),
    "too few answers": lambda images: [clear("acting")] * (len(images) - 1),
    "too many answers": lambda images: [clear("acting")] * (len(images) + 1),
    "another's name": lambda images: [clear("somebody")] * len(images),
    "no answer": lambda images: [],
}


@pytest.mark.parametrize("fault", FAULTS)
def test_f30_a_classifier_that_fails_withholds_all_pictures_of_the_batch(tmp_path: Path, fault: str) -> None:
    with serving(tmp_path, image_screens=[MarkerScreen(), Acting(FAULTS[fault])]) as gateway:
        answer = gateway.post(prompt="a red teapot", n=3)
        assert answer.status_code == 503
        assert "data" not in answer.json()
        request_id = answer.headers["x-request-id"]
        ruled = [one for one in gateway.store.decisions(request_id=request_id) if one.stage is Stage.IMAGE]
        assert [one.reason for one in ruled] == [Reason.SCREENING_UNAVAILABLE] * 3


def test_f33_a_judge_slower_than_the_deadline_withholds_and_its_late_answer_releases_nothing(tmp_path: Path) -> None:
    with serving(tmp_path, image_screens=[MarkerScreen(), Hanging()]) as gateway:
        object.__setattr__(gateway.runtime.guard, "settings", GuardSettings(screen_deadline_s=1.0))
        answer = gateway.post(prompt="a red teapot")
        assert answer.status_code == 503
        ruled = gateway.store.decisions(request_id=answer.headers["x-request-id"])
        assert [verdict.outcome for verdict in ruled[-1].verdicts] == [Outcome.OK, Outcome.TIMEOUT]


@pytest.mark.parametrize("order", [1, -1], ids=["classifier first", "judge first"])
@pytest.mark.parametrize("blocks", ["classifier", "judge"])
def test_f34_one_block_is_a_block_whoever_says_so(tmp_path: Path, order: int, blocks: str) -> None:
    screens = [
        Acting(lambda images: [clear("classifier", float(blocks == "classifier"))] * len(images), "classifier"),
        Acting(lambda images: [clear("judge", float(blocks == "judge"))] * len(images), "judge"),
    ][::order]
    with serving(tmp_path, image_screens=screens) as gateway:
        answer = gateway.post(prompt="a red teapot")
        assert answer.status_code == 400
        assert answer.json()["error"]["code"] == "moderation_blocked"
        # Both were asked all the same, and their contradiction is on record.
        (ruled,) = [one for one in gateway.store.decisions() if one.stage is Stage.IMAGE]
        assert ruled.screens == tuple(screen.name for screen in screens)
        assert ruled.disputed == (Category.VIOLENCE,)


def test_f35_one_of_four_is_withheld_and_three_arrive_in_order(tmp_path: Path) -> None:
    painter = Painter()
    painter.marked = frozenset({1})
    with serving(tmp_path, generator=painter) as gateway, gateway.client() as client:
        answer = client.images.with_raw_response.generate(prompt="a red teapot", n=4, size="96x64")
        about = answer.http_response.json()["safelight"]
        assert answer.http_response.json()["screening"] == {"blocked": [1], "failed": []}
        assert (about["withheld"], [one["index"] for one in about["pictures"]]) == ([1], [0, 2, 3])
        reds = [opened(one.b64_json).getpixel((5, 5))[0] for one in answer.parse().data or []]  # type: ignore[index]
        assert reds == [10, 24, 31]


def test_f35_where_all_are_blocked_it_is_a_400(tmp_path: Path) -> None:
    painter = Painter()
    painter.marked = frozenset(range(4))
    with serving(tmp_path, generator=painter) as gateway, gateway.client() as client:
        with pytest.raises(openai.BadRequestError, match="nobody has seen it"):
            client.images.generate(prompt="a red teapot", n=4)


@pytest.mark.parametrize("colour", [(0, 0, 0), (255, 255, 255), (120, 7, 200)])
def test_f36_a_picture_of_one_colour_is_screened_and_is_a_fault_of_the_generator(
    tmp_path: Path, colour: tuple[int, int, int]
) -> None:
    seen: list[int] = []

    def look(images: Sequence[Image.Image]) -> Sequence[Verdict]:
        seen.append(len(images))
        return [clear("acting")] * len(images)

    with serving(tmp_path, generator=Empty(0, 1, colour=colour), image_screens=[Acting(look)]) as gateway:
        answer = gateway.post(prompt="a red teapot", n=2)
        assert (answer.status_code, answer.json()["error"]["code"]) == (500, "generation_failed")
        assert seen == [2]
        ruled = [one for one in gateway.store.decisions() if one.stage is Stage.IMAGE]
        assert [(one.action, one.reason, one.categories) for one in ruled] == [
            (Action.BLOCK, Reason.GENERATION_FAILED, ())
        ] * 2


def test_f36_a_faulty_picture_is_no_block_even_where_a_screen_would_block_it(tmp_path: Path) -> None:
    with serving(tmp_path, generator=Empty(0, colour=MAGENTA), enforce=True) as gateway:
        for _ in range(6):
            assert gateway.post(prompt="a red teapot").status_code == 500


def test_f36_one_empty_picture_does_not_lose_the_others(tmp_path: Path) -> None:
    with serving(tmp_path, generator=Empty(2)) as gateway:
        answer = gateway.post(prompt="a red teapot", n=4).json()
        about = answer["safelight"]
        assert answer["screening"] == {"blocked": [], "failed": [2]}
        assert [one["index"] for one in about["pictures"]] == [0, 1, 3]
        (withheld,) = about["withheld_because"]
        assert (withheld["index"], withheld["reason_code"], withheld["categories"]) == (2, "generation_failed", [])


def test_f36_a_block_and_an_empty_picture_together_are_a_block(tmp_path: Path) -> None:
    painter = Empty(0)
    painter.marked = frozenset({1})
    with serving(tmp_path, generator=painter) as gateway:
        answer = gateway.post(prompt="a red teapot", n=2)
        assert (answer.status_code, answer.json()["error"]["code"]) == (400, "moderation_blocked")


@pytest.mark.parametrize(
    ("screen", "message"),
    [
        ('{use = "safety_checker", model = "missing/folder"}', "model|revision"),
        ('{use = "nudenet", weights = "640m", model = "missing.onnx", sha256 = "' + "0" * 64 + '"}', "missing.onnx"),
        ('{use = "private_detector", model = "missing.onnx", sha256 = "' + "0" * 64 + '"}', "missing.onnx"),
        ('{use = "hub_classifier", model = "./missing", labels = {a = "sexual"}}', "missing"),
        ('{use = "falconsai", model = "./missing"}', "missing"),
        ('{use = "shieldgemma", model = "./missing"}', "missing"),
        ('{use = "vlm_judge", model = "./missing"}', "missing"),
    ],
)
def test_f37_weights_that_are_missing_stop_the_start(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], screen: str, message: str
) -> None:
    monkeypatch.chdir(tmp_path)
    # The default screen of prompts takes a second to load.
    prompts = 'prompt_screens = [{use = "terms", terms = ["kettle"], category = "violence"}]'
    Path("safelight.toml").write_text(f'{prompts}\nimage_screens = [{{use = "open_nsfw"}}, {screen}]\n', "utf-8")
    assert main(["config", "check"]) == 2
    problem = capsys.readouterr().err
    assert problem.count("\n") == 1, problem
    assert "image_screens" in problem or any(word in problem for word in message.split("|")), problem


def test_f38_a_lost_gpu_fails_the_request_and_shows_on_readyz(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    # The server of this test is a thread of the tests' own process, which is not to end.
    monkeypatch.setattr("safelight.backends.device_watch.POLL_S", 3600)

    def lost(images: Sequence[Image.Image]) -> Sequence[Verdict]:
        raise RuntimeError("CUDA error: unspecified launch failure")

    with serving(tmp_path, image_screens=[Acting(lost)]) as gateway:
        assert gateway.http.get(f"{gateway.address}/readyz").status_code == 200
        assert gateway.post(prompt="a red teapot").status_code == 503
        ready = gateway.http.get(f"{gateway.address}/readyz")
        assert (ready.status_code, ready.json()["problems"]) == (503, ["device_lost"])


def test_f38_the_process_ends_so_that_it_is_started_again(tmp_path: Path) -> None:
    import httpx

    file, token = configured(tmp_path)
    file.write_text(file.read_text("utf-8").replace("gateway_fakes:MarkerScreen", "gateway_fakes:LostScreen"), "utf-8")
    with started(file) as (process, address):
        answer = httpx.post(
            f"{address}/v1/images/generations",
            headers={"authorization": f"Bearer {token}"},
            json={"prompt": "a red teapot"},
            timeout=20,
        )
        assert answer.status_code == 503
        _, said = ended(process)
        assert process.returncode == 3
        assert "the device is lost" in said


def test_a_policy_that_sends_contradictions_to_review_withholds_and_does_not_count(tmp_path: Path) -> None:
    text = 'version = 1\nname = "careful"\n[disagreement]\naction = "review"\n' + (
        '[categories."violence"]\ntitle = "Violence"\ndescription = "Violence."\nadvice = "Leave it out."\n'
        "thresholds = { prompt = 0.5, image = 0.5 }\n"
    )
    screens = [
        Acting(lambda images: [clear("near", 0.45)] * len(images), "near"),
        Acting(lambda images: [clear("calm")] * len(images), "calm"),
    ]
    with serving(tmp_path, image_screens=screens, policy=Policy.parse(text), enforce=True) as gateway:
        for _ in range(5):
            answer = gateway.post(prompt="a red teapot")
            assert answer.status_code == 400
            assert "does not count against you" in answer.json()["error"]["message"]
        ruled = [one for one in gateway.store.decisions() if one.stage is Stage.IMAGE]
        assert {(one.action, one.reason) for one in ruled} == {(Action.REVIEW, Reason.DISAGREEMENT)}


def opened(b64: str | None) -> Image.Image:
    return Image.open(io.BytesIO(base64.b64decode(b64 or ""))).convert("RGB")
