"""The true factors of simulated pairs, from their generated mass."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from calib.events.pairs import Pairs
from calib.physics.kinematics import predicted_mass_resolution
from calib.types import Array

from .settings import Settings
from .sums.collect import MadeCuts, categories, category_of, relative_resolution


def truth(pairs: Pairs, settings: Settings, selected: MadeCuts) -> Mapping[str, Any] | None:
    """Return half of the central 68.27 % of m - m_gen over the median prediction, by category.

    Over the pairs in the window that pass the default cuts; categories with fewer than 100
    generated pairs are left out. None where there is no such category.

    ``truth_err`` says how well these events know it: 0.96/sqrt(n) of the width (of half of the
    central 68.27 % of n draws of a Gaussian, from the variance of order statistics), and the
    error of the median, from the quantiles one standard deviation of its rank away.

    Parameters
    ----------
    pairs : Pairs
        Simulated ones, GeV.
    settings : Settings
        Edges and window.
    selected : MadeCuts
        Least pt of both muons.

    Returns
    -------
    dict or None
        As `HasTruth.truth`; factors without unit.
    """
    if pairs.gen_mass is None or pairs.leading.pt_err is None:
        return None
    mass = pairs.mass
    keep = (
        (mass >= settings.window[0])
        & (mass < settings.window[1])
        & (pairs.leading.pt >= selected.leading_pt)
        & (pairs.subleading.pt >= selected.subleading_pt)
    )
    pairs, mass = pairs.take(keep), mass[keep]
    assert pairs.gen_mass is not None
    category = category_of(pairs, settings)
    predicted = predicted_mass_resolution(
        mass,
        relative_resolution(pairs.leading, settings),
        relative_resolution(pairs.subleading, settings),
    )
    order = np.argsort(category, kind="stable")
    starts = np.searchsorted(category[order], np.arange(len(categories(settings)) + 1))
    found, errors = {}, {}
    for c, name in enumerate(categories(settings).names):
        rows = order[starts[c] : starts[c + 1]]
        residual = (mass - pairs.gen_mass)[rows]
        residual = residual[np.isfinite(residual)]
        if len(residual) < 100:
            continue
        low, high = np.quantile(residual, [(1 - 0.6827) / 2, (1 + 0.6827) / 2])
        found[name] = float((high - low) / 2 / np.median(predicted[rows]))
        errors[name] = found[name] * _relative_error(predicted[rows], len(residual))
    if not found:
        return None
    return {
        "table": "factors",
        "key": "category",
        "value": "factor",
        "truth": found,
        "truth_err": errors,
    }


WIDTH_ERROR = 0.9617
"""Of half of the central 68.27 % of n draws of a Gaussian, relative, times sqrt(n):
sqrt[(p (1 - p) - p^2) / 2] / phi(1), p = 0.15866."""


def _relative_error(predicted: Array, n: int) -> float:
    """Return the relative error of the width of n residuals over the median prediction."""
    step = 0.5 / np.sqrt(len(predicted))
    low, middle, high = np.quantile(predicted, [0.5 - step, 0.5, 0.5 + step])
    return float(np.hypot(WIDTH_ERROR / np.sqrt(n), (high - low) / 2 / middle))
