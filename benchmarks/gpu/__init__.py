"""The day with a GPU: one command that checks and measures all that only a GPU can show."""
