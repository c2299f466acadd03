"""Whether a comparison is a fair one: a checklist, each item judged by what the results say.

The items are those that Blalock et al. 2020 (What is the State of Neural Network Pruning?) and Hoefler et al. 2021
(Sparsity in Deep Learning) ask of a pruning paper.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import pandas as pd

from prunesweep.orchestrator.results.aggregation import OPTIONS, SUBJECT
from prunesweep.orchestrator.results.best_settings import TARGET
from prunesweep.orchestrator.results.primary import primary
from prunesweep.orchestrator.run.rows import TRAIN_SETTINGS
from prunesweep.orchestrator.tables.candidates import ended, winners_at_ends
from prunesweep.orchestrator.tables.means import Table
from prunesweep.orchestrator.tables.wording import words
from prunesweep.orchestrator.text import counted

MET, NOT_MET, UNKNOWN = "met", "not met", "not known"

PAIRS, POINTS, SEEDS = 3, 5, 3
"""How many (dataset, architecture) pairs, operating points of each method, and seeds make a fair comparison."""

MAGNITUDE = ("imp", "bimp", "gmp")
"""Methods that keep the largest weights."""

VALUE_BYTES = 4
"""The size of a weight in float32."""


@dataclass(frozen=True)
class Item:
    """A demand, the verdict on it, and the numbers behind the verdict."""

    demand: str
    verdict: str
    reason: str


@dataclass(frozen=True)
class Evidence:
    """What is judged: the finished trials with the metric, the table that compares them, and which have layers.

    `candidates` are those of searches, where there are some.
    """

    trials: pd.DataFrame
    table: Table
    with_layers: frozenset[str]
    candidates: pd.DataFrame | None = None

    @property
    def sparse(self) -> pd.DataFrame:
        """The trials with a target sparsity."""
        return self.trials[self.trials[TARGET].notna()]

    @property
    def subjects(self) -> list[tuple[str, pd.DataFrame]]:
        """The trials of each pair of a dataset and a model, with the pair's name."""
        groups = self.trials.groupby(list(SUBJECT), sort=False)
        return [(", ".join(map(str, key)), same) for key, same in groups]


def checklist(evidence: Evidence) -> list[Item]:
    """An item for each demand, in the order of the literature."""
    return [check(evidence) for check in CHECKS]


def _item(demand: str, is_met: bool | None, reason: str) -> Item:
    return Item(demand, UNKNOWN if is_met is None else MET if is_met else NOT_MET, reason)


def _named(evidence: Evidence) -> Item:
    pairs = [f"{name}: {_many(same['parameters'])} parameters" for name, same in evidence.subjects]
    return _item(
        "exact architectures, datasets and metric", True, f"{'; '.join(pairs)}; {words(evidence.table.metric)}"
    )


def _pairs(evidence: Evidence) -> Item:
    count = len(evidence.subjects)
    reason = counted(count, "pair")
    return _item(f"at least {PAIRS} pairs of dataset and architecture", count >= PAIRS, reason)


def _both_ratios(evidence: Evidence) -> Item:
    names = ("compression_ratio", "theoretical_speedup")
    ranges = [f"{words(name)} {_range(evidence.sparse[name], 'x')}" for name in names]
    full = bool(len(evidence.sparse)) and all(evidence.sparse[name].notna().all() for name in names)
    return _item("compression ratio and theoretical speedup", full, "; ".join(ranges))


def _top5(evidence: Evidence) -> Item:
    if "test_accuracy_top5" not in evidence.trials or evidence.trials["test_accuracy"].isna().all():
        metric = words(primary(evidence.trials))
        return _item("the task's primary metric", True, f"{metric}: it classifies no images")
    there = evidence.trials["test_accuracy_top5"].notna()
    reason = "reported for all trials" if there.all() else "at most 10 classes, where top-1 says enough"
    if there.any() and not there.all():
        reason = f"reported for {there.sum():,} of {counted(len(there), 'trial')}: the others have at most 10 classes"
    return _item("top-1 and, with many classes, top-5 accuracy", True, reason)


def _operating_points(evidence: Evidence) -> Item:
    points = evidence.sparse.groupby([*SUBJECT, "method"], sort=False)[TARGET].nunique()
    least = int(points.min()) if len(points) else 0
    ratios = evidence.sparse["compression_ratio"]
    reason = f"{_range(points)} sparsities for each method, compression ratios {_range(ratios, 'x')}"
    return _item(
        f"at least {POINTS} operating points", least >= POINTS, reason if least else "no method has a sparsity"
    )


def _seeds(evidence: Evidence) -> Item:
    cells = [*evidence.table.cells.values(), *evidence.table.controls]
    few = [cell for cell in cells if cell.n < SEEDS]
    reason = f"{_range(pd.Series([cell.n for cell in cells]))} seeds"
    reason += f"; {len(few):,} of {counted(len(cells), 'cell')} have fewer than {SEEDS}" if few else " in every cell"
    return _item(f"mean and sample deviation over at least {SEEDS} seeds", not few, reason)


