"""The result of fits of many categories, and the solution that blocks write it from."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.fitting.kernel.block import BlockMinimum
from calib.fitting.kernel.checks import Data
from calib.fitting.kernel.problem import Problem
from calib.later import pandas as pd
from calib.results import Status
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


# how it is made, block by block -------------------------------------------------------------------
@dataclass(frozen=True)
class Solution:
    """Arrays over all categories that the blocks write into; theta = (lambda, v, f, slope...)."""

    theta: Array
    covariance: Array
    nll: Array
    edm: Array
    chi2: Array
    ndf: IntArray
    iterations: IntArray
    at_limit: BoolArray
    status: AnyArray
    step: AnyArray


def empty(n: int, p: int) -> Solution:
    """Return the solution of categories that were not fitted.

    Parameters
    ----------
    n, p : int
        Numbers of categories and of parameters.

    Returns
    -------
    Solution
        NaN, with the status ``fit_failed``.
    """
    return Solution(
        np.full((n, p), np.nan),
        np.full((n, p, p), np.nan),
        np.full(n, np.nan),
        np.full(n, np.nan),
        np.full(n, np.nan),
        np.zeros(n, dtype=np.int64),
        np.zeros(n, dtype=np.int64),
        np.zeros((n, p), dtype=bool),
        np.full(n, Status.FIT_FAILED.value, dtype="<U24"),
        np.full(n, "none", dtype="<U24"),
    )


def put(
    shared: Problem, rows: IntArray, found: BlockMinimum, step: str | AnyArray, solution: Solution
) -> None:
    """Write the minima of some categories into the solution, with their status.

    Parameters
    ----------
    shared : Problem
        Tells how many parameters there are.
    rows : int array, shape (m,)
        Categories.
    found : BlockMinimum
        Of the m categories.
    step : str or array of str, shape (m,)
        Rung that found the minima.
    solution : Solution
        Of all categories; the m rows are written.
    """
    p, free = shared.n_parameters, 2 + shared.n_background
    matrix, held = found.covariance.copy(), found.held
    zero = held[:, 2] & (found.theta[:, 2] <= 0) & (shared.n_background > 0)
    if zero.any():
        curvature = np.maximum(found.curvature, 1e-12)
        slope = np.maximum(found.gradient[:, 2], 0.0)
        rise = (np.sqrt(slope**2 + curvature) - slope) / curvature
        matrix[zero, 2, 2] = rise[zero] ** 2
    limit = held.copy()
    limit[:, free:] = False
    sound = np.all(np.diagonal(matrix, axis1=1, axis2=2)[:, :2] > 0, axis=1)
    status = np.full(len(rows), Status.OK.value, dtype="<U24")
    status[limit[:, :2].any(1) | (limit[:, 2] & ~zero)] = Status.AT_LIMIT.value
    status[(status == Status.OK.value) & ~sound] = Status.NOT_POSITIVE_DEFINITE.value
    status[~found.converged] = Status.NOT_CONVERGED.value
    matrix[~found.converged] = np.nan
    solution.theta[rows, :p] = found.theta
    solution.covariance[rows] = matrix
    solution.nll[rows] = found.nll
    solution.edm[rows] = found.edm
    solution.chi2[rows], solution.ndf[rows] = found.chi2, found.ndf
    solution.iterations[rows] = found.iterations
    solution.at_limit[rows] = limit
    solution.status[rows] = status
    solution.step[rows] = step


def finished(shared: Problem, data: Data, solution: Solution, engine: str) -> CategoryFits:
    """Return the result in (mu, sigma, background, slope).

    Parameters
    ----------
    shared : Problem
        Tells whether sigma^2 has a sign, and the usual slope.
    data : Data
        The input; n_events are its sums of counts.
    solution : Solution
        In (lambda, v, ...).
    engine : str
        Name of the engine.

    Returns
    -------
    CategoryFits
        Of all categories; mu and sigma relative to the generated mass.
    """
    theta = solution.theta
    mu = np.exp(theta[:, 0])
    s = np.sign(theta[:, 1]) * np.sqrt(np.abs(theta[:, 1]))
    v = theta[:, 1] * mu**2
    n, p = theta.shape
    jacobian = np.tile(np.eye(p), (n, 1, 1))
    jacobian[:, 0, 0] = mu
    jacobian[:, 1, 0], jacobian[:, 1, 1] = 2 * v, mu**2  # sigma^2 = mu^2 v
    signed = jacobian @ solution.covariance @ jacobian.transpose(0, 2, 1)
    v_err = np.sqrt(signed[:, 1, 1])
    width = np.maximum(np.sqrt(np.abs(v)), np.sqrt(v_err) / 2)  # no division by 0 at sigma = 0
    cov = signed.copy()
    cov[:, 1] /= 2 * width[:, None]
    cov[:, :, 1] /= 2 * width[:, None]
    err = np.sqrt(np.diagonal(cov, axis1=1, axis2=2))
    nothing = np.zeros(n)
    return CategoryFits(
        mu,
        err[:, 0],
        s * mu,
        err[:, 1],
        v,
        v_err,
        theta[:, 2],
        err[:, 2],
        theta[:, 3] + (shared.usual_slope if shared.n_background else 0.0),
        err[:, 3],
        theta[:, 4] if p > 4 else nothing,
        err[:, 4] if p > 4 else nothing,
        signed if shared.signed else cov,
        solution.nll,
        solution.chi2,
        solution.ndf,
        solution.edm,
        solution.iterations,
        data.counts.sum(1),
        solution.at_limit,
        solution.status,
        solution.step,
        engine,
        shared.signed,
    )
