"""The same model with error functions, one category at a time, by iminuit.

For a second opinion and for the last rung of the ladder; a hundred times slower than the engines
that work in frequencies. Parameters are (mu, sigma, background, slope[, curvature]).
"""

from __future__ import annotations

import math
import warnings
from typing import Any

import numba
import numpy as np
from iminuit import Minuit

from calib.fitting.kernel.problem import FLOOR, SLOPE_ERROR, Problem
from calib.types import Array, BoolArray

NAMES = ("mu", "sigma", "background", "slope", "curvature")


@numba.njit(cache=True, nogil=True)
def model(theta, edges, g, mass, nodes, weights, n_background):  # type: ignore[no-untyped-def]
    """Return bin contents and their derivatives.

    Parameters
    ----------
    theta : array, shape (parameters,)
        (mu, sigma, background, slope[, curvature]); sigma relative to the generated mass.
    edges : array, shape (bins + 1,)
        In GeV.
    g : array, shape (gen bins,)
        Template, normalised to 1.
    mass : array, shape (gen bins,)
        Means of the gen bins, in GeV.
    nodes, weights : array, shape (nodes, bins)
        Quadrature of the background.
    n_background : int
        Number of its parameters; 0: none.

    Returns
    -------
    array, shape (bins,)
        Bin contents; their sum is 1.
    array, shape (parameters, bins)
        Their derivatives.
    """
    bins = len(edges) - 1
    p = len(theta)
    mu, sigma, f = theta[0], theta[1], theta[2]
    q = np.zeros((3, bins))
    root, norm = 1 / math.sqrt(2.0), 1 / math.sqrt(2 * math.pi)
    for j in range(len(g)):
        if g[j] == 0:
            continue
        last_c, last_d, last_z = 0.0, 0.0, 0.0
        for k in range(bins + 1):
            z = (edges[k] / mass[j] - mu) / sigma
            if z > 7.0 or z < -7.0:
                c, d = (1.0 if z > 0 else 0.0), 0.0
            else:
                c = 0.5 * math.erfc(-z * root)
                d = norm * math.exp(-0.5 * z * z)
            if k:
                q[0, k - 1] += g[j] * (c - last_c)
                q[1, k - 1] -= g[j] * (d - last_d) / sigma
                q[2, k - 1] -= g[j] * (d * z - last_d * last_z) / sigma
            last_c, last_d, last_z = c, d, z
    total = np.array([q[0].sum(), q[1].sum(), q[2].sum()])
    total[0] = max(total[0], 1e-6)
    share = 1 - FLOOR
    t = np.empty(bins)
    rows = np.zeros((p, bins))
    extra = p - 3 if n_background > 0 else 0
    b = np.zeros(bins)
    b_rows = np.zeros((2, bins))
    if extra:
        for k in range(bins):
            for i in range(nodes.shape[0]):
                x = nodes[i, k]
                power = theta[3] * x
                if extra == 2:
                    power += theta[4] * x * x
                e = math.exp(-power) * weights[i, k]
                b[k] += e
                b_rows[0, k] -= e * x
                b_rows[1, k] -= e * x * x
        size = b.sum()
        for i in range(extra):
            b_rows[i] = b_rows[i] / size - b / size * (b_rows[i].sum() / size)
        b = b / size
    for k in range(bins):
        shape = q[0, k] / total[0]
        t[k] = share * ((1 - f) * shape + f * b[k]) + FLOOR / bins
        for i in range(2):
            rows[i, k] = share * (1 - f) * (q[1 + i, k] - shape * total[1 + i]) / total[0]
        if extra:
            rows[2, k] = share * (b[k] - shape)
            for i in range(extra):
                rows[3 + i, k] = share * f * b_rows[i, k]
    return t, rows


@numba.njit(cache=True, nogil=True)
def likelihood(theta, counts, saturated, edges, g, mass, nodes, weights, n_background):  # type: ignore[no-untyped-def]
    """Return the NLL above the saturated model's, and its gradient.

    Parameters
    ----------
    theta : array, shape (parameters,)
        (mu, sigma, background, slope[, curvature]).
    counts : array, shape (bins,)
        Effective counts.
    saturated : float
        Log likelihood of the saturated model.
    edges : array, shape (bins + 1,)
        In GeV.
    g : array, shape (gen bins,)
        Template, normalised to 1.
    mass : array, shape (gen bins,)
        Means of the gen bins, in GeV.
    nodes, weights : array, shape (nodes, bins)
        Quadrature of the background.
    n_background : int
        Number of its parameters; 0: none.

    Returns
    -------
    float
        NLL.
    array, shape (parameters,)
        Gradient.
    """
    t, rows = model(theta, edges, g, mass, nodes, weights, n_background)
    value = saturated
    slope = np.zeros(len(theta))
    for k in range(len(t)):
        value -= counts[k] * math.log(t[k])
        for i in range(len(theta)):
            slope[i] -= counts[k] / t[k] * rows[i, k]
    if n_background > 0:
        for i in range(3, len(theta)):
            value += 0.5 * (theta[i] / SLOPE_ERROR) ** 2
            slope[i] += theta[i] / SLOPE_ERROR**2
    return value, slope


