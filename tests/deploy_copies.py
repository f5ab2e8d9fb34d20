"""python -m tests.deploy_copies: writes what deploy/ has twice.

kustomize reads only its own folder. The alerts of deploy/prometheus are the original; a test
compares them.
"""

from pathlib import Path

DEPLOY = Path(__file__).parents[1] / "deploy"
RULE = DEPLOY / "kustomize" / "components" / "monitoring" / "alerts.yaml"
_HEAD = """\
# Made by python -m tests.deploy_copies of deploy/prometheus/alerts.yaml: change that one.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: paceline
  labels:
    app.kubernetes.io/name: paceline
spec:
"""


def _indented(text: str) -> str:
    lines = [line for line in text.splitlines() if not line.startswith("#")]
    return "".join(f"  {line}\n" if line else "\n" for line in lines)


def copies() -> dict[Path, str]:
    """What each copy holds."""
    alerts = (DEPLOY / "prometheus" / "alerts.yaml").read_text()
    return {RULE: _HEAD + _indented(alerts)}


if __name__ == "__main__":
    for path, content in copies().items():
        path.write_text(content)
