"""What --vllm-arguments may name, read in vLLM's source: to import it takes seconds."""

import ast
from importlib.util import find_spec
from pathlib import Path

_SOURCE = Path("engine", "arg_utils.py")
_CLASS = "EngineArgs"


def argument_names() -> frozenset[str]:
    """Fields of vLLM's EngineArgs; empty where its source does not show them."""
    spec = find_spec("vllm")
    for folder in (spec and spec.submodule_search_locations) or ():
        file = Path(folder) / _SOURCE
        if file.is_file():
            return field_names(file.read_text(encoding="utf-8"))
    return frozenset()


def field_names(source: str) -> frozenset[str]:
    """Of the dataclass EngineArgs in `source`; empty where it has bases, whose fields it takes."""
    for one in ast.parse(source).body:
        if isinstance(one, ast.ClassDef) and one.name == _CLASS and not one.bases:
            fields = [each.target for each in one.body if isinstance(each, ast.AnnAssign)]
            return frozenset(field.id for field in fields if isinstance(field, ast.Name))
    return frozenset()
