"""The draft server: draft tokens ahead of the target."""
