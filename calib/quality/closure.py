"""Closure tests of any calibration: bins of events that took no part, and the verdict on them."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calib.distributions import normal_sf
from calib.later import pandas as pd
from calib.results import Check
from calib.types import BoolArray


def worst_pull(table: pd.DataFrame, least: float) -> Check:
    """Return whether the worst pull of a closure is one that so many pulls may have.

    Parameters
    ----------
    table : DataFrame
        As `Closure.table`, with ``kind`` and ``half``; a pull that is NaN was not tested.
    least : float
        Smallest probability of the worst pull, given their number.

    Returns
    -------
    Check
        ``closure``: the probability and its limit.
    """
    pulls = table["pull"].to_numpy(dtype=float)
    n = int(np.isfinite(pulls).sum())
    if not n:
        return Check.at_least(
            "closure",
            0.0,
            least,
            "no closure bin has enough events in a half to be tested",
            title="Closure",
            advice="take more events, or coarser bins of the closure",
        )
    worst = int(np.nanargmax(np.abs(pulls)))
    probability = 1 - (1 - 2 * normal_sf(abs(pulls[worst]))) ** n
    at = table.iloc[worst]
    where = f"{at['kind']} {at['bin']}"
    return Check.at_least(
        "closure",
        float(probability),
        least,
        f"global p-value of {n} pulls; the largest: {pulls[worst]:+.2f} in {where}, half"
        f" {at['half']}",
        title="Closure",
        advice=f"look at the closure of {where}: a model that does not fit there, or bins too"
        " coarse for how the resolution changes within them",
    )


def coverage(
    table: pd.DataFrame, bins: Sequence[bool] | BoolArray, least: float, text: str
) -> Check:
    """Return whether enough of the events of some bins could be tested.

    Parameters
    ----------
    table : DataFrame
        As `Closure.table`, with ``n_events``.
    bins : bool array, shape (rows,)
        Rows that count.
    least : float
        Smallest share of the events.
    text : str
        What was counted.

    Returns
    -------
    Check
        ``closure_coverage``: the share and its limit.
    """
    chosen = np.asarray(bins, dtype=np.bool_)
    tested = np.isfinite(table["pull"].to_numpy(dtype=float))
    events = table["n_events"].to_numpy(dtype=float)
    share = float(events[chosen & tested].sum() / max(events[chosen].sum(), 1.0))
    return Check.at_least(
        "closure_coverage",
        share,
        least,
        text,
        title="Events covered by the closure",
        advice=f"{least:.0%} of the events must be in closure bins that can be tested: take more"
        " events, or coarser closure bins",
    )


def combined(probabilities: Sequence[float]) -> float:
    """Return one probability of several tests that may hang together.

    The Cauchy combination: the mean of tan((1/2 - p) pi) is Cauchy distributed both for
    independent tests and for the same one twice, where the least p times their number would be
    too severe or too mild (Y. Liu, J. Xie, J. Am. Stat. Assoc. 115 (2020) 393). NaN is no test;
    without any the answer is NaN.

    Parameters
    ----------
    probabilities : sequence of float
    """
    p = np.asarray([x for x in probabilities if np.isfinite(x)], dtype=float)
    if not len(p):
        return float("nan")
    # exactly 1 would outweigh any small one; 1e-15 keeps what double precision has
    total = float(np.mean(np.tan((0.5 - np.clip(p, 1e-15, 1 - 1e-6)) * np.pi)))
    return float(0.5 - np.arctan(total) / np.pi)
