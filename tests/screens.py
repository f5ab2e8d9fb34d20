"""What a console of some width shows."""

import io

from rich.console import Console, RenderableType

WIDTHS = (80, 120)


def screen(shown: RenderableType, width: int) -> str:
    """As a console of this width shows it: no line is longer, and no word is cut."""
    text, whole = (_rendered(shown, columns) for columns in (width, 5000))
    assert max(map(len, text.splitlines())) <= width
    assert set(text.split()) - set(whole.split()) == set()
    return text


def _rendered(shown: RenderableType, width: int) -> str:
    output = io.StringIO()
    Console(file=output, width=width).print(shown)
    return output.getvalue()
