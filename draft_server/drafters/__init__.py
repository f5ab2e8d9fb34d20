"""Drafters: anything that proposes. registry has their names, base has what they promise."""
