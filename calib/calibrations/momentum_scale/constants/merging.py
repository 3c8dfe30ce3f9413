"""Categories with few events are joined with their neighbours, within the same two eta bins."""

from __future__ import annotations

import numpy as np

from calib.calibrations.momentum_scale.sums.grid import Grid
from calib.types import Array, IntArray


def groups(events: Array, grid: Grid, least: float) -> IntArray:
    """Return the group of each category, numbered from 0 in the order of categories.

    A bin of the angle that has too few events over all pt ratios is joined with the weaker of its
    neighbours in angle, bin by bin in the ratio; then, within each, a bin of the ratio with too few
    is joined with the weaker of its neighbours. Never across eta: what is still below ``least``
    then has too few.

    Parameters
    ----------
    events : array, shape (n,)
        Events of each category.
    grid : Grid
        Of the categories.
    least : float
        Events that a group should have.

    Returns
    -------
    int array, shape (n,)
        Numbers of the groups.
    """
    plus, minus, ratio, angle = grid.bins()
    _, n_eta, n_ratio, n_angle = grid.full.shape
    block = plus * n_eta + minus
    found = np.arange(len(grid))
    edges = np.flatnonzero(np.diff(block, prepend=-1, append=block[-1] + 1 if len(block) else 0))
    for start, stop in zip(edges[:-1], edges[1:], strict=True):
        if events[start:stop].min() >= least:
            continue
        cells = np.zeros((n_angle, n_ratio))
        at = np.full((n_angle, n_ratio), -1)
        rows = np.arange(start, stop)
        cells[angle[rows], ratio[rows]] = events[rows]
        at[angle[rows], ratio[rows]] = rows
        for members in _joined(cells, at, least):
            found[members] = min(members)
    _, numbered = np.unique(found, return_inverse=True)
    return np.asarray(numbered, dtype=np.int64)


def _joined(cells: Array, at: IntArray, least: float) -> list[list[int]]:
    """Return the groups of one pair of eta bins, as lists of categories."""
    layers = [
        ([[int(c)] if c >= 0 else [] for c in row], counts.copy())
        for row, counts in zip(at, cells, strict=True)
        if (row >= 0).any()
    ]
    while len(layers) > 1:
        totals = [counts.sum() for _, counts in layers]
        weakest = int(np.argmin(totals))
        if totals[weakest] >= least:
            break
        other = _weaker_neighbour(totals, weakest)
        low, high = sorted((weakest, other))
        members, counts = layers[low]
        more, extra = layers.pop(high)
        layers[low] = ([a + b for a, b in zip(members, more, strict=True)], counts + extra)
    out: list[list[int]] = []
    for members, counts in layers:
        pairs = [(m, c) for m, c in zip(members, counts, strict=True) if m]
        while len(pairs) > 1:
            totals = [c for _, c in pairs]
            weakest = int(np.argmin(totals))
            if totals[weakest] >= least:
                break
            low, high = sorted((weakest, _weaker_neighbour(totals, weakest)))
            joining, count = pairs.pop(high)
            pairs[low] = (pairs[low][0] + joining, pairs[low][1] + count)
        out += [m for m, _ in pairs]
    return out


def _weaker_neighbour(totals: list[float], i: int) -> int:
    sides = [j for j in (i - 1, i + 1) if 0 <= j < len(totals)]
    return min(sides, key=lambda j: totals[j])


def joined(values: Array, group: IntArray, n: int) -> Array:
    """Return the sums of the rows of each group.

    Parameters
    ----------
    values : array, shape (categories, ...)
        That add.
    group : int array, shape (categories,)
        Of `groups`.
    n : int
        Number of groups.

    Returns
    -------
    array, shape (n, ...)
        Sums.
    """
    if n == len(values):
        return values
    order = np.argsort(group, kind="stable")
    starts = np.searchsorted(group[order], np.arange(n))
    return np.asarray(np.add.reduceat(values[order], starts, axis=0))
