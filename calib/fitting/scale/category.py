"""The categories of one resonance in the shared likelihood, and what they say at a point."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.errors import InputError
from calib.fitting.kernel import covariance, numpy_engine
from calib.fitting.kernel.numpy_engine import ModelState
from calib.fitting.kernel.problem import FLOOR, Problem, coefficients, problem
from calib.fitting.scale.model import Means
from calib.types import AnyArray, Array, BoolArray

BLOCK = 500
LEAST = 1e-6
"""Eigenvalues below it (unit: the expected information) are not those of a minimum."""


@dataclass(frozen=True)
class Part:
    """The categories of one resonance: histograms, reference, and where to start.

    Parameters
    ----------
    counts : array, shape (n, bins)
        Events per bin, or sums of weights (then with ``variance``).
    variance : array, shape (n, bins), or None
        Sums of squared weights.
    edges : array, shape (bins + 1,)
        GeV.
    templates : array, shape (n, gen bins)
        Generated events.
    template_variance : array, shape (n, gen bins), or None
        Sums of squared weights; None where ``templates`` are counts, zeros where the template is
        exact, or shared with the reference so that its fluctuations drop out.
    template_mass : array, shape (gen bins,) or (n, gen bins)
        Mean generated mass of each gen bin, GeV.
    means : Means
    background : {"exponential", "quadratic", "none"}
    fraction, slope : arrays, shape (n,)
        Where the background starts.
    usual_slope : float
        About which the slopes are constrained, weakly; see `calib.fit_categories`.
    log_mu, v : arrays, shape (n,)
        Of the reference: ln of its mu, and (sigma/mu)^2. The parameters add to them.
    reference_covariance : array, shape (n, 2, 2)
        Of (log_mu, v); zeros where they are exact.
    """

    counts: Array
    variance: Array | None
    edges: Array
    templates: Array
    template_variance: Array | None
    template_mass: Array
    means: Means
    background: str
    fraction: Array
    slope: Array
    log_mu: Array
    v: Array
    reference_covariance: Array
    usual_slope: float = 0.0

    def __len__(self) -> int:
        return len(self.counts)


@dataclass(frozen=True)
class Prepared:
    """A part with what does not change during the fit: effective counts, coefficients."""

    part: Part
    shared: Problem
    counts: Array
    scale: Array
    saturated: Array
    g: AnyArray
    fixed: BoolArray

    def __len__(self) -> int:
        return len(self.counts)

    @property
    def blocks(self) -> list[slice]:
        """Rows that are worked on at once: the memory stays small."""
        return [slice(i, min(i + BLOCK, len(self))) for i in range(0, len(self), BLOCK)]


def prepared(part: Part, v: Array) -> Prepared:
    """Return the part, ready for fits of widths about v.

    Parameters
    ----------
    part : Part
        Of n categories.
    v : array, shape (n,)
        (sigma / mu)^2.

    Returns
    -------
    Prepared
        Coefficients of the templates, effective counts.

    Raises
    ------
    InputError
        If there are categories without events or template.
    """
    events, content = part.counts.sum(1), part.templates.sum(1)
    empty = np.flatnonzero(~((events > 0) & (content > 0) & np.isfinite(part.log_mu + v)))
    if len(empty):
        raise InputError(
            f"counts, templates, log_mu, v: {len(empty)} categories, the first {empty[0]}, have no"
            " events, no template or no reference; expected only categories whose fit is ok; drop"
            " the others"
        )
    shared = _problem(part, v)
    variance = part.counts if part.variance is None else part.variance
    scale = events / variance.sum(1)
    counts = part.counts * scale[:, None]
    size = np.abs(counts)
    share = np.where(size > 0, size, 1.0) / counts.sum(1, keepdims=True)
    saturated = np.where(size > 0, counts * np.log(share), 0.0).sum(1)
    g = np.empty((len(part), len(shared.w)), dtype=complex)
    for first in range(0, len(part), BLOCK):
        at = slice(first, first + BLOCK)
        g[at] = coefficients(shared, part.templates[at], _rows(part.template_mass, at))
    fixed = np.zeros(shared.n_parameters, dtype=bool)
    fixed[2 + shared.n_background :] = True
    return Prepared(part, shared, counts, scale, saturated, g, fixed)


def _problem(part: Part, v: Array) -> Problem:
    window = float(np.log(part.edges[-1] / part.edges[0]))
    width = np.sqrt(np.maximum(v, 1e-8))
    low = max(0.5 * float(width.min()), 0.2 * float(np.diff(np.log(part.edges)).min()), 2e-4)
    high = min(max(1.6 * float(width.max()), 2 * low), 0.15)
    used = part.templates != 0
    if part.template_mass.ndim == 1:
        used = used.any(0)
    masses = part.template_mass[used]
    move = min(0.05, 0.25 * window)
    mu_range = (float(np.exp(-move)), float(np.exp(move)))
    span = (float(masses.min()), float(masses.max()))
    widths = (min(low, 0.5 * high), high)
    return problem(part.edges, span, widths, part.background, False, mu_range, part.usual_slope)


def _rows(mass: Array, at: slice) -> Array:
    return mass if mass.ndim == 1 else mass[at]


def evaluate(data: Prepared, theta: Array, near: bool) -> tuple[Array, Array, Array, Array]:
    """Return NLL, gradient and Hessian of every category in (lambda, v, background, slope, ...).

    Parameters
    ----------
    data : Prepared
        Of n categories.
    theta : array, shape (n, p)
        (lambda, v, background, slope[, curvature]).
    near : bool
        Whether the Hessian is the exact one, made positive definite in the background's parameters;
        else Fisher's.

    Returns
    -------
    array, shape (n,)
        NLL.
    array, shape (n, p)
        Gradient.
    array, shape (n, p, p)
        Hessian.
    array, shape (n, 2, 2)
        Expected Hessian of the profile in (lambda, v).
    """
    n, p = theta.shape
    nll, slope, hessian = np.empty(n), np.empty((n, p)), np.empty((n, p, p))
    usual = np.empty((n, 2, 2))
    for at in data.blocks:
        counts, here = data.counts[at], theta[at]
        state = numpy_engine.evaluate(data.shared, data.g[at], here)
        nll[at] = numpy_engine.likelihood(data.shared, counts, data.saturated[at], state, here)
        slope[at] = numpy_engine.gradient(data.shared, counts, state, here)
        expected = numpy_engine.fisher(data.shared, counts.sum(1), state)
        hessian[at] = expected
        if near:
            hessian[at] = numpy_engine.exact(data.shared, counts, state, here)
            held = outward(data, here, slope[at])[:, 2:]
            hessian[at, 2:, 2:] = _definite(hessian[at, 2:, 2:], expected[:, 2:, 2:], held)
            usual[at] = profiled(expected, held)
        else:
            usual[at] = profiled(expected, outward(data, here, slope[at])[:, 2:])
    return nll, slope, hessian, usual


def profiled(hessian: Array, held: BoolArray) -> Array:
    """Return the Hessian of the profile over the parameters that are not held.

    Parameters
    ----------
    hessian : array, shape (n, p, p)
        In (lambda, v, background, slope, ...).
    held : bool array, shape (n, p - 2)
        Parameters of the background that are held.

    Returns
    -------
    array, shape (n, 2, 2)
        In (lambda, v).
    """
    free = ~held
    inverse = np.linalg.inv(without(hessian[:, 2:, 2:], held))
    inverse *= free[:, :, None] & free[:, None, :]
    cross = hessian[:, :2, 2:]
    return np.asarray(
        hessian[:, :2, :2] - np.matmul(cross, np.matmul(inverse, cross.transpose(0, 2, 1)))
    )


def adjustment(data: Prepared, theta: Array, held: BoolArray) -> Array:
    """Return the gradient in (lambda, v) that the fitted backgrounds leave behind.

    A profile likelihood forgets that its background was fitted to the same events: its score is not
    zero on average, but a = sum_k N (dt_k/dx)/t_k tr(i^-1 d2t_k/dl2) / 2, where dt_k/dx follows the
    background l, and i is the expected information on l. The same in every category, it does not
    average out.

    Parameters
    ----------
    data : Prepared
        Of n categories.
    theta : array, shape (n, p)
        The point.
    held : bool array, shape (n, p)
        Parameters that are held.

    Returns
    -------
    array, shape (n, 2)
        In (lambda, v).

    References
    ----------
    Modified profile likelihood: O. Barndorff-Nielsen, Biometrika 70 (1983) 343, in the form of T.
    Severini, Biometrika 85 (1998) 403.
    """
    out = np.zeros((len(data), 2))
    for at in data.blocks:
        total = data.counts[at].sum(1)
        state = numpy_engine.evaluate(data.shared, data.g[at], theta[at])
        expected = numpy_engine.fisher(data.shared, total, state)
        stay = held[at, 2:]
        inverse = np.linalg.inv(without(expected[:, 2:, 2:], stay))
        free = ~stay
        inverse *= free[:, :, None] & free[:, None, :]
        follow = np.matmul(expected[:, :2, 2:], inverse)
        dt = state.rows[:, :2] - np.matmul(follow, state.rows[:, 2:])
        ratio = dt * (total[:, None] / state.t)[:, None]
        known = (inverse[:, :, :, None] * _second(data, state, theta[at])).sum((1, 2))
        out[at] = 0.5 * np.matmul(ratio, known[:, :, None])[:, :, 0]
    return out


def _second(data: Prepared, state: ModelState, theta: Array) -> Array:
    """Return d2 t / dl2 of the background's parameters, shape (n, p - 2, p - 2, bins)."""
    share = 1 - FLOOR
    p = theta.shape[1] - 2
    out = np.zeros((len(theta), p, p, data.shared.n_bins))
    if data.shared.n_background:
        out[:, 0, 1:] = out[:, 1:, 0] = share * state.background_rows
        out[:, 1:, 1:] = (share * theta[:, 2])[:, None, None, None] * state.background_second
    return out


