"""Many likelihoods of one kind of quantity, which lean on what they have in common.

Each row has a likelihood of its x. The rows' true values scatter around a linear model with an
unknown spread:

    x_r ~ t_4(m_r, tau),  m_r = J_r . theta,  tau ~ half-normal,  theta ~ normal prior.

The tails of the t-distribution (4 degrees of freedom) let a single odd row be odd without pulling
the others. What comes out is the posterior mean and the covariance of all x: a row with many
events keeps its own value, one without any has that of the model, with the spread in its error.

The integral over x is a sum on a grid, theta is at its best for each tau with the curvature there
(Laplace), tau is summed over a grid. Source: A. Gelman et al., Bayesian Data Analysis, 3rd ed.,
chapters 5 (hierarchical models) and 17 (t distributions).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from calib.types import Array, BoolArray

if TYPE_CHECKING:
    from scipy.interpolate import CubicSpline

DEGREES = 4
GRID = np.linspace(-1.5, 1.5, 1201)
"""Of x."""
CENTRES = np.linspace(-0.8, 0.8, 161)
"""Of the model's value; it is held within."""
SPREADS = np.array([0.004, 0.01, 0.02, 0.032, 0.046, 0.064, 0.088, 0.12, 0.16, 0.22, 0.3, 0.42])
"""Of tau."""


@dataclass(frozen=True)
class Prior:
    """Of the model: ``precision`` (k, k) of theta around 0, and the scale of tau."""

    precision: Array
    spread: float = 0.15


@dataclass(frozen=True)
class _AtSpread:
    """The posterior at one tau: theta, its covariance, the logarithm of its weight."""

    spread: float
    theta: Array
    covariance: Array
    log_weight: float


@dataclass(frozen=True)
class Population:
    """What rows have in common: theta and tau, after all likelihoods.

    ``theta`` (k,) is the mean, ``covariance`` (k, k) its posterior covariance; ``spread`` is the
    root mean square of the deviations x - m that the posterior of tau stands for.
    """

    theta: Array
    covariance: Array
    spread: float
    parts: tuple[_AtSpread, ...]


@dataclass(frozen=True)
class Estimate:
    """Posterior of the x of some rows: ``mean`` (n,), ``covariance`` (n, n)."""

    mean: Array
    covariance: Array

    @property
    def error(self) -> Array:
        """Standard deviations, shape (n,)."""
        return np.asarray(np.sqrt(np.diag(self.covariance)))


def on_grid(x: Array, nll: Array) -> Array:
    """Return likelihoods on the common grid, each 1 at its largest.

    Parameters
    ----------
    x, nll : arrays, shape (rows, points)
        Negative log-likelihoods on grids of their own; beyond its ends a row goes on with the
        slope that it has there, if it rises.

    Returns
    -------
    array, shape (rows, len(GRID))
    """
    found = np.empty((len(x), len(GRID)))
    for r, (own, values) in enumerate(zip(x, nll, strict=True)):
        inside = np.interp(GRID, own, values)
        low = max((values[0] - values[1]) / (own[1] - own[0]), 0.0)
        high = max((values[-1] - values[-2]) / (own[-1] - own[-2]), 0.0)
        inside += low * np.maximum(own[0] - GRID, 0) + high * np.maximum(GRID - own[-1], 0)
        found[r] = np.exp(-(inside - inside.min()))
    return found


@dataclass(frozen=True)
class _Tables:
    """Of rows at one tau, against the model's value: log evidence, mean and variance of x."""

    log_evidence: CubicSpline
    mean: CubicSpline
    variance: CubicSpline


@lru_cache(maxsize=len(SPREADS))
def _kernel(spread: float) -> Array:
    """Return the density of x (rows) around each centre (columns), 1 in sum over x."""
    u = (GRID[:, None] - CENTRES[None, :]) / spread
    kernel = (1 + u**2 / DEGREES) ** (-0.5 * (DEGREES + 1))
    return np.asarray(kernel / kernel.sum(0))


def _tables(likelihood: Array, spread: float) -> _Tables:
    from scipy.interpolate import CubicSpline  # slow to load

    kernel = _kernel(float(spread))
    evidence = np.maximum(likelihood @ kernel, 1e-290)
    mean = (likelihood * GRID) @ kernel / evidence
    square = (likelihood * GRID**2) @ kernel / evidence
    variance = np.maximum(square - mean**2, 1e-12)
    return _Tables(
        CubicSpline(CENTRES, np.log(evidence), axis=1),
        CubicSpline(CENTRES, mean, axis=1),
        CubicSpline(CENTRES, variance, axis=1),
    )


