"""Any server with OpenAI's images API: OpenAI itself, vLLM-Omni, SGLang, LiteLLM, and others like them.

The pictures must come inside the answer: an address in it is never followed. What the server says in an error is not
repeated, because it may quote the prompt.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping, Sequence
from typing import Any
from urllib.parse import urlsplit

from PIL import Image

from ..encoding import MAX_BYTES, decode_picture
from ..errors import ConfigError, GenerationFailed, InvalidRequest, MissingExtra
from ..request import GenerationRequest
from . import Progress

_RETRIES = 2
_TEXTS = ("prompt", "negative_prompt")
_REFUSALS = frozenset(
    {"moderation_blocked", "content_policy_violation", "image_content_policy_violation", "content_filter"}
)
"""What OpenAI and Azure call a refusal on safety grounds, in ``error.code`` of a 400."""

_ALWAYS_INSIDE = ("gpt-image", "chatgpt-image")
"""OpenAI's models that always answer with the picture itself, and refuse to be asked for it."""


class OpenAIGenerator:
    """Makes pictures through ``POST {api_base}/images/generations``. Several calls may run at a time.

    Args:
        api_base: The server's address up to and with ``/v1``.
        model: What the server calls the model.
        api_key: Sent as a bearer token. The environment is not searched for one: a key meant for one server must not
            reach another.
        timeout_s: Seconds that the server may be silent, for each of at most three attempts.
        name: Model id for clients; by default ``model``.

    Raises:
        ConfigError: If an option is wrong.
        MissingExtra: If the ``openai`` package is not installed.
    """

    def __init__(
        self,
        *,
        api_base: str,
        model: str,
        api_key: str | None = None,
        timeout_s: float = 120.0,
        name: str | None = None,
    ) -> None:
        if urlsplit(api_base).scheme not in ("http", "https") or not urlsplit(api_base).hostname:
            raise ConfigError("generator.api_base: must be an address such as http://127.0.0.1:8000/v1")
        if not timeout_s > 0:
            raise ConfigError(f"generator.timeout_s: must be above 0, not {timeout_s}")
        self.name = name or model
        self.note = f"The model {self.name}, run by another server behind this one."
        self._model = model
        self._client = _client(api_base, api_key, timeout_s)

    def generate(self, request: GenerationRequest, progress: Progress) -> Sequence[Image.Image]:
        """Return ``request.n`` RGB pictures of the asked size; where none is asked, of the server's own.

        Raises:
            InvalidRequest: If the request sets what this API cannot carry; the message names it.
            GenerationFailed: If the server refused, failed, or sent anything but the pictures that were asked for.
        """
        body = self._body(request)
        progress(0, 1)
        pictures = [_picture(item) for item in self._ask(body)]
        if len(pictures) != request.n:
            raise GenerationFailed(f"the upstream sent {len(pictures)} pictures instead of {request.n}")
        if request.width is not None:
            for picture in pictures:
                if picture.size != (request.width, request.height):
                    raise GenerationFailed("the upstream sent a picture of another size than was asked for")
        progress(1, 1)
        return pictures

    def close(self) -> None:
        """Close the connections. The generator cannot be used afterwards."""
        self._client.close()

    def _body(self, request: GenerationRequest) -> dict[str, Any]:
        # From ``texts``, because those are the channels that were judged, and no others.
        for name in request.texts:
            if name not in _TEXTS:
                raise InvalidRequest(name, "the images API has no such text; leave it out")
        for given, missing in (("width", "height"), ("height", "width")):
            if getattr(request, given) is not None and getattr(request, missing) is None:
                raise InvalidRequest(missing, f"the images API takes both sides or none, and {given} is set")
        body: dict[str, Any] = {"model": self._model, "prompt": request.texts["prompt"], "n": request.n}
        if request.width is not None:
            body["size"] = f"{request.width}x{request.height}"
        if not self._model.startswith(_ALWAYS_INSIDE):
            body["response_format"] = "b64_json"
        further = {
            "negative_prompt": request.texts.get("negative_prompt"),
            "seed": request.seed,
            "num_inference_steps": request.steps,
            "guidance_scale": request.guidance_scale,
        }
        body["extra_body"] = {name: value for name, value in further.items() if value is not None}
        return body

    def _ask(self, body: Mapping[str, Any]) -> Sequence[Any]:
        """Return ``data`` of the answer."""
        import openai

        try:
            answer = self._client.images.generate(**body)
        except openai.APIStatusError as error:
            problem = _problem(error)
        except openai.APITimeoutError:
            problem = "the upstream did not answer in time"
        except openai.APIConnectionError:
            problem = "the upstream cannot be reached"
        # A ValueError is what the client lets through where the answer is no JSON.
        except (openai.OpenAIError, ValueError):
            problem = "the upstream sent something that is no answer"
        else:
            data = getattr(answer, "data", None)
            if isinstance(data, list):
                return data
            problem = "the upstream sent no list of pictures"
        # Outside of the handlers, so that the upstream's words do not travel along as the cause.
        raise GenerationFailed(problem)


def _client(api_base: str, api_key: str | None, timeout_s: float) -> Any:
    try:
        import openai
    except ModuleNotFoundError as error:
        raise MissingExtra(error.name or "openai", "openai", needed_by="the openai generator") from error
    return openai.OpenAI(
        base_url=api_base,
        # The package looks into the environment where it is given none.
        api_key=api_key or "none",
        timeout=timeout_s,
        max_retries=_RETRIES,
        # A server that redirects could send the prompt anywhere.
        http_client=openai.DefaultHttpxClient(follow_redirects=False),
    )


def _problem(error: Any) -> str:
    if error.status_code == 400 and error.code in _REFUSALS:
        return "the upstream refused the request on safety grounds"
    return f"the upstream answered with HTTP status {error.status_code}"


def _picture(item: Any) -> Image.Image:
    encoded = getattr(item, "b64_json", None)
    if not isinstance(encoded, str) or not encoded:
        raise GenerationFailed("the upstream sent no b64_json for a picture; addresses are not followed")
    # Four characters carry three bytes.
    if len(encoded) > MAX_BYTES // 3 * 4 + 4:
        raise GenerationFailed("the upstream sent a picture that is too large")
    try:
        data = base64.b64decode(encoded, validate=True)
    except ValueError:
        raise GenerationFailed("the upstream sent a picture that is not base64") from None
    try:
        return decode_picture(data)
    except ValueError as error:
        raise GenerationFailed(f"the upstream sent a picture that {error}") from None
