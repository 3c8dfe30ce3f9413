"""Straight least squares from sums: a polynomial, or any linear model, in each of many sets.

When to use: y = sum_j c_j x_j with the same error for all entries of a set, which the fit finds.
The sums add, so that a calibration collects them on the workers and fits once.
"""

from __future__ import annotations

import numpy as np

from calib.quality.fallbacks import Estimates
from calib.types import Array, IntArray


def moments(sets: IntArray, n_sets: int, x: Array, y: Array) -> Array:
    """Return the sums of products of x_1 ... x_k, y in each set.

    Parameters
    ----------
    sets : int array, shape (n,)
        Which set an entry belongs to.
    n_sets : int
        Number of sets.
    x : array, shape (n, k)
        Regressors.
    y : array, shape (n,)
        What is fitted.

    Returns
    -------
    array, shape (n_sets, k + 1, k + 1)
        Symmetric; y is the last row.
    """
    columns = np.column_stack([x, y])
    own = [columns[sets == i] for i in range(n_sets)]
    return np.array([part.T @ part for part in own])


def linear_fits(found: Array, n_events: Array) -> Estimates:
    """Return the coefficients of each set; NaN where there are no more entries than those.

    Parameters
    ----------
    found : array, shape (n_sets, k + 1, k + 1)
        From `moments`.
    n_events : array, shape (n_sets,)

    Returns
    -------
    Estimates
        k coefficients of n_sets bins.
    """
    n, k = len(found), found.shape[1] - 1
    values, covariance = np.full((n, k), np.nan), np.full((n, k, k), np.nan)
    for i in np.flatnonzero(n_events > k):
        normal, right = found[i, :k, :k], found[i, :k, k]
        values[i] = np.linalg.solve(normal, right)
        left = max(found[i, k, k] - values[i] @ right, 0.0) / (n_events[i] - k)
        covariance[i] = left * np.linalg.inv(normal)
    ndf = np.asarray(n_events - k, dtype=np.int64)
    return Estimates(values, covariance, np.full(n, np.nan), ndf, n_events)
