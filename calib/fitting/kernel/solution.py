"""The solution of all categories, written block by block, and the result made of it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.fitting.kernel.block import BlockMinimum
from calib.fitting.kernel.checks import Data
from calib.fitting.kernel.problem import Problem
from calib.fitting.kernel.result import CategoryFits
from calib.results import Status
from calib.types import AnyArray, Array, BoolArray, IntArray


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
