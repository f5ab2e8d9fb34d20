"""KV in pages that all sessions share, and attention of all spans of a step at once."""
