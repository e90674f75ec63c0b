"""A real browser for tests: Debian's or another system's chromium, driven by Playwright, cut off from the network."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")


@dataclass
class Complaints:
    """Collect what a page must not do: write errors to the console, throw, ask for anything outside its own file."""

    errors: list[str] = field(default_factory=list)
    requests: list[str] = field(default_factory=list)

    def watch(self, page: Any) -> None:
        page.on("console", lambda message: self.errors.append(message.text) if message.type in ("error", "warning") else None)
        page.on("pageerror", lambda error: self.errors.append(str(error)))
        page.on("requestfailed", lambda request: self.errors.append(f"failed: {request.url[:100]}"))
        page.on("request", lambda request: self.requests.append(request.url[:100]))

    def foreign(self, own: Path) -> list[str]:
        """Return the requests for anything but the file itself and data: URIs."""
        return [url for url in self.requests if url != own.as_uri() and not url.startswith("data:")]


def missing(what: str) -> None:
    """Skip the test; fail it in CI, where a browser must be."""
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what}, and CI tests the report in a browser")
    pytest.skip(what)


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    """Start a headless browser."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        missing(f"no browser: none of {', '.join(NAMES)} is on the PATH (Debian: apt-get install chromium)")
    try:
        from playwright.sync_api import sync_playwright
    except ImportError:
        missing("no Playwright: pip install 'ppdl[dev]'")
    root = hasattr(os, "geteuid") and os.geteuid() == 0  # chromium's sandbox refuses to run as root
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=path, args=["--no-sandbox"] if root else [])
        yield started
        started.close()


def keep(page: Any, name: str, folder: Path, *, full_page: bool = False) -> Path:
    """Take a screenshot, folder/NAME.png, and copy it to $PPDL_SCREENSHOTS where that is set: CI keeps what lies there."""
    path = folder / f"{name}.png"
    page.screenshot(path=path, full_page=full_page)
    if kept := os.environ.get("PPDL_SCREENSHOTS"):
        Path(kept).mkdir(parents=True, exist_ok=True)
        shutil.copy(path, kept)
    return path


@contextmanager
def opened(browser: Any, path: Path, *, width: int, height: int = 900) -> Iterator[tuple[Any, Complaints]]:
    """Open a file in a page of its own that has no network, and record what it does."""
    context = browser.new_context(viewport={"width": width, "height": height}, offline=True)
    try:
        page, complaints = context.new_page(), Complaints()
        complaints.watch(page)
        page.goto(path.resolve().as_uri(), wait_until="load")
        yield page, complaints
    finally:
        context.close()
