"""The model of one category, compiled: bin contents, derivatives, Hessian, into arrays given.

Loops are written so that they become vector instructions; arrays are workspaces of the caller, one
set for many categories. Not cached: see `compiled`.
"""

from __future__ import annotations

import math
from typing import NamedTuple

import numba
import numpy as np

from calib.fitting.kernel.compiled_algebra import total
from calib.fitting.kernel.problem import FLOOR, MOMENTS, REACH, SLOPE_ERROR
from calib.types import Array

FAST = {"contract", "reassoc", "nsz", "arcp"}
TINY = 1e-12
LN2 = (6.93147180369123816490e-01, 1.90821492927058770002e-10)
"""ln 2 in two parts: multiples of the first are exact."""


class Shared(NamedTuple):
    """What compiled code wants of a `Problem`."""

    w: Array
    basis: Array
    x: Array
    origin: float
    nodes: Array
    weights: Array
    low: Array
    high: Array
    n_background: int
    signed: bool
    least: float
    table: Array
    template_errors: bool


class Workspace(NamedTuple):
    """Workspace of the model: turns and phi (2, F), three sums q, background b, rows, t, norm."""

    turn: Array
    phi: Array
    q: Array
    b: Array
    rows: Array
    t: Array
    norm: Array
    weight: Array
    ratio: Array
    a: Array
    moments: Array


@numba.njit
def workspace(frequencies, bins):  # type: ignore[no-untyped-def]
    """Return arrays for one category after the other.

    Parameters
    ----------
    frequencies, bins : int
        Numbers of both.

    Returns
    -------
    Workspace
        Zeros.
    """
    return Workspace(
        np.zeros((2, frequencies + 1)),
        np.zeros((6, frequencies + 1)),
        np.zeros((3, bins)),
        np.zeros((6, bins)),
        np.zeros((7, bins)),
        np.zeros(bins),
        np.zeros(3),
        np.zeros(bins),
        np.zeros(bins),
        np.zeros((3, 5)),
        np.zeros(MOMENTS),
    )


@numba.njit(fastmath=FAST)
def exponential(x, out, n):  # type: ignore[no-untyped-def]
    """Fill out with exp(x), to 2e-15, for |x| < 700: vector instructions, where libm has none.

    Parameters
    ----------
    x : array, shape (>= n,)
        Exponents.
    out : array, shape (>= n,)
        Its first n entries are filled.
    n : int
        How many.
    """
    for i in range(n):
        k = math.floor(x[i] * 1.4426950408889634 + 0.5)
        r = x[i] - k * LN2[0] - k * LN2[1]
        p = 1 / 6227020800.0
        p = p * r + 1 / 479001600.0
        p = p * r + 1 / 39916800.0
        p = p * r + 1 / 3628800.0
        p = p * r + 1 / 362880.0
        p = p * r + 1 / 40320.0
        p = p * r + 1 / 5040.0
        p = p * r + 1 / 720.0
        p = p * r + 1 / 120.0
        p = p * r + 1 / 24.0
        p = p * r + 1 / 6.0
        p = p * r + 0.5
        p = p * r + 1.0
        p = p * r + 1.0
        out[i] = p * np.int64((np.int64(k) + 1023) << 52).view(np.float64)


@numba.njit
def _polynomials(v, table, a):  # type: ignore[no-untyped-def]
    """Fill a (3, 5) with the cumulants / m! and their two derivatives in v."""
    for m in range(5):
        x, y, z = 0.0, 0.0, 0.0
        for i in range(4, -1, -1):
            z = z * v + 2 * y
            y = y * v + x
            x = x * v + table[m, i]
        a[0, m], a[1, m], a[2, m] = x, y, z


