"""Which trace a call says it belongs to, and what of that is handed on."""

import subprocess
import sys

import pytest

from paceline.tracing.context import MOST_STATE, TraceContext, read

TRACE, SPAN = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
PARENT = f"00-{TRACE}-{SPAN}-01"


def test_both_headers_are_handed_on_as_they_came() -> None:
    pairs = (("x-request-id", "a"), ("traceparent", PARENT), ("tracestate", "vendor=1,other=2"))
    found = read(pairs)
    assert found == TraceContext(PARENT, "vendor=1,other=2")
    assert (found.trace_id, found.span_id) == (TRACE, SPAN)
    assert found.metadata == pairs[1:]


def test_states_of_several_headers_are_one_list() -> None:
    pairs = (("tracestate", "a=1"), ("traceparent", PARENT), ("tracestate", "b=2"))
    assert read(pairs) == TraceContext(PARENT, "a=1,b=2")


@pytest.mark.parametrize(
    "parent",
    [
        "",
        "nonsense",
        f"00-{'0' * 32}-{SPAN}-01",
        f"00-{TRACE}-{'0' * 16}-01",
        f"ff-{TRACE}-{SPAN}-01",
        f"00-{TRACE.upper()}-{SPAN}-01",
        f"{PARENT}-more",
        f"{PARENT}x",
        f"01-{TRACE}-{SPAN}-01-{'x' * MOST_STATE}",
        f"01-{TRACE}-{SPAN}-01-\n",
    ],
)
def test_what_is_no_context_is_ignored(parent: str) -> None:
    assert read((("traceparent", parent), ("tracestate", "a=1"))) is None


def test_a_later_version_may_say_more() -> None:
    assert read((("traceparent", f"01-{TRACE}-{SPAN}-01-more"),)) is not None


@pytest.mark.parametrize("state", ["a=" + "1" * MOST_STATE, "a=\n", "a=ü"])
def test_a_state_that_metadata_cannot_carry_is_left_out(state: str) -> None:
    assert read((("traceparent", PARENT), ("tracestate", state))) == TraceContext(PARENT)


def test_without_traces_opentelemetry_is_never_imported() -> None:
    code = (
        "import sys, orchestrator.__main__, draft_server.__main__, target_server.__main__\n"
        "from paceline.client import Client\n"
        "from paceline.tracing import start\n"
        "start.start('x')()\n"
        "from paceline.tracing.context import callers_metadata\n"
        "assert callers_metadata() == ()\n"
        "print([name for name in sys.modules if name.startswith('opentelemetry')])"
    )
    found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert found.stdout.strip() == "[]"
