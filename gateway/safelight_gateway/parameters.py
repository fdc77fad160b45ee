"""From the fields of an images request to what the library is asked for.

Every field is taken by name. A text that a generator could be given is a channel, and is judged. A field that would
carry content or weights nobody here can judge is refused, names of LoRAs among them. Any other that is not known, as
``style``, is left out, named in the answer, and never reaches the generator. ``user`` and ``safety_identifier`` say who
asks, and nothing of the picture.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import Any

from safelight.errors import InvalidRequest, UnjudgedChannel
from safelight.request import MAX_SIDE, GenerationRequest, Principal

from .problems import Problem

MIN_SIDE = 64
MAX_PIXELS = 10 * 2048 * 2048
"""Most pixels of one request, all its pictures together: they are in memory at once, three bytes each."""

MAX_PERSON_CHARS = 256

STEPS: Mapping[str, int | None] = {
    "auto": None,
    "standard": None,
    "medium": None,
    "low": 15,
    "high": 40,
    "hd": 40,
    "xhigh": 60,
    "max": 60,
}
"""Denoising steps by ``quality``. None is the generator's own number; ``num_inference_steps`` wins over all."""

# How a response spells a quality; all others are "high".
_ANSWERED_QUALITY = {"low": "low", "auto": "medium", "standard": "medium", "medium": "medium"}
_FORMATS = ("png", "jpeg", "webp")
# Pictures, weights and vectors steer what is made as a prompt does, but no screen here reads them.
_UNJUDGED = frozenset(
    "adapter adapters control_image control_images controlnet cross_attention_kwargs diffusers_kwargs embeddings"
    " extra_params image image[] image_url images init_image input_image input_images ip_adapter"
    " ip_adapter_image ip_adapter_image_embeds joint_attention_kwargs latents lora lora_path lora_weights loras mask"
    " mask[] mask_image mask_url masks negative_pooled_prompt_embeds negative_prompt_embeds pooled_prompt_embeds"
    " prompt_embeds reference_image reference_images textual_inversion url[]".split()
)
# Stable Diffusion 3 has a third text encoder.
_FURTHER_TEXTS = ("prompt_3", "negative_prompt_3")
_NAME = re.compile(r"[A-Za-z0-9_.\-\[\]]{1,64}")
_MAX_NAMED = 20


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asked for.

    Args:
        request: All that the generator will see.
        quality: As a response spells it: low, medium or high.
        output_format: png, jpeg or webp.
        compression: 0..100 for jpeg and webp, or None for the encoder's own.
        by_url: Whether pictures are answered as links rather than in base64.
        stream: Whether the answer is a stream of events.
        ignored: The names of fields that were left out.
    """

    request: GenerationRequest
    quality: str
    output_format: str
    compression: int | None
    by_url: bool
    stream: bool
    ignored: tuple[str, ...]


def read_parameters(data: Mapping[str, Any], *, principal_id: str, models: Collection[str]) -> Asked:
    """Read the fields of an images request.

    Args:
        data: The request's JSON object. A field that is null counts as left out.
        principal_id: Who asks, as authenticated.
        models: The model ids that may be named; all mean the one generator.

    Raises:
        InvalidRequest: If a field cannot be accepted; it names the field.
        Problem: 404 if the model is not known.
    """
    fields = _Fields(data)
    fields.refuse_unjudged()
    model = fields.text("model") or ""
    if model and model not in models:
        raise model_not_found()
    _refuse_transparency(fields)
    # Either word gets the operator's policy: a client cannot lower it.
    fields.choice("moderation", ("auto", "low"), "auto")
    # No preview is ever sent: it would leave before anybody looked at it.
    fields.whole("partial_images")
    quality = fields.choice("quality", tuple(STEPS), "auto")
    output_format = fields.choice("output_format", _FORMATS, "png")
    # Either family of clients leaves the field out, and each needs the other answer.
    default_answer = "url" if model.startswith("dall-e") else "b64_json"
    return Asked(
        request=_request(fields, Principal(principal_id, person=_person(fields)), STEPS[quality]),
        quality=_ANSWERED_QUALITY.get(quality, "high"),
        output_format=output_format,
        compression=_percent(fields) if output_format != "png" else None,
        by_url=fields.choice("response_format", ("url", "b64_json"), default_answer) == "url",
        stream=fields.flag("stream"),
        ignored=fields.rest(),
    )


def _request(fields: _Fields, principal: Principal, usual_steps: int | None) -> GenerationRequest:
    width, height = _size(fields.text("size"))
    steps, n = fields.whole("num_inference_steps"), fields.whole("n")
    further = {name: fields.text(name) for name in _FURTHER_TEXTS}
    request = GenerationRequest(
        fields.required_text("prompt"),
        principal,
        prompt_2=fields.text("prompt_2"),
        negative_prompt=fields.text("negative_prompt"),
        negative_prompt_2=fields.text("negative_prompt_2"),
        width=width,
        height=height,
        steps=usual_steps if steps is None else steps,
        guidance_scale=fields.number("guidance_scale"),
        seed=fields.whole("seed"),
        n=1 if n is None else n,
        extra_texts={name: text for name, text in further.items() if text},
    )
    if request.n * (width or 0) * (height or 0) > MAX_PIXELS:
        raise InvalidRequest("size", f"all pictures together may have {MAX_PIXELS} pixels; ask for fewer or smaller")
    return request


def model_not_found() -> Problem:
    """Return the answer to a model id that is not known."""
    return Problem(404, "model_not_found", "This model does not exist here; GET /v1/models lists them.", param="model")


def _size(text: str | None) -> tuple[int | None, int | None]:
    if text is None or text == "auto":
        return None, None
    found = re.fullmatch(r"([0-9]{1,5})x([0-9]{1,5})", text)
    if found:
        width, height = int(found[1]), int(found[2])
        if MIN_SIDE <= width <= MAX_SIDE and MIN_SIDE <= height <= MAX_SIDE:
            return width, height
    raise InvalidRequest("size", f"must be 'auto' or WIDTHxHEIGHT, each side from {MIN_SIDE} to {MAX_SIDE} pixels")


def _refuse_transparency(fields: _Fields) -> None:
    if fields.choice("background", ("auto", "opaque", "transparent"), "auto") == "transparent":
        raise InvalidRequest("background", "pictures are opaque here; use 'opaque' or 'auto'")


def _person(fields: _Fields) -> str:
    older, newer = fields.text("user"), fields.text("safety_identifier")
    for name, person in (("user", older), ("safety_identifier", newer)):
        if len(person or "") > MAX_PERSON_CHARS:
            raise InvalidRequest(name, f"may have at most {MAX_PERSON_CHARS} characters")
    return newer or older or ""


def _percent(fields: _Fields) -> int | None:
    value = fields.whole("output_compression")
    if value is not None and not 0 <= value <= 100:
        raise InvalidRequest("output_compression", "must be a whole number from 0 to 100")
    return value


class _Fields:
    """The fields of a request, taken one by one, each with its type."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        self._left = {name: value for name, value in data.items() if value is not None}

    def text(self, name: str) -> str | None:
        value = self._left.pop(name, None)
        if value is not None and not isinstance(value, str):
            raise InvalidRequest(name, "must be a text")
        return value

    def required_text(self, name: str) -> str:
        value = self.text(name)
        if value is None:
            raise InvalidRequest(name, "is required")
        return value

    def choice(self, name: str, choices: Collection[str], default: str) -> str:
        value = self.text(name)
        if value is None:
            return default
        if value not in choices:
            raise InvalidRequest(name, f"must be one of {', '.join(choices)}")
        return value

    def whole(self, name: str) -> int | None:
        value = self._left.pop(name, None)
        # bool is an int in Python, and n: true is no number of pictures.
        if value is not None and (isinstance(value, bool) or not isinstance(value, int)):
            raise InvalidRequest(name, "must be a whole number")
        return value

    def number(self, name: str) -> float | None:
        value = self._left.pop(name, None)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int | float)):
            raise InvalidRequest(name, "must be a number")
        return value

    def flag(self, name: str) -> bool:
        value = self._left.pop(name, False)
        if not isinstance(value, bool):
            raise InvalidRequest(name, "must be true or false")
        return value

    def refuse_unjudged(self) -> None:
        for name in sorted(_UNJUDGED & self._left.keys()):
            if self._left.pop(name) not in ("", [], {}):
                raise UnjudgedChannel(name, "is not offered here: it would steer the picture, and nobody can judge it")

    def rest(self) -> tuple[str, ...]:
        """Return the names that nobody took, those that can stand in a header."""
        return tuple(name for name in sorted(self._left) if _NAME.fullmatch(name))[:_MAX_NAMED]
