"""Fits of the kernel model to every category at once: thousands in a second.

Use it for a mass peak whose generated shape is known per category (template (x) Gaussian relative
in mass, with a smooth background) and for one category or 20 000. For any other model use
`calib.fitting.minuit`, one category at a time.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Literal

import numpy as np
import numpy.typing as npt

from calib.errors import InputError
from calib.fitting.kernel import retries
from calib.fitting.kernel.assess import NUMPY
from calib.fitting.kernel.block import Block
from calib.fitting.kernel.block import Engine as Solver
from calib.fitting.kernel.checks import Data, checked
from calib.fitting.kernel.problem import Problem, coefficients, problem
from calib.fitting.kernel.result import CategoryFits, Solution, empty, finished
from calib.results import Status
from calib.types import AnyArray, Array, BoolArray

log = logging.getLogger(__name__)

Engine = Literal["auto", "numpy", "compiled", "minuit"]
Background = Literal["exponential", "quadratic", "none"]
ENGINES = ("auto", "numpy", "compiled", "minuit")
BACKGROUNDS = ("exponential", "quadratic", "none")
BLOCK = 500
BLOCK_MINUIT = 20
COMMON = (0.005, 0.025)
"""Relative widths at which the first rung looks; others need more frequencies."""
SMALL = 200
"""Categories below which compiled code is not worth loading."""


@dataclass(frozen=True)
class Plan:
    """The problem in two resolutions, and how to solve it."""

    coarse: Problem
    fine: Problem
    engine: Solver | None
    start: Array
    template_errors: bool
    min_events: float


def fit_categories(
    counts: npt.ArrayLike,
    edges: npt.ArrayLike,
    templates: npt.ArrayLike,
    template_mass: npt.ArrayLike,
    *,
    engine: Engine = "auto",
    variance: npt.ArrayLike | None = None,
    background: Background = "exponential",
    template_variance: npt.ArrayLike | None = None,
    template_errors: bool = True,
    smeared: bool = False,
    start: Sequence[float] = (1.0, 0.012, 0.08, 0.3),
    sigma_range: tuple[float, float] | None = None,
    mu_range: tuple[float, float] | None = None,
    min_events: float = 10.0,
    usual_slope: float = 0.0,
    threads: int | None = None,
) -> CategoryFits:
    """Fit scale and resolution of every category.

    Parameters
    ----------
    counts : array, shape (n, bins)
        Events per bin, or sums of weights (then give ``variance``).
    edges : array, shape (bins + 1,)
        GeV, ascending, in bins of any width.
    templates : array, shape (n, gen bins) or (gen bins,)
        Generated events per bin of generated mass, on an axis wider than the window. Several
        peaks (Upsilon 1S, 2S, 3S) share mu and sigma.
    template_mass : array, shape (gen bins,) or (n, gen bins)
        Mean generated mass of the entries of each bin, GeV. The centre is not the mean.
    engine : {"auto", "numpy", "compiled", "minuit"}
        ``auto`` chooses by the number of categories.
    variance : array, shape (n, bins), optional
        Sums of squared weights per bin of ``counts``.
    background : {"exponential", "quadratic", "none"}
        exp(-slope t), exp(-slope t - curvature t^2), or no background.
    template_variance : array, shape (n, gen bins), optional
        Sums of squared weights per gen bin; by default ``templates`` are counts.
    template_errors : bool
        Whether the statistics of the template are part of the covariance.
    smeared : bool
        Whether the template is smeared already; then sigma^2 may be negative. Where it is so far
        below zero that the bandwidth of the template does not suffice, or where the minimum
        depends on the start, the status is ``not_determined``.
    start : sequence of four float
        First start: mu, sigma, background, slope.
    sigma_range, mu_range : (float, float), optional
        Limits; by default from the width of the bins to 0.3 of the window (in log mass), and
        5 %, at most a quarter of the window, about 1.
    min_events : float
        Effective events below which a category is not fitted (``too_few_events``).
    usual_slope : float
        Of the background: the weak constraint of the slope (5) is about it. Where a category has
        too few events to know its own, it has this one.
    threads : int, optional
        By default as many as the process may use. The result does not depend on it.

    Returns
    -------
    CategoryFits

    Raises
    ------
    InputError
        If the arrays do not fit together; the sentence has their names and numbers.
    """
    _choice("engine", engine, ENGINES)
    _choice("background", background, BACKGROUNDS)
    data = checked(counts, edges, templates, template_mass, variance, template_variance)
    chosen = _engine(engine, len(data.counts))
    if chosen == "minuit" and smeared:
        raise InputError(
            "engine: found minuit with smeared=True; a signed variance is not in the model with"
            " error functions; use numpy or compiled"
        )
    plan = _plan(
        data,
        chosen,
        background,
        smeared,
        start,
        sigma_range,
        mu_range,
        min_events,
        template_errors,
        usual_slope,
    )
    solution = empty(len(data.counts), plan.fine.n_parameters)
    every = _by_width(data.counts)
    size = BLOCK if plan.engine else BLOCK_MINUIT
    blocks = [every[first : first + size] for first in range(0, len(every), size)]
    _each(lambda rows: _fit_block(plan, data, rows, solution), blocks, _threads(threads))
    found = finished(plan.fine, data, solution, chosen)
    log.debug("%d categories, %d ok, engine %s", len(found), found.ok.sum(), chosen)
    return found


def _choice(name: str, value: object, allowed: Sequence[str]) -> None:
    if value not in allowed:
        raise InputError(f"{name}: found {value!r}, expected one of {', '.join(allowed)}")


def _threads(threads: int | None) -> int:
    if threads is None:
        usable = getattr(os, "sched_getaffinity", None)  # not on every system
        return len(usable(0)) if usable else (os.cpu_count() or 1)
    if threads < 1:
        raise InputError(f"threads: found {threads}, expected at least 1")
    return threads


def _each(call: Callable[[AnyArray], None], blocks: Sequence[AnyArray], threads: int) -> None:
    """Do the blocks; they do not depend on the number of threads, and neither does the result."""
    if min(threads, len(blocks)) < 2:
        for rows in blocks:
            call(rows)
        return
    with ThreadPoolExecutor(min(threads, len(blocks))) as pool:
        for _ in pool.map(call, blocks):
            pass


def _engine(engine: str, n: int) -> str:
    if engine != "auto":
        return engine
    return "compiled" if n >= SMALL else "numpy"


def _plan(
    data: Data,
    engine: str,
    background: str,
    smeared: bool,
    start: Sequence[float],
    sigma_range: tuple[float, float] | None,
    mu_range: tuple[float, float] | None,
    min_events: float,
    template_errors: bool,
    usual_slope: float,
) -> Plan:
    window = float(np.log(data.edges[-1] / data.edges[0]))
    narrowest = float(np.diff(np.log(data.edges)).min())
    sigma_low, sigma_high = sigma_range or (
        min(max(0.4 * narrowest, 2e-4), 0.1 * window),
        min(0.1, 0.3 * window),
    )
    move = min(0.05, 0.25 * window)
    mu_low, mu_high = mu_range or (float(np.exp(-move)), float(np.exp(move)))
    if not 0 < sigma_low < sigma_high < 0.2:
        raise InputError(
            f"sigma_range: found ({sigma_low:g}, {sigma_high:g}); expected two relative widths,"
            " ascending, between 0 and 0.2"
        )
    if not 0.5 < mu_low < 1 < mu_high < 2:
        raise InputError(
            f"mu_range: found ({mu_low:g}, {mu_high:g}); expected limits below and above 1,"
            " within (0.5, 2)"
        )
    if len(start) < 4:
        raise InputError(
            f"start: found {len(start)} numbers; expected mu, sigma, background, slope"
        )
    used = (data.templates != 0).any(0) if data.mass.ndim == 1 else data.templates != 0
    masses = data.mass[used] if used.any() else data.edges[[0, -1]]
    span = (float(masses.min()), float(masses.max()))
    common = (max(sigma_low, min(COMMON[0], sigma_high / 2)), min(sigma_high, COMMON[1]))
    if smeared or common[0] >= common[1]:
        common = (sigma_low, sigma_high)
    shapes = [
        problem(data.edges, span, limits, background, smeared, (mu_low, mu_high), usual_slope)
        for limits in (common, (sigma_low, sigma_high))
    ]
    coarse, fine = shapes
    theta = np.zeros(fine.n_parameters)
    theta[:4] = np.log(start[0]), start[1] ** 2, start[2], start[3] - usual_slope
    if smeared:
        theta[1], fine = 0.0, coarse
    if not fine.n_background:
        theta[2:] = 0.0
    p = fine.n_parameters
    theta = np.clip(theta, coarse.low[:p], coarse.high[:p])
    return Plan(coarse, fine, _solver(engine), theta, template_errors, min_events)


def _solver(engine: str) -> Solver | None:
    if engine == "minuit":
        return None
    if engine == "compiled":
        from calib.fitting.kernel.compiled import (
            COMPILED,  # loads compiled code: only where it is used
        )

        return COMPILED
    return NUMPY


def _fit_block(plan: Plan, data: Data, rows: AnyArray, solution: Solution) -> None:
    """Fit some categories and put what was found into the solution."""
    counts, templates = data.counts[rows], data.templates[rows]
    variance = counts if data.variance is None else data.variance[rows]
    spread = variance.sum(1)
    scale = counts.sum(1) / np.where(spread > 0, spread, 1.0)
    events = counts.sum(1) * scale
    content = templates.sum(1)
    few = (counts.sum(1) <= 0) | (events < plan.min_events)
    void = (content <= 0) | ~_in_reach(plan.fine, data, rows)
    solution.status[rows[few]] = Status.TOO_FEW_EVENTS.value
    solution.status[rows[void]] = Status.NO_TEMPLATE.value
    good = ~few & ~void
    if not good.any():
        return
    rows = rows[good]
    block = Block(
        rows,
        counts[good] * scale[good, None],
        None if data.variance is None else variance[good],
        scale[good],
        templates[good],
        None if data.template_variance is None else data.template_variance[rows],
        data.mass if data.mass.ndim == 1 else data.mass[rows],
    )
    fixed = np.zeros(plan.fine.n_parameters, dtype=bool)
    fixed[2 + plan.fine.n_background :] = True
    task = retries.BlockTask(
        plan.coarse, plan.fine, plan.engine, plan.start, fixed, plan.template_errors
    )
    g = coefficients(plan.coarse, block.templates, block.mass)
    retries.fit_block(task, block, g, solution)


def _by_width(counts: Array) -> AnyArray:
    """Return the categories in the order of the spread of their events.

    A block needs as many frequencies as its narrowest peak.
    """
    below = np.cumsum(np.maximum(counts, 0.0), axis=1)
    total = below[:, -1:]
    middle = (below > 0.2 * total) & (below < 0.8 * total)
    return np.argsort(middle.sum(1), kind="stable")


def _in_reach(shared: Problem, data: Data, rows: AnyArray) -> BoolArray:
    """Return which templates have entries that can be seen in the window."""
    room = float(np.exp(shared.high[0] + 3 * np.sqrt(shared.high[1])))
    low, high = data.edges[0] / room, data.edges[-1] * room
    mass = data.mass if data.mass.ndim == 1 else data.mass[rows]
    inside = (mass > low) & (mass < high)
    return np.asarray(np.where(inside, data.templates[rows], 0.0).sum(1) > 0)
