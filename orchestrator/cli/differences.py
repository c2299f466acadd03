"""The verb `diff`: which trials two sweeps share, and in which settings the others differ."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.markup import escape

from prunesweep.orchestrator.cli.options import STORE, DataOption, JsonOption, StoreOption, sweep_names
from prunesweep.orchestrator.cli.printing import as_json, say
from prunesweep.orchestrator.lookup import planned_sweep
from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.text import counted
from prunesweep.workers.store import Store

VALUES_SHOWN = 6

OneSweep = Annotated[
    str, typer.Argument(metavar="SWEEP", help="A sweep's name, file or folder.", autocompletion=sweep_names)
]

Settings = Mapping[str, Any]
"""A trial's, by column."""


@dataclass(frozen=True)
class Difference:
    """The values that a setting has in one sweep only, or in the other; a method that one lacks has no values there."""

    method: str
    setting: str
    first: Sequence[Any]
    second: Sequence[Any]


def diff(
    first: OneSweep,
    second: OneSweep,
    store: StoreOption = STORE,
    data_dir: DataOption = Path("data"),
    as_json_: JsonOption = False,
) -> None:
    """Compare what two sweeps ask: the trials that they share, and the settings in which the others differ."""
    opened = Store(store)
    one, two = (_trials(name, opened, str(data_dir)) for name in (first, second))
    listed = list(differences(list(one.values()), list(two.values())))
    counts = {"shared": len(one.keys() & two.keys()), "first_only": len(one.keys() - two.keys())}
    counts["second_only"] = len(two.keys() - one.keys())
    if as_json_:
        print(as_json({**counts, "differences": [asdict(difference) for difference in listed]}))
        return
    say(
        f"{counted(counts['shared'], 'trial')} in both, {counts['first_only']:,} only in {escape(first)}, "
        f"{counts['second_only']:,} only in {escape(second)}"
    )
    if listed:
        say(f"what differs, {escape(first)} | {escape(second)}:")
    for line in _lines(listed, first, second):
        say(line)


def _trials(name: str, store: Store, data_folder: str) -> dict[str, Settings]:
    """By key."""
    from prunesweep.orchestrator.run.rows import settings_of

    return {row["trial"]: row for row in settings_of(make_plan(planned_sweep(name, store, data_folder), store))}


def differences(first: Sequence[Settings], second: Sequence[Settings]) -> Iterator[Difference]:
    """Method by method the settings whose values are not the same in both; in one, a method may be missing."""
    for method in dict.fromkeys(trial["method"] for trial in (*first, *second)):
        one, two = ([trial for trial in trials if trial["method"] == method] for trials in (first, second))
        if not one or not two:
            yield Difference(method, "seed", _values(one, "seed"), _values(two, "seed"))
            continue
        for setting in dict.fromkeys(name for trial in (*one, *two) for name in trial):
            values = _values(one, setting), _values(two, setting)
            if setting not in ("trial", "sweep") and set(values[0]) != set(values[1]):
                yield Difference(method, setting, *values)


def _values(trials: Sequence[Settings], setting: str) -> list[Any]:
    values = {trial.get(setting) for trial in trials}
    return sorted(values, key=lambda value: (value is None, isinstance(value, str), value))


def _lines(listed: Sequence[Difference], first: str, second: str) -> Iterator[str]:
    """A line for each setting and pair of values, with all the methods of which it is true."""
    from prunesweep.orchestrator.tables.wording import words

    alike: dict[tuple[str, ...], list[str]] = {}
    for difference in listed:
        if not difference.first or not difference.second:
            said: tuple[str, ...] = ("", f"only in {escape(first if difference.first else second)}")
        else:
            values = (_shown(difference.setting, side) for side in (difference.first, difference.second))
            said = (f", {words(difference.setting)}", " | ".join(values))
        alike.setdefault(said, []).append(escape(difference.method))
    for (setting, values_shown), methods in alike.items():
        yield f"  [bold]{', '.join(methods)}[/]{setting}: {values_shown}"


def _shown(setting: str, values: Sequence[Any]) -> str:
    shown = ", ".join(_written(setting, value) for value in values[:VALUES_SHOWN])
    return shown + (f" and {len(values) - VALUES_SHOWN} more" if len(values) > VALUES_SHOWN else "")


def _written(setting: str, value: Any) -> str:
    from prunesweep.orchestrator.tables.wording import written

    if value is None:
        return "none"
    return f"{value:,}" if setting == "total_epochs" else escape(written(setting, value, {}))
