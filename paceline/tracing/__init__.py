"""Traces: W3C context from hop to hop, and spans where OpenTelemetry is on; never a text."""
