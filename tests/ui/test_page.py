from __future__ import annotations

import io
import tempfile
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from PIL import Image, UnidentifiedImageError
from playwright.async_api import BrowserContext, async_playwright

from disguises_of_zorblax import ALL
from fakes import SENTINEL, FakeGenerator, has_marker
from page_browser import CHROMIUM, FLAGS, Stage, Visit, open_page
from page_fakes import JUDGE_NOTE, ObedientGenerator, page_runtime, served
from safelight.encoding import encode_png, sha256_hex
from safelight.policy import Decision
from safelight.request import GenerationRequest, Principal
from safelight_ui.page import IDEAS, create_app, ideas

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    # Gradio counts its events in ways that pandas 4 drops; as errors these warnings would end Gradio's own tasks.
    pytest.mark.filterwarnings("ignore:'future.no_silent_downcasting'"),
    pytest.mark.filterwarnings("ignore:The copy keyword is deprecated"),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def stage(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Stage]:
    folder = tmp_path_factory.mktemp("page")
    generator = ObedientGenerator()
    runtime = page_runtime(folder, generator)
    with pytest.MonkeyPatch.context() as patch:
        # Both the page and Gradio put files below it; a test looks at every one of them.
        patch.setattr(tempfile, "tempdir", str(folder))
        async with async_playwright() as playwright:
            browser = await playwright.chromium.launch(executable_path=CHROMIUM, args=list(FLAGS))
            with served(create_app(runtime)) as url:
                yield Stage(url, runtime, generator, folder, browser)
                await browser.close()
    runtime.store.close()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def context(stage: Stage) -> AsyncIterator[BrowserContext]:
    async with await stage.browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield context


@pytest_asyncio.fixture(loop_scope="module")
async def visit(stage: Stage, context: BrowserContext) -> AsyncIterator[Visit]:
    """A new person, whose page nobody has touched."""
    await context.clear_cookies()
    one = await open_page(stage, context)
    yield one
    await one.page.close()
    assert one.problems == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def open_visit(stage: Stage) -> AsyncIterator[Visit]:
    async with await stage.browser.new_context(viewport={"width": 1280, "height": 900}) as context:
        yield await open_page(stage, context)


@pytest.fixture
def regular(open_visit: Visit) -> Iterator[Visit]:
    """A person who has asked before, on a page whose options are as they were; opening a page takes seconds."""
    yield open_visit
    assert open_visit.problems == []


def rulings(stage: Stage) -> list[Decision]:
    return list(stage.runtime.store.decisions())


async def test_pressing_enter_shows_the_picture_and_who_looked_at_it(stage: Stage, regular: Visit) -> None:
    await regular.forget_card()
    await regular.page.locator("#prompt textarea").fill("a lighthouse in the fog")
    await regular.page.locator("#prompt textarea").press("Enter")
    receipt = await (await regular.card("released")).inner_text()
    assert "1 picture released" in receipt
    for screen in ("terms", "obedient", "marker"):
        assert screen in receipt
    assert str(stage.generator.requests[-1].seed) in receipt
    assert rulings(stage)[-1].id in await (await regular.card("released")).text_content()  # type: ignore[operator]
    assert (
        await regular.page.locator("#gallery img").evaluate("one => one.decode().then(() => one.naturalWidth)") == 256
    )


async def test_what_is_delivered_is_byte_for_byte_what_was_ruled_on(stage: Stage, regular: Visit) -> None:
    await regular.ask("a paper boat", expect="released")
    [address] = await regular.pictures()
    answer = await regular.context.request.get(address)
    assert sha256_hex(await answer.body()) == rulings(stage)[-1].image_sha256
    assert answer.headers["content-type"] == "image/png"


async def test_a_picture_is_handed_to_its_own_visitor_only(stage: Stage, regular: Visit) -> None:
    await regular.ask("a paper boat", expect="released")
    [address] = await regular.pictures()
    async with await stage.browser.new_context() as strangers:
        await strangers.request.get(stage.url)
        assert (await strangers.request.get(address)).status == 404
    assert (await regular.context.request.get(address)).status == 200


async def test_a_refused_prompt_says_why_and_makes_nothing(stage: Stage, regular: Visit) -> None:
    before = len(stage.generator.requests)
    text = await (await regular.ask(f"a {SENTINEL}", expect="refused")).inner_text()
    assert "prompt" in text
    assert "The <sentinel> word" in text
    assert "Leave the word out & try again." in text
    assert rulings(stage)[-1].id in text
    assert "appeals@example.org" in text
    assert len(stage.generator.requests) == before
    assert await regular.pictures() == []


