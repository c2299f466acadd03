"""How often the marks of a table are wrong, and what they see: simulated tables of settings, seeds and values.

    python -m benchmarks.ranking [--tables 4000]

A false alarm is a table in which a setting that is as good as the best is shown to be worse: of 13 equal ones, of 13
with equal means and deviations from 1 to 4, and of 3 equal ones. Power is how often the one of 13 that is worse, by so
many deviations of a single run, is shown to be. Beside the rule of
`orchestrator.results.ranking` stand two others: paired t-tests against the observed best with Holm's correction, which
tables used before, and Hsu's comparison with Dunnett's critical value.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray
from scipy import stats

from prunesweep.orchestrator.results import ranking
from prunesweep.orchestrator.results.statistics import SIGNIFICANCE, Floats

SETTINGS = 13
SHIFTS = (2.0, 3.0, 5.0)

Marks = NDArray[np.bool_]
Rule = Callable[[Floats], Marks]
"""From values [K, N] which of the settings are shown to be worse than the best."""


def moderated(values: Floats) -> Marks:
    return ranking.rank(values).p <= SIGNIFICANCE


def holm_against_best(values: Floats) -> Marks:
    best = int(values.mean(axis=1).argmax())
    others = [place for place in range(len(values)) if place != best]
    p = np.array([stats.ttest_rel(values[best], values[place]).pvalue for place in others])
    worse = np.zeros(len(values), bool)
    for tests, place in zip(range(len(others), 0, -1), np.argsort(p), strict=True):
        if p[place] * tests > SIGNIFICANCE:
            break
        worse[others[place]] = True
    return worse


def hsu(values: Floats) -> Marks:
    """Variances pooled over a block design, a critical value for one best setting."""
    pairs = ranking.moderated_pairs(values)
    critical = one_sided_dunnett(len(values), (len(values) - 1) * (pairs.n - 1))
    residuals = values - values.mean(axis=1, keepdims=True) - values.mean(axis=0) + values.mean()
    pooled = (residuals**2).sum() / ((len(values) - 1) * (pairs.n - 1))
    marks: Marks = pairs.means.min(axis=1) < -critical * np.sqrt(2 * pooled / pairs.n)
    return marks


def one_sided_dunnett(count: int, df: int, draws: int = 20_000) -> float:
    random = np.random.default_rng(0)
    means = random.standard_normal((draws, count))
    t = (means[:, 1:] - means[:, :1]) / np.sqrt(2 * random.chisquare(df, (draws, 1)) / df)
    return float(np.quantile(t.max(axis=1), 1 - SIGNIFICANCE))


def tables(count: int, n: int, number: int, *, shift: float = 0.0, spread: float = 1.0, seed: int = 0) -> list[Floats]:
    """Values of `count` settings with `n` seeds; each seed has its own luck. The last setting is worse by `shift`.

    Deviations of the settings are between 1 and `spread`, evenly in their logarithm.
    """
    random = np.random.default_rng(seed)
    made = []
    for _ in range(number):
        deviations = spread ** random.random((count, 1))
        values = random.standard_normal((1, n)) + deviations * random.standard_normal((count, n))
        values[-1] -= shift
        made.append(values)
    return made


def false_alarms(rule: Rule, many: list[Floats]) -> float:
    return float(np.mean([rule(values).any() for values in many]))


def power(rule: Rule, many: list[Floats]) -> float:
    return float(np.mean([rule(values)[-1] for values in many]))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--tables", type=int, default=4000)
    parser.add_argument("--seed", type=int, default=0, help="of the tables; the rule was chosen while looking at 0")
    arguments = parser.parse_args()
    number, seed = arguments.tables, arguments.seed
    rules: dict[str, Rule] = {"moderated, all pairs": moderated, "Holm against best": holm_against_best, "Hsu": hsu}
    head = ["13 equal", "unlike", "3 equal", *(f"{shift:g} SD" for shift in SHIFTS)]
    print(f"{'':28}" + "".join(f"{text:>10}" for text in head))
    for n in (5, 10):
        for name, rule in rules.items():
            alarms = [
                false_alarms(rule, tables(SETTINGS, n, number, spread=spread, seed=seed)) for spread in (1.0, 4.0)
            ]
            few = false_alarms(rule, tables(3, n, number, seed=seed))
            powers = [power(rule, tables(SETTINGS, n, number, shift=shift, seed=seed)) for shift in SHIFTS]
            shown = "".join(f"{value:10.1%}" for value in (*alarms, few, *powers))
            print(f"n = {n:2}  {name:20}{shown}", flush=True)


if __name__ == "__main__":
    main()
