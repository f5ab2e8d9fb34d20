"""A real browser without a window: Debian's Chromium, driven by Playwright.

Playwright's own downloads are not used: they are not of a distribution's, and come from elsewhere.
"""

import contextlib
import os
import shutil
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, field
from importlib.util import find_spec
from typing import TYPE_CHECKING, Any

import pytest

if TYPE_CHECKING:
    from playwright.async_api import Page

MISSING = "a browser is missing: install Debian's package chromium, and playwright from PyPI"
NAMES = ("chromium", "chromium-browser", "google-chrome")
DONE_MS = 120_000.0


def executable() -> str:
    """The browser; skips the test where there is none, and fails it in CI."""
    found = [path for name in NAMES if (path := shutil.which(name))]
    if found and find_spec("playwright"):
        return found[0]
    if os.environ.get("CI") == "true":
        pytest.fail(MISSING)
    pytest.skip(MISSING)


@dataclass
class Window:
    """A page in the browser, and whatever its console was told."""

    page: "Page"
    console: list[str] = field(default_factory=list)

    async def ask(self, **fields: str) -> None:
        """Fill fields in by their ids, and begin."""
        for name, value in fields.items():
            if name == "runs":
                await self.page.select_option("#runs", label=value)
            else:
                await self.page.fill(f"#{name}", value)
        await self.page.click("#run")

    async def done(self) -> None:
        """Wait until all that was asked for is there."""
        await self.page.wait_for_selector("body[data-state=idle]", timeout=DONE_MS)

    async def text(self, selector: str) -> str:
        """What an element says, as it is in the document."""
        return (await self.page.text_content(selector)) or ""

    async def counts(self, selector: str, attribute: str) -> Mapping[str, int]:
        """Elements by the value of an attribute."""
        script = """([selector, name]) => [...document.querySelectorAll(selector)]
            .map((one) => one.getAttribute(name))"""
        values: list[str] = await self.page.evaluate(script, [selector, attribute])
        return {value: values.count(value) for value in values}


@contextlib.asynccontextmanager
async def window(url: str, *, width: int = 1280, **context: Any) -> AsyncIterator[Window]:
    """A window at `url`; its console is empty in the end."""
    path = executable()
    from playwright.async_api import async_playwright

    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=path, args=["--no-sandbox"])
        page = await browser.new_page(viewport={"width": width, "height": 1000}, **context)
        opened = Window(page)
        page.on("console", lambda message: opened.console.append(message.text))
        page.on("pageerror", lambda error: opened.console.append(str(error)))
        await page.goto(url)
        yield opened
        await browser.close()
