"""docs/settings.md and docs/api.md are made from the code; what they list is explained."""

import re
from types import ModuleType

import pytest

from tests import api_reference, settings_reference
from tests.reference_pages import cell, prose

EMPTY = re.compile(r"\| *\|$", re.MULTILINE)
UNEXPLAINED = re.compile(r"^### (\w+)\n\n\n", re.MULTILINE)


@pytest.mark.parametrize("made", [settings_reference, api_reference])
def test_the_page_is_up_to_date(made: ModuleType) -> None:
    assert made.page() == made.PAGE.read_text(), f"run python -m {made.__name__}"


@pytest.mark.parametrize("made", [settings_reference, api_reference])
def test_everything_is_explained(made: ModuleType) -> None:
    page = made.PAGE.read_text()
    assert EMPTY.findall(page) == []
    assert UNEXPLAINED.findall(page) == []


def test_every_variable_of_a_server_is_there_once() -> None:
    page = settings_reference.PAGE.read_text()
    for kind in settings_reference.SERVERS.values():
        prefix = str(kind.model_config.get("env_prefix"))
        for name in kind.model_fields:
            assert page.count(f"| `{prefix}{name.upper()}` |") == 1


def test_every_message_and_call_is_there() -> None:
    page = api_reference.PAGE.read_text()
    for one in api_reference.compiled().values():
        names = [thing.name for thing in one.proto.message_type]
        names += [thing.name for thing in one.proto.enum_type]
        assert all(f"### {name}\n" in page for name in names)
        for service in one.proto.service:
            assert all(f"| `{method.name}` |" in page for method in service.method)


def test_what_stands_in_a_cell_stays_there() -> None:
    assert cell("a |\n  b") == r"a \| b"
    assert prose("<|end|>\n is one") == "&lt;|end|> is one"
