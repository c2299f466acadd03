"""Halving against the full grid on digits: how far its winner is behind the grid's, for a quarter of its epochs.

    python -m benchmarks.halving [--store FOLDER] [--methods gmp gsm ...] [--model resnet8] [--sparsity 0.9]

Each of eight methods has a grid of 27 settings, nine learning rates times three values of a setting of its own. One
sweep trains all of them for 20 epochs (`grid`); another gives `halving` a quarter of that, which begins with the same
27 settings. So the loss is halving's alone, and not that of points that it never met. Regret is the grid's best
validation accuracy less that of halving's winner at the end of the same training: what the search was asked for. Its
winner was chosen from 27 noisy numbers, so the winners of both then run with five seeds, and the table shows the
differences over these, too: validation, and test images, of which the searches know nothing.

Candidates are compared by pruned copies, as is the default. A second table says what networks as they are (`judge:
unpruned`) would have come to with other rungs and budgets, out of the grid's curves: a candidate at a rung has the
accuracy that its training had there, so nothing needs to be trained again. The last row has no rungs: as many of the
same points as are paid for, each to its end.

A quarter of the training images is the validation set, 350 images, so that one of them is 0.29 points. About 6,500
epochs of 0.15 s; with `--store` what is there already is not trained again.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from functools import partial
from io import BytesIO
from itertools import product
from tempfile import TemporaryDirectory
from typing import Any

import pandas as pd
from pyarrow.parquet import read_table

import prunesweep
from benchmarks.methods import markdown
from prunesweep.orchestrator.lookup import planned_sweep
from prunesweep.orchestrator.plan import make_plan
from prunesweep.orchestrator.search import halving
from prunesweep.orchestrator.search.sampling import sobol_points
from prunesweep.orchestrator.search.spec import Rungs
from prunesweep.workers.store import CURVE, Store

LRS = {"log": [0.01, 0.5], "steps": 9}
OWN: dict[str, tuple[str, list[float]]] = {
    "gmp": ("pruning_interval", [1, 2, 4]),
    "gsm": ("momentum", [0.86, 0.92, 0.98]),
    "dpf": ("pruning_interval", [1, 2, 4]),
    "dnw": ("train.weight_decay", [1e-4, 5e-4, 2.5e-3]),
    "lc": ("penalty", [5e-4, 2e-3, 1e-2]),
    "str": ("s_initial", [-3.5, -2.5, -1.5]),
    "dst": ("penalty", [1e-4, 7e-4, 5e-3]),
    "cs": ("s_initial", [-0.05, 0.0, 0.05]),
}
EPOCHS, SEEDS, SETTINGS, SHARE = 20, 5, 27, 4
OTHERS = (Rungs(0.1, 3), Rungs(0.1, 2), Rungs(0.2, 3), Rungs(0.3, 3), Rungs(0.25, 2), Rungs(0.5, 2), Rungs(0.9, 2))
"""The first rung and the factor of those that are compared; the last have none before the end."""

Tried = tuple[str, dict[int, float], float]
"""Of a candidate the key, the validation accuracy by epoch, and that at the end, in percent."""

GOAL = 0.3
"""Points that halving may lose."""


def sweep(algorithm: str, epochs: int, options: argparse.Namespace) -> dict[str, Any]:
    """A search for each method, with the same budget in epochs."""
    space = {method: {"train.lr": LRS, name: values} for method, (name, values) in OWN.items()}
    search = {
        "space": {method: space[method] for method in options.methods},
        "budget": f"{epochs} epochs",
        "algorithm": algorithm,
    }
    return {
        "name": f"{algorithm}_{options.model}",
        "dataset": "digits",
        "model": options.model,
        "seeds": SEEDS,
        "validation": {"fraction": options.validation},
        "train": {"epochs": EPOCHS, "batch_size": 64, "lr": 0.1, "warmup_epochs": 1, "weight_decay": 5e-4},
        "trials": [{"method": options.methods, "sparsity": options.sparsity, "search": search}],
        "resources": {"cpus": 1},
    }


def scores(candidates: pd.DataFrame, method: str) -> pd.DataFrame:
    """The candidates that were trained to the end, by number, with their validation accuracy in percent."""
    own = candidates[(candidates["method"] == method) & (candidates["epoch"] == EPOCHS)]
    return own.assign(score=own["score"] * 100)


def settings(row: pd.Series, method: str) -> tuple[float, float]:
    """What names a candidate in both sweeps."""
    return row["train.lr"], row[OWN[method][0]]


def line(method: str, candidates: Sequence[pd.DataFrame], trials: Sequence[pd.DataFrame]) -> tuple[float, list[str]]:
    """The regret in points, and a method's row; of both the grid comes first."""
    grid, halved = (scores(frame, method) for frame in candidates)
    best, chosen = (frame[frame["winner"]].iloc[0] for frame in (grid, halved))
    regret = best["score"] - chosen["score"]
    place = 1 + int((grid["score"] > chosen["score"]).sum())
    rows = [frame[frame["method"] == method] for frame in trials]
    spent = [int(own["tuning_epochs"].iloc[0]) for own in rows]
    means = [own[["validation_accuracy", "test_accuracy"]].mean() * 100 for own in rows]
    validation, test = (f"{means[1][name] - means[0][name]:+.2f}" for name in means[0].index)
    picked = [" ".join(f"{value:g}" for value in settings(row, method)) for row in (best, chosen)]
    figures = [f"{best['score']:.2f}", f"{regret:.2f}", str(place), *picked, validation, test]
    return regret, [method, f"{spent[1]} of {spent[0]}", *figures]