def _each(spline: CubicSpline, centres: Array, order: int = 0) -> Array:
    """Return the value of each row's own spline at its centre, shape (rows,)."""
    found = spline(np.clip(centres, CENTRES[0], CENTRES[-1]), order)
    return np.asarray(np.diagonal(found))


def population(likelihood: Array, model: Array, prior: Prior, used: BoolArray) -> Population:
    """Return theta and tau after the likelihoods of the rows that are used.

    Parameters
    ----------
    likelihood : array, shape (rows, len(GRID))
        As `on_grid` gives it.
    model : array, shape (rows, k)
        J: the model's value of each row is J . theta.
    prior : Prior
        Of theta and tau.
    used : bool array, shape (rows,)
        Rows whose likelihood counts.

    Returns
    -------
    Population
        theta of k elements, with covariance, and tau.
    """
    own, rows = likelihood[used], model[used]
    theta, parts = np.zeros(model.shape[1]), []
    for spread in SPREADS:
        tables = _tables(own, spread)
        theta, hessian, value = _best(tables, rows, prior, theta)
        _, determinant = np.linalg.slogdet(hessian)
        density = (
            -0.5 * (spread / prior.spread) ** 2
            + np.log(np.gradient(SPREADS))[list(SPREADS).index(spread)]
        )
        parts.append(
            _AtSpread(
                float(spread),
                theta,
                np.asarray(np.linalg.inv(hessian), dtype=np.float64),
                value - 0.5 * float(determinant) + density,
            )
        )
    weights = _weights(parts)
    theta = np.einsum("i,ik->k", weights, [p.theta for p in parts])
    apart = np.array([p.theta - theta for p in parts])
    covariance = np.einsum("i,ikl->kl", weights, [p.covariance for p in parts])
    covariance += np.einsum("i,ik,il->kl", weights, apart, apart)
    size = DEGREES / (DEGREES - 2) * np.sum(weights * SPREADS**2)
    return Population(theta, covariance, float(np.sqrt(size)), tuple(parts))


def _weights(parts: list[_AtSpread] | tuple[_AtSpread, ...]) -> Array:
    logs = np.array([p.log_weight for p in parts])
    weights = np.exp(logs - logs.max())
    return np.asarray(weights / weights.sum())


def _best(tables: _Tables, rows: Array, prior: Prior, start: Array) -> tuple[Array, Array, float]:
    """Return theta at its best, the Hessian there, and the log posterior; Newton with damping."""

    def value(theta: Array) -> float:
        fit = _each(tables.log_evidence, rows @ theta).sum()
        return float(fit - 0.5 * theta @ prior.precision @ theta)

    theta, now, damping = start.copy(), value(start), 1e-3
    hessian = prior.precision
    for _ in range(50):
        centres = rows @ theta
        first = _each(tables.log_evidence, centres, 1)
        # a row that is far out is not concave there; it has no say in the step
        second = np.maximum(-_each(tables.log_evidence, centres, 2), 0.0)
        gradient = rows.T @ first - prior.precision @ theta
        hessian = (rows.T * second) @ rows + prior.precision
        while True:
            change = np.linalg.solve(hessian + damping * np.diag(np.diag(hessian)), gradient)
            new = value(theta + change)
            if new >= now or damping > 1e6:
                break
            damping *= 10
        if not new >= now:
            break
        gain, theta, now, damping = new - now, theta + change, new, max(damping / 10, 1e-9)
        if gain < 1e-9:
            break
    return theta, hessian, now


def estimate(likelihood: Array, model: Array, found: Population) -> Estimate:
    """Return the posterior of x of rows: their own likelihood and what they have in common.

    Parameters
    ----------
    likelihood : array, shape (rows, len(GRID))
        Of ones for a row without a value of its own.
    model : array, shape (rows, k)
        J, as of `population`.
    found : Population
        What all rows have in common.

    Returns
    -------
    Estimate
        Means of shape (rows,), covariance of shape (rows, rows).
    """
    weights = _weights(found.parts)
    means, inner = [], np.zeros((len(model), len(model)))
    for weight, part in zip(weights, found.parts, strict=True):
        if weight < 1e-6:
            means.append(np.zeros(len(model)))
            continue
        tables = _tables(likelihood, part.spread)
        centres = model @ part.theta
        means.append(_each(tables.mean, centres))
        slope = _each(tables.mean, centres, 1)[:, None] * model
        own = np.maximum(_each(tables.variance, centres), 0.0)
        inner += weight * (np.diag(own) + slope @ part.covariance @ slope.T)
    mean = np.einsum("i,ir->r", weights, means)
    apart = np.array(means) - mean
    apart[weights < 1e-6] = 0.0
    return Estimate(mean, inner + np.einsum("i,ir,is->rs", weights, apart, apart))
