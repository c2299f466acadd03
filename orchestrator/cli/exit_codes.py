"""The exit codes of the verbs; `orchestrator.run.stopping` has that of an interrupted run."""

from __future__ import annotations

DONE = 0
FAILED = 1
"""Some trials failed or are missing; for `doctor`, something would stop every sweep."""
WRONG = 2
"""The request was wrong."""