async def test_a_refusal_takes_the_picture_before_it_off_the_page(regular: Visit) -> None:
    await regular.ask("a paper boat", expect="released")
    await regular.ask(f"a {SENTINEL}", expect="refused")
    assert await regular.pictures() == []


async def test_blocked_pictures_are_withheld_and_written_nowhere(stage: Stage, visit: Visit) -> None:
    text = await (await visit.ask("boats, spoil 1", expect="refused")).inner_text()
    assert "picture" in text
    assert rulings(stage)[-1].id in text
    assert await visit.pictures() == []

    await visit.page.locator("#options button").first.click()
    number = visit.page.locator("#options input[type=number]")
    await number.wait_for(state="visible")
    # The accordion's fields take nothing in while they are being built, so this is said until it is heard.
    for _ in range(40):
        await number.fill("2")
        await number.fill("3")
        await visit.page.keyboard.press("Tab")
        await visit.page.wait_for_timeout(250)
        if await visit.page.evaluate("document.querySelector('#options input[type=range]').value") == "3":
            break
    card = await visit.ask("ships, spoil 2", expect="released")
    text = await card.inner_text()
    assert "2 pictures released" in text
    assert "Picture 2 of 3 was withheld" in text
    assert "The <sentinel> word" in text
    withheld = rulings(stage)[-2]
    assert not withheld.allows
    assert withheld.id in text
    assert len(await visit.pictures()) == 2

    spoilt = [
        encode_png(ObedientGenerator().picture(GenerationRequest(prompt, Principal("x")), place)).data
        for prompt, place in (("boats, spoil 1", 0), ("ships, spoil 2", 1))
    ]
    assert sha256_hex(spoilt[1]) == withheld.image_sha256
    files = [path for path in stage.folder.rglob("*") if path.is_file()]
    assert any(is_picture(path) for path in files), "the released ones are there, so this walk sees pictures"
    for path in files:
        data = path.read_bytes()
        assert not any(one[40:200] in data for one in spoilt), path
        assert not is_picture(path) or not has_marker(Image.open(io.BytesIO(data))), path


def is_picture(path: Path) -> bool:
    try:
        with Image.open(path) as opened:
            opened.load()
            return True
    except (UnidentifiedImageError, OSError):
        return False


async def test_a_failing_screen_is_told_apart_from_a_refusal(stage: Stage, regular: Visit) -> None:
    before = len(stage.generator.requests)
    text = await (await regular.ask("an unplugged lamp", expect="unavailable")).inner_text()
    assert "Our fault" in text
    assert "obedient (timeout)" in text
    assert "appeal" not in text.lower()
    assert await regular.page.locator("[data-state=refused]").count() == 0
    assert len(stage.generator.requests) == before


async def test_a_failing_generator_shows_nothing_and_says_so(regular: Visit) -> None:
    text = await (await regular.ask("crash", expect="failed")).inner_text()
    assert "could not be made" in text
    assert await regular.pictures() == []


async def test_a_value_that_cannot_be_used_is_named(visit: Visit) -> None:
    await visit.page.locator("#options button").first.click()
    for label, typed, said in (
        ("Width in pixels", "100", "width: must be a multiple of 8"),
        ("Height in pixels", "tall", "height: must be a whole number"),
        ("Steps", "0", "steps: must be a whole number from 1"),
        ("Guidance, 0 to 50", "nan", "guidance scale: must be a number from 0 to 50"),
    ):
        await visit.page.get_by_label(label).fill(typed)
        assert said in await (await visit.ask("a boat", expect="invalid")).inner_text()
        await visit.page.get_by_label(label).fill("")
    assert "prompt: must be a text" in await (await visit.ask("  ", expect="invalid")).inner_text()


async def test_every_option_reaches_the_generator(stage: Stage, visit: Visit) -> None:
    await visit.page.locator("#options button").first.click()
    await visit.page.get_by_label("Draw a new seed each time").uncheck()
    for label, typed in {
        "Negative prompt": "rain",
        "Seed": str(2**63 - 1),
        "Width in pixels": "64",
        "Height in pixels": "128",
        "Steps": "3",
        "Guidance, 0 to 50": "0",
    }.items():
        await visit.page.get_by_label(label, exact=True).fill(typed)
    await visit.ask("a boat", expect="released")
    made = stage.generator.requests[-1]
    assert (made.negative_prompt, made.seed, made.width, made.height, made.steps, made.guidance_scale, made.n) == (
        "rain", 2**63 - 1, 64, 128, 3, 0.0, 1,
    )  # fmt: skip


async def test_a_new_seed_is_drawn_each_time_and_shown(stage: Stage, visit: Visit) -> None:
    await visit.ask("a boat", expect="released")
    await visit.ask("a boat", expect="released")
    first, second = (made.seed for made in stage.generator.requests[-2:])
    assert first != second
    await visit.page.locator("#options button").first.click()
    assert await visit.page.locator("#seed input, #seed textarea").input_value() == str(second)


