"""Speculation: what to draft, what to verify, when to wait. Pure: no I/O, no clock, no thread."""
