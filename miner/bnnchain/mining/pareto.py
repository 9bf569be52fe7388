"""Multi-objective ranking: constrained non-dominated fronts and crowding (NSGA-II, Deb et al. 2002).

Objectives are ``float64[n, m]``, each to be made small.  A violation, ``float64[n]``, is how far a point misses what
every point must reach, 0 where it does.  Plain O(m n^2): populations are dozens.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeAlias

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    from collections.abc import Sequence

Float64Array: TypeAlias = npt.NDArray[np.float64]


def domination(objectives: Float64Array, violations: Float64Array) -> npt.NDArray[np.bool_]:
    """Return ``bool[n, n]``: whether point i dominates point j.

    Between points without violation: nowhere worse and somewhere better.  Otherwise the smaller violation wins.
    """
    worse = (objectives[:, None] > objectives[None, :]).any(axis=2)
    better = (objectives[:, None] < objectives[None, :]).any(axis=2)
    is_feasible = violations == 0
    both = is_feasible[:, None] & is_feasible[None, :]
    dominates: npt.NDArray[np.bool_] = np.where(both, better & ~worse, violations[:, None] < violations[None, :])
    return dominates


def fronts(objectives: Float64Array, violations: Float64Array) -> list[list[int]]:
    """Return the points' indices by front: the first is dominated by nobody, the next only by those before."""
    dominates = domination(objectives, violations)
    remaining = np.ones(len(objectives), np.bool_)
    result = []
    while remaining.any():
        front = remaining & ~dominates[remaining].any(axis=0)
        result.append([int(index) for index in np.flatnonzero(front)])
        remaining &= ~front
    return result


def crowding(objectives: Float64Array) -> Float64Array:
    """Return ``float64[n]``: how much room each point of one front has between its neighbours; the ends, infinitely."""
    count = len(objectives)
    room = np.zeros(count)
    for values in objectives.T:
        order = np.argsort(values, kind="stable")
        room[order[[0, -1]]] = np.inf
        span = values[order[-1]] - values[order[0]]
        if span > 0 and count > 2:  # noqa: PLR2004  (there is an inside)
            room[order[1:-1]] += (values[order[2:]] - values[order[:-2]]) / span
    return room


def survivors(objectives: Float64Array, violations: Float64Array, count: int) -> list[int]:
    """Return up to ``count`` indices, best first: whole fronts, and of the last one those with the most room."""
    chosen: list[int] = []
    for front in fronts(objectives, violations):
        chosen += by_room(objectives, front)
        if len(chosen) >= count:
            break
    return chosen[:count]


def by_room(objectives: Float64Array, front: Sequence[int]) -> list[int]:
    """Return a front's indices, those with the most room first; of equals the lower index."""
    room = crowding(objectives[list(front)])
    return [front[place] for place in np.argsort(-room, kind="stable")]
