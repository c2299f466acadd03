"""What runs now, by node and device, how fast, and when it will be done: as values, and as lines of `status`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from rich.markup import escape

from prunesweep.orchestrator.plan import Plan
from prunesweep.orchestrator.status.eta import seconds_left
from prunesweep.orchestrator.status.status import RUNNING, Unfinished
from prunesweep.orchestrator.text import counted, duration, size
from prunesweep.workers.activity import Activity
from prunesweep.workers.store import State

T = TypeVar("T")
N = TypeVar("N", int, float)

HEAD = ("epoch", "epochs/s", "images/s", "stage")


@dataclass(frozen=True)
class Device:
    """A GPU with all that runs on it, or the processors of a node; `name` is the maker's.

    `utilisation` is in percent: of a GPU the share of time in which it is used, of processors what these stages use,
    100 for each core. `memory_used` (bytes) is of a GPU all that is in use, of a node what these processes have.
    """

    node: str
    device: str
    name: str | None
    utilisation: float | None
    memory_used: int | None
    memory_total: int | None
    stages: Sequence[Unfinished]


@dataclass(frozen=True)
class Now:
    """All that runs of a sweep; None is what is not known (yet).

    `unlocated` run without saying where: their process is of a version that does not tell.
    """

    devices: Sequence[Device]
    unlocated: Sequence[Unfinished]
    epochs_per_second: float | None
    images_per_second: float | None
    epochs_left: int
    seconds_left: float | None


def now(plan: Plan, begun: Sequence[Unfinished]) -> Now:
    """What of the begun stages runs. The time left is that of all epochs which failures do not hold up."""
    running = [stage for stage in begun if stage.state == RUNNING]
    left = _epochs_left(plan, begun)
    rates = [stage.doing.epochs_per_second for stage in running if stage.doing and stage.doing.epochs_per_second]
    # Those that have just begun have no rate yet; they are taken to be as fast as the others.
    seconds = seconds_left(left, sum(rates) * len(running) / len(rates) if rates else None)
    images = [stage.doing.images_per_second for stage in running if stage.doing and stage.doing.images_per_second]
    devices = [_device(same) for same in _by_device(running)]
    unlocated = [stage for stage in running if stage.doing is None]
    return Now(devices, unlocated, sum(rates) or None, sum(images) or None, left, seconds)


def _epochs_left(plan: Plan, begun: Sequence[Unfinished]) -> int:
    known = {stage.stage: stage.epochs_left for stage in begun}
    held_up = {key for key, state in plan.states.items() if state is State.FAILED} | plan.blocked.keys()
    return sum(known.get(key, stage.epochs) for key, stage in plan.to_run.items() if key not in held_up)


def _by_device(running: Iterable[Unfinished]) -> Iterator[list[Unfinished]]:
    """By node and name; what different processes call `cuda:0` may be different GPUs, or the same."""
    by_place: dict[tuple[str, ...], list[Unfinished]] = {}
    for stage in running:
        if stage.doing is not None:
            by_place.setdefault((stage.doing.host, stage.doing.device_id or stage.doing.device), []).append(stage)
    yield from (by_place[place] for place in sorted(by_place))


def _device(stages: Sequence[Unfinished]) -> Device:
    said = [stage.doing for stage in stages if stage.doing]
    of_gpu = said[0].device.startswith("cuda")
    used, busy, total = _gpu(said) if of_gpu else _processors(said)
    name = _first(activity.device_name for activity in said)
    return Device(said[0].host, said[0].device, name, busy, used, total, stages)


def _gpu(said: Sequence[Activity]) -> tuple[int | None, float | None, int | None]:
    """All of them look at the same GPU."""
    used, total = _first(activity.gpu_used for activity in said), _first(activity.gpu_memory for activity in said)
    return used, _first(activity.gpu_percent for activity in said), total


def _processors(said: Sequence[Activity]) -> tuple[int | None, float | None, int | None]:
    used, busy = (activity.resident for activity in said), (activity.cpu_percent for activity in said)
    return _sum(used), _sum(busy), _first(activity.host_memory for activity in said)


def _first(values: Iterable[T | None]) -> T | None:
    return next((value for value in values if value is not None), None)


def _sum(values: Iterable[N | None]) -> N | None:
    """None unless all are known."""
    counts = list(values)
    known = [value for value in counts if value is not None]
    return sum(known[1:], known[0]) if known and len(known) == len(counts) else None


def record(running_now: Now) -> dict[str, Any]:
    """For programs; stages by their keys, under which `unfinished_stages` says more."""
    devices = [{**asdict(device), "stages": _keys(device.stages)} for device in running_now.devices]
    return {**asdict(running_now), "devices": devices, "unlocated": _keys(running_now.unlocated)}


def _keys(stages: Iterable[Unfinished]) -> list[str]:
    return [stage.stage for stage in stages]


# --- for people


def lines(running_now: Now) -> Iterator[str]:
    """A table, grouped; nothing when nothing runs. Names come last: they are of any length."""
    stages = [*running_now.unlocated, *(stage for device in running_now.devices for stage in device.stages)]
    if not stages:
        return
    nodes = {device.node for device in running_now.devices}
    where = f" on {counted(len(nodes), 'node')}" if nodes else ""
    pace = "" if running_now.epochs_per_second is None else f", {_rate(running_now.epochs_per_second)} epochs/s"
    left = f"{counted(running_now.epochs_left, 'epoch')} left, ETA {duration(running_now.seconds_left)}"
    yield f"[green]running[/]: {counted(len(stages), 'stage')}{where}{pace}, {left}"
    for device in running_now.devices:
        yield f"  [bold]{escape(_place(device))}[/]: {_load(device)}"
        yield from _rows(device.stages)
    if running_now.unlocated:
        yield "  [bold]somewhere[/], by a version of prunesweep that does not say where:"
        yield from _rows(running_now.unlocated)


def _place(device: Device) -> str:
    return f"{device.node}  {device.device}" + (f" ({device.name})" if device.name else "")


def _load(device: Device) -> str:
    busy = "-" if device.utilisation is None else f"{device.utilisation:.0f}%"
    used, total = ("-" if count is None else size(count) for count in (device.memory_used, device.memory_total))
    return f"utilisation {busy}, memory {used} of {total}"


def _rows(stages: Sequence[Unfinished]) -> Iterator[str]:
    rows = [HEAD, *(_row(stage) for stage in stages)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(HEAD) - 1)]
    yield _line(rows[0], widths)
    for stage, row in zip(stages, rows[1:], strict=True):
        yield _line(row, widths)
        yield from _where_it_stands(stage)


def _line(row: tuple[str, ...], widths: Sequence[int]) -> str:
    *numbers, name = row
    return "    " + "  ".join(map(str.rjust, numbers, widths)) + f"  {escape(name)}"


def _where_it_stands(stage: Unfinished) -> Iterator[str]:
    """Of a stage that has been quiet for long: the call it is in."""
    if stage.doing and stage.doing.stack and stage.doing.quiet_seconds:
        quiet = duration(stage.doing.quiet_seconds)
        yield f"      [yellow]no batch for {quiet}[/]: in {escape(stage.doing.stack[-1])}"


def _row(stage: Unfinished) -> tuple[str, str, str, str]:
    doing = stage.doing
    epoch = "-" if doing is None or doing.epoch is None else str(doing.epoch)
    epochs, images = (doing.epochs_per_second, doing.images_per_second) if doing else (None, None)
    return f"{epoch}/{stage.epochs}", _rate(epochs), _rate(images), stage.label


def _rate(rate: float | None) -> str:
    """To two digits or more: an epoch takes from milliseconds to hours."""
    if rate is None:
        return "-"
    return f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
