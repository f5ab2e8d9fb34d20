"""From a request to the events that answer it."""
