"""The engine without its thread: scheduler.py says how it is run, on any clock. Pure."""
