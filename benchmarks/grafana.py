"""deploy/grafana/paceline.json and the tables of docs/dashboard.md, made of benchmarks/panels.py.

python -m benchmarks.grafana writes both anew. Fields are those of Grafana's JSON model of a
dashboard, as versions from 10 on read it.
"""

import json
from pathlib import Path
from typing import Any

from benchmarks.panels import INSTALL, ROWS, Panel

ROOT = Path(__file__).parents[1]
DASHBOARD = ROOT / "deploy" / "grafana" / "paceline.json"
PAGE = ROOT / "docs" / "dashboard.md"
BEGIN, END = "<!-- python -m benchmarks.grafana -->\n", "<!-- end -->\n"
SCHEMA_VERSION = 39
WIDTH, HEIGHT, COLUMNS = 8, 8, 3
"""Of a panel, in Grafana's grid of 24 columns."""
_SOURCE = {"type": "prometheus", "uid": "${datasource}"}
_UNITS = {"tokens/s": "suffix: tokens/s", "cores": "suffix: cores", "x": "suffix:x"}
"""Units that Grafana has no name for."""


def dashboard() -> dict[str, Any]:
    """What Grafana imports."""
    return {
        "uid": "paceline",
        "title": "Paceline",
        "tags": ["paceline"],
        "schemaVersion": SCHEMA_VERSION,
        "editable": True,
        "refresh": "10s",
        "time": {"from": "now-1h", "to": "now"},
        "templating": {"list": _variables()},
        "panels": _panels(),
    }


def _variables() -> list[dict[str, Any]]:
    space, install = INSTALL.partition(",")[0], f"{{{INSTALL}}}"
    source = {"name": "datasource", "label": "Prometheus", "type": "datasource"}
    return [
        {**source, "query": "prometheus"},
        _variable("namespace", "Namespace", "label_values(paceline_build_info, namespace)"),
        _variable("job", "Job", f"label_values(paceline_build_info{{{space}}}, job)"),
        _variable("model", "Model", f"label_values(paceline_model_targets_ready{install}, model)"),
        _variable("pool", "Draft pool", f"label_values(paceline_drafts_ready{install}, draft)"),
    ]


def _variable(name: str, label: str, query: str) -> dict[str, Any]:
    """All at first. "All" is whatever there is, so that steps without a draft are in it."""
    return {
        "name": name,
        "label": label,
        "type": "query",
        "datasource": _SOURCE,
        "query": {"query": query, "refId": name},
        "definition": query,
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".*",
        "current": {"text": "All", "value": "$__all"},
    }


def _panels() -> list[dict[str, Any]]:
    made: list[dict[str, Any]] = []
    top = 0
    for title, panels in ROWS.items():
        place = {"x": 0, "y": top, "w": WIDTH * COLUMNS, "h": 1}
        made.append(
            {"id": len(made) + 1, "type": "row", "title": title, "gridPos": place, "panels": []}
        )
        for index, panel in enumerate(panels):
            row, column = divmod(index, COLUMNS)
            at = {"x": column * WIDTH, "y": top + 1 + row * HEIGHT, "w": WIDTH, "h": HEIGHT}
            made.append({"id": len(made) + 1, "gridPos": at, **_panel(panel)})
        top += 1 + -(-len(panels) // COLUMNS) * HEIGHT
    return made


def _panel(panel: Panel) -> dict[str, Any]:
    custom: dict[str, Any] = {"fillOpacity": 40 if panel.stacked else 0, "showPoints": "never"}
    if panel.stacked:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    defaults = {"unit": _UNITS.get(panel.unit, panel.unit), "min": 0, "custom": custom}
    return {
        "type": "timeseries",
        "title": panel.title,
        "description": f"{panel.tells}\n\n{panel.do}",
        "datasource": _SOURCE,
        "fieldConfig": {"defaults": defaults, "overrides": []},
        "options": {
            "legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
            "tooltip": {"mode": "multi", "sort": "desc"},
        },
        "targets": [
            {
                "refId": chr(ord("A") + index),
                "datasource": _SOURCE,
                "expr": expr,
                "legendFormat": legend,
            }
            for index, (legend, expr) in enumerate(panel.queries.items())
        ],
    }


def written() -> str:
    """The file, whole."""
    return json.dumps(dashboard(), indent=1) + "\n"


def page() -> str:
    """The page as it is to be: what is around its tables stays."""
    before, _, rest = PAGE.read_text().partition(BEGIN)
    return f"{before}{BEGIN}{_tables()}{END}{rest.partition(END)[2]}"


def _tables() -> str:
    parts = []
    for title, panels in ROWS.items():
        lines = [f"## {title}", "", "| panel | what it tells | what to do |", "| --- | --- | --- |"]
        lines += [f"| {one.title} | {one.tells} | {one.do} |" for one in panels]
        parts.append("\n".join(lines) + "\n")
    return "\n".join(parts)


if __name__ == "__main__":
    DASHBOARD.write_text(written())
    PAGE.write_text(page())