def spread(data: Prepared, theta: Array) -> tuple[Array, float]:
    """Return what weights and template add to the variance of the score, and the NLL.

    Parameters
    ----------
    data : Prepared
        Of n categories.
    theta : array, shape (n, p)
        The point.

    Returns
    -------
    array, shape (n, p, p)
        Variance of the score that is added.
    float
        NLL above the saturated model's, without the constraint, of all categories.
    """
    part = data.part
    p = theta.shape[1]
    out = np.zeros((len(data), p, p))
    variance = part.templates if part.template_variance is None else part.template_variance
    with_template = bool(np.any(variance))
    nll = float(data.saturated.sum())
    for at in data.blocks:
        here, counts = theta[at], data.counts[at]
        state = numpy_engine.evaluate(data.shared, data.g[at], here)
        if part.variance is not None:
            weights = part.variance[at]
            out[at] += covariance.weights_term(state, counts, weights, data.scale[at])
        if with_template:
            out[at] += covariance.template_term(
                data.shared,
                state,
                data.g[at],
                here,
                counts.sum(1),
                part.templates[at],
                variance[at],
                _rows(part.template_mass, at),
            )
        nll -= float((counts * np.log(state.t)).sum())
    return out, nll


def outward(data: Prepared, theta: Array, slope: Array) -> BoolArray:
    """Return which parameters stay: fixed, or at a bound with the NLL falling beyond it.

    Parameters
    ----------
    data : Prepared
        Its bounds, and which parameters are fixed.
    theta : array, shape (n, p)
        The point.
    slope : array, shape (n, p)
        Gradient of the NLL there.

    Returns
    -------
    bool array, shape (n, p)
        True where a parameter stays.
    """
    p = theta.shape[1]
    below = (theta <= data.shared.low[:p]) & (slope > 0)
    above = (theta >= data.shared.high[:p]) & (slope < 0)
    return np.asarray(data.fixed | below | above)


