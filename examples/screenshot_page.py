"""Take a picture of the page after one request, as the README shows it.

    python examples/screenshot_page.py docs/page.png
    python examples/screenshot_page.py refused.png --prompt "a zorblax" --config my-safelight.toml

It needs the extra ``ui``, the package ``playwright`` and a Chromium; the page is served on this machine only, and what
is asked goes into a store that is thrown away.
"""

from __future__ import annotations

import argparse
import dataclasses
import io
import socket
import tempfile
import threading
from pathlib import Path

import uvicorn
from PIL import Image
from playwright.sync_api import sync_playwright

from safelight import build, read_settings
from safelight_ui.page import create_app


def main(argv: list[str] | None = None) -> None:
    """Read the arguments, serve the page, ask, and save the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path, help="the PNG to write")
    parser.add_argument("--prompt", default="a red teapot on a table")
    parser.add_argument("--config", help="the configuration; by default safelight.toml if it is there")
    parser.add_argument("--width", type=int, default=1280, help="of the window, in pixels")
    parser.add_argument("--chromium", default="/usr/bin/chromium", help="the browser's executable")
    args = parser.parse_args(argv)
    with tempfile.TemporaryDirectory() as folder:
        settings = dataclasses.replace(read_settings(args.config), store_url=f"sqlite:///{folder}/page.db")
        runtime = build(settings)
        try:
            with socket.create_server(("127.0.0.1", 0)) as listener:
                server = uvicorn.Server(uvicorn.Config(create_app(runtime), log_level="error"))
                thread = threading.Thread(target=server.run, kwargs={"sockets": [listener]})
                thread.start()
                try:
                    photograph(f"http://127.0.0.1:{listener.getsockname()[1]}", args)
                finally:
                    server.should_exit = True
                    thread.join()
        finally:
            runtime.store.close()


def photograph(url: str, args: argparse.Namespace) -> None:
    """Ask for one picture in a headless browser, and save the whole page once the answer is there."""
    flags = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--disable-background-networking", "--disable-sync"]
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=args.chromium, args=flags)
        page = browser.new_page(viewport={"width": args.width, "height": 800})
        page.goto(url)
        page.locator("#prompt textarea").fill(args.prompt)
        page.keyboard.press("Enter")
        page.wait_for_selector(
            ", ".join(f"[data-state={state}]" for state in ("released", "refused", "unavailable", "invalid", "failed")),
            timeout=120_000,
        )
        page.wait_for_function("[...document.querySelectorAll('#gallery img')].every(one => one.complete)")
        # The bar fades out.
        page.wait_for_timeout(500)
        shown = page.screenshot(full_page=True)
        browser.close()
    args.out.parent.mkdir(parents=True, exist_ok=True)
    # A third of the size, and nobody counts its colours.
    Image.open(io.BytesIO(shown)).convert("RGB").quantize(160).save(args.out, optimize=True)


if __name__ == "__main__":
    main()
