"""Other engines, each in an environment of its own, to be compared with in one run."""
