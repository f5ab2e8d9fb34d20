"""What keeps the tree readable: small files and classes, short functions, a name for each thing."""

import ast
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from statistics import median, quantiles

import pytest

ROOT = Path(__file__).parents[2]
PACKAGES = ("paceline", "draft_server", "target_server", "orchestrator", "paceline_tools")
FILES = [
    path
    for package in PACKAGES
    for path in sorted((ROOT / package).rglob("*.py"))
    if "v1" not in path.relative_to(ROOT).parts
]
MOST_LINES = 400
MOST_FIELDS = 15
MEDIAN_LINES, P90_LINES = 6, 17
MIRRORS = {"GenerateRequest", "RequestFields"}
"""Values that mirror messages of the wire, field for field."""


def _nodes(kind: type[ast.AST] | tuple[type[ast.AST], ...]) -> Iterator[tuple[Path, ast.AST]]:
    for path in FILES:
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, kind):
                yield path, node


def _fields(node: ast.ClassDef) -> set[str]:
    """Annotated in the class, or assigned to self in any method."""
    names = {
        one.target.id
        for one in node.body
        if isinstance(one, ast.AnnAssign) and isinstance(one.target, ast.Name)
    }
    for one in ast.walk(node):
        if (
            isinstance(one, ast.Attribute)
            and isinstance(one.ctx, ast.Store)
            and isinstance(one.value, ast.Name)
            and one.value.id == "self"
        ):
            names.add(one.attr)
    return names


def _lines(node: ast.FunctionDef | ast.AsyncFunctionDef) -> int:
    """Of the body, without its docstring."""
    body = node.body[1:] if ast.get_docstring(node) is not None else node.body
    return (body[-1].end_lineno or 0) - body[0].lineno + 1 if body else 0


@pytest.mark.parametrize("path", FILES, ids=lambda path: str(path.relative_to(ROOT)))
def test_no_file_is_long(path: Path) -> None:
    assert len(path.read_text().splitlines()) <= MOST_LINES


def test_no_class_has_many_fields() -> None:
    large = {
        f"{path.relative_to(ROOT)}:{node.name}": len(_fields(node))
        for path, node in _nodes(ast.ClassDef)
        if isinstance(node, ast.ClassDef) and node.name not in MIRRORS
    }
    assert {name: count for name, count in large.items() if count > MOST_FIELDS} == {}


def test_no_class_name_is_used_twice() -> None:
    names = Counter(
        node.name
        for _, node in _nodes(ast.ClassDef)
        if isinstance(node, ast.ClassDef) and not node.name.startswith("_")
    )
    assert [name for name, count in names.items() if count > 1] == []


def test_functions_are_short() -> None:
    kinds = (ast.FunctionDef, ast.AsyncFunctionDef)
    lines = [_lines(node) for _, node in _nodes(kinds) if isinstance(node, kinds)]
    assert median(lines) <= MEDIAN_LINES
    assert quantiles(lines, n=10)[-1] <= P90_LINES
