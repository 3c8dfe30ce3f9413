"""The rungs for a block of categories: first start, further starts, simpler, iminuit.

The mechanism, and the rule by which one fit replaces another, is that of `calib.fitting.retries`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np

from calib.fitting.kernel import exact
from calib.fitting.kernel.assess import assess
from calib.fitting.kernel.block import Block, BlockMinimum, Engine
from calib.fitting.kernel.numpy_engine import Found
from calib.fitting.kernel.problem import Problem, coefficients
from calib.fitting.kernel.result import Solution, put
from calib.fitting.retries import Rung, climb
from calib.results import Status
from calib.types import AnyArray, Array, BoolArray, IntArray

STARTS = (
    (0.0, 0.005, 0.05, 0.0),
    (0.006, 0.012, 0.2, 0.0),
    (-0.006, 0.012, 0.2, 0.0),
    (0.0, 0.02, 0.02, 0.0),
    (0.0, 0.003, 0.5, 0.5),
)
"""Further starts: lambda, sigma, background, slope."""
NARROW = ((0.004, 0.002, 0.5, 0.5), (-0.004, 0.002, 0.5, 0.5), (0.0, 0.0015, 0.7, 0.0))
"""Where sigma is hardly known: a peak of a few bins on much background."""
STEEP = ((0.0, 0.012, 0.05, 4.0), (0.0, 0.012, 0.05, -4.0))
"""Where no background is found: there may be some at one end of the window."""


@dataclass(frozen=True)
class BlockStanding:
    """The solution of the categories of one block, for the ladder."""

    shared: Problem
    rows: IntArray
    solution: Solution

    @property
    def converged(self) -> BoolArray:
        """Return which converged, also at a limit."""
        missing = (Status.NOT_CONVERGED.value, Status.FIT_FAILED.value)
        return np.asarray(~np.isin(self.solution.status[self.rows], missing))

    @property
    def nll(self) -> Array:
        """Return the NLL, NaN before the first rung."""
        return np.asarray(self.solution.nll[self.rows])

    def keep(self, at: IntArray, found: BlockMinimum, chosen: IntArray, step: str) -> None:
        """Write the minima into the solution.

        Parameters
        ----------
        at : int array, shape (m,)
            Categories of the block that were tried.
        found : BlockMinimum
            Of the m categories.
        chosen : int array
            Which of the m are kept; `at` holds as many.
        step : str
            Name of the rung.
        """
        put(self.shared, self.rows[at], found.take(chosen), step, self.solution)


@dataclass(frozen=True)
class BlockTask:
    """One block, its start and its fixed parameters; ``engine`` None is iminuit alone."""

    coarse: Problem
    fine: Problem
    engine: Engine | None
    start: Array
    fixed: BoolArray
    template_errors: bool


def fit_block(task: BlockTask, block: Block, g: AnyArray, solution: Solution) -> None:
    """Fit the categories of a block and put what was found into the solution.

    Parameters
    ----------
    task : BlockTask
        Problem, engine, start.
    block : Block
        Of n categories.
    g : array, shape (n, frequencies)
        Coefficients of the templates for the coarse problem, complex.
    solution : Solution
        Of all categories; the rows of the block are written.
    """
    if task.coarse.signed:
        g = bandwidth(block, g)
    standing = BlockStanding(task.fine, block.rows, solution)
    every = np.arange(len(block.rows))
    engine = task.engine
    if engine is None:
        climb([_minuit(task, block, lambda: every)], standing)
        return

    def from_start(start: Array) -> BlockMinimum:
        begin = np.tile(start, (len(every), 1))
        return engine.fit(task.coarse, block, g, begin, task.fixed, task.template_errors)

    found = from_start(task.start)
    found.converged[:] &= ~_at_edge(task, found)
    climb([Rung("first", lambda: every, lambda at: found)], standing)
    if task.coarse.signed:
        _check_signed(task, block, g, found, from_start, standing)
        return
    doubt = doubts(standing)
    left = np.flatnonzero(doubt.suspicious | doubt.empty)
    if len(left):
        _further(task, engine, block, left, standing)


def _at_edge(task: BlockTask, found: BlockMinimum) -> BoolArray:
    """Return which minima lie on a limit of sigma that only the coarse problem has.

    The fine one goes on from there, be it by so little that the likelihood hardly moves.
    """
    inside = (task.fine.low[1] < task.coarse.low[1], task.coarse.high[1] < task.fine.high[1])
    v = found.theta[:, 1]
    return np.asarray(
        (inside[0] & (v <= task.coarse.low[1])) | (inside[1] & (v >= task.coarse.high[1]))
    )


def _check_signed(
    task: BlockTask,
    block: Block,
    g: AnyArray,
    found: BlockMinimum,
    from_start: Callable[[Array], BlockMinimum],
    standing: BlockStanding,
) -> None:
    """Fit smeared templates from further starts, and mark what depends on the start."""
    every = np.arange(len(block.rows))
    size = own_variance(task.coarse, g)
    fits = [found]
    for number, share in enumerate((-0.5, 0.6), 2):
        start = task.start.copy()
        start[1] = np.clip(share * size, task.coarse.low[1], task.coarse.high[1])
        fits.append(from_start(start))
        climb([Rung(f"start {number}", lambda: every, lambda at: fits[-1])], standing)
    solution, rows = standing.solution, block.rows
    doubt = undetermined(
        task.coarse, block, g, solution.theta[rows], solution.covariance[rows], fits
    )
    ok = solution.status[rows] == Status.OK.value
    solution.status[rows[ok & doubt]] = Status.NOT_DETERMINED.value


@dataclass(frozen=True)
class Doubts:
    """Why fits may sit in a wrong minimum, or in none."""

    suspicious: BoolArray
    narrow: BoolArray
    empty: BoolArray


def doubts(standing: BlockStanding) -> Doubts:
    """Return what is doubtful about the fits that stand."""
    solution, rows = standing.solution, standing.rows
    theta, cov = solution.theta[rows], solution.covariance[rows]
    with np.errstate(invalid="ignore"):
        error = np.sqrt(cov[:, 1, 1]) / (2 * np.maximum(np.abs(theta[:, 1]), 1e-12))
    bad = solution.status[rows] != Status.OK.value
    return Doubts(
        bad | (error > 0.12) | (theta[:, 2] > 0.35),
        bad | (error > 0.3),
        solution.at_limit[rows, 2] & (theta[:, 2] <= 0),
    )


def _further(
    task: BlockTask, engine: Engine, block: Block, left: IntArray, standing: BlockStanding
) -> None:
    """Take some categories of a block through the rungs above the first."""
    fine, p = task.fine, task.fine.n_parameters
    part = block.take(left)
    above = coefficients(fine, part.templates, part.mass)
    place = np.full(len(block.rows), -1)
    place[left] = np.arange(len(left))

    def from_start(at: IntArray, start: Array, fixed: BoolArray) -> BlockMinimum:
        own = place[at]
        begin = np.tile(np.clip(start, fine.low[:p], fine.high[:p]), (len(at), 1))
        return engine.fit(fine, part.take(own), above[own], begin, fixed, task.template_errors)

    def unsettled() -> IntArray:
        return left[~standing.converged[left]]

    def another(values: tuple[float, ...], needed: Callable[[], IntArray]) -> Rung[BlockMinimum]:
        start = task.start.copy()
        start[:4] = values[0], values[1] ** 2, values[2], values[3]
        start = np.where(task.fixed, task.start, start)
        name = f"start {2 + (*STARTS, *NARROW, *STEEP).index(values)}"
        return Rung(name, needed, lambda at: from_start(at, start, task.fixed))

    first = np.flatnonzero(doubts(standing).suspicious)
    rungs = [another(values, lambda: first) for values in STARTS]
    rungs += [another(values, lambda: np.flatnonzero(doubts(standing).narrow)) for values in NARROW]
    rungs += [another(values, lambda: np.flatnonzero(doubts(standing).empty)) for values in STEEP]

    def no_background(at: IntArray) -> BlockMinimum:
        start, fixed = task.start.copy(), task.fixed.copy()
        start[2:], fixed[2:] = 0.0, True
        found = from_start(at, start, fixed)
        # a minimum of the whole model only where more background makes the likelihood worse
        found.converged[:] &= found.gradient[:, 2] >= 0
        return found

    if fine.n_background:
        rungs.append(Rung("no background", unsettled, no_background))
    rungs.append(_minuit(task, block, unsettled))
    climb(rungs, standing)


def _minuit(task: BlockTask, block: Block, needed: Callable[[], IntArray]) -> Rung[BlockMinimum]:
    return Rung("minuit", needed, lambda at: by_minuit(task, block.take(at)))


def by_minuit(task: BlockTask, block: Block) -> BlockMinimum:
    """Fit categories one at a time on the model with error functions (MIGRAD and HESSE).

    Parameters
    ----------
    task : BlockTask
        Its fine problem, start and fixed parameters are used.
    block : Block
        Of n categories.

    Returns
    -------
    BlockMinimum
        In (lambda, v, background, slope[, curvature]).
    """
    shared, start, fixed = task.fine, task.start, task.fixed
    p, n = shared.n_parameters, len(block.rows)
    theta, inverse = np.zeros((n, p)), np.zeros((n, p, p))
    gradient, held = np.zeros((n, p)), np.zeros((n, p), dtype=bool)
    nll, edm = np.full(n, np.inf), np.full(n, np.inf)
    calls, valid = np.zeros(n, dtype=np.int64), np.zeros(n, dtype=bool)
    for i in range(n):
        begin = start.copy()
        begin[0], begin[1] = np.exp(start[0]), np.sqrt(start[1])
        mass = block.mass if block.mass.ndim == 1 else block.mass[i]
        arguments = (shared, block.counts[i], block.saturated[i], block.templates[i], mass)
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
    found = Found(
        np.clip(theta, shared.low[:p], shared.high[:p]),
        nll,
        edm,
        inverse,
        gradient,
        held,
        calls,
        valid,
    )
    g = coefficients(shared, block.templates, block.mass)
    return assess(shared, block, g, found, task.template_errors, exact=False)


# templates that are smeared already ---------------------------------------------------------------
# sigma^2 has a sign. Where v < 0 the template is made narrower: its frequencies are divided by a
# falling Gaussian, and beyond its bandwidth there is only noise. A peak that needs more than that
# rings, and the likelihood has false minima. Such a fit is marked ``not_determined``.
SEEN = 0.8
"""What the model would have beyond the bandwidth, at most, in units of the noise of the data."""
SAME = 0.3
"""Minima from different starts are the same within this share of their error."""


def noise(block: Block) -> Array:
    """Return the noise of the coefficients of the templates, shape (n,)."""
    variance = block.templates if block.template_variance is None else block.template_variance
    return np.asarray(np.sqrt(np.maximum(variance.sum(1), 0.0)) / block.templates.sum(1))


def bandwidth(block: Block, g: AnyArray) -> AnyArray:
    """Return G without the frequencies at which the template has only noise.

    Parameters
    ----------
    block : Block
        Of n categories.
    g : array, shape (n, frequencies)
        Coefficients of the templates, complex.

    Returns
    -------
    array, shape (n, frequencies)
        Faded out to 0.
    """
    size = np.abs(g) / (1.5 * noise(block)[:, None])
    # an edge would ring: fade out over a factor of two above the noise
    fade = np.clip(np.log(np.maximum(size, 1e-9)) / np.log(2), 0, 1)
    fade = np.minimum.accumulate(fade, axis=1)
    return np.asarray(g * fade**2 * (3 - 2 * fade))


def own_variance(shared: Problem, g: AnyArray) -> float:
    """Return about the variance of the templates, relative: where |G| falls to exp(-1/2).

    Parameters
    ----------
    shared : Problem
        Its frequencies.
    g : array, shape (n, frequencies)
        Coefficients of the templates, complex.

    Returns
    -------
    float
        Median over the categories, as (sigma / m)^2; 0 where no frequency is damped.
    """
    wide = np.abs(g) > np.exp(-0.5)
    at = np.median(np.minimum.accumulate(wide, axis=1).sum(1))
    return float(1 / shared.w[max(int(at), 1)] ** 2) if at < len(shared.w) else 0.0


def undetermined(
    shared: Problem, block: Block, g: AnyArray, theta: Array, cov: Array, fits: list[BlockMinimum]
) -> BoolArray:
    """Return which fits do not say where the minimum is: it rings or depends on the start.

    Parameters
    ----------
    shared : Problem
        Its bounds and frequencies.
    block : Block
        Of n categories.
    g : complex array, shape (n, frequencies)
        Coefficients of the templates.
    theta : array, shape (n, parameters)
        What stands.
    cov : array, shape (n, parameters, parameters)
        Its covariance.
    fits : list of BlockMinimum
        From all starts.

    Returns
    -------
    bool array, shape (n,)
        True where it is not determined.
    """
    inside = np.minimum.accumulate(np.abs(g) >= noise(block)[:, None], axis=1)
    edge = np.maximum(inside.sum(1) - 1, 0)
    v = theta[:, 1]
    size = np.abs(g)[np.arange(len(g)), edge] * np.exp(-0.5 * shared.w[edge] ** 2 * v)
    rings = size * np.sqrt(block.counts.sum(1)) > SEEN
    error = np.sqrt(np.maximum(cov[:, 1, 1], 0.0))
    differs = [~(np.abs(found.theta[:, 1] - v) < SAME * error) for found in fits]
    return np.asarray(rings | np.any(differs, axis=0))
