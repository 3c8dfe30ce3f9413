"""What all categories of one fit share: bins, frequencies, background shapes, bounds.

The model lives in the logarithm of the mass: m = m_gen (mu + sigma z) is
ln m = ln m_gen + ln mu + ln(1 + s z) with s = sigma / mu, an exact convolution. Its
characteristic function at the frequency w is G(w) exp(i w lambda + psi), lambda = ln mu, where G is
that of the template and psi = sum_m k_m (i w)^m / m! has the cumulants k_m of ln(1 + s z). They are
polynomials in v = s^2, the parameter that the engines fit; v < 0 is a template that is smeared
already and gets narrower.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calib.types import Array

FLOOR = 1e-7
"""Share of the events that the model spreads evenly over the bins: no bin is impossible."""
REACH = 6.0
"""Frequencies above REACH / s are left out: the series of the cumulants is asymptotic."""
WRAP = 5.0
"""The period leaves this many of the largest sigma between the spectrum and its images."""
SLOPE_ERROR = 5.0
"""Standard deviation of the weak constraint on the slope (and the curvature)."""
MOMENTS = 11

# cumulants k1..k5 of ln(1 + s z), divided by m!, as polynomials in v = s^2 (constant term first)
CUMULANTS = np.array(
    [
        [0, -1 / 2, -3 / 4, -5 / 2, 0],
        [0, 1, 5 / 2, 32 / 3, 0],
        [0, 0, -3, -22, 0],
        [0, 0, 0, 20, 0],
        [0, 0, 0, 0, -210],
    ]
) / np.array([[math.factorial(m)] for m in range(1, 6)])


@dataclass(frozen=True)
class Problem:
    """The shared part of many fits.

    Parameters
    ----------
    edges : array, shape (bins + 1,)
        GeV.
    w : array, shape (frequencies,)
        Angular frequencies in ln m, from 0.
    basis : array, shape (2 frequencies, bins)
        Bin contents = [Re phi_0, Im phi_0, Re phi_1, ...] @ basis.
    origin : float
        ln m that the phases refer to.
    nodes, weights : arrays, shape (nodes, bins)
        Quadrature of the background within each bin, in t = (m - low) / (high - low).
    n_background : int
        0 (none), 2 (fraction, slope) or 3 (and curvature) parameters of the background.
    low, high : arrays, shape (2 + 3,)
        Bounds of (lambda, v, background, slope, curvature).
    signed : bool
        Whether v may be negative.
    usual_slope : float
        Of the background; the parameter is the difference to it, constrained about 0.
    """

    edges: Array
    w: Array
    basis: Array
    origin: float
    nodes: Array
    weights: Array
    n_background: int
    low: Array
    high: Array
    signed: bool
    usual_slope: float = 0.0

    @property
    def n_parameters(self) -> int:
        """Number of parameters, at least the four of the results (fixed ones included)."""
        return max(4, 2 + self.n_background)

    @property
    def least(self) -> float:
        """Content below which a bin counts as empty: what is left of it is not the model's."""
        return (1e-4 if self.signed else 0.01 * FLOOR) / self.n_bins

    @property
    def n_bins(self) -> int:
        """Number of bins."""
        return len(self.edges) - 1


