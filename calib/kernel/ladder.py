"""What does not converge, or looks suspicious, goes up: further starts, simpler, iminuit.

A rung replaces what stands only where it is better: a fit that converged over one that did not,
then the lower NLL. ``step`` says which rung the numbers come from.
"""

from __future__ import annotations

import numpy as np

from calib.arrays import AnyArray, Array, BoolArray, IntArray
from calib.kernel import exact
from calib.kernel.block import Block, Solution, put
from calib.kernel.numpy_engine import Engine, Found
from calib.kernel.problem import Problem, coefficients
from calib.results import Status

STARTS = (
    (0.0, 0.005, 0.05, 0.0),
    (0.006, 0.012, 0.2, 0.0),
    (-0.006, 0.012, 0.2, 0.0),
    (0.0, 0.02, 0.02, 0.0),
    (0.0, 0.003, 0.5, 0.5),
)
"""Further starts: lambda, sigma, background, slope."""
BETTER = 1e-6


def suspicious(shared: Problem, theta: Array, cov: Array, status: AnyArray) -> BoolArray:
    """Return which fits may sit in a wrong minimum, or in none."""
    v = np.abs(theta[:, 1])
    with np.errstate(invalid="ignore"):
        error = np.sqrt(cov[:, 1, 1]) / (2 * np.maximum(v, 1e-12))
        odd = (error > 0.12) | (theta[:, 2] > 0.35)
    return np.asarray((status != Status.OK.value) | (odd & (not shared.signed)))


def climb(
    coarse: Problem,
    fine: Problem,
    block: Block,
    g: AnyArray,
    start: Array,
    fixed: BoolArray,
    engine: Engine,
    solution: Solution,
    template_errors: bool,
) -> None:
    """Take the categories of a block that need it through the rungs."""
    rows = block.rows
    left = np.flatnonzero(
        suspicious(coarse, solution.theta[rows], solution.covariance[rows], solution.status[rows])
    )
    if not len(left):
        return
    part = block.take(left)
    if fine is not coarse:
        g = coefficients(fine, part.templates, part.mass)
    else:
        g = g[left]
    p = fine.n_parameters
    for number, values in enumerate(STARTS):
        theta = start.copy()
        theta[:4] = values[0], values[1] ** 2, values[2], values[3]
        theta[fixed] = start[fixed]
        theta = np.clip(theta, fine.low[:p], fine.high[:p])
        begin = np.tile(theta, (len(left), 1))
        found = engine.minimise(fine, part.counts, part.saturated, g, begin, fixed)
        _keep(fine, block, left, g, found, f"start {number + 2}", solution, template_errors, engine)
    still = np.flatnonzero(solution.status[rows[left]] == Status.NOT_CONVERGED.value)
    if len(still) and fine.n_background:
        without = fixed.copy()
        without[2:] = True
        begin = np.tile(start, (len(still), 1))
        begin[:, 2:] = 0.0
        less = part.take(still)
        found = engine.minimise(fine, less.counts, less.saturated, g[still], begin, without)
        # a minimum of the whole model only where more background makes the likelihood worse
        found.converged[:] &= found.gradient[:, 2] >= 0
        at = left[still]
        _keep(fine, block, at, g[still], found, "no background", solution, template_errors, engine)
    if not fine.signed:
        still = left[solution.status[rows[left]] == Status.NOT_CONVERGED.value]
        by_minuit(fine, block, still, start, fixed, solution, template_errors)


def _keep(
    shared: Problem,
    block: Block,
    at: IntArray,
    g: AnyArray,
    found: Found,
    step: str,
    solution: Solution,
    template_errors: bool,
    engine: Engine,
) -> None:
    rows = block.rows[at]
    now = solution.status[rows] != Status.NOT_CONVERGED.value
    lower = found.nll < solution.nll[rows] - BETTER
    better = np.flatnonzero((found.converged & ~now) | ((found.converged | ~now) & lower))
    if len(better):
        taken = _take(found, better)
        put(shared, block, at[better], g[better], taken, step, solution, template_errors, engine)


def _take(found: Found, at: IntArray) -> Found:
    return Found(
        found.theta[at],
        found.nll[at],
        found.edm[at],
        found.inverse[at],
        found.gradient[at],
        found.held[at],
        found.iterations[at],
        found.converged[at],
    )


def by_minuit(
    shared: Problem,
    block: Block,
    at: IntArray,
    start: Array,
    fixed: BoolArray,
    solution: Solution,
    template_errors: bool,
) -> None:
    """Fit categories one at a time on the model with error functions (MIGRAD and HESSE)."""
    if not len(at):
        return
    p, n = shared.n_parameters, len(at)
    part = block.take(at)
    theta, inverse = np.zeros((n, p)), np.zeros((n, p, p))
    gradient, held = np.zeros((n, p)), np.zeros((n, p), dtype=bool)
    nll, edm = np.full(n, np.inf), np.full(n, np.inf)
    calls, valid = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
    for i in range(n):
        begin = start.copy()
        begin[0], begin[1] = np.exp(start[0]), np.sqrt(start[1])
        mass = part.mass if part.mass.ndim == 1 else part.mass[i]
        arguments = (shared, part.counts[i], part.saturated[i], part.templates[i], mass)
        m = exact.minuit(*arguments, begin, fixed)
        values = np.array(m.values)
        near = np.array([exact.near_limit(m, j) for j in range(p)]) & ~fixed
        if near.any() and m.valid:  # HESSE is wrong at a limit: refit without the parameter
            m = exact.minuit(*arguments, exact.on_limit(m, near), fixed | near)
            values = np.array(m.values)
        theta[i] = values
        theta[i, 0], theta[i, 1] = np.log(values[0]), (values[1] / values[0]) ** 2
        nll[i], edm[i], calls[i] = m.fval, m.fmin.edm, m.nfcn
        valid[i] = m.valid and m.accurate and m.covariance is not None
        held[i] = fixed | near
        gradient[i] = exact.slope_at(*arguments, values)
        if valid[i]:
            jacobian = np.eye(p)
            jacobian[0, 0], jacobian[1, 1] = 1 / values[0], 2 * values[1] / values[0] ** 2
            jacobian[1, 0] = -2 * values[1] ** 2 / values[0] ** 3
            inverse[i] = jacobian @ np.array(m.covariance) @ jacobian.T
    low, high = shared.low[:p], shared.high[:p]
    found = Found(np.clip(theta, low, high), nll, edm, inverse, gradient, held, calls, valid)
    g = coefficients(shared, part.templates, part.mass)
    better = np.flatnonzero(valid | ~np.isfinite(solution.nll[part.rows]))
    if len(better):
        taken = _take(found, better)
        put(shared, block, at[better], g[better], taken, "minuit", solution, template_errors)
