"""When traces are on, and what is said where they cannot be."""

import pytest
import structlog

from paceline.tracing import start as tracing
from paceline.tracing.span import serve
from paceline.tracing.start import are_asked_for, hindrance

ENDPOINT = {"OTEL_EXPORTER_OTLP_ENDPOINT": "http://collector:4317"}


@pytest.mark.parametrize(
    ("environment", "on"),
    [
        ({}, False),
        ({"OTEL_SERVICE_NAME": "a", "OTEL_TRACES_SAMPLER": "always_on"}, False),
        (ENDPOINT, True),
        ({"OTEL_EXPORTER_OTLP_TRACES_ENDPOINT": "http://a:1"}, True),
        ({"OTEL_TRACES_EXPORTER": "otlp"}, True),
        (ENDPOINT | {"OTEL_TRACES_EXPORTER": "none"}, False),
        (ENDPOINT | {"OTEL_SDK_DISABLED": "True"}, False),
        ({"OTEL_EXPORTER_OTLP_ENDPOINT": ""}, False),
    ],
)
def test_an_endpoint_or_an_exporter_turns_them_on(environment: dict[str, str], on: bool) -> None:
    assert are_asked_for(environment) is on


@pytest.mark.parametrize(
    ("environment", "reason"),
    [
        ({}, ""),
        ({"OTEL_TRACES_EXPORTER": "otlp", "OTEL_EXPORTER_OTLP_PROTOCOL": "grpc"}, ""),
        (
            {"OTEL_TRACES_EXPORTER": "zipkin"},
            "OTEL_TRACES_EXPORTER is 'zipkin'; it must be otlp or none",
        ),
        (
            {"OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf"},
            "OTEL_EXPORTER_OTLP_PROTOCOL is 'http/protobuf'; it must be grpc, whose port is 4317",
        ),
        (
            {
                "OTEL_EXPORTER_OTLP_PROTOCOL": "http/protobuf",
                "OTEL_EXPORTER_OTLP_TRACES_PROTOCOL": "grpc",
            },
            "",
        ),
    ],
)
def test_what_cannot_be_sent_says_why(environment: dict[str, str], reason: str) -> None:
    assert hindrance(environment) == reason


def test_without_the_extra_the_server_runs_without_traces(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(*next(iter(ENDPOINT.items())))
    monkeypatch.setattr(tracing, "_is_installed", lambda: False)
    with structlog.testing.capture_logs() as lines:
        tracing.start("a")()
    assert lines == [
        {
            "event": "traces are off",
            "log_level": "warning",
            "reason": "OpenTelemetry is not installed; pip install 'paceline[traces]'",
        }
    ]


def test_a_setting_that_opentelemetry_refuses_is_said_and_nothing_fails(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "https://localhost:1")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_TIMEOUT", "soon")
    with structlog.testing.capture_logs() as lines:
        tracing.start("a")()
    assert [line["event"] for line in lines] == ["traces are off"]
    assert "OpenTelemetry does not start" in lines[0]["reason"]
    assert not serve("/a/Generate", ()).recording
