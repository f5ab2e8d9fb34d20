"""Drafts prepared for a machine: quantized weights in a file, and no torch to run them."""
