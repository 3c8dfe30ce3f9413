"""Fits of a block with NumPy alone, and what holds at a minimum: errors, chi2, convergence."""

from __future__ import annotations

import numpy as np

from calib.fitting.kernel import covariance
from calib.fitting.kernel.block import Block, BlockMinimum, Engine
from calib.fitting.kernel.numpy_engine import (
    EDM_LEFT,
    Found,
    cholesky,
    evaluate,
    gradient,
    likelihood,
    minimise,
    without,
)
from calib.fitting.kernel.numpy_engine import exact as hessian
from calib.fitting.kernel.numpy_engine import inverse as inverted
from calib.fitting.kernel.problem import Problem
from calib.types import AnyArray, Array, BoolArray


def fit(
    shared: Problem,
    block: Block,
    g: AnyArray,
    start: Array,
    fixed: BoolArray,
    template_errors: bool,
) -> BlockMinimum:
    """Return the minima of a block.

    Parameters
    ----------
    shared : Problem
        Its bins, frequencies and bounds.
    block : Block
        Of n categories.
    g : complex array, shape (n, frequencies)
        `problem.coefficients` of the templates.
    start : array, shape (n, parameters)
        (lambda, v, background, slope[, curvature]).
    fixed : bool array, shape (parameters,)
        Parameters that stay at their start.
    template_errors : bool
        Whether the statistics of the template are part of the covariance.

    Returns
    -------
    BlockMinimum
        Of n categories.
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
) -> BlockMinimum:
    """Return what holds at the points that were found.

    Parameters
    ----------
    shared : Problem
        Its bins, frequencies and bounds.
    block : Block
        Of n categories.
    g : array, shape (n, frequencies)
        Coefficients of the templates, complex.
    found : Found
        Where the minimiser ended.
    template_errors : bool
        Whether the statistics of the templates enter covariance and chi2.
    exact : bool
        Whether the points are minima of the model in frequencies; those of the model with error
        functions keep their own NLL and EDM.

    Returns
    -------
    BlockMinimum
        Of n categories.
    """
    theta, held = found.theta, found.held
    total = block.counts.sum(1)
    state = evaluate(shared, g, theta)
    slope = gradient(shared, block.counts, state, theta)
    nll, edm, converged, inverse = found.nll, found.edm, found.converged, found.inverse
    if exact:  # say of the last point what holds there, not of the one before
        nll = likelihood(shared, block.counts, block.saturated, state, theta)
        low, sound = cholesky(without(hessian(shared, block.counts, state, theta), held))
        inverse = np.where((sound & converged)[:, None, None], inverted(low), inverse)
        free = np.where(held, 0.0, slope)
        left = 0.5 * np.einsum("ni,nij,nj->n", free, np.nan_to_num(inverse), free)
        edm = np.where(converged, left, edm)
        converged = converged & (edm < EDM_LEFT)
    inside = ~held[:, :, None] & ~held[:, None, :]
    inverse = np.where(inside, inverse, 0.0)
    extra, noise = np.zeros_like(inverse), None
    if template_errors:
        variance = block.templates if block.template_variance is None else block.template_variance
        extra += covariance.template_term(
            shared, state, g, theta, total, block.templates, variance, block.mass
        )
        if not shared.signed:
            absorbed = np.einsum("nij,nji->n", np.nan_to_num(inverse), extra)
            noise = covariance.template_noise(
                shared,
                state,
                g,
                theta,
                block.templates,
                block.template_variance,
                block.mass,
                absorbed,
            )
    if block.variance is not None:
        extra += covariance.weights_term(state, block.counts, block.variance, block.scale)
    matrix = inverse + inverse @ extra @ inverse
    matrix[~converged] = np.nan
    n_free = 2 + shared.n_background
    expected = np.maximum(state.t * total[:, None], 1e-12)
    floating = n_free - held[:, :n_free].sum(1) + 1
    chi2, ndf = covariance.chi_square(shared, block.counts, expected, floating, noise)
    curvature = (total[:, None] * state.rows[:, 2] ** 2 / state.t).sum(1)
    return BlockMinimum(
        theta, matrix, nll, edm, chi2, ndf, found.iterations, slope, held, curvature, converged
    )


NUMPY = Engine("numpy", fit)
