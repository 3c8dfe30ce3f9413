"""What the factors do: the relative change of the predicted resolution, by category."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from calib.later import pandas as pd
from calib.quality.publication_gate import Effects
from calib.results import Status
from calib.types import AnyArray, Array


def effects(
    tables: Mapping[str, pd.DataFrame], arrays: Mapping[str, Mapping[str, AnyArray]]
) -> Effects:
    """Return ln(factor) of each category, with its covariance.

    The covariance is the statistical one, with what categories have in common. The systematic
    variations (line shape) are left out: they are the same in any two runs, so that they cancel
    in what effects are for, the move from one to the other and the residual of one after the
    other. Of a run that has written no covariance, the errors of the factors count alone.

    A category that leans on the others (merged) has a value; one that is held has no value of
    its own, and one without any usable value is NaN.
    """
    table = tables["factors"]
    status = [Status(s) for s in table["status"]]
    usable = np.array([s.usable for s in status])
    factor = np.where(usable, table["factor"].to_numpy(dtype=np.float64), np.nan)
    with np.errstate(invalid="ignore", divide="ignore"):
        value = np.where(factor > 0, np.log(factor), np.nan)
    covariance = _covariance(table, arrays.get("covariance", {}), factor)
    measured = np.array([s in (Status.OK, Status.MERGED) for s in status])
    own = measured & np.isfinite(value + np.diagonal(covariance))
    return Effects(tuple(table["category"]), value, covariance, own)


def _covariance(table: pd.DataFrame, known: Mapping[str, AnyArray], factor: Array) -> Array:
    """Return the statistical covariance of ln(factor), shape (n, n); NaN where it is unusable."""
    n = len(table)
    if "statistical" not in known or len(known["statistical"]) != n:
        column = "factor_err_stat" if "factor_err_stat" in table else "factor_err"
        error = table[column].to_numpy(dtype=np.float64)
        with np.errstate(invalid="ignore", divide="ignore"):
            return np.where(np.eye(n, dtype=np.bool_), np.diag((error / factor) ** 2), 0.0)
    with np.errstate(invalid="ignore", divide="ignore"):
        found = np.asarray(known["statistical"], dtype=np.float64) / np.outer(factor, factor)
    # one without a value is correlated with nothing
    apart = ~np.eye(n, dtype=np.bool_)
    return np.where(apart & ~np.isfinite(found), 0.0, found)
