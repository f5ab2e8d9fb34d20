"""What was measured, so that anyone can measure it."""
