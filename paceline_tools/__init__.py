"""The command, and what it measures with. Nothing imports it."""
