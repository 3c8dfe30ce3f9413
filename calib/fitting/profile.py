"""Likelihood of a binned peak with its nuisances profiled, for many rows and shapes at once.

A row is one set of events (a category, a bin of a closure test); each row has a peak shape at
every point x of a grid, given as a cumulative histogram. At each point the mass (a ratio mu to
that of the shape), the background fraction and its slope are fitted; what is left is the
likelihood as a function of x alone, whatever x means.

When to use: the likelihood in the parameter of interest is not a parabola (a width below the
natural width of a resonance), or many hundreds of rows have to be scanned. The grid of 41 points
of 100 rows takes half a second. When not: a single fit with parameters of its own
(`calib.fitting.minuit`).

The likelihood is Poisson with the saturated model subtracted; weighted events enter through the
effective number of entries (G. Bohm, G. Zech, Nucl. Instrum. Meth. A 748 (2014) 1).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np

from calib.types import Array, BoolArray

SLOPE_SIGMA = 5.0
"""Standard deviation of the weak constraint on the slope of the background."""
MU_RANGE = (0.98, 1.02)
MOST_BACKGROUND = 0.9
SLOPES = 10.0
"""Largest slope, of either sign."""

ENOUGH = 1e-2
"""Distance to the least negative log-likelihood at which a fit has converged."""

_ITERATIONS = 200
_MU, _SHARE, _SLOPE = range(3)


@dataclass(frozen=True)
class Window:
    """The bins of the fit, and the even bins in which shapes are given.

    Parameters
    ----------
    edges : array, shape (bins + 1,)
        Of the fit, in GeV.
    shape_low, shape_step : float
        First edge and width of the bins of the shapes, in GeV.
    background : bool
        Whether there is one: exp(-slope u), with u from 0 to 1 over the fit's bins.
    """

    edges: Array
    shape_low: float
    shape_step: float
    background: bool = True


@dataclass(frozen=True)
class Profile:
    """The likelihood of rows at the points of their grids.

    ``nll`` (rows, points) is relative to the saturated model; ``mu``, ``background``, ``slope``
    (rows, points) are the nuisances at their best; ``converged`` says whether they were found.
    """

    nll: Array
    mu: Array
    background: Array
    slope: Array
    converged: BoolArray


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _signal(cumulative, floor, mu, edges, low, step, value, slope):  # type: ignore[no-untyped-def]
    """Write the peak's fraction per bin, and its derivative by mu.

    Between the edges of the shape the cumulative histogram is the Lagrange polynomial through
    four of them. Fractions below the floor are lifted to it, and all are normalised. A peak
    without entries is flat.
    """
    n = len(cumulative)
    before = before_d = total = total_d = 0.0
    for j in range(len(edges)):
        at = (edges[j] / mu - low) / step
        moved = -edges[j] / (mu * mu) / step
        i = min(max(int(at), 1), n - 3)
        t = at - i
        a, b, c, d = cumulative[i - 1], cumulative[i], cumulative[i + 1], cumulative[i + 2]
        # the polynomial in powers of t
        p1 = -a / 3.0 - b / 2.0 + c - d / 6.0
        p2 = (a + c) / 2.0 - b
        p3 = (d - a) / 6.0 + (b - c) / 2.0
        here = ((p3 * t + p2) * t + p1) * t + b
        here_d = ((3.0 * p3 * t + 2.0 * p2) * t + p1) * moved
        if j > 0:
            v, dv = here - before, here_d - before_d
            if v < floor:
                v, dv = floor, 0.0
            value[j - 1], slope[j - 1] = v, dv
            total += v
            total_d += dv
        before, before_d = here, here_d
    if not total > 0.0:
        value[:], slope[:] = 1.0 / (len(edges) - 1), 0.0
        return
    for j in range(len(edges) - 1):
        value[j] = value[j] / total
        slope[j] = (slope[j] - value[j] * total_d) / total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _falling(slope, edges, value):  # type: ignore[no-untyped-def]
    """Write exp(-slope u) integrated over the bins, normalised in the window."""
    low, span = edges[0], edges[-1] - edges[0]
    for j in range(len(edges) - 1):
        u, v = (edges[j] - low) / span, (edges[j + 1] - low) / span
        if abs(slope) < 1e-7:
            value[j] = v - u
        else:
            value[j] = (math.exp(-slope * u) - math.exp(-slope * v)) / -math.expm1(-slope)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _fractions(cumulative, floor, p, edges, low, step, work):  # type: ignore[no-untyped-def]
    """Write fractions per bin (row 0) and their derivatives by mu, share, slope (1 to 3)."""
    mu, share, slope = p[0], p[1], p[2]
    signal, by_mu, flat, up = work[4], work[1], work[5], work[3]
    _signal(cumulative, floor, mu, edges, low, step, signal, by_mu)
    _falling(slope, edges, flat)
    _falling(slope + 1e-5, edges, up)
    for j in range(len(edges) - 1):
        work[0, j] = (1.0 - share) * signal[j] + share * flat[j]
        work[1, j] *= 1.0 - share
        work[2, j] = flat[j] - signal[j]
        work[3, j] = share * (up[j] - flat[j]) / 1e-5


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _value(counts, total, work, slope):  # type: ignore[no-untyped-def]
    nll = 0.5 * (slope / SLOPE_SIGMA) ** 2
    for j in range(len(counts)):
        expected = max(work[0, j], 1e-12) * total
        nll += expected - counts[j]
        if counts[j] > 0.0:
            nll -= counts[j] * math.log(expected / counts[j])
    return nll


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _normal(counts, total, work, slope, gradient, matrix):  # type: ignore[no-untyped-def]
    """Write gradient and Fisher matrix by mu, share and slope."""
    gradient[:] = 0.0
    matrix[:] = 0.0
    for j in range(len(counts)):
        p = max(work[0, j], 1e-12)
        ratio = total - counts[j] / p
        for a in range(3):
            gradient[a] += ratio * work[1 + a, j]
            for b in range(a + 1):
                matrix[a, b] += total * work[1 + a, j] * work[1 + b, j] / p
    for a in range(3):
        for b in range(a):
            matrix[b, a] = matrix[a, b]
    gradient[_SLOPE] += slope / SLOPE_SIGMA**2
    matrix[_SLOPE, _SLOPE] += 1.0 / SLOPE_SIGMA**2


@numba.njit(cache=True, inline="always")
def _held(value, gradient, low, high):  # type: ignore[no-untyped-def]
    """Return whether a parameter is at a limit that the likelihood pushes it against."""
    return (value <= low and gradient > 0.0) or (value >= high and gradient < 0.0)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _minimise(  # type: ignore[no-untyped-def]
    counts, total, cumulative, floor, edges, low, step, background, p, work, other
):
    """Fit mu, share and slope from where p is; return the NLL and whether it converged."""
    gradient, matrix, change = np.empty(3), np.empty((3, 3)), np.empty(3)
    fixed = np.zeros(3, dtype=np.bool_)
    damping = 1e-3
    _fractions(cumulative, floor, p, edges, low, step, work)
    nll = _value(counts, total, work, p[_SLOPE])
    for _ in range(_ITERATIONS):
        _normal(counts, total, work, p[_SLOPE], gradient, matrix)
        fixed[_MU] = _held(p[_MU], gradient[_MU], MU_RANGE[0], MU_RANGE[1])
        fixed[_SHARE] = not background or _held(p[_SHARE], gradient[_SHARE], 0.0, MOST_BACKGROUND)
        # at a share of 0 the slope goes to 0: what constrains it must not stay in the likelihood
        fixed[_SLOPE] = not background or _held(p[_SLOPE], gradient[_SLOPE], -SLOPES, SLOPES)
        for a in range(3):
            if fixed[a]:
                gradient[a] = 0.0
                matrix[a, :] = 0.0
                matrix[:, a] = 0.0
                matrix[a, a] = 1.0
        moved = False
        for _ in range(12):
            damped = matrix.copy()
            for a in range(3):
                damped[a, a] = max(damped[a, a] * (1.0 + damping), 1e-9)
            change[:] = np.linalg.solve(damped, gradient)
            edm = 0.5 * (change * gradient).sum()
            new = p - change
            new[_MU] = min(max(new[_MU], MU_RANGE[0]), MU_RANGE[1])
            new[_SHARE] = min(max(new[_SHARE], 0.0), MOST_BACKGROUND)
            new[_SLOPE] = min(max(new[_SLOPE], -SLOPES), SLOPES)
            _fractions(cumulative, floor, new, edges, low, step, other)
            now = _value(counts, total, other, new[_SLOPE])
            if now <= nll:
                moved = True
                break
            damping *= 10.0
            if edm < ENOUGH:
                break
        if not moved:
            return nll, edm < ENOUGH
        gain = nll - now
        p[:] = new
        work[:] = other
        nll = now
        damping = max(damping * 0.1, 1e-9)
        if edm < 1e-6 or (gain < 1e-6 and edm < ENOUGH):
            return nll, True
    return nll, edm < ENOUGH


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _profile(  # type: ignore[no-untyped-def]
    counts, cumulative, floors, edges, low, step, background, first, out, converged
):
    rows, points = cumulative.shape[0], cumulative.shape[1]
    bins = len(edges) - 1
    work, other = np.empty((6, bins)), np.empty((6, bins))
    for r in range(rows):
        total = counts[r].sum()
        out[0, r], out[1, r], out[2, r], out[3, r] = 0.0, 1.0, 0.0, 0.0
        if not total > 0.0 or not cumulative[r, first[r], -1] > 0.0:
            continue
        start = np.empty(3)
        for direction in (1, -1):
            # outwards from the middle, each point from the one before
            p = np.empty(3)
            p[0], p[1], p[2] = 1.0, 0.03 if background else 0.0, 0.5 if background else 0.0
            if direction < 0:
                p[:] = start
            j = first[r] if direction > 0 else first[r] - 1
            while 0 <= j < points:
                nll, good = _minimise(
                    counts[r],
                    total,
                    cumulative[r, j],
                    floors[r],
                    edges,
                    low,
                    step,
                    background,
                    p,
                    work,
                    other,
                )
                out[0, r, j], converged[r, j] = nll, good
                out[1, r, j], out[2, r, j], out[3, r, j] = p[0], p[1], p[2]
                if j == first[r]:
                    start[:] = p
                j += direction


def profile(counts: Array, cumulative: Array, floors: Array, window: Window) -> Profile:
    """Return the likelihood of each row at each point, nuisances profiled.

    Parameters
    ----------
    counts : array, shape (rows, bins)
        Effective counts (weights scaled so that the variance is the count), not negative.
    cumulative : array, shape (rows, points, shape bins + 1)
        Of the peak at each point, at the edges of its bins, in any normalisation.
    floors : array, shape (rows,)
        Least content of a fit bin of a peak, in the same normalisation: what is known of a bin
        without entries.
    window : Window

    Returns
    -------
    Profile
        Arrays of shape (rows, points).
    """
    shape = cumulative.shape[:2]
    out, converged = np.empty((4, *shape)), np.zeros(shape, dtype=np.bool_)
    first = np.full(shape[0], shape[1] // 2, dtype=np.int64)
    _profile(
        np.ascontiguousarray(counts, dtype=np.float64),
        np.ascontiguousarray(cumulative),
        np.ascontiguousarray(floors, dtype=np.float64),
        window.edges,
        window.shape_low,
        window.shape_step,
        window.background,
        first,
        out,
        converged,
    )
    return Profile(out[0], out[1], out[2], out[3], converged)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _models(cumulative, floors, parameters, edges, low, step, out):  # type: ignore[no-untyped-def]
    work = np.empty((6, len(edges) - 1))
    for r in range(len(cumulative)):
        _fractions(cumulative[r], floors[r], parameters[:, r], edges, low, step, work)
        out[r] = work


def fractions(
    cumulative: Array, floors: Array, nuisances: Array, window: Window
) -> tuple[Array, Array, Array]:
    """Return the model of each row at given nuisances.

    Parameters
    ----------
    cumulative : array, shape (rows, shape bins + 1)
    floors : array, shape (rows,)
    nuisances : array, shape (3, rows)
        mu, background and slope.
    window : Window

    Returns
    -------
    total : array, shape (rows, bins)
        Expected fraction per bin.
    gradient : array, shape (rows, 3, bins)
        Its derivatives by mu, background and slope.
    signal : array, shape (rows, bins)
        Fraction per bin of the peak alone, normalised in the window.
    """
    out = np.empty((len(cumulative), 6, len(window.edges) - 1))
    parameters = np.ascontiguousarray(nuisances, dtype=np.float64)
    _models(
        np.ascontiguousarray(cumulative),
        np.ascontiguousarray(floors, dtype=np.float64),
        parameters,
        window.edges,
        window.shape_low,
        window.shape_step,
        out,
    )
    return out[:, 0], out[:, 1:4], out[:, 4]
