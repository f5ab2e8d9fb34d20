"""The evaluation as one self-contained page."""

import base64
import tempfile
from collections.abc import Sequence
from pathlib import Path

from jinja2 import Environment, PackageLoader

from paceline_tools.evaluation.plot import draw
from paceline_tools.evaluation.results import Evaluated
from paceline_tools.evaluation.tables import all_tables


def write_page(found: Sequence[Evaluated], about: dict[str, str], path: Path) -> None:
    """Write HTML. about: what was evaluated, by what it is called."""
    environment = Environment(
        loader=PackageLoader("paceline_tools.evaluation", "."),
        autoescape=True,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    text = environment.get_template("page.html").render(
        found=found, about=about, tables=all_tables(found), plot=_plot(found)
    )
    path.write_text(text)


def _plot(found: Sequence[Evaluated]) -> str:
    """The picture as a data URL; empty where there is nothing to draw."""
    if not any(one.gathered.recording for one in found):
        return ""
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "plot.png"
        draw(found, picture)
        return f"data:image/png;base64,{base64.b64encode(picture.read_bytes()).decode()}"
