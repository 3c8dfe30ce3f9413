"""What A, e and M do to a muon: the relative change of k = 1/pt, by eta bin and charge.

With k_corr = (1 + A - e k) k + q M the curvature changes by A - e k + q M / k, here at the mean k
of the muons of an eta bin. A and e alone have correlations of 0.9 and more; this they do together.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from calib.later import pandas as pd
from calib.quality.publication_gate import Effects
from calib.results import Status
from calib.types import AnyArray, Array

CHARGES = (1, -1)


def effects(
    tables: Mapping[str, pd.DataFrame],
    arrays: Mapping[str, Mapping[str, AnyArray]],
    like: Mapping[str, pd.DataFrame] | None = None,
) -> Effects:
    """Return the relative change of k in each eta bin, for both charges.

    Parameters
    ----------
    tables, arrays : mappings
        ``parameters``, ``decorrelated`` and ``covariance`` of a run.
    like : mapping, optional
        Tables of another run with the same eta bins: the change is that of muons with its mean k.
    """
    parameters, covariance = tables["parameters"], arrays["covariance"]
    n = len(parameters)
    k = _mean_k(tables if like is None else like, tables, n)
    matrix = np.zeros((2 * n, 3 * n))
    for i in range(n):
        for row, q in enumerate(CHARGES):
            matrix[2 * i + row, [i, n + i, 2 * n + i]] = 1.0, -k[i], q / k[i]
    values = np.asarray(covariance["values"], dtype=np.float64)[: 3 * n]
    # what is common to all runs, as a systematic shift, is not in the error of a change
    matrix_of = covariance["covariance_stat" if "covariance_stat" in covariance else "covariance"]
    cov = np.asarray(matrix_of, dtype=np.float64)[: 3 * n, : 3 * n]
    known = np.tile(np.isfinite(values.reshape(3, n)).all(0) & np.isfinite(k), 3)
    known &= np.isfinite(np.diagonal(cov))
    use = np.where(known[:, None] & known, cov, 0.0)
    with_value = np.repeat(known.reshape(3, n).all(0), 2)
    found = np.nan_to_num(matrix) @ np.where(known, values, 0.0)
    reduced = np.nan_to_num(matrix) @ use @ np.nan_to_num(matrix).T
    reduced[~with_value] = reduced[:, ~with_value] = 0.0
    reduced[~with_value, ~with_value] = np.nan
    own = np.repeat((parameters["status"] == Status.OK.value).to_numpy(), 2) & with_value
    return Effects(names(parameters), np.where(with_value, found, np.nan), reduced, own)


def names(parameters: pd.DataFrame) -> tuple[str, ...]:
    """Return the names of the quantities: ``eta [-2.4, -1.2) +``."""
    return tuple(
        f"eta [{low:g}, {high:g}) {'+' if q > 0 else '-'}"
        for low, high in zip(parameters["eta_low"], parameters["eta_high"], strict=True)
        for q in CHARGES
    )


def _mean_k(first: Mapping[str, pd.DataFrame], second: Mapping[str, pd.DataFrame], n: int) -> Array:
    """Return the mean k of each eta bin, from the second run where the first has none."""
    found = np.full(n, np.nan)
    for tables in (first, second):
        mean = np.asarray(tables["decorrelated"]["k_mean"], dtype=np.float64)
        if len(mean) == n:
            found = np.where(np.isfinite(found), found, mean)
    return found