@numba.njit(fastmath=FAST)
def signal(theta, g, s, work):  # type: ignore[no-untyped-def]
    """Fill turn, phi, q of the workspace; return the number of frequencies.

    Parameters
    ----------
    theta : array, shape (parameters,)
        (lambda, v, ...): ln mu and (sigma / mu)^2.
    g : array, shape (frequencies,)
        Coefficients of the template, complex.
    s : Shared
        Frequencies, basis and cumulants.
    work : Workspace
        turn, phi and q are filled.

    Returns
    -------
    int
        Number of frequencies that a peak of this width needs.
    """
    a, phi, turn, w = work.a, work.phi, work.turn, s.w
    lam, v = theta[0], theta[1]
    _polynomials(v, s.table, a)
    count = len(w)
    if not s.signed:
        reach = REACH / math.sqrt(max(v, TINY))
        count = min(count, int(reach / w[1]) + 1)
        if w[count - 1] > reach:
            count -= 1
    for f in range(count):
        x = w[f]
        x2 = x * x
        turn[0, f] = max(min(-x2 * (a[0, 1] - x2 * a[0, 3]), 60.0), -100.0)
    exponential(turn[0], turn[1], count)
    for f in range(count):
        x = w[f]
        x2 = x * x
        size = turn[1, f]
        angle = x * (a[0, 0] - x2 * (a[0, 2] - x2 * a[0, 4])) + lam * x
        turn[0, f], turn[1, f] = size * math.cos(angle), size * math.sin(angle)
    for f in range(count):
        x = w[f]
        x2 = x * x
        gr, gi = g[f].real, g[f].imag
        re = gr * turn[0, f] - gi * turn[1, f]
        im = gr * turn[1, f] + gi * turn[0, f]
        pr = -x2 * (a[1, 1] - x2 * a[1, 3])
        pi = x * (a[1, 0] - x2 * (a[1, 2] - x2 * a[1, 4]))
        phi[0, f], phi[1, f] = re, im
        phi[2, f], phi[3, f] = -x * im, x * re
        phi[4, f], phi[5, f] = re * pr - im * pi, re * pi + im * pr
    for i in range(6):
        phi[i, count] = 0.0
    _sums(phi, count, s.basis, work.q)
    return count


