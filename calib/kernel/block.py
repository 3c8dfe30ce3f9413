"""From a minimum in (lambda, v, ...) to the numbers of the result, for a block of categories."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property

import numpy as np

from calib.arrays import AnyArray, Array, BoolArray, IntArray
from calib.kernel import covariance
from calib.kernel.checks import Data
from calib.kernel.numpy_engine import EDM_LEFT, NUMPY, Engine, Found, gradient, likelihood
from calib.kernel.problem import Problem
from calib.kernel.result import CategoryFits
from calib.results import Status


@dataclass(frozen=True)
class Block:
    """Some categories: ``counts`` are effective, sums of weights times ``scale``."""

    rows: IntArray
    counts: Array
    variance: Array | None
    scale: Array
    templates: Array
    template_variance: Array | None
    mass: Array

    @cached_property
    def saturated(self) -> Array:
        """Sum of n ln(n / N); |n| where sums of weights are negative."""
        size = np.abs(self.counts)
        share = np.where(size > 0, size, 1.0) / self.counts.sum(1, keepdims=True)
        return np.asarray(np.where(size > 0, self.counts * np.log(share), 0.0).sum(1))

    def take(self, at: IntArray) -> Block:
        """Return some of its categories."""
        return Block(
            self.rows[at],
            self.counts[at],
            None if self.variance is None else self.variance[at],
            self.scale[at],
            self.templates[at],
            None if self.template_variance is None else self.template_variance[at],
            self.mass if self.mass.ndim == 1 else self.mass[at],
        )


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
    """Return the solution of categories that were not fitted."""
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
    shared: Problem,
    block: Block,
    at: IntArray,
    g: AnyArray,
    found: Found,
    step: str,
    solution: Solution,
    template_errors: bool,
    engine: Engine = NUMPY,
) -> None:
    """Write what was found for the categories ``at`` of the block into the solution."""
    part = block.take(at)
    rows, p = part.rows, shared.n_parameters
    total = part.counts.sum(1)
    state = engine.evaluate(shared, g, found.theta)
    nll, edm, converged = found.nll, found.edm, found.converged
    if step != "minuit":  # say of the last point what holds there, not of the one before
        nll = likelihood(shared, part.counts, part.saturated, state, found.theta)
        slope = np.where(found.held, 0.0, gradient(shared, part.counts, state, found.theta))
        edm = 0.5 * np.einsum("ni,nij,nj->n", slope, np.nan_to_num(found.inverse), slope)
        edm = np.where(converged, edm, found.edm)
        converged = converged & (edm < EDM_LEFT)
    expected = state.t * (total / part.scale)[:, None]
    poisson = np.maximum(expected / part.scale[:, None], 1e-12)
    free = 2 + shared.n_background
    held = found.held.copy()
    floating = free - held[:, :free].sum(1) + 1
    chi2, ndf = covariance.chi_square(
        part.counts / part.scale[:, None], expected, poisson, floating
    )
    inside = ~held[:, :, None] & ~held[:, None, :]
    inverse = np.where(inside, found.inverse, 0.0)
    extra = np.zeros_like(inverse)
    if part.variance is not None:
        extra += covariance.weights_term(state, part.counts, part.variance, part.scale)
    if template_errors:
        variance = part.templates if part.template_variance is None else part.template_variance
        extra += covariance.template_term(
            shared, state, g, found.theta, total, part.templates, variance, part.mass
        )
    matrix = inverse + inverse @ extra @ inverse
    zero = held[:, 2] & (found.theta[:, 2] <= 0) & (shared.n_background > 0)
    if zero.any():
        curvature = np.maximum((total[:, None] * state.rows[:, 2] ** 2 / state.t).sum(1), 1e-12)
        slope = np.maximum(found.gradient[:, 2], 0.0)
        rise = (np.sqrt(slope**2 + curvature) - slope) / curvature
        matrix[zero, 2, 2] = rise[zero] ** 2
    limit = held.copy()
    limit[:, free:] = False
    sound = np.all(np.diagonal(matrix, axis1=1, axis2=2)[:, :2] > 0, axis=1)
    status = np.full(len(at), Status.OK.value, dtype="<U24")
    status[limit[:, :2].any(1) | (limit[:, 2] & ~zero)] = Status.AT_LIMIT.value
    status[(status == Status.OK.value) & ~sound] = Status.NOT_POSITIVE_DEFINITE.value
    status[~converged] = Status.NOT_CONVERGED.value
    matrix[~converged] = np.nan
    solution.theta[rows, :p] = found.theta
    solution.covariance[rows] = matrix
    solution.nll[rows] = nll
    solution.edm[rows] = edm
    solution.chi2[rows], solution.ndf[rows] = chi2, ndf
    solution.iterations[rows] = found.iterations
    solution.at_limit[rows] = limit
    solution.status[rows] = status
    solution.step[rows] = step


def finished(shared: Problem, data: Data, solution: Solution, engine: str) -> CategoryFits:
    """Return the result in (mu, sigma, background, slope)."""
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
        theta[:, 3],
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
