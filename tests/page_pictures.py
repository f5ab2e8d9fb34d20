"""Draws docs/page-*.png: the page in a real browser. `python -m tests.page_pictures [FOLDER]`.

Of simulated models, whose times are said here, so that everybody draws the same.
"""

import asyncio
import re
import sys
import tempfile
from pathlib import Path
from typing import Literal

from tests.browser import Window, window
from tests.e2e.test_small_model import up

DOCS = Path(__file__).parents[1] / "docs"
MOST_BYTES = 200_000
TARGET, DRAFT = "simulated:step_ms=40", "simulated:step_ms=4,acceptance=0.85"
PICTURES: dict[str, tuple[int, Literal["light", "dark"]]] = {
    "page-light": (1280, "light"),
    "page-dark": (1280, "dark"),
    "page-narrow-light": (390, "light"),
    "page-narrow-dark": (390, "dark"),
}


async def compared(opened: Window) -> None:
    """Off and on, of the same prompt."""
    await opened.ask(max_tokens="96", runs="off, then on (forced)")
    await opened.done()
    if error := await opened.text("#error"):
        raise SystemExit(error)
    await opened.page.wait_for_selector("#strip b")


async def draw(url: str, folder: Path) -> None:
    """All pictures, of the same run."""
    async with window(url) as opened:
        await compared(opened)
        for name, (width, scheme) in PICTURES.items():
            await opened.page.emulate_media(color_scheme=scheme)
            await opened.page.set_viewport_size({"width": width, "height": 1000})
            path = folder / f"{name}.png"
            await opened.page.screenshot(path=path, full_page=True)
            if path.stat().st_size > MOST_BYTES:
                raise SystemExit(f"{path} has over {MOST_BYTES} bytes")


async def main(folder: Path) -> None:
    """Start what is drawn, and draw it."""
    with tempfile.TemporaryDirectory() as scratch:
        log = Path(scratch) / "up.log"
        async with up(log, "--page", f"--target={TARGET}", f"--draft={DRAFT}", "--drafter=hybrid"):
            found = re.search(r"page: (http://\S+/)", log.read_text())
            if found:
                await draw(found[1], folder)


if __name__ == "__main__":
    asyncio.run(main(Path(sys.argv[1]) if sys.argv[1:] else DOCS))
