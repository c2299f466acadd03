"""`--set train.lr=0.05,0.1`: settings that go before those of a sweep file."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from prunesweep.orchestrator.sweepfile.yaml import parse
from prunesweep.workers.errors import UserError

CHANGE = re.compile(r"([A-Za-z_][\w.\[\]]*)=(.+)", re.DOTALL)
STEP = re.compile(r"(\w+)|\[(\d+)\]")


def changed(settings: Mapping[str, Any], path: Path, changes: Sequence[str]) -> dict[str, Any]:
    """The settings of a file with the changes made, under a name that tells them, unless the changes name it.

    A change is `key=value` with a place as errors spell it: `train.lr=0.05,0.1`, `seeds=3`, `trials[0].sparsity=0.9`.
    A value is YAML, and several values between commas are a list. Raises `UserError`.
    """
    made = _changed(settings, changes)
    if not any(change.startswith("name=") for change in changes):
        told = re.sub(r"[^A-Za-z0-9.]+", "-", "-".join(changes)).strip("-")
        made["name"] = f"{settings.get('name', path.stem)}-{told}"[:100]
    return made


def changed_resources(given: Mapping[str, Any], changes: Sequence[str], file: Path) -> Any:
    """`resources` of a sweep that is run as it is remembered, with the changes made; not checked.

    Raises `UserError` for a change of anything else, which would make other trials of it.
    """
    for change in changes:
        if not re.match(r"resources[.=]", change):
            raise UserError(
                f'--set: "{change}": a sweep is resumed as it was run, and only resources can be set, such as '
                f"resources.cpus=1; for the rest: prunesweep run {file} --set {shlex.quote(change)}"
            )
    return _changed({"resources": given}, changes)["resources"]


def _changed(settings: Mapping[str, Any], changes: Sequence[str]) -> dict[str, Any]:
    made: dict[str, Any] = dict(settings)
    for change in changes:
        match = CHANGE.fullmatch(change)
        if match is None:
            raise UserError(f'--set: "{change}" is no change; write key=value, such as train.lr=0.05,0.1')
        steps = [name or int(index) for name, index in STEP.findall(match[1])]
        made = _with(made, steps, _value(match[2], change), change)
    return made


def _value(text: str, change: str) -> Any:
    listed = f"[{text}]" if "," in text and not text.lstrip().startswith(("[", "{", '"', "'")) else text
    try:
        return parse(None, f"value: {listed}").value["value"]
    except UserError as error:
        raise UserError(f'--set: "{change}": the value is not YAML') from error


def _with(settings: Any, steps: Sequence[str | int], value: Any, change: str) -> Any:
    if not steps:
        return value
    step, rest = steps[0], steps[1:]
    if isinstance(step, int):
        if not isinstance(settings, list) or step >= len(settings):
            raise UserError(f'--set: "{change}": the file has no item [{step}] there')
        return [_with(item, rest, value, change) if place == step else item for place, item in enumerate(settings)]
    inner = settings if isinstance(settings, dict) else {}
    return {**inner, step: _with(inner.get(step, {}), rest, value, change)}
