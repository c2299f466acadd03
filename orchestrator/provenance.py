"""Where results come from: the commit of the code they were made with, and what was changed on top of it."""

from __future__ import annotations

import hashlib
import os
import subprocess
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

PACKAGES = ("prunesweep", "torch", "torchvision", "ray", "numpy", "pandas", "pyarrow")

COMMIT = "PRUNESWEEP_COMMIT"
"""The environment of a job says where its snapshot comes from, which is no repository itself."""


@dataclass(frozen=True)
class Provenance:
    """`commit` is the repository's head, with `+` and a hash of the difference when files were changed."""

    commit: str | None
    difference: str
    packages: dict[str, str]


def provenance(folder: Path) -> Provenance:
    """Of the repository around `folder` (the user's own, where prunesweep is run).

    Outside of one `commit` is what the environment says, or None.
    """
    packages = {name: version(name) for name in PACKAGES}
    head = _git(folder, "rev-parse", "HEAD")
    if head is None:
        return Provenance(os.environ.get(COMMIT) or None, "", packages)
    difference = _git(folder, "diff", "HEAD") or ""
    mark = "+" + hashlib.sha256(difference.encode()).hexdigest()[:8] if difference else ""
    return Provenance(head + mark, difference, packages)


def _git(folder: Path, *arguments: str) -> str | None:
    try:
        done = subprocess.run(["git", *arguments], cwd=folder, capture_output=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    return done.stdout.decode(errors="backslashreplace").strip()  # a file's encoding may be another than UTF-8
