"""Links between the pages of the repository lead somewhere."""

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
LINK = re.compile(r"\]\(([^)#\s]*)(?:#([^)\s]*))?\)")
HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)
BLOCK = re.compile(r"^ *```.*?^ *```", re.MULTILINE | re.DOTALL)


def _pages() -> list[str]:
    found = [*ROOT.glob("*.md"), *ROOT.glob("*/*.md"), *ROOT.glob("docs/*/*.md")]
    return sorted(str(path.relative_to(ROOT)) for path in found)


def _text(path: Path) -> str:
    return BLOCK.sub("", path.read_text())


def anchors(path: Path) -> set[str]:
    """Of its headings, as GitHub and the site make them."""
    titles = (re.sub(r"[`*\[\]]|\(.*?\)", "", one).lower() for one in HEADING.findall(_text(path)))
    return {re.sub(r"[^\w -]", "", one).strip().replace(" ", "-") for one in titles}


@pytest.mark.parametrize("page", _pages())
def test_links_lead_somewhere(page: str) -> None:
    for link, anchor in LINK.findall(_text(ROOT / page)):
        if "://" in link or link.startswith("mailto:"):
            continue
        target = (ROOT / page).parent / link if link else ROOT / page
        assert target.exists(), link
        if anchor and target.suffix == ".md":
            assert anchor in anchors(target), f"{link}#{anchor}"


def test_the_site_has_all_pages_of_the_docs() -> None:
    listed = re.findall(r"([\w/-]+\.md)$", (ROOT / "mkdocs.yml").read_text(), re.MULTILINE)
    pages = [path.relative_to(ROOT / "docs") for path in (ROOT / "docs").rglob("*.md")]
    assert sorted(listed) == sorted(map(str, pages))