def _whole(evidence: Evidence) -> Item:
    lost = evidence.trials["collapsed_layers"].astype(float)
    of = evidence.trials[lost > 0]
    reason = "every layer of every network kept some"
    if len(of):
        reason = f"{len(of):,} of {counted(len(lost), 'network')} have layers that kept none: {_listed(of['method'])}"
        reason += f", at {_range(of[TARGET])}" if of[TARGET].notna().any() else ""
    return _item(
        "no network with a layer that lost all its weights", None if lost.isna().all() else not len(of), reason
    )


def _raw(evidence: Evidence) -> Item:
    return _item("raw values, not only differences", True, "the tables hold the values themselves, and deviations")


def _control(evidence: Evidence) -> Item:
    return _in_all(evidence, "the dense network as a control", lambda same: same["method"] == "dense")


def _magnitude(evidence: Evidence) -> Item:
    demand = f"magnitude pruning ({', '.join(MAGNITUDE)}) as a baseline"
    return _in_all(evidence, demand, lambda same: same["method"].isin(MAGNITUDE))


def _random(evidence: Evidence) -> Item:
    return _in_all(evidence, "random pruning as a baseline", lambda same: same["method"] == "random")


def _small_dense(evidence: Evidence) -> Item:
    """At each sparsity of a method that prunes, not only somewhere: a smaller target is another network."""
    demand = "a narrower dense network of as many weights at every sparsity"
    if evidence.sparse.empty:
        return _item(demand, None, "no trial has a sparsity")
    is_narrow = evidence.sparse["method"] == "small_dense"
    cells = [*SUBJECT, TARGET]
    pruned = evidence.sparse[~is_narrow][cells].drop_duplicates()
    both = pruned.merge(evidence.sparse[is_narrow][cells].drop_duplicates(), on=cells)
    reason = f"{counted(int(is_narrow.sum()), 'trial')} of small_dense, at {len(both)} of {len(pruned)} sparsities"
    return _item(demand, 0 < len(pruned) == len(both), reason)


def _in_all(evidence: Evidence, demand: str, wanted: Callable[[pd.DataFrame], pd.Series[bool]]) -> Item:
    """Whether every pair of dataset and model has trials of the wanted kind."""
    counts = {name: int(wanted(same).sum()) for name, same in evidence.subjects}
    lacking = [name for name, count in counts.items() if not count]
    reason = f"{counted(sum(counts.values()), 'trial')}" + (f"; none on {'; '.join(lacking)}" if lacking else "")
    return _item(demand, not lacking, reason)


def _same_code(evidence: Evidence) -> Item:
    versions, commits = (evidence.trials[name] for name in ("torch_version", "commit"))
    parts = [f"PyTorch {_listed(versions)}", f"commit {_listed(commits)}" if commits.notna().any() else "no commit"]
    same = versions.nunique(dropna=False) == 1 and commits.nunique(dropna=False) == 1
    known = versions.notna().all() and commits.notna().all()
    verdict = same if known or not same else None
    why = "" if known else " is recorded: it was run outside of a repository"
    return _item("identical library and code for all", verdict, ", ".join(parts) + why)


def _same_device(evidence: Evidence) -> Item:
    devices = evidence.trials["device"]
    return _item("the same device for all", devices.nunique(dropna=False) == 1, _listed(devices))


def _same_training(evidence: Evidence) -> Item:
    """Data loading, augmentation and optimizer: all settings of `train`; the dataset's options count too."""
    names = [name for name in (*TRAIN_SETTINGS, *OPTIONS) if name in evidence.trials]
    varied = list(dict.fromkeys(n for _, same in evidence.subjects for n in names if same[n].nunique(dropna=False) > 1))
    differences = [f"{words(name)}: {_listed(evidence.trials[name])}" for name in varied]
    reason = (
        "; ".join(differences) if differences else f"all {len(names)} settings of training, data and model are equal"
    )
    return _item("identical data, augmentation, optimizer and training settings", not varied, reason)


def _same_start(evidence: Evidence) -> Item:
    """Without trained weights the seed alone says what a network starts from."""
    demand, inits = "the same initial weights for all", evidence.trials.get("init")
    if inits is None or inits.isna().all():
        return _item(demand, True, "random weights, of the same seeds for every method")
    differing = [name for name, same in evidence.subjects if same["init"].nunique(dropna=False) > 1]
    return _item(demand, not differing, _listed(inits.fillna("random")) + "".join(f"; not on {d}" for d in differing))


def _budgets(evidence: Evidence) -> Item:
    groups = evidence.sparse.groupby([*SUBJECT, TARGET, "total_epochs"], sort=False)["method"].nunique()
    alone = int((groups < 2).sum())
    span = f"{_range(evidence.sparse['total_epochs'])} epochs in all, pretraining included"
    reason = f"{span}; {len(groups) - alone:,} of {len(groups):,} pairs of sparsity and budget have several methods"
    return _item("the whole training cost, and rivals at equal cost", bool(len(groups)) and not alone, reason)


