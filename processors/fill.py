"""Columns to counts, sums of weights and means: the histograms of any calibration.

Counts do not depend on how the events are cut into chunks. Sums of weights are compensated
(A. Neumaier, Z. angew. Math. Mech. 54 (1974) 39): adding one weight a million times would
otherwise lose the promised 1e-12.
"""

from __future__ import annotations

from collections.abc import Mapping

import numba
import numpy as np

from calib.events.histograms import Fill, Sums
from calib.types import AnyArray, Array


def fill(columns: Mapping[str, Fill | AnyArray]) -> Sums:
    """Return the sums of one chunk.

    Parameters
    ----------
    columns : mapping of name to Fill or array
        What a calibration has collected. Arrays are sums already and pass unchanged.

    Returns
    -------
    mapping of name to array
        For a Fill named X: ``X/counts`` (int), ``X/sumw``, ``X/sumw2``, of shape
        (n_categories, bins), and ``X/mean_NAME``, of shape (n_categories,): the sum of weight
        times value over the entries that fall in a bin.

    Raises
    ------
    ValueError
        If columns differ in length, or a category or the edges cannot be.
    """
    sums: Sums = {}
    for name, column in columns.items():
        sums |= _filled(name, column) if isinstance(column, Fill) else {name: column}
    return sums


def _filled(name: str, column: Fill) -> Sums:
    edges = np.ascontiguousarray(column.edges, dtype=np.float64)
    category = np.ascontiguousarray(column.category, dtype=np.int64)
    value = np.ascontiguousarray(column.value, dtype=np.float64)
    weight = np.ascontiguousarray(column.weight, dtype=np.float64)
    means = np.empty((len(column.means), len(value)))
    lengths = {len(category), len(value), len(weight), *(len(m) for m in column.means.values())}
    if len(lengths) > 1:
        raise ValueError(f"{name}: columns of different lengths {sorted(lengths)}")
    if len(edges) < 2 or not np.all(np.diff(edges) > 0):
        raise ValueError(f"{name}: the edges do not ascend")
    if len(category) and category.max() >= column.n_categories:
        raise ValueError(f"{name}: category {category.max()} of {column.n_categories}")
    for row, values in zip(means, column.means.values(), strict=True):
        row[:] = values
    shape = (column.n_categories, len(edges) - 1)
    counts = np.zeros(shape, dtype=np.int64)
    # where all weights are 1, the sums of weights are the counts, exactly
    unit = bool(np.all(weight == 1.0))
    # the sum and its compensation beside each other in memory
    weighted = (0, 0, 2) if unit else (*shape, 2)
    sumw, sumw2 = np.zeros(weighted), np.zeros(weighted)
    sums = np.zeros((len(column.means), column.n_categories, 2))
    _scatter(
        category, value, weight, unit, means, edges, _is_even(edges), counts, sumw, sumw2, sums
    )
    out: Sums = {
        f"{name}/counts": counts,
        f"{name}/sumw": counts.astype(np.float64) if unit else sumw.sum(axis=-1),
        f"{name}/sumw2": counts.astype(np.float64) if unit else sumw2.sum(axis=-1),
    }
    for mean, row in zip(column.means, sums, strict=True):
        out[f"{name}/mean_{mean}"] = row.sum(axis=-1)
    return out


def _is_even(edges: Array) -> bool:
    even = np.linspace(edges[0], edges[-1], len(edges))
    return bool(np.all(np.abs(edges - even) < 0.01 * (even[1] - even[0])))


@numba.njit(cache=True, nogil=True, inline="always")
def _add(cell, value):  # type: ignore[no-untyped-def]
    """Add to a sum and keep what was lost."""
    total = cell[0] + value
    if abs(cell[0]) >= abs(value):
        cell[1] += (cell[0] - total) + value
    else:
        cell[1] += (value - total) + cell[0]
    cell[0] = total


@numba.njit(cache=True, nogil=True)
def _scatter(  # type: ignore[no-untyped-def]
    category, value, weight, unit, means, edges, even, counts, sumw, sumw2, sums
):
    bins = len(edges) - 1
    low, high = edges[0], edges[-1]
    per_width = bins / (high - low)
    for i in range(len(value)):
        c, x = category[i], value[i]
        if c < 0 or not (x >= low and x < high):
            continue
        if even:
            # a guess, which the edges themselves correct: the decision is exact
            b = min(int((x - low) * per_width), bins - 1)
            while x < edges[b]:
                b -= 1
            while x >= edges[b + 1]:
                b += 1
        else:
            b = np.searchsorted(edges, x, side="right") - 1
        w = weight[i]
        counts[c, b] += 1
        if not unit:
            _add(sumw[c, b], w)
            _add(sumw2[c, b], w * w)
        for m in range(len(means)):
            _add(sums[m, c], w * means[m, i])
