"""Which bin a number is in, for compiled loops."""

from __future__ import annotations

import numba
import numpy as np

from calib.types import Array, IntArray


@numba.njit(cache=True, nogil=True, inline="always")
def bin_of(x, edges, per_width):  # type: ignore[no-untyped-def]
    """Return the bin of x, -1 outside.

    Parameters
    ----------
    x : float
        In the unit of the edges.
    edges : array, shape (bins + 1,)
        Ascending.
    per_width : float
        Number of bins over their whole width: a guess, right at once for even bins, which the edges
        correct.

    Returns
    -------
    int
        -1 outside, and where x is not a number.
    """
    n = len(edges) - 1
    if not (x >= edges[0] and x < edges[n]):
        return -1
    b = min(int((x - edges[0]) * per_width), n - 1)
    while x < edges[b]:
        b -= 1
    while x >= edges[b + 1]:
        b += 1
    return b


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _count(values, edges, counts):  # type: ignore[no-untyped-def]
    n = len(counts)
    per_width = n / (edges[n] - edges[0])
    for x in values:
        b = bin_of(x, edges, per_width)
        if b >= 0:
            counts[b] += 1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def write_bins(values, edges, out):  # type: ignore[no-untyped-def]
    """Write the bin of each value on ascending edges, -1 outside or where it is not a number.

    Parameters
    ----------
    values : array, shape (n,)
        In the unit of the edges.
    edges : array, shape (bins + 1,)
        Ascending.
    out : int array, shape (n,)
        Filled.
    """
    n = len(edges) - 1
    if n <= 32:
        # counted edge by edge, many values at once
        out[:] = -1
        for edge in edges:
            for i in range(len(values)):
                out[i] += np.int64(values[i] >= edge)
        for i in range(len(values)):
            out[i] = out[i] if out[i] < n else -1
        return
    for i in range(len(values)):
        inside = values[i] >= edges[0] and values[i] < edges[n]
        out[i] = np.searchsorted(edges, values[i], side="right") - 1 if inside else -1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def add_bins(flat, bins, n):  # type: ignore[no-untyped-def]
    """Take flat indices to those with one axis of n bins more, -1 where either is outside.

    Parameters
    ----------
    flat : int array, shape (n,)
        Flat indices; changed.
    bins : int array, shape (n,)
        Bins of the further axis, -1 outside.
    n : int
        How many bins that axis has.
    """
    for i in range(len(flat)):
        both = flat[i] * n + bins[i]
        flat[i] = both if (flat[i] | bins[i]) >= 0 else -1


def counts_of(values: Array, edges: Array) -> IntArray:
    """Return how many values are in each of about even bins; NaN is in none.

    `numpy.histogram` sorts, which takes ten times as long, and closes the last bin above.

    Parameters
    ----------
    values : array, shape (n,)
        In the unit of the edges.
    edges : array, shape (bins + 1,)
        Ascending, about even.

    Returns
    -------
    int array, shape (bins,)
        Without the values outside.
    """
    counts = np.zeros(len(edges) - 1, dtype=np.int64)
    _count(np.ascontiguousarray(values, dtype=np.float64), edges, counts)
    return counts
