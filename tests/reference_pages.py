"""Pages of docs/ whose tables are made from the code: what stands around the tables is written."""

from collections.abc import Iterable
from pathlib import Path

DOCS = Path(__file__).parents[1] / "docs"
END = "<!-- end -->\n"


def replaced(page: Path, module: str, tables: str) -> str:
    """The page as it is to be, its tables between the lines that name the module and the end."""
    begin = f"<!-- python -m {module} -->\n"
    before, _, rest = page.read_text().partition(begin)
    return f"{before}{begin}{tables}{END}{rest.partition(END)[2]}"


def table(title: str, heading: list[str], rows: Iterable[list[str]]) -> str:
    """A table below its title."""
    lines = [heading, ["---"] * len(heading), *rows]
    return "\n".join([title, "", *(f"| {' | '.join(map(cell, line))} |" for line in lines), ""])


def cell(text: str) -> str:
    """Text that stays within its cell."""
    return " ".join(text.split()).replace("|", r"\|")


def code(text: str) -> str:
    """Text as code; nothing where it is empty."""
    return f"`{text}`" if text else ""


def prose(text: str) -> str:
    """Text as it is read, not as HTML."""
    return " ".join(text.split()).replace("<", "&lt;")
