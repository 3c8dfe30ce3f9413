"""What the error of a parameter is made of, and what it would be with more events.

The variance of a parameter has a part that falls with the luminosity of the data (``measured``),
a part that stays (``fixed``: systematic variations, the statistics of a simulation), and may lean
on what it has in common with other parameters, which itself is known better with more data
(``common``) but for a true scatter (``spread``):

    V(f) = 1 / (f / measured + 1 / (common / f + spread)) + fixed

for ``f`` times the luminosity. Without a common part ``spread`` is infinite.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calib.later import pandas as pd
from calib.results import STATISTICAL
from calib.types import AnyArray, Array

SHARE = "simulation_share"
"""Name in covariance.npz of the share of the statistical variance that simulated events have."""


@dataclass(frozen=True)
class ErrorBudget:
    """What the variances of n parameters are made of.

    Parameters
    ----------
    names, kinds : sequence of str, length n
        Parameters of one kind (``A``, ``factor``) are summed up together.
    values : array, shape (n,)
        In the units of the run's tables; NaN where there is none.
    measured, common, spread, fixed : array, shape (n,)
        Parts of the variance, as the text of this module says.
    """

    names: tuple[str, ...]
    kinds: tuple[str, ...]
    values: Array
    measured: Array
    common: Array
    spread: Array
    fixed: Array

    def at(self, times: float) -> Array:
        """Return the errors with more events of data.

        Parameters
        ----------
        times : float
            Luminosity over that of the result; infinity leaves what does not fall.

        Returns
        -------
        array, shape (n,)
            Standard deviations.
        """
        if np.isinf(times):
            return np.asarray(np.sqrt(self.fixed))
        with np.errstate(divide="ignore", invalid="ignore"):
            own = times / self.measured
            return np.asarray(
                np.sqrt(1 / (own + 1 / (self.common / times + self.spread)) + self.fixed)
            )

    def table(self, times: float) -> pd.DataFrame:
        """Return one row a parameter: ``name, kind, value, error, error_then, error_least``."""
        found = {"name": self.names, "kind": self.kinds, "value": self.values}
        found |= {"error": self.at(1), "error_then": self.at(times), "error_least": self.at(np.inf)}
        return pd.DataFrame(found)

    def summary(self, times: float) -> pd.DataFrame:
        """Return one row a kind: ``kind, n, error, error_then, gain, error_least``.

        Errors are medians; ``gain`` is the median share by which they shrink.
        """
        rows = []
        for kind, own in self.table(times).dropna(subset=["error"]).groupby("kind", sort=False):
            medians = {k: float(own[k].median()) for k in ("error", "error_then", "error_least")}
            gain = float((1 - own["error_then"] / own["error"]).median())
            rows.append({"kind": kind, "n": len(own), **medians, "gain": gain})
        return pd.DataFrame(
            rows, columns=["kind", "n", "error", "error_then", "error_least", "gain"]
        )


def budget_of(
    covariance: Mapping[str, AnyArray], kinds: Sequence[str] | None = None
) -> ErrorBudget:
    """Return the budget of parameters whose statistical covariance is that of their own events.

    Parameters
    ----------
    covariance : mapping
        ``names, values, covariance``, and where they are there ``statistical`` and
        ``simulation_share``, as covariance.npz has them.
    kinds : sequence of str, length n, optional
        By default the names without the numbers of bins: ``A`` of ``A_12``.

    Returns
    -------
    ErrorBudget
        Without a common part.
    """
    names = tuple(str(name) for name in covariance["names"])
    values = np.asarray(covariance["values"], dtype=np.float64)
    known = np.isfinite(values)
    total = np.where(known, np.diagonal(covariance["covariance"]), np.nan)
    key = next((k for k in STATISTICAL if k in covariance), "covariance")
    statistical = np.where(known, np.diagonal(covariance[key]), np.nan)
    share = float(covariance.get(SHARE, np.zeros(())))
    measured = statistical * (1 - share)
    return ErrorBudget(
        names,
        tuple(kinds) if kinds is not None else tuple(_kind(name) for name in names),
        values,
        measured,
        np.zeros_like(measured),
        np.full_like(measured, np.inf),
        np.maximum(total - measured, 0.0),
    )


def _kind(name: str) -> str:
    first, *rest = name.split("_")
    return "_".join([first, *(word for word in rest if not re.fullmatch(r"[a-z]*\d+", word))])
