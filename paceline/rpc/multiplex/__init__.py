"""Many sessions on one call."""