def minuit(
    shared: Problem,
    counts: Array,
    saturated: float,
    template: Array,
    mass: Array,
    start: Array,
    fixed: BoolArray,
    *,
    hesse: bool = True,
) -> Any:
    """Return the fitted Minuit object of one category.

    Parameters
    ----------
    shared : Problem
        Its edges, bounds and the quadrature of the background.
    counts : array, shape (bins,)
        Effective counts.
    saturated : float
        Log likelihood of the saturated model.
    template, mass : array, shape (gen bins,)
        Contents and means of the gen bins, the latter in GeV.
    start : array, shape (parameters,)
        (mu, sigma, background, slope, ...).
    fixed : bool array, shape (parameters,)
        Parameters that stay at their start.
    hesse : bool
        Whether HESSE follows MIGRAD.

    Returns
    -------
    iminuit.Minuit
        After the fit.
    """
    g = template / template.sum()
    last: dict[bytes, tuple[float, Array]] = {}

    def both(theta: Array) -> tuple[float, Array]:
        key = theta.tobytes()
        if key not in last:
            last.clear()
            last[key] = likelihood(
                theta,
                counts,
                saturated,
                shared.edges,
                g,
                mass,
                shared.nodes,
                shared.weights,
                shared.n_background,
            )
        return last[key]

    def value(theta: Array) -> float:
        return float(both(np.asarray(theta, dtype=float))[0])

    def slope(theta: Array) -> Array:
        return both(np.asarray(theta, dtype=float))[1]

    names = NAMES[: len(start)]
    found = Minuit(value, start, grad=slope, name=names)
    found.errordef = Minuit.LIKELIHOOD
    found.strategy = 1
    found.tol = 1e-4  # EDM below 1e-7: compared with the engines to 1e-3 of an error
    s_low = math.sqrt(max(shared.low[1], 1e-8))
    bounds = [
        (math.exp(shared.low[0]), math.exp(shared.high[0])),
        (s_low, math.sqrt(shared.high[1])),
        *zip(shared.low[2:], shared.high[2:], strict=True),
    ]
    sizes = (1e-3, 1e-3, 0.02, 0.5, 0.5)
    for name, bound, size, keep in zip(names, bounds, sizes, fixed, strict=False):
        found.limits[name] = bound
        found.errors[name] = size
        found.fixed[name] = bool(keep)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # iminuit speaks of what the status will say
        found.migrad(ncall=5_000)
        if hesse and found.valid:
            found.hesse()
    return found


def near_limit(found: Any, i: int) -> bool:
    """Return whether a fitted parameter sits at one of its limits.

    Parameters
    ----------
    found : iminuit.Minuit
        After a fit, with limits.
    i : int
        Index of the parameter.

    Returns
    -------
    bool
        True within 1e-4 of the range of its limits.
    """
    low, high = found.limits[i]
    return bool(min(found.values[i] - low, high - found.values[i]) < 1e-4 * (high - low))


def on_limit(found: Any, near: BoolArray) -> Array:
    """Return the fitted values, those near a limit moved onto it.

    Parameters
    ----------
    found : iminuit.Minuit
        After a fit, with limits.
    near : bool array, shape (parameters,)
        Which sit at a limit.

    Returns
    -------
    array, shape (parameters,)
        In the units of the fit.
    """
    values = np.array(found.values)
    for i in np.flatnonzero(near):
        low, high = found.limits[i]
        values[i] = low if values[i] - low < high - values[i] else high
    return values


def slope_at(
    shared: Problem, counts: Array, saturated: float, template: Array, mass: Array, values: Array
) -> Array:
    """Return the gradient of the NLL at a point.

    Parameters
    ----------
    shared : Problem
        Its bins and the quadrature of the background.
    counts : array, shape (bins,)
        Effective counts.
    saturated : float
        Log likelihood of the saturated model.
    template : array, shape (gen bins,)
        Contents, in any normalisation.
    mass : array, shape (gen bins,)
        Means of the gen bins, in GeV.
    values : array, shape (parameters,)
        (mu, sigma, background, slope[, curvature]).

    Returns
    -------
    array, shape (parameters,)
        d NLL / d parameter.
    """
    g = template / template.sum()
    return np.asarray(
        likelihood(
            values,
            counts,
            saturated,
            shared.edges,
            g,
            mass,
            shared.nodes,
            shared.weights,
            shared.n_background,
        )[1]
    )
