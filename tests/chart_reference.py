"""python -m tests.chart_reference: writes the schema of the chart's values, and the table of them.

values.yaml is the original: its defaults give types, the comment above a value says what it is.
Names and types of servers' settings are those of the settings classes.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal, get_args, get_origin

import yaml
from pydantic import SecretStr

from draft_server.settings import DraftSettings
from orchestrator.settings import OrchestratorSettings
from paceline.settings import ServerSettings
from target_server.settings import TargetSettings
from tests.reference_pages import DOCS, code, prose, replaced, table

CHART = Path(__file__).parents[1] / "deploy" / "helm" / "paceline"
VALUES, SCHEMA = CHART / "values.yaml", CHART / "values.schema.json"
PAGE = DOCS / "chart.md"
SETTINGS: dict[str, type[ServerSettings]] = {
    "orchestrator": OrchestratorSettings,
    "target": TargetSettings,
    "draft": DraftSettings,
}
CHARTS_OWN = frozenset(("host", "port", "health_port", "metrics_port", "socket"))
"""Settings that Services, probes and policies go by: nobody sets them."""
_TEXTS = {"type": "object", "additionalProperties": {"type": "string"}}
_QUANTITIES = {
    "type": "object",
    "additionalProperties": {"type": ["string", "number"]},
}
_PODS = {"type": ["integer", "string"], "pattern": r"^\d+%$", "minimum": 0}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_MORE_THAN_0 = {"type": "number", "exclusiveMinimum": 0}
KINDS: dict[str, dict[str, Any]] = {
    "by": {"enum": ["none", "keda", "hpa"]},
    "clients": {"type": "array", "items": {"type": "object"}},
    "drain_seconds": {"type": "number", "minimum": 0},
    "kvShare": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "labels": _TEXTS,
    "maxSurge": _PODS,
    "maxUnavailable": _PODS,
    "nodeSelector": _TEXTS,
    "pullPolicy": {"enum": ["", "Always", "IfNotPresent", "Never"]},
    "pullSecrets": {"type": "array", "items": {"type": "string"}},
    "ratio": _SHARE,
    "resources": {
        "type": "object",
        "properties": {"requests": _QUANTITIES, "limits": _QUANTITIES},
        "required": ["requests", "limits"],
        "additionalProperties": False,
    },
    "streams": _MORE_THAN_0,
    "tolerations": {"type": "array", "items": {"type": "object"}},
    "waiting": _MORE_THAN_0,
}
"""What a default does not say, by a value's own name."""
_KEY = re.compile(r"( *)(\w+):(.*)")


def schema() -> dict[str, Any]:
    """Of all values; names that are none are refused."""
    whole = _object(yaml.safe_load(VALUES.read_text()), "")
    # Helm gives it to every chart that another one contains.
    whole["properties"]["global"] = {"type": "object"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}


def _object(values: dict[str, Any], role: str) -> dict[str, Any]:
    properties = {
        name: _kind(name, value, role or (name if name in SETTINGS else ""))
        for name, value in values.items()
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _kind(name: str, value: Any, role: str) -> dict[str, Any]:
    if name == "settings":
        return _settings(SETTINGS[role])
    if name in KINDS:
        return KINDS[name]
    if isinstance(value, dict):
        return _object(value, role)
    if isinstance(value, bool):
        return {"type": "boolean"}
    return {"type": "integer", "minimum": 0} if isinstance(value, int) else {"type": "string"}


def _settings(kind: type[ServerSettings]) -> dict[str, Any]:
    properties = {
        name: _scalar(field.annotation)
        for name, field in sorted(kind.model_fields.items())
        if name not in CHARTS_OWN and not _is_secret(field.annotation)
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _parts(annotation: Any) -> set[Any]:
    """The types that an annotation is made of, and words as they are."""
    if get_origin(annotation) is Literal:
        return set(get_args(annotation))
    inner = get_args(annotation)
    return {annotation} if not inner else {one for part in inner for one in _parts(part)}


def _is_secret(annotation: Any) -> bool:
    return SecretStr in _parts(annotation)


def _scalar(annotation: Any) -> dict[str, Any]:
    """As an environment variable has it: of several there is one text."""
    if get_origin(annotation) in {list, dict}:
        return {"type": "string"}
    parts = _parts(annotation) - {type(None)}
    words = sorted(one for one in parts if isinstance(one, str))
    if words and len(words) == len(parts):
        return {"enum": words}
    for kind, name in ((bool, "boolean"), (float, "number"), (int, "integer")):
        if parts & {kind}:
            return {"type": name}
    return {"type": "string"}


def described() -> Iterator[tuple[str, str]]:
    """Each value that a comment stands above: its path and that comment."""
    path: list[str] = []
    comment: list[str] = []
    for line in VALUES.read_text().splitlines():
        if line.strip().startswith("#"):
            comment.append(line.strip().removeprefix("#").strip())
        elif found := _KEY.fullmatch(line):
            path[len(found[1]) // 2 :] = [found[2]]
            if comment:
                yield ".".join(path), " ".join(comment)
            comment = []
        else:
            comment = []


def leaves(values: dict[str, Any], before: str = "") -> Iterator[tuple[str, Any]]:
    """Each value that is set as a whole: its path and default."""
    for name, value in values.items():
        if isinstance(value, dict) and value and KINDS.get(name, {}).get("type") != "object":
            yield from leaves(value, f"{before}{name}.")
        else:
            yield f"{before}{name}", value


def values_table() -> str:
    """All values, with default and comment."""
    defaults = dict(leaves(yaml.safe_load(VALUES.read_text())))
    rows = ([code(path), _shown(defaults.get(path)), prose(text)] for path, text in described())
    return table("## Values", ["value", "default", "what"], list(rows))


def _shown(default: Any) -> str:
    if default is None or default == "":
        return ""
    if isinstance(default, dict) and default:
        return code("; ".join(f"{name} {_flat(part)}" for name, part in default.items()))
    return code(json.dumps(default).strip('"'))


def _flat(part: dict[str, Any]) -> str:
    return ", ".join(f"{name} {value}" for name, value in part.items())


def written() -> dict[Path, str]:
    """What each file is to hold."""
    return {
        SCHEMA: json.dumps(schema(), indent=2) + "\n",
        PAGE: replaced(PAGE, "tests.chart_reference", values_table()),
    }


if __name__ == "__main__":
    for path, content in written().items():
        path.write_text(content)
