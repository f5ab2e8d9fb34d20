"""Command lines of ours in the docs: in blocks of code, and between backquotes."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).parents[1]
PAGES = (
    ROOT / "README.md",
    ROOT / "CONTRIBUTING.md",
    ROOT / "SECURITY.md",
    *ROOT.glob("docs/*.md"),
    ROOT / "examples/README.md",
)
_BLOCK = re.compile(r"^ *```\w*\n(.*?)^ *```$", re.MULTILINE | re.DOTALL)
_INLINE = re.compile(r"`([^`]+)`")
_PROGRAM = r"paceline|python -m (?:orchestrator|target_server|draft_server)"
_COMMAND = re.compile(
    rf"(?:\$ )?(?P<variables>(?:[A-Z_]+=\S+ )*)(?:[\w./-]*bin/)?(?P<program>{_PROGRAM})"
    r"(?P<arguments>(?: .*)?)"
)
_END = re.compile(r" +#.*| (?:\.\.\.|[|<>&]|&&).*")
"""Where arguments end: a remark, what is left out, another program."""


@dataclass(frozen=True, slots=True)
class Documented:
    """A command line. program: paceline, or python -m and a server.

    mentioned: between backquotes, where a flag may stand without its value.
    """

    page: str
    program: str
    arguments: str
    variables: str = ""
    mentioned: bool = False

    def __str__(self) -> str:
        """Page and line."""
        return f"{self.page}: {self.program} {self.arguments}"


def documented() -> list[Documented]:
    """All of them, each once."""
    found = [one for page in sorted(PAGES) for one in _of(page)]
    return list(dict.fromkeys(found))


def _of(page: Path) -> Iterator[Documented]:
    text = page.read_text()
    name = str(page.relative_to(ROOT))
    for line, mentioned in (*_lines(text), *_spans(text)):
        if found := _COMMAND.fullmatch(line):
            arguments = _END.sub("", found["arguments"]).strip().replace("HOST:PORT", "host:7070")
            variables = found["variables"].strip()
            yield Documented(name, found["program"], arguments, variables, mentioned)


def _lines(text: str) -> Iterator[tuple[str, bool]]:
    """Of blocks, with the lines that go on joined."""
    for block in _BLOCK.findall(text):
        for line in re.sub(r" *\\\n *", " ", block).splitlines():
            yield line.strip(), False


def _spans(text: str) -> Iterator[tuple[str, bool]]:
    """Between backquotes, also where a line ends inside."""
    for span in _INLINE.findall(_BLOCK.sub("", text)):
        yield " ".join(span.split()), True
