"""python -m tests.chart_reference: writes the schema of the chart's values, and the table of them.

values.yaml is the original: its defaults give types, the comment above a value says what it is.
Names, types and ranges of servers' settings are those of the settings classes.
"""

import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any, get_args

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
_LABEL = r"([A-Za-z0-9]([A-Za-z0-9._-]{0,61}[A-Za-z0-9])?)?"
_DNS = r"[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?"
_AMOUNT = r"[0-9]+(\.[0-9]+)?(m|k|[MGTPE]|[KMGTPE]i|[eE][+-]?[0-9]+)?"
_SPACE = {"type": "string", "pattern": f"^{_DNS}$"}
_NAME = {"type": "string", "pattern": rf"^{_DNS}(\.{_DNS})*$", "maxLength": 253}
_NAME_OR_NONE = {"type": "string", "pattern": rf"^({_DNS}(\.{_DNS})*)?$", "maxLength": 253}
_QUANTITY = {"type": ["string", "number"], "pattern": f"^{_AMOUNT}$", "minimum": 0}
_QUANTITIES = {"type": "object", "additionalProperties": _QUANTITY}
_LABELS = {"type": "object", "additionalProperties": {"type": "string", "pattern": f"^{_LABEL}$"}}
_OBJECTS = {"type": "array", "items": {"type": "object"}}
_PODS = {"type": ["integer", "string"], "pattern": r"^(\d+%)?$", "minimum": 0}
_SHARE = {"type": "number", "minimum": 0, "maximum": 1}
_MORE_THAN_0 = {"type": "number", "exclusiveMinimum": 0}
_PORT = {"type": "integer", "minimum": 1, "maximum": 65535}
KINDS: dict[str, dict[str, Any]] = {
    "affinity": {"type": "object"},
    "annotations": {"type": "object", "additionalProperties": {"type": "string"}},
    "by": {"enum": ["none", "keda", "hpa"]},
    "claim": _NAME_OR_NONE,
    "clients": _OBJECTS,
    "env": {
        "type": "array",
        "items": {
            "type": "object",
            "properties": {"name": {"type": "string", "pattern": "^[A-Za-z_][A-Za-z0-9_]*$"}},
            "required": ["name"],
        },
    },
    "envFrom": _OBJECTS,
    "hubPorts": {"type": "array", "items": _PORT, "minItems": 1},
    "hubSecret": _NAME,
    "image": {"type": "string", "pattern": "^[a-z0-9]+([._/-]+[a-z0-9]+)*$"},
    "kvShare": {"type": "number", "exclusiveMinimum": 0, "maximum": 1},
    "labels": _LABELS,
    "max": {"type": "integer", "minimum": 1},
    "maxSurge": _PODS,
    "maxUnavailable": _PODS,
    "monitoringNamespace": _SPACE,
    "namespace": _SPACE,
    "nodeSelector": _LABELS,
    "priorityClassName": _NAME_OR_NONE,
    "prometheus": {"type": "string", "pattern": r"^https?://\S+$"},
    "pullPolicy": {"enum": ["", "Always", "IfNotPresent", "Never"]},
    "pullSecrets": {"type": "array", "items": _NAME},
    "ratio": _SHARE,
    "registry": {"type": "string", "pattern": r"^([a-zA-Z0-9.-]+(:\d+)?(/[a-z0-9._-]+)*)?$"},
    "resources": {
        "type": "object",
        "properties": {"requests": _QUANTITIES, "limits": _QUANTITIES},
        "required": ["requests", "limits"],
        "additionalProperties": False,
    },
    "secret": _NAME_OR_NONE,
    "shmSize": {"type": "string", "pattern": f"^({_AMOUNT})?$"},
    "size": {"type": "string", "pattern": f"^{_AMOUNT}$"},
    "startupSeconds": {"type": "integer", "minimum": 1, "maximum": 86400},
    "streams": _MORE_THAN_0,
    "tag": {"type": "string", "pattern": r"^(\w[\w.-]{0,127})?$"},
    "tmpSize": {"type": "string", "pattern": f"^{_AMOUNT}$"},
    "tolerations": _OBJECTS,
    "waiting": _MORE_THAN_0,
}
"""What a default does not say, by a value's own name."""
_SAID = ("type", "enum", "pattern", "minimum", "exclusiveMinimum", "maximum", "exclusiveMaximum")
"""Of pydantic's schema of a field; the rest is for people."""
ALWAYS_THERE = ("orchestrator", "target")
"""Roles without which nothing is served; drafts may go to none."""
_KEY = re.compile(r"( *)(\w+):(.*)")


def schema() -> dict[str, Any]:
    """Of all values; names that are none are refused."""
    whole = _object(yaml.safe_load(VALUES.read_text()), "")
    # Helm gives it to every chart that another one contains.
    whole["properties"]["global"] = {"type": "object"}
    return {"$schema": "https://json-schema.org/draft/2020-12/schema", **whole}


def _object(values: dict[str, Any], role: str) -> dict[str, Any]:
    """All are required: one that is set to null is said to be missing, and not met as a nil."""
    properties = {
        name: _kind(name, value, role or (name if name in SETTINGS else ""))
        for name, value in values.items()
    }
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _kind(name: str, value: Any, role: str) -> dict[str, Any]:
    if name == "settings":
        return _settings(SETTINGS[role])
    if name in KINDS and isinstance(value, dict) <= (KINDS[name].get("type") == "object"):
        return KINDS[name]
    if name == "scaling" and role in ALWAYS_THERE:
        found = _object(value, role)
        return found | {"properties": found["properties"] | {"min": KINDS["max"]}}
    if isinstance(value, dict):
        return _object(value, role)
    if isinstance(value, bool):
        return {"type": "boolean"}
    return {"type": "integer", "minimum": 0} if isinstance(value, int) else {"type": "string"}


def _settings(kind: type[ServerSettings]) -> dict[str, Any]:
    """As the class itself has them, ranges included."""
    whole = kind.model_json_schema()["properties"]
    properties = {
        name: _scalar(whole[name])
        for name, field in sorted(kind.model_fields.items())
        if name not in CHARTS_OWN and not _is_secret(field.annotation)
    }
    return {"type": "object", "properties": properties, "additionalProperties": False}


def _is_secret(annotation: Any) -> bool:
    parts = get_args(annotation)
    return annotation is SecretStr or any(map(_is_secret, parts))


def _scalar(field: dict[str, Any]) -> dict[str, Any]:
    """As an environment variable has it: of several there is one text."""
    [one] = [one for one in field.get("anyOf", [field]) if one["type"] != "null"]
    if one["type"] in {"array", "object"}:
        return {"type": "string"} | ({"minLength": 1} if one.get("minItems") else {})
    return {name: one[name] for name in _SAID if name in one}


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
