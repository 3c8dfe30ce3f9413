"""What the factors do, by category: they change the predicted resolution; and how well known."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np

from calib.later import pandas as pd
from calib.quality.error_budget import ErrorBudget
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

    Parameters
    ----------
    tables : mapping of str to DataFrame
        With ``factors``.
    arrays : mapping of str to (mapping of str to array)
        With ``covariance``, if the run has written it.

    Returns
    -------
    Effects
        One of each category, without unit.
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


def error_budget(tables: Mapping[str, pd.DataFrame]) -> ErrorBudget:
    """Return what the errors of the factors are made of.

    A category knows its factor from its own events and from what the categories of its rings have
    in common; the latter falls with more data down to the spread among categories. What is
    systematic stays. Templates of a simulation, too, are taken to grow with the data.

    Parameters
    ----------
    tables : mapping of str to DataFrame
        With ``factors`` and ``rings``.

    Returns
    -------
    ErrorBudget
        One of each category, without unit.
    """
    table = tables["factors"]
    factor, total, statistical, own = (
        table[name].to_numpy(dtype=np.float64)
        for name in ("factor", "factor_err", "factor_err_stat", "own_factor_err")
    )
    rings = tables["rings"].set_index("name")["value"]
    with np.errstate(invalid="ignore", divide="ignore"):
        measured = np.where(own > 0, own**2, np.inf)
        shared = 1 / (statistical**-2.0 - 1 / measured)
        # one that stands alone, or whose own fit says more than the sum
        alone = ~(shared > 0) | (own <= statistical)
        spread = np.where(alone, np.inf, np.minimum((rings["spread"] * factor) ** 2, shared))
    return ErrorBudget(
        tuple(table["category"]),
        ("factor",) * len(table),
        factor,
        np.where(alone, statistical**2, measured),
        np.where(alone, 0.0, shared - np.where(alone, 0.0, spread)),
        spread,
        np.maximum(total**2 - statistical**2, 0.0),
    )


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
