"""What is wrong with objects of kinds that Kubernetes itself does not have.

The schemas in crds/ are those of the projects' own CRDs; each says which. A server also applies
rules in CEL, which nothing here can: they are the tests' to hold.
"""

import copy
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema

CRDS = [json.loads(path.read_text()) for path in (Path(__file__).parent / "crds").glob("*.json")]
SCHEMAS = {(one["apiVersion"], one["kind"]): one["schema"] for one in CRDS}


def is_custom(item: dict[str, Any]) -> bool:
    """Whether the kind is one of these."""
    return (item["apiVersion"], item["kind"]) in SCHEMAS


def faults_of_custom(item: dict[str, Any]) -> Iterator[str]:
    """A line for each fault; a field that the schema does not have is one."""
    schema = _strict(copy.deepcopy(SCHEMAS[item["apiVersion"], item["kind"]]))
    for error in jsonschema.Draft202012Validator(schema).iter_errors(item):
        yield f"{item['kind']} {error.json_path}: {error.message}"


def _strict(schema: Any) -> Any:
    """With no other fields than those it names. metadata has none named."""
    if isinstance(schema, dict):
        if schema.get("properties"):
            schema.setdefault("additionalProperties", False)
        for part in schema.values():
            _strict(part)
    elif isinstance(schema, list):
        for part in schema:
            _strict(part)
    return schema
