"""The engine of draft and target servers: a pure core, one thread, and torch behind a seam."""
