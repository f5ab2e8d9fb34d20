"""What is wrong with objects of kinds that Kubernetes itself does not have.

The schemas in crds/ are those of the projects' own CRDs; each says which. Operators have packages
with a model for each kind. A server also applies rules in CEL, which nothing here can: they are the
tests' to hold.
"""

import copy
import importlib
import json
import os
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import jsonschema
import pydantic
import pytest

CRDS = [json.loads(path.read_text()) for path in (Path(__file__).parent / "crds").glob("*.json")]
SCHEMAS = {(one["apiVersion"], one["kind"]): one["schema"] for one in CRDS}
PACKAGES = {
    "cert-manager.io/v1": "cert_manager.v1",
    "keda.sh/v1alpha1": "keda.v1alpha1",
    "monitoring.coreos.com/v1": "prometheus_operator.v1",
}
"""Below cloudcoil.models, by the version that they have the kinds of."""


def is_custom(item: dict[str, Any]) -> bool:
    """Whether the kind is one of these."""
    return (item["apiVersion"], item["kind"]) in SCHEMAS or item["apiVersion"] in PACKAGES


def faults_of_custom(item: dict[str, Any]) -> Iterator[str]:
    """A line for each fault; a field that the schema does not have is one."""
    if item["apiVersion"] in PACKAGES:
        yield from _faults_by_model(item)
        return
    schema = _strict(copy.deepcopy(SCHEMAS[item["apiVersion"], item["kind"]]))
    for error in jsonschema.Draft202012Validator(schema).iter_errors(item):
        yield f"{item['kind']} {error.json_path}: {error.message}"


def _faults_by_model(item: dict[str, Any]) -> Iterator[str]:
    model = getattr(_package(PACKAGES[item["apiVersion"]]), item["kind"], None)
    if model is None:
        yield f"{item['kind']} is no kind of {item['apiVersion']}"
        return
    try:
        found = model.model_validate(item)
    except pydantic.ValidationError as error:
        yield f"{item['kind']} {error}"
        return
    # Unknown fields are dropped without a word: they show when it is written again.
    kept = found.model_dump(by_alias=True, mode="json", exclude_unset=True)
    yield from (f"{item['kind']} {path} is unknown" for path in _lost(item, kept, ""))


def _package(name: str) -> ModuleType:
    """Skips where it is missing; in CI it has to be there."""
    try:
        return importlib.import_module(f"cloudcoil.models.{name}")
    except ImportError:
        missing = f"cloudcoil.models.{name} is missing: install the extra dev"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def _lost(given: Any, kept: Any, path: str) -> Iterator[str]:
    """Where what was given is not in what was kept."""
    if isinstance(given, dict) and isinstance(kept, dict):
        for name, part in given.items():
            yield from _lost(part, kept.get(name), f"{path}.{name}")
    elif isinstance(given, list) and isinstance(kept, list) and len(given) == len(kept):
        for index, (part, other) in enumerate(zip(given, kept, strict=True)):
            yield from _lost(part, other, f"{path}[{index}]")
    elif given != kept:
        yield path


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
