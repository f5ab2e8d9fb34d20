"""deploy/prometheus and docs/watching.md: valid, and true of what the servers export."""

import re
from pathlib import Path
from typing import Any

import yaml

from tests.metrics_reference import registries, sections
from tests.promtool import promtool

ROOT = Path(__file__).parents[2]
RULES = ROOT / "deploy" / "prometheus" / "alerts.yaml"
TESTS = ROOT / "deploy" / "prometheus" / "alerts_test.yaml"
WATCHING = (ROOT / "docs" / "watching.md").read_text()
NAME = re.compile(r"\bpaceline_[a-z0-9_]+")
GROUPS = yaml.safe_load(RULES.read_text())["groups"]
ALERTS: list[dict[str, Any]] = [alert for group in GROUPS for alert in group["rules"]]


def recipes() -> list[str]:
    """The expressions in the docs, without their comments."""
    blocks = re.findall(r"^```promql\n(.*?)^```", WATCHING, re.MULTILINE | re.DOTALL)
    parts = [part for block in blocks for part in block.strip().split("\n\n")]
    return [re.sub(r"^#.*\n", "", part, flags=re.MULTILINE) for part in parts]


def test_the_rules_are_valid_and_fire_when_they_should() -> None:
    promtool("check", "rules", "--lint-fatal", RULES)
    promtool("test", "rules", TESTS)


def test_the_recipes_are_promql(tmp_path: Path) -> None:
    rules = [{"record": f"recipe:{number}", "expr": one} for number, one in enumerate(recipes())]
    assert len(rules) > 10
    file = tmp_path / "recipes.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "recipes", "rules": rules}]}))
    promtool("check", "rules", file)


def test_each_alert_is_tested_both_ways_and_says_what_to_do() -> None:
    cases = [
        case
        for one in yaml.safe_load(TESTS.read_text())["tests"]
        for case in one["alert_rule_test"]
    ]
    for alert in ALERTS:
        name = alert["alert"]
        outcomes = {bool(case["exp_alerts"]) for case in cases if case["alertname"] == name}
        assert outcomes == {True, False}, name
        assert set(alert["annotations"]) == {"summary", "description", "runbook_url"}
        assert alert["labels"]["severity"] in {"warning", "critical"}
        assert alert["annotations"]["runbook_url"] == f"docs/watching.md#{name.lower()}"
        assert f"\n### {name}\n" in WATCHING


async def test_every_metric_that_rules_and_docs_name_is_exported() -> None:
    found = sections(await registries()).values()
    exported = {series: one.labels for some in found for one in some for series in one.series}
    expressions = [alert["expr"] for alert in ALERTS] + recipes()
    named = {name for text in (*expressions, WATCHING) for name in NAME.findall(text)}
    assert len(named) > 15
    assert named - exported.keys() == set()
    labels = {label for some in exported.values() for label in some} | {
        "instance",
        "job",
        "le",
        "namespace",
    }
    for grouped in re.findall(r"(?:by|ignoring) \(([a-z, ]+)\)", "\n".join(expressions)):
        assert set(grouped.split(", ")) <= labels
