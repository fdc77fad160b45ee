"""A person's browser before the page: asks, reads cards, and notes everything that is out of order."""

from __future__ import annotations

from dataclasses import dataclass, field
from pathlib import Path

from playwright.async_api import Browser, BrowserContext, Locator, Page

from page_fakes import ObedientGenerator
from safelight.config import Runtime

CHROMIUM = "/usr/bin/chromium"
FLAGS = (
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)


@dataclass
class Stage:
    """A page that is being served.

    Args:
        url: Its address.
        runtime: What it works with.
        generator: What makes its pictures.
        folder: Where everything lies that it writes.
        browser: To visit it.
    """

    url: str
    runtime: Runtime
    generator: ObedientGenerator
    folder: Path
    browser: Browser


@dataclass
class Visit:
    """One person's browser, with the page open."""

    context: BrowserContext
    page: Page
    problems: list[str] = field(default_factory=list)

    async def ask(self, prompt: str, *, expect: str) -> Locator:
        """Ask for something, and return the card once the expected one is there."""
        await self.forget_card()
        await self.page.locator("#prompt textarea").fill(prompt)
        await self.page.locator("#create").click()
        return await self.card(expect)

    async def forget_card(self) -> None:
        """Mark the card of the request before, so that it is never taken for the answer to the next one."""
        await self.page.locator("[data-state]").evaluate("card => card.dataset.state += '-before'")

    async def card(self, state: str) -> Locator:
        """Return the card of a state, once it is there."""
        found = self.page.locator(f"[data-state={state}]")
        await found.wait_for(timeout=20_000)
        return found

    async def pictures(self) -> list[str]:
        """Return the addresses of the pictures that are shown."""
        found: list[str] = await self.page.locator("#gallery img").evaluate_all("all => all.map(one => one.src)")
        return found


async def open_page(stage: Stage, context: BrowserContext) -> Visit:
    """Open the page, and note every error of its console and every request to another address."""
    page = await context.new_page()
    visit = Visit(context, page)
    page.on("console", lambda said: visit.problems.append(said.text) if said.type in ("error", "warning") else None)
    page.on("pageerror", lambda error: visit.problems.append(str(error)))
    page.on(
        "request",
        lambda asked: None if asked.url.startswith((stage.url, "data:", "blob:")) else visit.problems.append(asked.url),
    )
    await page.goto(stage.url)
    await page.locator("#create").wait_for()
    return visit
