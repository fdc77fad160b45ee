"""The page itself: its fields, their order, and the app that serves it.

Nothing is uploaded, shared or counted by others, and no file comes from another address. Gradio serves what lies in its
cache to anybody who knows the address (T52 of the threat table); here the names cannot be guessed, and the doorkeeper
hands a picture to the visitor that it was made for and to nobody else.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager

from safelight.backends.device_watch import ending_when_lost
from safelight.canary import watching
from safelight.config import Runtime
from safelight.errors import MissingExtra
from safelight.generators import Generator

try:
    import gradio as gr
    from fastapi import FastAPI
except ModuleNotFoundError as error:
    raise MissingExtra(error.name or "gradio", "ui", needed_by="the page") from error

from .creating import MAX_PICTURES, Creating
from .doorkeeper import Doorkeeper
from .look import CSS, theme
from .notices import WELCOME, Notices, footer, header, vocabulary
from .pictures import PictureFolder
from .visitors import Visitors

IDEAS = (
    "a red teapot on a wooden table",
    "a lighthouse in the fog",
    "a paper boat on a calm lake",
    "a fox asleep under autumn leaves",
)
KEPT_S = 3600
"""How long a released picture can be fetched, in seconds."""
AT_A_TIME = 4
"""Requests that are worked on together; ``MAX_WAITING`` more may queue, and further ones are turned away."""
MAX_WAITING = 20


def create_app(runtime: Runtime) -> FastAPI:
    """Return the ASGI app that serves the page at ``/``.

    Args:
        runtime: What was configured; the caller closes its store.
    """
    try:
        asyncio.get_running_loop()
    except RuntimeError:
        # Where no event loop runs, Gradio makes one for each of its locks, and closes none.
        return asyncio.run(_in_a_loop(runtime))
    return _app(runtime)


async def _in_a_loop(runtime: Runtime) -> FastAPI:
    return _app(runtime)


def _app(runtime: Runtime) -> FastAPI:
    visitors = Visitors(runtime.store.secret("page-visitors"))
    pictures = PictureFolder(visitors)

    @asynccontextmanager
    async def lifespan(app: FastAPI) -> AsyncIterator[None]:
        try:
            async with watching(runtime.canaries), ending_when_lost(runtime.guard.devices):
                yield
        finally:
            pictures.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)
    app.add_middleware(Doorkeeper, visitors=visitors, pictures=pictures)
    gr.mount_gradio_app(
        app,
        _blocks(runtime, pictures),
        path="/",
        theme=theme(),
        css=CSS,
        footer_links=[],
        allowed_paths=[str(pictures.path)],
        max_file_size="1b",
        show_error=False,
        ssr_mode=False,
        run_history=False,
        enable_monitoring=False,
        mcp_server=False,
        pwa=False,
    )
    return app


def _blocks(runtime: Runtime, pictures: PictureFolder) -> gr.Blocks:
    guard, settings = runtime.guard, runtime.settings
    creating = Creating(runtime, pictures, Notices(guard.policy, settings.gateway.appeal))
    blocks = gr.Blocks(title="Safelight", analytics_enabled=False, delete_cache=(KEPT_S, KEPT_S))
    with blocks:
        gr.HTML(header(runtime.generator.note))
        with gr.Row(elem_classes="sl-ask", equal_height=True):
            prompt = gr.Textbox(
                placeholder="Describe a picture, then press Enter",
                label="Prompt",
                show_label=False,
                container=False,
                scale=6,
                min_width=200,
                max_lines=4,
                autofocus=True,
                elem_id="prompt",
            )
            button = gr.Button("Create", variant="primary", scale=1, min_width=120, elem_id="create")
        _idea_buttons(prompt, ideas(runtime.generator))
        with gr.Row(equal_height=False):
            with gr.Column(scale=3, min_width=320):
                gallery = _gallery(pictures)
            with gr.Column(scale=2, min_width=300):
                status = gr.HTML(WELCOME, elem_id="status")
                if words := vocabulary(getattr(runtime.generator, "knows", {})):
                    gr.HTML(words)
        negative, count, seed, *rest = _options()
        gr.HTML(
            footer(
                guard.policy,
                prompt_screens=[screen.name for screen in guard.prompt_screens],
                image_screens=[screen.name for screen in guard.image_screens],
                judge_note=settings.judge_note,
            )
        )
        gr.on(
            [prompt.submit, button.click],
            creating.create,
            inputs=[prompt, negative, count, seed, *rest],
            outputs=[gallery, status, seed],
            show_progress_on=gallery,
            api_visibility="private",
            # Generators take one call at a time by themselves; meanwhile other people's prompts are read.
            concurrency_limit=AT_A_TIME,
        )
    blocks.queue(max_size=MAX_WAITING, api_open=False)
    return blocks


def ideas(generator: Generator) -> tuple[str, ...]:
    """Return the prompts that the page offers: the generator's own examples, or what any good model draws."""
    return tuple(getattr(generator, "examples", ())) or IDEAS


def _idea_buttons(prompt: gr.Textbox, texts: Sequence[str]) -> None:
    buttons = gr.Dataset(components=[prompt], samples=[[text] for text in texts], label="Ideas", type="index")
    # In the browser alone: the server has no part in it.
    buttons.click(None, buttons, prompt, js=f"place => {json.dumps(texts)}[place]", api_visibility="private")


def _gallery(pictures: PictureFolder) -> gr.Gallery:
    gallery = gr.Gallery(
        label="Result",
        show_label=False,
        columns=2,
        height=440,
        preview=True,
        object_fit="contain",
        format="png",
        buttons=["download", "fullscreen"],
        interactive=False,
        elem_id="gallery",
    )
    # A file that already lies in the component's cache is served from there; Gradio's own folder gets no copy.
    gallery.GRADIO_CACHE = str(pictures.path)
    return gallery


def _options() -> list[gr.components.Component]:
    """Return the further fields, in the order in which the handler takes them."""
    own = "model's own"
    with gr.Accordion("More options", open=False, elem_id="options"):
        negative = gr.Textbox(label="Negative prompt", placeholder="What the picture should avoid; it is read as well")
        with gr.Row():
            count = gr.Slider(1, MAX_PICTURES, value=1, step=1, label="Number of pictures", min_width=200)
            with gr.Column(min_width=200):
                seed = gr.Textbox(label="Seed", placeholder="drawn for you", elem_id="seed")
                randomise = gr.Checkbox(True, label="Draw a new seed each time", container=False)
        with gr.Row():
            width = gr.Textbox(label="Width in pixels", placeholder=own, min_width=140)
            height = gr.Textbox(label="Height in pixels", placeholder=own, min_width=140)
            steps = gr.Textbox(label="Steps", placeholder=own, min_width=140)
            guidance = gr.Textbox(label="Guidance, 0 to 50", placeholder=own, min_width=140)
    return [negative, count, seed, randomise, width, height, steps, guidance]
