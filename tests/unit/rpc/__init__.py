"""Tests of paceline.rpc that need no network."""
