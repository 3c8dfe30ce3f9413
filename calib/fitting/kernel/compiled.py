"""The same fits, compiled and fused: a category from start to covariance and chi2 in one pass.

The steps are those of `numpy_engine` and of `assess`, and so are the results: to 1e-6 of an error,
the errors to 1e-5 (the statistics of the template in single precision). One thread; the caller
gives blocks to several.

The cache of numba looks only at the file of a function, not at those of what it calls: so one
function is cached, and its key holds a digest of all sources.
"""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import Any, NamedTuple

import numba
import numpy as np

from calib.fitting.kernel import compiled_errors as errors
from calib.fitting.kernel import compiled_model as model
from calib.fitting.kernel.block import Block, BlockMinimum, Engine
from calib.fitting.kernel.compiled_algebra import (
    cholesky,
    copy,
    inverse,
    limited,
    outward,
    solve,
    total,
)
from calib.fitting.kernel.compiled_model import Shared, workspace
from calib.fitting.kernel.covariance import spectrum
from calib.fitting.kernel.numpy_engine import EDM_FISHER, EDM_GOAL, EDM_LEFT, MAX_ITERATIONS
from calib.fitting.kernel.problem import CUMULANTS, Problem
from calib.types import AnyArray, Array, BoolArray

SOURCES = (
    "compiled",
    "compiled_algebra",
    "compiled_errors",
    "compiled_model",
    "covariance",
    "numpy_engine",
    "problem",
)


class Input(NamedTuple):
    """Arrays of a block; variance and template_variance without rows are those of counts."""

    counts: Array
    variance: Array
    scale: Array
    g: AnyArray
    templates: Array
    template_variance: Array
    spectrum: AnyArray
    mass: Array
    start: Array
    fixed: BoolArray


class Output(NamedTuple):
    """Arrays to fill; numbers: NLL, EDM, chi2, ndf, iterations, curvature."""

    theta: Array
    covariance: Array
    numbers: Array
    gradient: Array
    held: BoolArray
    done: BoolArray


@numba.njit
def _minimum(n, g, start, fixed, s, work, room, keep, theta, grad):  # type: ignore[no-untyped-def]
    """Fill theta with the minimum and room[0] with the factor of the Hessian there.

    Returns (whether it converged, EDM, iterations).
    """
    p, n_events = len(start), total(n)
    low, hess, matrix = room[0], room[1], room[2]
    trial, slope, x, right = room[3, 0], room[3, 1], room[3, 2], room[3, 3]
    copy(start, theta)
    copy(start, trial)
    nll, edm, damping = np.inf, np.inf, 1e-3
    number = 0
    while number < MAX_ITERATIONS:
        number += 1
        count = model.evaluate(trial, g, s, work)
        value = model.nll_and_gradient(trial, n, s, work, slope)
        better = value <= nll + 1e-10 * (1 + abs(value))
        sound = False
        if better:
            sound = edm < EDM_FISHER
            if sound:
                model.hessian(trial, n, count, s, work, matrix)
                outward(trial, slope, fixed, s, keep)
                sound = cholesky(matrix, keep, 0.0, low)
            if not sound:
                model.fisher(n_events, s, work, p, matrix)
            nll = value
            copy(trial, theta)
            copy(slope, grad)
            for i in range(p):
                copy(matrix[i], hess[i])
            damping = max(damping * 0.1, 1e-9)
        else:
            damping = max(damping * 10, 1e-4)
        outward(theta, grad, fixed, s, keep)
        good = cholesky(hess, keep, 0.0, low)
        for i in range(p):
            right[i] = 0.0 if keep[i] else -grad[i]
        solve(low, right, x)
        if better and good:
            edm = 0.0
            for i in range(p):
                edm += 0.5 * right[i] * x[i]
            if sound and edm < EDM_GOAL:
                limited(theta, x, s, trial)
                copy(trial, theta)
                return True, edm, number
        if not damping < 1e8:
            break
        if cholesky(hess, keep, damping, low):
            solve(low, right, x)
        else:
            for i in range(p):
                x[i] = 0.0
            damping *= 10
        limited(theta, x, s, trial)
    return False, edm, number


