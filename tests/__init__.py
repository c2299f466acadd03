"""Tests of prunesweep, which mirror its packages."""

import os

# Ray gives its workers a niceness of 15: on a busy machine they would hardly ever run, and tests wait for them in vain.
os.environ.setdefault("RAY_worker_niceness", "0")
