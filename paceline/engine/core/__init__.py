"""What an engine decides without running anything. Pure."""