@numba.njit
def _assessed(c, good, edm, number, data, s, work, room, base, real, out):  # type: ignore[no-untyped-def]
    """Fill the outputs of a category with what holds at its minimum."""
    low, inv, extra, other = room[0], room[1], room[2], room[4]
    x, right = room[3, 0], room[3, 1]
    n, keep, theta, slope = data.counts[c], out.held[c], out.theta[c], out.gradient[c]
    p, n_events = len(theta), total(n)
    count = model.evaluate(theta, data.g[c], s, work)
    value = model.nll_and_gradient(theta, n, s, work, slope) + errors.saturated(n, n_events)
    floating, curvature = 1, 0.0
    for i in range(2 + s.n_background):
        floating += 0 if keep[i] else 1
    for k in range(len(n)):
        curvature += n_events * work.rows[2, k] ** 2 / work.t[k]
    unit, absorbed = 0.0, 0.0
    if good:
        # the Hessian of the last step is that of the point before: 1 % of the error of a slope
        model.hessian(theta, n, count, s, work, extra)
        if cholesky(extra, keep, 0.0, other):
            low = other
        inverse(low, right, x, inv)
        edm = 0.0
        for i in range(p):
            for j in range(p):
                extra[i, j], other[i, j] = 0.0, 0.0
                if not (keep[i] or keep[j]):
                    edm += 0.5 * slope[i] * inv[i, j] * slope[j]
        good = edm < EDM_LEFT
        if len(data.variance):
            for k in range(len(n)):
                excess = data.variance[c, k] * data.scale[c] ** 2 - n[k]
                work.weight[k] = excess / work.t[k] ** 2
            model.outer(work.rows, work.weight, p, other)
        if s.template_errors:
            weighted = len(data.template_variance) > 0
            own = data.template_variance[c] if weighted else data.templates[c]
            templates = data.templates[c]
            errors.template_term(
                theta, n_events, count, s, work, keep, templates, own, base, real, extra
            )
            for i in range(p):
                for j in range(p):
                    if not (keep[i] or keep[j]):
                        absorbed += inv[i, j] * extra[j, i]
            if not s.signed:
                h = data.spectrum[c] if weighted else data.g[c]
                size = 1.0 if weighted else 1 / total(templates)
                errors.template_noise(theta, h, size, s, work)
                unit = h[0].real * size
        for i in range(p):
            for j in range(p):
                extra[i, j] += other[i, j]
        errors.sandwich(inv, extra, keep, out.covariance[c])
    chi2, ndf = errors.chi_square(n, n_events, floating, theta, unit, absorbed, s, work)
    numbers = out.numbers[c]
    numbers[0], numbers[1], numbers[2] = value, edm, chi2
    numbers[3], numbers[4], numbers[5] = ndf, number, curvature
    out.done[c] = good


def _digest() -> str:
    """Return a digest of the sources that the compiled code is made of."""
    here = Path(__file__).parent
    found = hashlib.sha256()
    for name in SOURCES:
        found.update((here / f"{name}.py").read_bytes())
    return found.hexdigest()


def _compiled(digest: str) -> Any:
    """Return the compiled loop over the categories of a block."""

    @numba.njit(cache=True, nogil=True)
    def loop(data, s, out):  # type: ignore[no-untyped-def]
        used = len(digest)  # what a closure holds is part of the key of the cache
        p, bins, gen = data.start.shape[1], data.counts.shape[1], data.templates.shape[1]
        work = workspace(len(s.w), bins)
        room = np.zeros((5, p, p))
        base, real = np.zeros((2, gen)), np.zeros((5 + p, gen), np.float32)
        errors.turns(data.mass[0], s, base)
        for c in range(len(data.counts)):
            good, edm, number = _minimum(
                data.counts[c],
                data.g[c],
                data.start[c],
                data.fixed,
                s,
                work,
                room,
                out.held[c],
                out.theta[c],
                out.gradient[c],
            )
            if c and len(data.mass) > 1:
                errors.turns(data.mass[c], s, base)
            _assessed(c, good, edm, number, data, s, work, room, base, real, out)
        return used

    return loop


_loop = _compiled(_digest())


def fit(
    shared: Problem,
    block: Block,
    g: AnyArray,
    start: Array,
    fixed: BoolArray,
    template_errors: bool,
) -> BlockMinimum:
    """Return what `assess.fit` does.

    Parameters
    ----------
    shared : Problem
        Its bins, frequencies and bounds.
    block : Block
        Of n categories.
    g : array, shape (n, frequencies)
        Coefficients of the templates, complex.
    start : array, shape (n, parameters)
        (lambda, v, background, slope[, curvature]).
    fixed : bool array, shape (parameters,)
        Parameters that stay at their start.
    template_errors : bool
        Whether the statistics of the templates enter covariance and chi2.

    Returns
    -------
    BlockMinimum
        Of n categories.
    """
    n, p = start.shape
    s = Shared(
        shared.w,
        shared.basis,
        np.log(shared.edges),
        shared.origin,
        shared.nodes,
        shared.weights,
        shared.low,
        shared.high,
        shared.n_background,
        shared.signed,
        shared.least,
        CUMULANTS,
        template_errors,
    )
    none = np.zeros((0, 1))
    spread, seen = block.template_variance, np.zeros((0, 1), dtype=complex)
    if spread is not None and template_errors and not shared.signed:
        seen = spectrum(shared, g, block.templates, spread, block.mass)
    arrays = (
        block.counts,
        none if block.variance is None else block.variance,
        block.scale,
        g,
        block.templates,
        none if spread is None else spread,
        seen,
        np.atleast_2d(block.mass),
        start,
        fixed,
    )
    data = Input(*(np.ascontiguousarray(x) for x in arrays))
    out = Output(
        np.empty((n, p)),
        np.full((n, p, p), np.nan),
        np.empty((n, 6)),
        np.empty((n, p)),
        np.zeros((n, p), dtype=bool),
        np.zeros(n, dtype=bool),
    )
    _loop(data, s, out)
    nll, edm, chi2, ndf, number, curvature = out.numbers.T
    return BlockMinimum(
        out.theta,
        out.covariance,
        nll,
        edm,
        chi2,
        ndf.astype(np.int64),
        number.astype(np.int64),
        out.gradient,
        out.held,
        curvature,
        out.done,
    )


COMPILED = Engine("compiled", fit)
