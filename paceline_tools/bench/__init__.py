"""paceline bench: how fast, beside transformers, in one run and in turn."""
