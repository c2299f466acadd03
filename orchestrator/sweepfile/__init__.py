"""Sweep files: reading, checking and expanding them. `orchestrator.sweep` is the way in."""
