"""A page over fakes: a real server, a real store, and a generator and screens that do what the prompt says."""

from __future__ import annotations

import contextlib
import hashlib
import re
import socket
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import uvicorn
from PIL import Image, ImageDraw

from fakes import MARKER, MarkerScreen, sentinel_screen
from safelight.config import GatewaySettings, Part, Runtime, Settings, UISettings
from safelight.errors import GenerationFailed, InvalidRequest
from safelight.generators import Progress
from safelight.guard import Guard, GuardSettings
from safelight.policy import Policy
from safelight.request import GenerationRequest, Turn
from safelight.store.sqlite import SQLiteStore
from safelight.verdict import Outcome, Stage, Verdict

POLICY = """
version = 1
name = "page-test"
[categories."sentinel"]
title = "The <sentinel> word"
description = "The word zorblax, or a magenta marker."
advice = "Leave the word out & try again."
thresholds = { prompt = 0.5, image = 0.5 }
"""
APPEAL = "mailto:appeals@example.org"
JUDGE_NOTE = "no language model reads prompts here"


class ObedientScreen:
    """A prompt screen that times out where the prompt says 'unplugged', and else finds nothing."""

    name = "obedient"

    async def screen_prompt(self, request: GenerationRequest, history: Sequence[Turn]) -> Verdict:
        if "unplugged" in request.prompt:
            return Verdict(self.name, Stage.PROMPT, outcome=Outcome.TIMEOUT)
        return Verdict(self.name, Stage.PROMPT, {"sentinel": 0.0})


@dataclass
class ObedientGenerator:
    """Draws a striped picture in a few steps, and spoils those that the prompt names, as in 'spoil 2'."""

    name: str = "obedient"
    note: str = "A sample model <of stripes> that follows no prompt."
    examples: tuple[str, ...] = ("a striped cup", """it's a "striped" <boat> \\n""")
    knows: Mapping[str, Sequence[str]] = field(default_factory=lambda: {"things": ("cup", "<boat>"), "places": ()})
    requests: list[GenerationRequest] = field(default_factory=list)
    between_steps: Callable[[], None] = lambda: None

    def generate(self, request: GenerationRequest, progress: Progress) -> Sequence[Image.Image]:
        self.requests.append(request)
        if request.width is not None and request.width % 8:
            raise InvalidRequest("width", "must be a multiple of 8")
        if "crash" in request.prompt:
            raise GenerationFailed("told to")
        steps = request.steps or 4
        for step in range(steps):
            progress(step, steps)
            self.between_steps()
        progress(steps, steps)
        return [self.picture(request, place) for place in range(request.n)]

    def picture(self, request: GenerationRequest, place: int) -> Image.Image:
        """Return the picture at a place of the batch, from 0; the same for the same prompt."""
        shade = hashlib.sha256(f"{request.prompt}{place}".encode()).digest()
        picture = Image.new("RGB", (request.width or 256, request.height or 256), (shade[0], 200, 90))
        draw = ImageDraw.Draw(picture)
        for x in range(0, picture.width, 16):
            draw.rectangle((x, 0, x + 7, picture.height), fill=(shade[1], shade[2], x % 200))
        if str(place + 1) in re.findall(r"\d", request.prompt.partition("spoil")[2]):
            picture.paste(MARKER, (40, 40, 120, 120))
        return picture


def page_runtime(folder: Path, generator: ObedientGenerator) -> Runtime:
    """Return a runtime of fakes whose store lies in a folder."""
    policy = Policy.parse(POLICY)
    store = SQLiteStore(folder / "page.db")
    guard = Guard(policy, store, prompt_screens=[sentinel_screen(), ObedientScreen()], image_screens=[MarkerScreen()])
    settings = Settings(
        source="test",
        generator=Part("obedient"),
        prompt_screens=(),
        image_screens=(),
        store_url="sqlite:///page.db",
        policy=policy,
        guard=GuardSettings(),
        gateway=GatewaySettings(appeal=APPEAL),
        ui=UISettings(),
        judge_note=JUDGE_NOTE,
    )
    return Runtime(settings, guard, generator, store)


@contextlib.contextmanager
def served(app: object) -> Iterator[str]:
    """Serve an ASGI app on a free port of this machine, and yield its address."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = uvicorn.Server(uvicorn.Config(app, log_level="error", timeout_graceful_shutdown=1))  # type: ignore[arg-type]
        thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
        thread.start()
        try:
            # The listener already queues connections: whoever comes early waits.
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            server.should_exit = True
            thread.join()
