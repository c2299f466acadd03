"""Where an iteration goes: the ten kernels that take longest, and how long the card has nothing to do."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Sequence
from functools import partial

import torch
from torch.autograd import DeviceType  # type: ignore[attr-defined]
from torch.autograd.profiler_util import FunctionEvent
from torch.profiler import ProfilerActivity, profile

from benchmarks.gpu.loops import task_of
from benchmarks.gpu.report import Outcome, Report
from benchmarks.training import Ours, Setting, Task, images_of
from prunesweep.workers import precision

TOP = 10
ITERATIONS = 8

Span = tuple[float, float]


def run(report: Report) -> None:
    """The section."""
    precision.set_backends("bfloat16")
    setting = Setting(report.device, "bfloat16", False, 0)
    for name in ["resnet14"] if report.smoke else ["resnet20", "resnet50"]:
        task = Task(name, name, (3, 32, 32), 10, (4, 4), (2, 2)) if report.smoke else task_of(name)
        report.attempt("profile", name, partial(measure, report, task, setting), seconds=8)


def measure(report: Report, task: Task, setting: Setting) -> None:
    """Some iterations under the profiler, after as many without."""
    batch = task.batch[setting.gpu]
    ours = Ours(task, images_of(task, batch * ITERATIONS), batch, setting, compiled=False)
    ours.epoch()
    kernels = kernels_of(ours.epoch, report)
    seconds, calls = defaultdict[str, float](float), defaultdict[str, int](int)
    for event in kernels:
        spent = event.self_cpu_time_total if not report.gpu else event.time_range.end - event.time_range.start
        seconds[event.name] += spent / 1e6
        calls[event.name] += 1
    whole = sum(seconds.values())
    for name in sorted(seconds, key=lambda n: -seconds[n])[:TOP]:
        share = seconds[name] / whole
        said = (
            f"{100 * share:.1f} %, {1000 * seconds[name] / ITERATIONS:.3f} ms in {calls[name] / ITERATIONS:.1f} calls"
        )
        report.measured(f"kernels of {task.model}", name[:90], f"{said} an iteration", {"share": share})
    launches = len(kernels) / ITERATIONS
    report.measured("launches", task.model, f"{launches:.0f} an iteration", {"launches": launches})
    if report.gpu:
        idle = idle_share([(event.time_range.start, event.time_range.end) for event in kernels])
        report.measured("idle", task.model, f"{100 * idle:.1f} % of the time no kernel runs", {"idle": idle})
    else:
        report.add("idle", task.model, Outcome.ABSENT, "above are the operators on the CPU, with their own time")


def kernels_of(work: Callable[[], object], report: Report) -> list[FunctionEvent]:
    """What runs on the card while `work` does; on a CPU its operators."""
    activities = [ProfilerActivity.CPU, *([ProfilerActivity.CUDA] if report.gpu else [])]
    with profile(activities=activities) as profiled:
        work()
        if report.gpu:
            torch.cuda.synchronize(report.device)
    events = [event for event in profiled.events() or [] if event.device_type == kind(report)]
    # What a user's code names on the host stands on the card's time line, too, over its kernels.
    return [event for event in events if not event.name.startswith(("Optimizer.", "ProfilerStep"))]


def kind(report: Report) -> DeviceType:
    """Whose events count."""
    return DeviceType.CUDA if report.gpu else DeviceType.CPU


def idle_share(spans: Sequence[Span]) -> float:
    """From the first kernel's start to the last one's end: the part in which none ran, of any stream."""
    busy, end, start = 0.0, float("-inf"), min(first for first, _ in spans)
    for first, last in sorted(spans):
        busy += max(0.0, last - max(first, end))
        end = max(end, last)
    return 1.0 - busy / (end - start)
