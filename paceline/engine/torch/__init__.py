"""The forward pass with torch."""
