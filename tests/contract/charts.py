"""deploy/helm as Helm renders it."""

import importlib
import os
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.contract.manifests import Object

HELM = Path(__file__).parents[2] / "deploy" / "helm"
CHART = HELM / "paceline"
Values = dict[str, Any]


def helm() -> Any:
    """Helm's library. Skips where it is missing; in CI it has to be there."""
    try:
        return importlib.import_module("helm_python")
    except ImportError:
        missing = "helm_python is missing: install the extra dev"
    if os.environ.get("CI") == "true":
        pytest.fail(missing)
    pytest.skip(missing)


def values_of(name: str) -> Values:
    """A file of deploy/helm/values."""
    return dict(yaml.safe_load((HELM / "values" / f"{name}.yaml").read_text()))


def charted(values: Values, release: str = "paceline", namespace: str = "default") -> list[Object]:
    """The objects of a release. Raises what Helm says of wrong values."""
    with helm().Chart.load(CHART) as chart:
        rendered = chart.render(values=values, name=release, namespace=namespace)
    parts = [one for text in rendered.values() for one in yaml.safe_load_all(text)]
    return [one for one in parts if one is not None]