@numba.njit(fastmath=FAST)
def _sums(phi, count, basis, q):  # type: ignore[no-untyped-def]
    """Fill q (3, bins) with the products of phi and the basis, two frequencies at a time."""
    bins = q.shape[1]
    for i in range(3):
        for k in range(bins):
            q[i, k] = 0.0
    for f in range(0, count, 2):  # half the traffic to q
        g = min(f + 1, len(basis) // 2 - 1)  # beyond the last one phi is 0
        r0, i0, r1, i1, r2, i2 = phi[0, f], phi[1, f], phi[2, f], phi[3, f], phi[4, f], phi[5, f]
        h = f + 1
        u0, j0, u1, j1, u2, j2 = phi[0, h], phi[1, h], phi[2, h], phi[3, h], phi[4, h], phi[5, h]
        for k in range(bins):
            c0, s0 = basis[2 * f, k], basis[2 * f + 1, k]
            c1, s1 = basis[2 * g, k], basis[2 * g + 1, k]
            q[0, k] += r0 * c0 + i0 * s0 + u0 * c1 + j0 * s1
            q[1, k] += r1 * c0 + i1 * s0 + u1 * c1 + j1 * s1
            q[2, k] += r2 * c0 + i2 * s0 + u2 * c1 + j2 * s1


@numba.njit(fastmath=FAST)
def _background(theta, s, b, power, e):  # type: ignore[no-untyped-def]
    """Fill b (6, bins): shape, two first derivatives, three second derivatives."""
    bins = b.shape[1]
    two = s.n_background == 3
    for i in range(6):
        for k in range(bins):
            b[i, k] = 0.0
    for i in range(s.nodes.shape[0]):
        for k in range(bins):
            x = s.nodes[i, k]
            power[k] = -theta[3] * x
            if two:
                power[k] -= theta[4] * x * x
        exponential(power, e, bins)
        for k in range(bins):
            x, y = s.nodes[i, k], e[k] * s.weights[i, k]
            b[0, k] += y
            b[1, k] -= y * x
            b[3, k] += y * x * x
            if two:
                b[2, k] -= y * x * x
                b[4, k] += y * x * x * x
                b[5, k] += y * x * x * x * x
    share = 1 / total(b[0])
    for k in range(bins):
        b[0, k] *= share
    m1, m2 = 0.0, 0.0
    for i in range(1, 6):
        if not two and i != 1 and i != 3:
            continue
        mean = total(b[i]) * share
        if i == 1:
            m1 = mean
        if i == 2:
            m2 = mean
        for k in range(bins):
            b[i, k] = b[i, k] * share - b[0, k] * mean
    for k in range(bins):
        b[3, k] -= 2 * b[1, k] * m1
    if two:
        for k in range(bins):
            b[4, k] -= b[1, k] * m2 + b[2, k] * m1
            b[5, k] -= 2 * b[2, k] * m2


@numba.njit(fastmath=FAST)
def evaluate(theta, g, s, work):  # type: ignore[no-untyped-def]
    """Fill t and rows: derivatives of t, then the signal's two; return the number of frequencies.

    Parameters
    ----------
    theta : array, shape (parameters,)
        (lambda, v, background, slope[, curvature]).
    g : array, shape (frequencies,)
        Coefficients of the template, complex.
    s : Shared
        Frequencies, basis, quadrature of the background.
    work : Workspace
        t, shape (bins,), and rows, shape (7, bins), are filled, and what `signal` fills.

    Returns
    -------
    int
        Number of frequencies that were needed.
    """
    count = signal(theta, g, s, work)
    q, b, rows, t, norm = work.q, work.b, work.rows, work.t, work.norm
    if s.n_background:
        _background(theta, s, b, work.weight, work.ratio)
    bins, p = len(t), len(theta)
    share, f = 1 - FLOOR, theta[2]
    for i in range(3):
        norm[i] = total(q[i])
    norm[0] = max(norm[0], 1e-6)
    each = 1 / norm[0]
    for k in range(bins):
        shape = q[0, k] * each
        q[0, k] = shape
        x, y = (q[1, k] - shape * norm[1]) * each, (q[2, k] - shape * norm[2]) * each
        rows[5, k], rows[6, k] = x, y
        rows[0, k], rows[1, k] = share * (1 - f) * x, share * (1 - f) * y
        t[k] = share * shape + FLOOR / bins
    if s.n_background:
        for k in range(bins):
            rows[2, k] = share * (b[0, k] - q[0, k])
            t[k] += f * rows[2, k]
            rows[3, k] = share * f * b[1, k]
        if p > 4:
            for k in range(bins):
                rows[4, k] = share * f * b[2, k]
    for k in range(bins):
        if t[k] < s.least:
            t[k] = s.least
            for i in range(p):
                rows[i, k] = 0.0
    return count


@numba.njit(fastmath=FAST)
def nll_and_gradient(theta, n, s, work, slope):  # type: ignore[no-untyped-def]
    """Return the NLL (without the saturated model's) and fill its gradient.

    Parameters
    ----------
    theta : array, shape (parameters,)
        (lambda, v, background, slope[, curvature]).
    n : array, shape (bins,)
        Effective counts.
    s : Shared
        Tells whether there is a background, whose slope is constrained.
    work : Workspace
        Evaluated at theta; its weight becomes n / t.
    slope : array, shape (parameters,)
        Filled: the gradient.

    Returns
    -------
    float
        NLL, without that of the saturated model.
    """
    t, weight, p = work.t, work.weight, len(theta)
    value = 0.0
    for k in range(len(t)):
        value -= n[k] * math.log(t[k])
    for k in range(len(t)):
        weight[k] = n[k] / t[k]
    for i in range(p):
        x = 0.0
        for k in range(len(t)):
            x -= weight[k] * work.rows[i, k]
        slope[i] = x
    if s.n_background:
        for i in range(3, p):
            value += 0.5 * (theta[i] / SLOPE_ERROR) ** 2
            slope[i] += theta[i] / SLOPE_ERROR**2
    return value


@numba.njit(fastmath=FAST)
def outer(rows, weight, p, h):  # type: ignore[no-untyped-def]
    """Fill h with the sums over bins of weight times two rows.

    Parameters
    ----------
    rows : array, shape (>= p, bins)
        Derivatives of the bin contents.
    weight : array, shape (bins,)
        Of the bins.
    p : int
        Number of rows that are used.
    h : array, shape (p, p)
        Filled.
    """
    for i in range(p):
        for j in range(i + 1):
            x = 0.0
            for k in range(rows.shape[1]):
                x += weight[k] * rows[i, k] * rows[j, k]
            h[i, j] = h[j, i] = x


@numba.njit
def constrain(s, h):  # type: ignore[no-untyped-def]
    """Add the constraint on slope and curvature.

    Parameters
    ----------
    s : Shared
        Tells whether there is a background.
    h : array, shape (parameters, parameters)
        Hessian; 1 / error^2 is added to its diagonal.
    """
    if s.n_background:
        for i in range(3, len(h)):
            h[i, i] += 1 / SLOPE_ERROR**2


@numba.njit
def fisher(n_events, s, work, p, h):  # type: ignore[no-untyped-def]
    """Fill h with the expected information.

    Parameters
    ----------
    n_events : float
        Sum of the effective counts.
    s : Shared
        Tells whether there is a background.
    work : Workspace
        Evaluated; its weight is used up.
    p : int
        Number of parameters.
    h : array, shape (p, p)
        Filled.
    """
    for k in range(len(work.t)):
        work.weight[k] = n_events / work.t[k]
    outer(work.rows, work.weight, p, h)
    constrain(s, h)


@numba.njit(fastmath=FAST)
def _moments(count, s, work, moments):  # type: ignore[no-untyped-def]
    """Fill with sum_f Re (i w)^m phi_f conj(back projection of the weights)."""
    bins = len(work.weight)
    for m in range(MOMENTS):
        moments[m] = 0.0
    for f in range(count):
        yr, yi = 0.0, 0.0
        for k in range(bins):
            yr += work.weight[k] * s.basis[2 * f, k]
            yi += work.weight[k] * s.basis[2 * f + 1, k]
        dr = work.phi[0, f] * yr + work.phi[1, f] * yi
        di = work.phi[1, f] * yr - work.phi[0, f] * yi
        x = s.w[f]
        y = x * x
        for m in range(0, MOMENTS, 2):
            moments[m] += dr
            dr = -y * dr
        di = -x * di
        for m in range(1, MOMENTS, 2):
            moments[m] += di
            di = -y * di


@numba.njit(fastmath=FAST)
def hessian(theta, n, count, s, work, h):  # type: ignore[no-untyped-def]
    """Fill h with the exact Hessian.

    Parameters
    ----------
    theta : array, shape (parameters,)
        (lambda, v, background, slope[, curvature]).
    n : array, shape (bins,)
        Effective counts.
    count : int
        Number of frequencies that `evaluate` needed.
    s : Shared
        Frequencies and basis.
    work : Workspace
        Evaluated at theta; ratio, weight and moments are used up.
    h : array, shape (parameters, parameters)
        Filled.
    """
    t, rows, q, norm, b, a = work.t, work.rows, work.q, work.norm, work.b, work.a
    ratio, weight, p = work.ratio, work.weight, len(theta)
    bins = len(t)
    mean, d0, d1 = 0.0, 0.0, 0.0
    for k in range(bins):
        ratio[k] = n[k] / t[k] if t[k] > s.least else 0.0
        weight[k] = ratio[k] / t[k]
    outer(rows, weight, p, h)
    for k in range(bins):
        mean += ratio[k] * q[0, k]
        d0 += ratio[k] * rows[5, k]
        d1 += ratio[k] * rows[6, k]
    for k in range(bins):
        weight[k] = ratio[k] - mean
    moments = work.moments
    _moments(count, s, work, moments)
    s00, s01, s11 = moments[2], 0.0, 0.0
    for i in range(5):
        s01 += a[1, i] * moments[i + 2]
        s11 += a[2, i] * moments[i + 1]
        for j in range(5):
            s11 += a[1, i] * a[1, j] * moments[i + j + 2]
    share = 1 - FLOOR
    factor = share * (1 - theta[2]) / norm[0]
    h[0, 0] -= factor * (s00 - 2 * d0 * norm[1])
    h[1, 0] -= factor * (s01 - d0 * norm[2] - d1 * norm[1])
    h[1, 1] -= factor * (s11 - 2 * d1 * norm[2])
    h[0, 1] = h[1, 0]
    if s.n_background:
        h[0, 2] += share * d0
        h[1, 2] += share * d1
        h[2, 0], h[2, 1] = h[0, 2], h[1, 2]
        for i in range(3, p):
            x = 0.0
            for k in range(bins):
                x += ratio[k] * b[i - 2, k]
            h[2, i] -= share * x
            h[i, 2] = h[2, i]
            for j in range(3, i + 1):
                y = 0.0
                for k in range(bins):
                    y += ratio[k] * b[i + j - 3, k]
                h[i, j] -= share * theta[2] * y
                h[j, i] = h[i, j]
    constrain(s, h)
