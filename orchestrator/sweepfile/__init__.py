"""Sweep files: reading, checking and expanding them. `orchestrator.sweepfile.read` is the way in."""
