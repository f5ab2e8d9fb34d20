"""Drafts on OpenVINO: 4-bit weights alone, no second copy of them, and no torch once prepared."""