def _layers(evidence: Evidence) -> Item:
    there = int(evidence.trials["trial"].isin(evidence.with_layers).sum())
    reason = f"recorded for {there:,} of {counted(len(evidence.trials), 'trial')}, in layers.parquet"
    return _item("densities of the layers", there == len(evidence.trials), reason)


def _real_size(evidence: Evidence) -> Item:
    """The size is that of the stored values and of a bitmap with a bit for each parameter."""
    demand, sparse = "real size, with what the indices take", evidence.sparse
    if sparse.empty:
        return _item(demand, None, "no trial has a sparsity")
    dense = VALUE_BYTES * sparse["parameters"]
    ratio = dense / (VALUE_BYTES * sparse["nonzero_parameters"] + sparse["parameters"] / 8)
    reason = f"not measured; as float32 values and a bitmap it would be {_range(ratio, 'x')} smaller"
    return _item(demand, False, f"{reason}, by parameters that are not zero {_range(sparse['compression_ratio'], 'x')}")


def _real_speed(evidence: Evidence) -> Item:
    reason = "not measured; the speedup is that of multiply-adds, the images a second are those of training"
    return _item("realised speed beside the theoretical one", False, reason)


def _equal_cost(evidence: Evidence) -> Item:
    """At each sparsity searches spent alike: to less than the longest training, which a budget may not fill."""
    demand, sparse = "tuned at equal cost", evidence.sparse
    spent = sparse["tuning_epochs"].astype(float)
    if spent.isna().all():
        return _item(demand, None, "no setting was searched for; `search` in the sweep file does that at equal cost")
    methods = sparse.assign(spent=spent).groupby("method", sort=False)["spent"]
    told = ", ".join(f"{method} {_range(values)}" for method, values in methods if values.notna().any())
    lacking = [str(method) for method, values in methods if values.isna().any()]
    control = evidence.trials[evidence.trials[TARGET].isna()]["tuning_epochs"]
    at_each = sparse.assign(spent=spent).groupby([*SUBJECT, TARGET], sort=False)["spent"]
    unequal = bool(((at_each.max() - at_each.min()) >= sparse["total_epochs"].max()).any())
    tried = f"{_range(sparse['candidates'].astype(float))} settings tried{ended(evidence.candidates)}"
    reason = f"epochs of each search: {told}; {tried}, chosen on validation images"
    reason += f"; not searched for: {', '.join(lacking)}" if lacking else ""
    if len(control) and control.isna().any():
        reason += "; the dense network beside has the settings of the file"
    if evidence.candidates is not None and (ends := winners_at_ends(evidence.candidates)):
        reason += f"; at an end of what was tried, so that a wider range may do better: {', '.join(ends)}"
    return _item(demand, not lacking and not unequal, reason)


def _tuned(evidence: Evidence) -> Item:
    names = [n for n in (*evidence.table.row_names, *evidence.table.column_names) if n not in (*SUBJECT, TARGET)]
    counts = evidence.sparse.groupby("method", sort=False)[names].apply(lambda same: len(same.drop_duplicates()))
    tried = ", ".join(f"{method} {count}" for method, count in counts.items())
    reason = f"settings here, budgets and schedules included: {tried}; "
    is_searched = bool(evidence.sparse["tuning_epochs"].notna().all()) and len(evidence.sparse) > 0
    reason += "all were found by searches" if is_searched else "how they were found is not recorded"
    is_met = _equal_cost(evidence).verdict == MET if is_searched else None
    return _item("equal care for the settings of every method", is_met, reason)


CHECKS: Sequence[Callable[[Evidence], Item]] = (
    *(_named, _pairs, _both_ratios, _top5, _operating_points, _seeds, _whole, _raw),
    *(_control, _small_dense, _magnitude, _random),
    *(_same_code, _same_device, _same_start, _same_training, _budgets, _tuned),
    _equal_cost,
    *(_layers, _real_size, _real_speed),
)


def _range(values: Iterable[float], mark: str = "") -> str:
    """`4x to 11.2x`, with the mark behind each number."""
    numbers = pd.Series(values, dtype=float).dropna()
    ends = [numbers.min(), numbers.max()] if len(numbers) else []
    texts = [f"{end:.3g}{mark}" if end < 1000 else f"{end:,.0f}{mark}" for end in ends]
    return " to ".join(dict.fromkeys(texts)) or "unknown"


def _many(values: pd.Series[int]) -> str:
    return " or ".join(f"{value:,}" for value in dict.fromkeys(values))


def _listed(values: pd.Series[Any]) -> str:
    return ", ".join(dict.fromkeys("none" if pd.isna(value) else f"{value}" for value in values))
