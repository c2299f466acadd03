"""Points that a search tries, drawn before anything is known of them: a grid, or Sobol's sequence."""

from __future__ import annotations

from math import ceil, log2

from prunesweep.orchestrator.search.space import Point, Space, grid_points, point, size

MOST_DRAWN = 14
"""Powers of 2: so many are drawn at most to find points that differ."""


def sobol_points(space: Space, count: int, seed: int) -> list[Point]:
    """So many distinct points, fewer where the space has no more: the first of Sobol's sequence, scrambled by the seed.

    The points of a smaller count are the first of a larger one's (Sobol 1967; scrambled after Owen 1998).
    """
    import numpy as np
    from scipy.stats import qmc

    count = min(count, size(space) or count)
    if not space:
        return list[Point]([()])[:count]
    power = ceil(log2(max(count, 1)))
    while True:
        sequence = qmc.Sobol(len(space), scramble=True, rng=np.random.default_rng(seed))
        points = list(dict.fromkeys(point(space, shares) for shares in sequence.random_base2(power).tolist()))
        if len(points) >= count or power >= MOST_DRAWN:
            return points[:count]
        power += 1


def listed_points(space: Space) -> list[Point]:
    """All points of a grid, without those that are equal."""
    return list(dict.fromkeys(grid_points(space)))
