"""Fits of a block with NumPy alone, and what holds at a minimum: errors, chi2, convergence."""

from __future__ import annotations

import numpy as np

from calib.arrays import AnyArray, Array, BoolArray
from calib.kernel import covariance
from calib.kernel.block import Block, Engine, Minimum
from calib.kernel.numpy_engine import EDM_LEFT, Found, evaluate, gradient, likelihood, minimise
from calib.kernel.problem import Problem


def fit(
    shared: Problem,
    block: Block,
    g: AnyArray,
    start: Array,
    fixed: BoolArray,
    template_errors: bool,
) -> Minimum:
    """Return the minima of a block.

    Parameters
    ----------
    g : complex array, shape (n, frequencies)
        `problem.coefficients` of the templates.
    start : array, shape (n, parameters)
    fixed : bool array, shape (parameters,)
    template_errors : bool
        Whether the statistics of the template are part of the covariance.
    """
    found = minimise(shared, block.counts, block.saturated, g, start, fixed)
    return assess(shared, block, g, found, template_errors)


def assess(
    shared: Problem,
    block: Block,
    g: AnyArray,
    found: Found,
    template_errors: bool,
    exact: bool = True,
) -> Minimum:
    """Return what holds at the points that were found.

    ``exact``: whether they are minima of the model in frequencies; those of the model with error
    functions keep their own NLL and EDM.
    """
    theta, held = found.theta, found.held
    total = block.counts.sum(1)
    state = evaluate(shared, g, theta)
    slope = gradient(shared, block.counts, state, theta)
    nll, edm, converged = found.nll, found.edm, found.converged
    if exact:  # say of the last point what holds there, not of the one before
        nll = likelihood(shared, block.counts, block.saturated, state, theta)
        free = np.where(held, 0.0, slope)
        left = 0.5 * np.einsum("ni,nij,nj->n", free, np.nan_to_num(found.inverse), free)
        edm = np.where(converged, left, edm)
        converged = converged & (edm < EDM_LEFT)
    n_free = 2 + shared.n_background
    expected = np.maximum(state.t * total[:, None], 1e-12)
    chi2, ndf = covariance.chi_square(
        block.counts, expected, expected, n_free - held[:, :n_free].sum(1) + 1
    )
    extra = np.zeros_like(found.inverse)
    if block.variance is not None:
        extra += covariance.weights_term(state, block.counts, block.variance, block.scale)
    if template_errors:
        variance = block.templates if block.template_variance is None else block.template_variance
        extra += covariance.template_term(
            shared, state, g, theta, total, block.templates, variance, block.mass
        )
    inside = ~held[:, :, None] & ~held[:, None, :]
    inverse = np.where(inside, found.inverse, 0.0)
    matrix = inverse + inverse @ extra @ inverse
    matrix[~converged] = np.nan
    curvature = (total[:, None] * state.rows[:, 2] ** 2 / state.t).sum(1)
    return Minimum(
        theta, matrix, nll, edm, chi2, ndf, found.iterations, slope, held, curvature, converged
    )


NUMPY = Engine("numpy", fit)
