"""deploy/grafana and docs/dashboard.md: made of the same panels, true of what servers export."""

import json
import re
import subprocess
import sys
from pathlib import Path

import yaml

from benchmarks import grafana
from benchmarks.panels import ALL_CHOSEN, PANELS, ROWS, filled
from tests.contract.manifests import faults
from tests.metrics_reference import registries, sections
from tests.promtool import promtool

FOLDER = grafana.DASHBOARD.parent
NAME = re.compile(r"\b(?:paceline|process)_[a-z0-9_]+")
GROUPED = re.compile(r"\bby \(([a-z, ]+)\)")
CHOSEN = re.compile(r"(\w+)(?:=~|!=|=)\"")
LEGEND = re.compile(r"\{\{(\w+)\}\}")
QUERIES = [(legend, query) for panel in PANELS for legend, query in panel.queries.items()]


def test_file_and_page_are_up_to_date() -> None:
    how = f"run python -m {grafana.__name__}"
    assert grafana.DASHBOARD.read_text() == grafana.written(), how
    assert grafana.PAGE.read_text() == grafana.page(), how


def test_queries_are_promql(tmp_path: Path) -> None:
    rules = [
        {"record": f"panel:{index}", "expr": filled(query, "1m")}
        for index, (_, query) in enumerate(QUERIES)
    ]
    file = tmp_path / "panels.yaml"
    file.write_text(yaml.safe_dump({"groups": [{"name": "panels", "rules": rules}]}))
    promtool("check", "rules", file)


async def test_metrics_and_labels_are_exported() -> None:
    found = sections(await registries()).values()
    exported = {series: one.labels for some in found for one in some for series in one.series}
    labels = {label for some in exported.values() for label in some}
    labels |= {"instance", "le", "namespace", "job"}
    for legend, query in QUERIES:
        assert set(NAME.findall(query)) - exported.keys() == set(), query
        by = {label for group in GROUPED.findall(query) for label in group.split(", ")}
        assert by | set(CHOSEN.findall(query)) | set(LEGEND.findall(legend)) <= labels, query
        assert not by or set(LEGEND.findall(legend)) <= by, legend


def test_panels_have_places_of_their_own_and_their_queries() -> None:
    panels = grafana.dashboard()["panels"]
    assert len({one["id"] for one in panels}) == len(panels) == len(PANELS) + len(ROWS)
    cells = [
        (x, y)
        for at in (one["gridPos"] for one in panels)
        for x in range(at["x"], at["x"] + at["w"])
        for y in range(at["y"], at["y"] + at["h"])
    ]
    assert len(cells) == len(set(cells))
    assert max(x for x, _ in cells) < 24
    shown = [one["expr"] for panel in panels for one in panel.get("targets", ())]
    assert shown == [query for _, query in QUERIES]


def test_each_series_is_of_the_install_that_is_chosen() -> None:
    for _, query in QUERIES:
        matched = re.findall(r"\b(?:paceline|process)_\w+(\{[^}]*\})?", query)
        assert all('namespace=~"$namespace",job=~"$job"' in one for one in matched), query
    variables = {one["name"]: one for one in grafana.dashboard()["templating"]["list"]}
    for name in ("model", "pool"):
        assert 'namespace=~"$namespace",job=~"$job"' in variables[name]["definition"]


def test_variables_are_those_that_queries_name() -> None:
    variables = {one["name"] for one in grafana.dashboard()["templating"]["list"]}
    named = set(re.findall(r"\$\{?([a-z]+)", grafana.written()))
    assert named == variables == {"datasource", *ALL_CHOSEN}


def test_links_of_panels_lead_to_headings() -> None:
    text = " ".join(f"{one.tells} {one.do}" for one in PANELS)
    for page, heading in re.findall(r"\]\((\w+\.md)#(\w+)\)", text):
        headings = re.findall(r"^#+ (\w+)$", (grafana.PAGE.parent / page).read_text(), re.MULTILINE)
        assert heading in {one.lower() for one in headings}
    alerts = set(re.findall(r"\bPaceline\w+", text))
    rules = (grafana.ROOT / "deploy" / "prometheus" / "alerts.yaml").read_text()
    assert alerts <= set(re.findall(r"alert: (\w+)", rules))


def test_the_config_map_is_found_by_grafanas_sidecar() -> None:
    kubectl = Path(sys.executable).parent / "kubectl"
    done = subprocess.run(
        [kubectl, "kustomize", FOLDER], check=True, capture_output=True, text=True, timeout=60
    )
    [item] = yaml.safe_load_all(done.stdout)
    assert faults([item]) == []
    assert item["metadata"]["labels"] == {"grafana_dashboard": "1"}
    assert json.loads(item["data"]["paceline.json"]) == grafana.dashboard()
