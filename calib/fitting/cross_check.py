"""A second opinion on the fits of many categories: some of them again, independently, by iminuit.

A seeded sample and every suspicious category are refitted on the model with error functions,
from their own start, and compared with what `fit_categories` found.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from calib.fitting.kernel.result import CategoryFits
from calib.fitting.many import Background, fit_categories
from calib.later import pandas as pd
from calib.quality.category_gates import probability

AGREES = 0.1
"""A category agrees if mu and sigma are within this share of their errors, or the NLL is lower."""


def second_opinion(
    result: CategoryFits,
    counts: npt.ArrayLike,
    edges: npt.ArrayLike,
    templates: npt.ArrayLike,
    template_mass: npt.ArrayLike,
    *,
    n: int = 50,
    seed: int = 1,
    most: int = 200,
    background: Background = "exponential",
    variance: npt.ArrayLike | None = None,
    template_variance: npt.ArrayLike | None = None,
    sigma_range: tuple[float, float] | None = None,
    mu_range: tuple[float, float] | None = None,
    usual_slope: float = 0.0,
) -> pd.DataFrame:
    """Return the comparison, one row per refitted category.

    Parameters
    ----------
    result : CategoryFits
        Of an unsmeared template.
    counts, edges, templates, template_mass : array_like
        What `fit_categories` was given.
    n : int
        Size of the random sample among the categories that were fitted.
    seed : int
        Of the sample.
    most : int
        At most this many suspicious ones: not ``ok`` though they were fitted, from a higher rung
        of the ladder, or of a chi2 probability below 1e-6.
    background : {"exponential", "quadratic", "none"}
        As of `fit_categories`.
    variance, template_variance : array_like, optional
        As of `fit_categories`.
    sigma_range, mu_range : (float, float), optional
        As of `fit_categories`.
    usual_slope : float
        As of `fit_categories`.

    Returns
    -------
    DataFrame
        ``category, why`` (sample or suspicious), ``status, status_minuit, delta_mu, delta_sigma``
        (in units of the error of iminuit), ``ratio_mu_err, ratio_sigma_err, delta_nll`` (ours
        minus that of iminuit) and ``agrees``.
    """
    fitted = np.flatnonzero(np.isfinite(result.mu))
    random = np.random.default_rng(seed)
    sample = np.sort(random.choice(fitted, min(n, len(fitted)), replace=False))
    p = [probability(float(result.chi2[i]), int(result.ndf[i])) for i in fitted]
    odd = ~result.ok[fitted] | (result.step[fitted] != "first") | (np.array(p) < 1e-6)
    suspicious = np.setdiff1d(fitted[odd], sample)[:most]
    rows = np.concatenate([sample, suspicious])
    why = ["sample"] * len(sample) + ["suspicious"] * len(suspicious)
    if not len(rows):
        names = "category why status status_minuit delta_mu delta_sigma ratio_mu_err"
        return pd.DataFrame(columns=[*names.split(), "ratio_sigma_err", "delta_nll", "agrees"])
    again = fit_categories(
        np.atleast_2d(counts)[rows],
        edges,
        _rows(templates, rows, len(result)),
        _rows(template_mass, rows, len(result)),
        engine="minuit",
        variance=None if variance is None else _rows(variance, rows, len(result)),
        background=background,
        template_variance=_rows(template_variance, rows, len(result)),
        sigma_range=sigma_range,
        mu_range=mu_range,
        usual_slope=usual_slope,
    )
    table = pd.DataFrame({"category": rows, "why": why})
    table["status"], table["status_minuit"] = result.status[rows], again.status
    close = np.ones(len(rows), dtype=bool)
    with np.errstate(invalid="ignore", divide="ignore"):
        for name in ("mu", "sigma"):
            error = getattr(again, f"{name}_err")
            delta = (getattr(result, name)[rows] - getattr(again, name)) / error
            table[f"delta_{name}"] = delta
            table[f"ratio_{name}_err"] = getattr(result, f"{name}_err")[rows] / error
            close &= np.abs(delta) < AGREES
    table["delta_nll"] = result.nll[rows] - again.nll
    lower = result.nll[rows] < again.nll - 0.01
    both_marked = ~result.ok[rows] & ~again.ok
    table["agrees"] = np.where(result.ok[rows], close | lower, both_marked)
    return table


def _rows(values: npt.ArrayLike | None, rows: npt.NDArray[np.int64], n: int) -> npt.ArrayLike:
    """Return these rows of an array that has one per category, or the array."""
    if values is None:
        return None  # type: ignore[return-value]
    found = np.asarray(values)
    return found[rows] if found.ndim == 2 and len(found) == n else found
