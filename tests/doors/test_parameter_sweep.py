"""Every parameter of every supported pipeline, with what is forbidden in it: judged and blocked, or refused.

Nothing may come out that no screen has seen, and what is refused may not have run a model before.
"""

from __future__ import annotations

import inspect
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import safelight
from fakes import MARKER, SENTINEL, MarkerScreen, make_guard, sentinel_screen
from safelight.dropin.sealed import SealedTensor
from safelight.errors import InvalidRequest
from safelight.request import GenerationRequest, Turn
from safelight.verdict import Verdict
from snippets import arrays, build
from tiny_pipelines import BUILDERS, SIDE, inputs

REFUSALS = (InvalidRequest, TypeError, ValueError)
NAMES_ONLY = "callback_on_step_end_tensor_inputs"
"""Lists names of the pipeline's own tensors: without a callback nobody reads it, and no text of it is used."""

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
    """One guarded pipeline, what its models have run, and what became of the calls."""

    name: str
    pipe: Any = None
    screen: Watching = field(default_factory=Watching)
    ran: Counter[str] = field(default_factory=Counter)
    outcomes: Counter[str] = field(default_factory=Counter)
    unscreened: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        guard = make_guard(prompt_screens=[sentinel_screen()], image_screens=[self.screen])
        self.pipe = safelight.protect(build(self.name), guard)
        models = {"denoiser": getattr(self.pipe, "unet", None) or self.pipe.transformer}
        models |= {"encoder": self.pipe.vae.encoder, "decoder": self.pipe.vae.decoder}
        for part, model in models.items():
            model.register_forward_pre_hook(lambda module, args, part=part: self.ran.update([part]))

    def call(self, what: str, arguments: Mapping[str, Any], *, may_pass: bool = False) -> str:
        """Call the pipeline, and return what became of it; a call that let something through is noted."""
        self.ran.clear()
        self.screen.shown.clear()
        try:
            output = self.pipe(**arguments)
        except Exception as error:
            early = isinstance(error, REFUSALS) and not self.ran
            outcome = "refused" if early else f"failed: {what} {error!r}"[:150]
        else:
            outcome = self._of(output)
        if outcome == "unscreened" or (outcome == "screened" and not may_pass):
            self.unscreened.append(f"{self.name}: {what}: {outcome}")
        self.outcomes[outcome] += 1
        return outcome

    def _of(self, output: Any) -> str:
        if isinstance(output.images, SealedTensor):
            return "sealed"
        made = arrays(output.images)
        if all(output.nsfw_content_detected):
            return "unscreened" if any(array.any() for array in made) or self.ran["decoder"] else "blocked"
        return "screened" if all(_pixels(array) in self.screen.shown for array in made) else "unscreened"


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


def arguments(name: str, *, listed: bool) -> dict[str, Any]:
    given = inputs(name, steps=1)
    return given | ({"prompt": [given["prompt"]]} if listed else {})


@pytest.mark.parametrize("name", list(BUILDERS))
def test_whatever_is_put_into_a_parameter_is_refused_or_judged_and_blocked(name: str) -> None:
    swept = Swept(name)
    for parameter in parameters(swept.pipe):
        for form, make in VALUES.items():
            value = make()
            given = arguments(name, listed=isinstance(value, list | tuple)) | {parameter: value}
            names_only = parameter == NAMES_ONLY and form in ("[text]", "(text,)")
            swept.call(f"{parameter} = {form}", given, may_pass=names_only)
    print(f"{name}: {sum(swept.outcomes.values())} combinations: {dict(swept.outcomes)}")
    assert swept.unscreened == []
    assert swept.outcomes["blocked"] > 10 and swept.outcomes["refused"] > 500
    # The fixed names of a pipeline's tensors, without a callback that would be handed them.
    assert swept.outcomes["screened"] <= 2


@pytest.mark.parametrize("name", list(BUILDERS))
def test_in_every_form_of_output_pictures_were_seen_and_blocked_ones_are_black(name: str) -> None:
    swept = Swept(name)
    expected = dict.fromkeys(("pil", "np", "pt"), "screened") | {"latent": "sealed"}
    for form in OUTPUT_TYPES:
        known = isinstance(form, str) and form in expected
        given = inputs(name, steps=1) | {"output_type": form}
        outcome = swept.call(f"output_type = {form!r}", given, may_pass=known)
        assert outcome == (expected[form] if known else "refused"), form  # type: ignore[index]
        if known and form != "latent":
            assert swept.call(f"blocked, as {form}", given | {"prompt": f"a {SENTINEL}"}) == "blocked"
    assert swept.unscreened == []