def without(matrix: Array, held: BoolArray) -> Array:
    """Return many small matrices with unit rows and columns where something is held.

    Parameters
    ----------
    matrix : array, shape (n, m, m)
        Symmetric.
    held : bool array, shape (n, m)
        What is held.

    Returns
    -------
    array, shape (n, m, m)
        A new array.
    """
    free = ~held
    out = matrix * (free[:, :, None] & free[:, None, :])
    i = np.arange(matrix.shape[1])
    out[:, i, i] += held
    return np.asarray(out)


def _definite(exact: Array, expected: Array, held: BoolArray) -> Array:
    """Return the Hessians, their eigenvalues made positive where they are not (a saddle).

    In units in which the expected information has a unit diagonal.
    """
    size = np.sqrt(np.diagonal(without(expected, held), axis1=1, axis2=2))
    unit = without(exact, held) / (size[:, :, None] * size[:, None, :])
    values, vectors = np.linalg.eigh(unit)
    bad = values[:, 0] < LEAST
    if not bad.any():
        return exact
    turned = vectors[bad] * np.maximum(np.abs(values[bad]), 0.01)[:, None, :]
    repaired = np.matmul(turned, vectors[bad].transpose(0, 2, 1))
    out = exact.copy()
    out[bad] = repaired * (size[bad][:, :, None] * size[bad][:, None, :])
    return out