def curves(asked: dict[str, Any], store: Store) -> dict[str, list[Tried]]:
    """By method the grid's candidates, in the order in which a halving of the same space meets them."""
    tried: dict[str, list[Tried]] = {}
    for search in (decision.search for decision in make_plan(planned_sweep(asked, store, "data"), store).decisions):
        own = tried[search.base.method.name] = []
        for point in sobol_points(search.space, SETTINGS, search.sampling_seed):
            path = search.path(point, 0)
            (trained,) = (stage.key for stage in path if stage.epochs)
            curve = read_table(BytesIO(store.read_published(trained, CURVE))).to_pandas().set_index("epoch")
            result = store.result(path[-1].key)
            assert result is not None
            by_epoch = (100 * curve["validation_accuracy"]).to_dict()
            own.append((path[-1].key, by_epoch, 100 * result["metrics"]["validation_accuracy"]))
    return tried


def by_accuracy(epoch: int, candidate: Tried) -> tuple[float, str]:
    """The best first; ties by key."""
    key, accuracies, _ = candidate
    return -accuracies[epoch], key


def regret_of(tried: Sequence[Tried], rungs: Rungs, budget: int) -> float:
    """What halving with these rungs loses on the grid's winner where it compares networks as they are."""
    stops = halving.rung_epochs(rungs, EPOCHS)
    count = max(n for n in range(1, SETTINGS + 1) if halving.cost(n, rungs, stops) <= budget)
    going = list(tried[:count])
    for epoch, survivors in zip(stops, halving.survivors(count, rungs, len(stops))[1:], strict=False):
        going = sorted(going, key=partial(by_accuracy, epoch))[:survivors]
    return max(end for _, _, end in tried) - max(end for _, _, end in going)


def others(tried: dict[str, list[Tried]]) -> list[list[str]]:
    """Rungs and budgets, the regret of each method, and how many are within the goal."""
    table = [["rungs, unpruned", "of the grid's epochs", *tried, f"within {GOAL:g}"]]
    for rungs, share in product(OTHERS, (4, 3, 2)):
        regrets = [regret_of(own, rungs, SETTINGS * EPOCHS // share) for own in tried.values()]
        stops = " ".join(map(str, halving.rung_epochs(rungs, EPOCHS)))
        table.append([stops, f"1/{share}", *(f"{r:.2f}" for r in regrets), str(sum(r <= GOAL for r in regrets))])
    return table


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--store", help="where results are kept (default: a folder that is removed)")
    parser.add_argument("--methods", nargs="+", choices=OWN, default=[*OWN])
    parser.add_argument("--model", default="resnet8")
    parser.add_argument("--sparsity", type=float, default=0.9)
    parser.add_argument("--validation", type=float, default=0.25, help="fraction of the training images")
    options = parser.parse_args()
    with TemporaryDirectory() as folder:
        store = options.store or folder
        whole = SETTINGS * EPOCHS
        budgets = {"grid": whole, "halving": whole // SHARE}
        asked = [sweep(algorithm, epochs, options) for algorithm, epochs in budgets.items()]
        for one in asked:
            prunesweep.run(one, store, verbose=True)
        candidates = [prunesweep.load_candidates(one["name"], store=store) for one in asked]
        trials = [prunesweep.load_results(one["name"], store=store) for one in asked]
        tried = curves(asked[0], Store(store))
    rows = [line(method, candidates, trials) for method in options.methods]
    head = ["method", "epochs", "grid's best", "regret", "place", "grid's winner", "halving's winner"]
    head += [f"validation, {SEEDS} seeds", f"test, {SEEDS} seeds"]
    print(markdown([head, *(row for _, row in rows)]))
    within = sum(regret <= GOAL for regret, _ in rows)
    print(f"\n{within} of {len(rows)} methods within {GOAL:g} points of the grid's winner\n")
    print(markdown(others(tried)))


if __name__ == "__main__":
    main()
