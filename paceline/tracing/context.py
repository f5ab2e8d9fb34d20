"""W3C trace context: which trace a request belongs to, handed on from hop to hop."""

import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass

TRACEPARENT, TRACESTATE = "traceparent", "tracestate"
MOST_STATE = 512
"""Characters of a tracestate that is handed on; a longer one is left out, as W3C allows."""
_FORM = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})[0-9a-f]{32}-(?!0{16})[0-9a-f]{16}-[0-9a-f]{2}")

Metadata = tuple[tuple[str, str], ...]


@dataclass(frozen=True, slots=True)
class TraceContext:
    """The two headers of W3C Trace Context, checked."""

    traceparent: str
    tracestate: str = ""

    @property
    def trace_id(self) -> str:
        """32 hexadecimal digits."""
        return self.traceparent[3:35]

    @property
    def span_id(self) -> str:
        """16 hexadecimal digits."""
        return self.traceparent[36:52]

    @property
    def metadata(self) -> Metadata:
        """What hands it on with a call."""
        state = ((TRACESTATE, self.tracestate),) if self.tracestate else ()
        return ((TRACEPARENT, self.traceparent), *state)


def read(metadata: Iterable[tuple[str, str | bytes]]) -> TraceContext | None:
    """The context that a call brings; None where there is none, or none that can be read.

    A bad one never fails a request: W3C has it ignored, and the trace begun anew.
    """
    parent, states = "", []
    for key, value in metadata:
        if key == TRACEPARENT:
            parent = str(value)
        elif key == TRACESTATE:
            states.append(str(value))
    if not parent or not _is_traceparent(parent):
        return None
    state = ",".join(one for one in states if one)
    fits = len(state) <= MOST_STATE and state.isascii() and state.isprintable()
    return TraceContext(parent, state if fits else "")


def _is_traceparent(text: str) -> bool:
    """Of version 00 nothing may follow; of later ones whatever stands behind a dash."""
    found = _FORM.match(text)
    if found is None or len(text) > MOST_STATE or not (text.isascii() and text.isprintable()):
        return False
    rest = text[found.end() :]
    return not rest or (found[1] != "00" and rest.startswith("-"))


def callers_metadata() -> Metadata:
    """Of the span that the program which calls us is in; empty where it has none.

    A program with OpenTelemetry has imported it: nobody else pays for an import.
    """
    if "opentelemetry.trace" not in sys.modules:
        return ()
    from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

    carrier: dict[str, str] = {}
    TraceContextTextMapPropagator().inject(carrier)
    return tuple(carrier.items())
