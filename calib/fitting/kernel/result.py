"""The result of fits of many categories."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.later import pandas as pd
from calib.types import AnyArray, Array, BoolArray, IntArray


@dataclass(frozen=True)
class CategoryFits:
    """One row per category.

    Parameters
    ----------
    mu, mu_err : arrays, shape (n,)
        Ratio of the reconstructed mass to the generated one.
    sigma, sigma_err : arrays, shape (n,)
        Relative width: m = m_gen (mu + sigma z). For a template that is smeared already sigma
        is negative where the data are narrower: the sign of ``variance``.
    variance, variance_err : arrays, shape (n,)
        sigma^2 with its sign.
    background, background_err : arrays, shape (n,)
        Fraction of the events in the window. At its limit 0 the error is where the NLL has
        risen by 1/2.
    slope, slope_err, curvature, curvature_err : arrays, shape (n,)
        Background exp(-slope t - curvature t^2), t = (m - low) / (high - low).
    covariance : array, shape (n, p, p)
        Of (mu, sigma, background, slope), p = 4; with the quadratic background p = 5, the last
        one the curvature. A fixed parameter has zeros; so has one at its limit, but for its
        own error. For a smeared template the second one is ``variance``, not sigma.
    nll : array, shape (n,)
        Above that of the saturated model, at the minimum.
    chi2, ndf : arrays, shape (n,)
        Pearson's; its variance has the statistics of the template, unless that is taken as exact
        or smeared.
    edm, iterations : arrays, shape (n,)
    n_events : array, shape (n,)
        Sum of weights in the window.
    at_limit : bool array, shape (n, p)
    status : array of str, shape (n,)
        A value of `calib.results.Status`; the numbers of a category whose status is not ``ok``
        are where the fit ended, NaN where it never began.
    step : array of str, shape (n,)
        The rung of the ladder that the numbers come from.
    """

    mu: Array
    mu_err: Array
    sigma: Array
    sigma_err: Array
    variance: Array
    variance_err: Array
    background: Array
    background_err: Array
    slope: Array
    slope_err: Array
    curvature: Array
    curvature_err: Array
    covariance: Array
    nll: Array
    chi2: Array
    ndf: IntArray
    edm: Array
    iterations: IntArray
    n_events: Array
    at_limit: BoolArray
    status: AnyArray
    step: AnyArray
    engine: str
    signed: bool

    def __len__(self) -> int:
        return len(self.mu)

    @property
    def ok(self) -> BoolArray:
        """Which categories can be trusted."""
        return np.asarray(self.status == "ok")

    def to_dataframe(self) -> pd.DataFrame:
        """Return one row per category: parameters, errors, quality, status, step."""
        names = (
            "n_events mu mu_err sigma sigma_err background background_err slope slope_err nll"
            " chi2 ndf edm iterations status step"
        ).split()
        frame = pd.DataFrame({name: getattr(self, name) for name in names})
        frame["cov_mu_sigma"] = self.covariance[:, 0, 1]
        return frame
