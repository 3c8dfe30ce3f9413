"""What values have in common in their errors, as a few independent shifts of all of them."""

from __future__ import annotations

import numpy as np

from calib.types import Array

SHARE, MOST = 0.95, 5
"""Share of the squared correlations between values that the common shifts carry, and their
largest number."""


def common_part(covariance: Array, share: float = SHARE, most: int = MOST) -> tuple[Array, float]:
    """Return independent shifts V with V.T V near the off-diagonal part of a covariance.

    A factor analysis by principal axes, in units of the errors: the diagonal of the correlation
    is replaced by what the shifts themselves carry of it, until that is stable (H. H. Harman,
    Modern Factor Analysis, 3rd ed., chapter 8). No shift carries more than there is.

    Parameters
    ----------
    covariance : array, shape (n, n)
        Rows of zeros are left alone.
    share : float
        Least share of the squared correlations between different rows that is carried.
    most : int
        Largest number of shifts.

    Returns
    -------
    shifts : array, shape (k, n)
        The largest first, each mostly positive.
    carried : float
    """
    error = np.sqrt(np.maximum(np.diag(covariance), 0.0))
    at = np.flatnonzero(np.isfinite(error) & (error > 0))
    nothing = np.zeros((0, len(covariance)))
    if len(at) < 2:
        return nothing, 1.0
    correlation = covariance[np.ix_(at, at)] / np.outer(error[at], error[at])
    apart = ~np.eye(len(at), dtype=np.bool_)
    total = float(np.sum(correlation[apart] ** 2))
    if not total > 1e-12:
        return nothing, 1.0
    rows, carried = np.zeros((0, len(at))), 0.0
    for n in range(1, min(most, len(at) - 1) + 1):
        rows = _principal(correlation, n)
        carried = 1.0 - float(np.sum((correlation - rows.T @ rows)[apart] ** 2)) / total
        if carried >= share:
            break
    found = np.zeros((len(rows), len(covariance)))
    found[:, at] = rows * np.where(rows.sum(1) < 0, -1.0, 1.0)[:, None] * error[at]
    return found, carried


def _principal(correlation: Array, n: int) -> Array:
    """Return n principal axes of a correlation without its own diagonal, shape (n, rows)."""
    inside = np.max(np.abs(correlation - np.eye(len(correlation))), axis=1)
    rows = np.zeros((n, len(correlation)))
    for _ in range(200):
        reduced = correlation - np.diag(1.0 - inside)
        values, vectors = np.linalg.eigh(reduced)
        leading = np.argsort(values)[::-1][:n]
        rows = np.sqrt(np.maximum(values[leading], 0.0))[:, None] * vectors[:, leading].T
        now = np.minimum(np.sum(rows**2, axis=0), 1.0)
        if np.max(np.abs(now - inside)) < 1e-8:
            break
        inside = now
    # what is more than all of a row is scaled back
    return np.asarray(rows / np.sqrt(np.maximum(np.sum(rows**2, axis=0), 1.0)))
