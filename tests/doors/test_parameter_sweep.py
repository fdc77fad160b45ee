"""Every parameter of every supported pipeline, with what is forbidden in it: judged and blocked, or refused.

Nothing may come out that no screen has seen, and what is refused may not have run a model before.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cache
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import safelight
from fakes import MARKER, SENTINEL, FakeJudge, MarkerScreen, make_guard, sentinel_screen
from safelight.channel_table import EMBEDDINGS, LATENTS, MASKS, PICTURES, TEXTS
from safelight.dropin.sealed import SealedTensor
from safelight.errors import InvalidRequest
from safelight.request import GenerationRequest, Turn
from safelight.verdict import Stage, Verdict
from snippets import arrays, build
from tiny_pipelines import BUILDERS, SIDE, TEXT_TO_IMAGE, inputs, photo

REFUSALS = (InvalidRequest, TypeError, ValueError)
NAMES_ONLY = "callback_on_step_end_tensor_inputs"
"""Lists names of the pipeline's own tensors: without a callback nobody reads it, and no text of it is used."""

FORBIDDEN = ("refused", "blocked", "failed")
"""What may become of a call that is not to show anything. None of these decodes a latent."""

OUTPUT_TYPES = ("pil", "np", "pt", "latent", "numpy", "PIL", "", SENTINEL, ["pil"], 3, Image.new("RGB", (8, 8)))


class Watching(MarkerScreen):
    """The marker's screen, which remembers every picture that it was shown."""

    def __init__(self) -> None:
        super().__init__()
        self.shown: set[bytes] = set()

    async def screen_images(
        self, images: Sequence[Image.Image], request: GenerationRequest, history: Sequence[Turn]
    ) -> Sequence[Verdict]:
        self.shown |= {image.tobytes() for image in images}
        return await super().screen_images(images, request, history)


@dataclass
class Swept:
    """One guarded pipeline, what its models have run, and what became of the calls.

    Args:
        name: Of the pipeline.
        protecting: Passed on to ``protect``.
        guarded: Whether it is guarded at all.
        prompt_screen: What reads the texts.
    """

    name: str
    protecting: Mapping[str, Any] = field(default_factory=dict)
    guarded: bool = True
    prompt_screen: Any = field(default_factory=sentinel_screen)
    pipe: Any = None
    screen: Watching = field(default_factory=Watching)
    ran: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.pipe = build(self.name)
        if self.guarded:
            guard = make_guard(prompt_screens=[self.prompt_screen], image_screens=[self.screen])
            self.pipe = safelight.protect(self.pipe, guard, **self.protecting)
        models = {"denoiser": getattr(self.pipe, "unet", None) or self.pipe.transformer}
        models |= {"encoder": self.pipe.vae.encoder, "decoder": self.pipe.vae.decoder}
        for part, model in models.items():
            model.register_forward_pre_hook(lambda module, args, part=part: self.ran.update([part]))

    def call(self, what: str, arguments: Mapping[str, Any], *, expected: Sequence[str] = FORBIDDEN) -> str:
        """Call the pipeline, and return what became of it; anything that is not expected is noted."""
        self.ran.clear()
        self.screen.shown.clear()
        try:
            output = self.pipe(**arguments)
        except REFUSALS:
            outcome = "failed" if self.ran else "refused"
        except Exception:
            # As it fails in the plain pipeline: the models cannot take what they are given.
            outcome = "failed"
        else:
            outcome = self._of(output)
        if outcome not in expected or (outcome in FORBIDDEN and self.ran["decoder"]):
            self.wrong.append(f"{self.name}: {what}: {outcome}, after {dict(self.ran)}")
        self.outcomes[outcome] += 1
        return outcome

    def _of(self, output: Any) -> str:
        if isinstance(output.images, SealedTensor):
            return "sealed"
        made = arrays(output.images)
        withheld = getattr(output, "nsfw_content_detected", None) or [False] * len(made)
        if all(withheld):
            return "unscreened" if any(array.any() for array in made) else "blocked"
        seen = [_pixels(array) in self.screen.shown for array in made]
        return "screened" if all(seen) and not any(withheld) else "unscreened"


def _pixels(array: np.ndarray[Any, Any]) -> bytes:
    if array.dtype != np.uint8:
        last = array if array.shape[-1] == 3 else np.moveaxis(array, 0, -1)
        array = (last * 255).round().astype(np.uint8)
    return array.tobytes()


