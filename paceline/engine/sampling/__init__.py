"""From logits to tokens. Pure."""
