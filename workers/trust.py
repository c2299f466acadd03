"""Which code a store may have imported, told without importing it: a store is data, and may be anybody's. No torch.

A sweep file is its author's program, and may name what Python can import. Of what a store's record or a stage's
specification names, only this is imported: what prunesweep and installed packages register under a name, files of the
current folder in the version that the record holds, and what the user has allowed by name.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from prunesweep.workers.choices import chosen
from prunesweep.workers.errors import UserError
from prunesweep.workers.fingerprints import module_of, parts
from prunesweep.workers.models import known
from prunesweep.workers.source import INSTALLED, defined_in, files_imported
from prunesweep.workers.spec import Choice, Stage, TrialSpec
from prunesweep.workers.train_spec import CODE

Kinds = Iterable[tuple[str, Choice]]
"""One of `KINDS`, or an `optimizer` or `schedule` of one's own, and what is chosen of it."""


def choices_of_trials(trials: Iterable[TrialSpec]) -> Kinds:
    for trial in trials:
        yield from chosen(trial).items()


def choices_of_stage(stage: Stage) -> Kinds:
    yield from chosen(stage.root).items()


def require_trusted(choices: Kinds, who: str, allowed: Sequence[str], otherwise: str) -> None:
    """Raise `UserError` for the first name whose code `who` may not have imported; it says how to allow it.

    `allowed` are modules and packages that the user trusts, `otherwise` what else can be done.
    """
    for kind, choice in dict.fromkeys(choices):
        module, _, name = choice.name.partition(":")
        ours = kind not in CODE and choice.name in known(choice.name)
        if not name or ours or any(_is_in(module, package) for package in allowed):
            continue
        if reason := _why_not(kind, choice, module, name):
            raise UserError(
                f"{who} wants to import {choice.name}, {reason}: go to the folder of its project, or {otherwise}; or, "
                f"if you trust it, allow it with --allow {module}"
            )


def _is_in(module: str, package: str) -> bool:
    return f"{module}.".startswith(f"{package}.")


def _why_not(kind: str, choice: Choice, module: str, name: str) -> str | None:
    if not all(part.isidentifier() for part in module.split(".")) or module_of(kind, choice.name) is None:
        return "which is not of this folder"
    files = files_imported(module)
    if not files or not all(map(_is_of_this_folder, files)):
        return "which is not of this folder"
    if "code" not in parts(choice.fingerprint):
        return "without saying in which version"
    if not defined_in(module, name):
        return f"which {files[-1].name} does not define"
    return None


def _is_of_this_folder(file: Path) -> bool:
    """An environment in the folder is not of it."""
    return file.is_relative_to(Path.cwd()) and not INSTALLED & set(file.parts)
