"""Drafters: anything that proposes."""