def marked() -> Image.Image:
    picture = Image.new("RGB", (SIDE, SIDE), (200, 180, 160))
    picture.paste(MARKER, (8, 8, 40, 40))
    return picture


def hidden() -> Image.Image:
    """Return a picture whose marker nobody sees who minds its transparency."""
    picture = marked().convert("RGBA")
    picture.putalpha(0)
    return picture


def array() -> np.ndarray[Any, Any]:
    return np.asarray(marked()).astype(np.float32) / 255


def tensor() -> torch.Tensor:
    return torch.from_numpy(array()).permute(2, 0, 1)


def latents(channels: int) -> torch.Tensor:
    return torch.ones(1, channels, SIDE // 8, SIDE // 8)


class Text(str):
    """A text of a class of its own."""


VALUES: Mapping[str, Callable[[], Any]] = {
    "text": lambda: SENTINEL,
    "text of its own class": lambda: Text(SENTINEL),
    "[text]": lambda: [SENTINEL],
    "(text,)": lambda: (SENTINEL,),
    "[[text]]": lambda: [[SENTINEL]],
    "{text}": lambda: {"scale": SENTINEL},
    "array of text": lambda: np.array([SENTINEL]),
    "picture": marked,
    "hidden picture": hidden,
    "[picture]": lambda: [marked()],
    "[[picture]]": lambda: [[marked()]],
    "{picture}": lambda: {"ip_adapter_masks": [marked()]},
    "array": array,
    "[array]": lambda: [array()],
    "array of bytes": lambda: np.asarray(marked()),
    "tensor of a picture": lambda: tensor()[None],
    "[tensor of a picture]": lambda: [tensor()],
    "tensor from -1 to 1": lambda: tensor()[None] * 2 - 1,
    "latents": lambda: latents(4),
    "wide latents": lambda: latents(16),
    "[latents]": lambda: [latents(4)[0]],
    "[[latents]]": lambda: [[latents(4)]],
    "{latents}": lambda: {"scale": latents(4)},
    "embeddings": lambda: torch.ones(1, 77, 32),
    "packed latents": lambda: torch.ones(1, 16, 64),
    "array of latents": lambda: latents(4).numpy(),
    "sealed latents": lambda: SealedTensor(latents(4), [{"prompt": SENTINEL}]),
    "[sealed latents]": lambda: [SealedTensor(latents(4)[0], [{"prompt": SENTINEL}])],
    "sealed wide latents": lambda: SealedTensor(latents(16), [{"negative_prompt_2": SENTINEL}]),
}
"""What is put into every parameter. All of it is forbidden, or cannot be read by anybody."""


def parameters(pipe: Any) -> Iterator[str]:
    kinds = (inspect.Parameter.VAR_KEYWORD, inspect.Parameter.VAR_POSITIONAL)
    for name, parameter in inspect.signature(type(pipe).__call__).parameters.items():
        if name not in ("self", "output_type") and parameter.kind not in kinds:
            yield name
    # What the gathered keywords of any pipeline could hold.
    yield from ("callback", "callback_steps", "guidance_scale_of_tomorrow")


@cache
def usual(name: str) -> Mapping[str, Any]:
    return inputs(name, steps=1)


def arguments(name: str, *, listed: bool) -> dict[str, Any]:
    given = dict(usual(name))
    return given | ({"prompt": [given["prompt"]]} if listed else {})


def put_into_every_parameter(swept: Swept) -> None:
    for parameter in parameters(swept.pipe):
        for form, make in VALUES.items():
            value = make()
            given = arguments(swept.name, listed=isinstance(value, list | tuple)) | {parameter: value}
            outcome = swept.call(f"{parameter} = {form}", given, expected=allowed(parameter, form))
            if outcome == "blocked" and "screening" in swept.protecting:
                assert not swept.ran, (parameter, form)
    print(f"{swept.name}: {sum(swept.outcomes.values())} combinations: {dict(swept.outcomes)}")


def allowed(parameter: str, form: str) -> Sequence[str]:
    if parameter == NAMES_ONLY and form in ("[text]", "(text,)"):
        return ("screened",)
    if parameter in MASKS and form in ("embeddings", "packed latents"):
        # They have the form of a mask, and are judged as what they are then: white all over.
        return ("screened",)
    return FORBIDDEN


@pytest.mark.parametrize("name", list(BUILDERS))
def test_whatever_is_put_into_a_parameter_is_refused_or_judged_and_blocked(name: str) -> None:
    # The judge goes first, so that what is blocked costs nothing; beside it is below.
    swept = Swept(name, {"screening": "before"})
    put_into_every_parameter(swept)
    assert swept.wrong == []
    assert swept.outcomes["refused"] > 600 and swept.outcomes["blocked"] > 10
    assert swept.outcomes["failed"] < 15 and swept.outcomes["screened"] <= 4


@pytest.mark.parametrize("name", ["sdxl_controlnet", "flux_inpaint"])
def test_judged_beside_the_steps_nothing_forbidden_is_decoded_and_no_step_is_spent_on_a_picture(name: str) -> None:
    swept = Swept(name)
    for parameter in (*TEXTS, *PICTURES):
        for form in ("text", "[text]", "picture", "[picture]", "sealed latents"):
            value = VALUES[form]()
            given = arguments(name, listed=isinstance(value, list)) | {parameter: value}
            outcome = swept.call(f"{parameter} = {form}", given)
            if "latents" not in form:
                # Latents may be of another form than the model's, which then fails before its judge has answered.
                assert outcome in ("refused", "blocked")
                assert parameter in TEXTS or not swept.ran
    assert swept.wrong == [] and swept.outcomes["blocked"] > 10


@pytest.mark.parametrize("name", list(BUILDERS))
def test_with_everything_let_in_unread_every_picture_is_seen_all_the_same(name: str) -> None:
    swept = Swept(name, {"allow": {"embeddings", "latents", "callbacks"}})
    for parameter in set(parameters(swept.pipe)) & (EMBEDDINGS | LATENTS | PICTURES):
        for form in ("latents", "wide latents", "[latents]", "embeddings", "sealed latents"):
            given = arguments(name, listed=False) | {parameter: VALUES[form]()}
            swept.call(f"{parameter} = {form}", given, expected=(*FORBIDDEN, "screened"))
    assert swept.wrong == []
    assert swept.outcomes["screened"]


@pytest.mark.parametrize("name", list(BUILDERS))
def test_in_every_form_of_output_pictures_were_seen_and_blocked_ones_are_black(name: str) -> None:
    swept = Swept(name)
    expected = dict.fromkeys(("pil", "np", "pt"), "screened") | {"latent": "sealed"}
    for form in OUTPUT_TYPES:
        known = expected.get(form, "") if isinstance(form, str) else ""
        given = inputs(name, steps=1) | {"output_type": form}
        swept.call(f"output_type = {form!r}", given, expected=[known or "refused"])
        if known == "screened":
            swept.call(f"blocked, as {form}", given | {"prompt": f"a {SENTINEL}"}, expected=["blocked"])
    assert swept.wrong == []


def test_the_sweep_notices_a_pipeline_that_is_not_guarded() -> None:
    swept = Swept("sdxl", guarded=False)
    assert swept.call("prompt", inputs("sdxl", prompt=SENTINEL, steps=1)) == "unscreened"
    assert swept.wrong == ["sdxl: prompt: unscreened, after {'denoiser': 1, 'decoder': 1}"]


def test_the_sweep_notices_a_parameter_that_is_not_judged() -> None:
    def only_the_prompt(request: GenerationRequest) -> Verdict:
        return Verdict("judge", Stage.PROMPT, {"sentinel": float(SENTINEL in request.prompt)})

    swept = Swept("sdxl", prompt_screen=FakeJudge(answer=only_the_prompt))
    put_into_every_parameter(swept)
    noted = {line.split(" ")[1] for line in swept.wrong}
    assert {"prompt_2", "negative_prompt", "negative_prompt_2"} <= noted and "prompt" not in noted


@pytest.mark.parametrize("name", [name for name in BUILDERS if name not in TEXT_TO_IMAGE])
def test_one_forbidden_picture_of_a_batch_does_not_lose_the_others(name: str) -> None:
    swept = Swept(name)
    parameter = "control_image" if name == "flux_controlnet" else "image"
    given = inputs(name, prompt=["a cup", "a mug"], steps=1) | {parameter: [marked(), photo()]}
    output = swept.pipe(**given)
    assert output.nsfw_content_detected == [True, False]
    first, second = arrays(output.images)
    assert not first.any() and second.any()