def problem(
    edges: Array,
    mass_range: tuple[float, float],
    sigma_range: tuple[float, float],
    background: str,
    signed: bool,
    mu_range: tuple[float, float],
    usual_slope: float = 0.0,
) -> Problem:
    """Return the shared part of the fits.

    Parameters
    ----------
    edges : array, shape (bins + 1,)
        GeV.
    mass_range : (float, float)
        Lowest and highest generated mass, GeV.
    sigma_range : (float, float)
        Smallest and largest relative width. In signed mode the smallest only sets the highest
        frequency, and v is in [-high^2, high^2].
    background : {"none", "exponential", "quadratic"}
    signed : bool
        Whether v may be negative.
    mu_range : (float, float)
        Bounds of mu, a ratio of masses.
    usual_slope : float
        Of the background.

    Returns
    -------
    Problem
        For all categories.
    """
    x = np.log(edges)
    low, high = math.log(mass_range[0]), math.log(mass_range[1])
    shift = max(abs(math.log(mu_range[0])), abs(math.log(mu_range[1])))
    span = max(high - x[0], x[-1] - low, x[-1] - x[0]) + WRAP * sigma_range[1] + shift
    n = max(8, math.ceil(REACH / sigma_range[0] * span / (2 * math.pi)) + 1)
    w = 2 * np.pi / span * np.arange(n)
    origin = 0.5 * (x[0] + x[-1])
    phase = np.exp(-1j * np.outer(w[1:], x - origin))
    integral = (phase[:, :-1] - phase[:, 1:]) / (1j * w[1:, None])
    basis = np.zeros((2 * n, len(x) - 1))
    basis[0] = np.diff(x) / span
    basis[2::2] = 2 / span * integral.real
    basis[3::2] = -2 / span * integral.imag
    nodes, weights = _quadrature(edges, background)
    v_high = sigma_range[1] ** 2
    return Problem(
        edges,
        w,
        basis,
        origin,
        nodes,
        weights * np.exp(-usual_slope * nodes),
        {"none": 0, "exponential": 2, "quadratic": 3}[background],
        np.array(
            [math.log(mu_range[0]), -v_high if signed else sigma_range[0] ** 2, 0.0, -30.0, -30.0]
        ),
        np.array([math.log(mu_range[1]), v_high, 0.99, 30.0, 30.0]),
        signed,
        usual_slope,
    )


def _quadrature(edges: Array, background: str) -> tuple[Array, Array]:
    """Return nodes and weights; one node a bin is exact for an exponential in equal bins."""
    t = (edges - edges[0]) / (edges[-1] - edges[0])
    width = np.diff(t)
    if background != "quadratic" and np.allclose(width, width[0], rtol=1e-9):
        return (0.5 * (t[1:] + t[:-1]))[None], np.ones((1, len(width)))
    at, weight = np.polynomial.legendre.leggauss(4)
    nodes = 0.5 * (t[1:] + t[:-1]) + 0.5 * width * at[:, None]
    return nodes, weight[:, None] * width * 0.5


def polynomials(v: Array) -> tuple[Array, Array, Array]:
    """Return the cumulants / m! and their first and second derivatives.

    Parameters
    ----------
    v : array, shape (n,)
        (sigma / mu)^2.

    Returns
    -------
    array, shape (n, 5)
        kappa_m(v) / m! for m = 1 to 5.
    array, shape (n, 5)
        Their first derivatives in v.
    array, shape (n, 5)
        Their second derivatives in v.
    """
    powers = v[:, None] ** np.arange(5)
    first = CUMULANTS[:, 1:] * np.arange(1, 5)
    second = first[:, 1:] * np.arange(1, 4)
    return powers @ CUMULANTS.T, powers[:, :4] @ first.T, powers[:, :3] @ second.T


def coefficients(shared: Problem, templates: Array, mass: Array) -> Array:
    """Return G of each category, the characteristic function of its template in ln m.

    Parameters
    ----------
    shared : Problem
        Its frequencies and origin.
    templates : array, shape (n, gen bins)
        With a positive sum in each row.
    mass : array, shape (gen bins,) or (n, gen bins)
        Mean mass of each gen bin, GeV; any positive number where a bin is empty.

    Returns
    -------
    complex array, shape (n, frequencies)
        1 at the frequency 0.
    """
    g = templates / templates.sum(1, keepdims=True)
    used = (templates != 0).any(0)
    g, x = g[:, used], np.log(mass[..., used]) - shared.origin
    if x.ndim == 1:
        return _transform(g, x, shared.w)
    centre = x.mean(0)
    delta = np.where(g != 0, x - centre, 0.0)
    reach = float(np.abs(delta).max() * shared.w[-1])
    if reach > 2.0:  # axes that differ between categories: no common centre to expand about
        return np.stack([_transform(a[None], b, shared.w)[0] for a, b in zip(g, x, strict=True)])
    total = _transform(g, centre, shared.w)
    term, bound, order = g, 1.0, 0
    while True:
        order += 1
        bound *= reach / order
        if bound < 1e-12:
            return total
        term = term * (delta / order)
        total = total + (1j * shared.w) ** order * _transform(term, centre, shared.w)


def _transform(g: Array, x: Array, w: Array) -> Array:
    phase = np.outer(x, w)
    out = np.empty((len(g), len(w)), dtype=complex)
    out.real = g @ np.cos(phase)
    out.imag = g @ np.sin(phase)
    return out