async def test_progress_counts_the_real_steps(stage: Stage, regular: Visit) -> None:
    go_on = threading.Event()
    # The first step is reported before anybody waits; the page must show it while the generator stands still.
    stage.generator.between_steps = lambda: assert_set(go_on)
    try:
        await regular.forget_card()
        await regular.page.locator("#prompt textarea").fill("a slow boat")
        await regular.page.locator("#create").click()
        await regular.page.get_by_text("Making the picture").wait_for(timeout=10_000)
        await regular.page.get_by_text("0/4").wait_for(timeout=10_000)
    finally:
        go_on.set()
        stage.generator.between_steps = lambda: None
    await regular.card("released")


def assert_set(event: threading.Event) -> None:
    assert event.wait(timeout=20)


async def test_a_reload_keeps_the_visitor_and_another_browser_is_another_person(stage: Stage, visit: Visit) -> None:
    assert "your first request here" in await (await visit.ask("a boat", expect="released")).inner_text()
    await visit.page.reload()
    assert "with 1 earlier request of yours" in await (await visit.ask("a boat", expect="released")).inner_text()
    async with await stage.browser.new_context() as context:
        other = await open_page(stage, context)
        assert "your first request here" in await (await other.ask("a boat", expect="released")).inner_text()
    mine, again, theirs = (made.principal for made in stage.generator.requests[-3:])
    assert mine == again
    assert mine.person != theirs.person
    assert mine.id == theirs.id == "page:127.0.0.1"


async def test_the_page_says_what_it_is_and_what_is_configured(stage: Stage, regular: Visit) -> None:
    text = await regular.page.locator("body").inner_text()
    assert stage.generator.note in text
    assert "terms" in text and "obedient" in text and "marker" in text
    assert "page-test" in text and stage.runtime.guard.policy.hash[7:19] in text
    assert JUDGE_NOTE[1:] in text


async def test_an_idea_fills_the_prompt(stage: Stage, regular: Visit) -> None:
    for example in stage.generator.examples:
        await regular.page.get_by_text(example, exact=True).click()
        await regular.page.wait_for_function(
            "wanted => document.querySelector('#prompt textarea').value === wanted", arg=example
        )


async def test_the_page_lists_what_the_model_knows(regular: Visit) -> None:
    listed = await regular.page.locator(".sl-knows").inner_text()
    assert "things" in listed and "cup, <boat>" in listed
    assert "places" not in listed


async def test_a_model_that_says_nothing_of_itself_gets_the_pages_own_ideas() -> None:
    assert ideas(FakeGenerator()) == IDEAS


async def test_a_narrow_screen_can_use_it(stage: Stage) -> None:
    async with await stage.browser.new_context(viewport={"width": 390, "height": 844}) as context:
        visit = await open_page(stage, context)
        for state, prompt in (("released", "a boat"), ("refused", f"a {SENTINEL}")):
            await visit.ask(prompt, expect=state)
            assert await visit.page.evaluate("document.documentElement.scrollWidth") <= 390
            for part in ("#prompt textarea", "#create", f"[data-state={state}]"):
                box: Any = await visit.page.locator(part).bounding_box()
                assert box["x"] >= 0 and box["x"] + box["width"] <= 390
        assert visit.problems == []


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/gradio_api/upload"),
        ("GET", "/gradio_api/file=/etc/hostname"),
        ("GET", "/gradio_api/proxy=http://127.0.0.1/"),
        ("GET", "/gradio_api/info"),
        ("POST", "/gradio_api/call/create"),
        ("POST", "/gradio_api/run/create"),
        ("GET", "/gradio_api/runs"),
        ("GET", "/monitoring"),
        ("GET", "/docs"),
    ],
)
async def test_what_the_page_does_not_use_does_not_exist(
    stage: Stage, context: BrowserContext, method: str, path: str
) -> None:
    files = {"files": {"name": "x.png", "mimeType": "image/png", "buffer": b"x"}} if method == "POST" else None
    answer = await context.request.fetch(stage.url + path, method=method, multipart=files)  # type: ignore[arg-type]
    assert answer.status == 404


async def test_the_sentinel_in_thirty_disguises_is_refused_and_nothing_is_made(stage: Stage, visit: Visit) -> None:
    made = len(stage.generator.requests)
    # What a line of text cannot hold is left to the other doors.
    typed = [prompt for prompt in ALL.values() if prompt.isprintable()][::3][:30]
    assert len(typed) == 30
    for prompt in typed:
        await visit.ask(prompt, expect="refused")
    assert len(stage.generator.requests) == made
