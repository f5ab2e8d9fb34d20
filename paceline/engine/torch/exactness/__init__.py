"""What keeps the bits of a row the same whatever its batch, and proves it."""
