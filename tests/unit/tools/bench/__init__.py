"""What the bench makes of samples."""
