"""What a minimum says besides its place, compiled: chi2, and what enters the errors.

The same as `covariance`, for one category. Not cached: see `compiled`.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from calib.fitting.kernel.compiled_algebra import total as sum_of
from calib.fitting.kernel.compiled_model import FAST, TINY
from calib.fitting.kernel.covariance import LEAST, ROOT
from calib.fitting.kernel.problem import FLOOR

DAMPED = 1e-4
"""Frequencies damped below this do not count for the statistics of the template."""


@numba.njit
def saturated(n, total):  # type: ignore[no-untyped-def]
    """Return the sum of n ln(n / N); |n| where sums of weights are negative.

    Parameters
    ----------
    n : array, shape (bins,)
        Effective counts.
    total : float
        Their sum N.

    Returns
    -------
    float
        Log likelihood of the model that has a parameter for each bin.
    """
    value = 0.0
    for k in range(len(n)):
        if n[k] != 0:
            value += n[k] * math.log(abs(n[k]) / total)
    return value


@numba.njit(fastmath=FAST)
def template_noise(theta, h, size, s, work):  # type: ignore[no-untyped-def]
    """Fill work.weight with the noise of the template in the bins; see `covariance.template_noise`.

    Parameters
    ----------
    theta : array, shape (parameters,)
        (lambda, v, background, slope[, curvature]).
    h : array, shape (frequencies,)
        Coefficients of the relative variances of the gen bins, over size; complex.
    size : float
        What h is to be multiplied with.
    s : Shared
        Frequencies and basis.
    work : Work
        At theta; its weight, shape (bins,), is filled.
    """
    lam, v, bins = theta[0], theta[1], len(work.t)
    factor = ((1 - FLOOR) * (1 - theta[2]) / work.norm[0]) ** 2 * size
    for k in range(bins):
        work.weight[k] = 0.0
    for f in range(len(s.w)):
        x = s.w[f]
        if x * x * v > 60.0:
            break
        damping = factor * math.exp(-0.25 * x * x * v)
        angle = (lam - 0.5 * v) * x
        c, d = damping * math.cos(angle), damping * math.sin(angle)
        re, im = h[f].real * c - h[f].imag * d, h[f].real * d + h[f].imag * c
        for k in range(bins):
            work.weight[k] += re * s.basis[2 * f, k] + im * s.basis[2 * f + 1, k]


@numba.njit
def chi_square(n, total, floating, theta, unit, absorbed, s, work):  # type: ignore[no-untyped-def]
    """Return Pearson's chi2 and ndf; bins are joined until each holds enough expected entries.

    Parameters
    ----------
    n : array, shape (bins,)
        Effective counts.
    total : float
        Their sum.
    floating : int
        Number of free parameters.
    theta : array, shape (parameters,)
        (lambda, v, background, slope[, curvature]).
    unit : float
        Relative variance of the sum of the template, 0 where it is taken as exact; otherwise
        work.weight holds its noise.
    absorbed : float
        What the parameters take up of the noise: the trace of H^-1 T.
    s : Shared
        Its edges in ln m.
    work : Work
        At theta; the background's rows are used up.

    Returns
    -------
    float
        chi2.
    int
        ndf: groups of bins minus free parameters; negative where bins are few.
    """
    t, b = work.t, work.b
    entries, last = 0.0, max(int(total * sum_of(t) / LEAST) - 1, 0)
    group, groups, share = 0, 0, (1 - FLOOR) * (1 - theta[2])
    for k in range(len(n)):
        here = max(total * t[k], TINY)
        entries += here
        now = min(int(entries / LEAST), last)
        if k == 0 or now != group:
            for i in range(5):
                b[i, groups] = 0.0
            groups += 1
        group = now
        b[0, groups - 1] += n[k] - here
        b[1, groups - 1] += here
        if unit > 0:
            b[2, groups - 1] += max(work.weight[k], 0.0)
            b[3, groups - 1] += share * work.q[0, k]
            b[4, groups - 1] += s.x[k + 1] - s.x[k]
    whole, left = 0.0, 0.0
    if unit > 0:
        for i in range(groups):
            width = b[4, i]
            more = b[2, i] * width / (ROOT * math.sqrt(theta[1] + width * width / 12))
            b[2, i] = max(more - unit * b[3, i] ** 2, 0.0) * total * total
            whole += b[2, i] / b[1, i]
        left = min(max(1 - absorbed / max(whole, TINY), 0.0), 1.0)
    chi2 = 0.0
    for i in range(groups):
        chi2 += b[0, i] ** 2 / (b[1, i] + (left * b[2, i] if unit > 0 else 0.0))
    return chi2, groups - floating


@numba.njit
def turns(mass, s, base):  # type: ignore[no-untyped-def]
    """Fill base with exp(i w_1 ln m).

    Parameters
    ----------
    mass : array, shape (gen bins,)
        In GeV.
    s : Shared
        Frequencies and origin.
    base : array, shape (2, gen bins)
        Filled: real and imaginary part.
    """
    for j in range(len(mass)):
        angle = s.w[1] * (math.log(mass[j]) - s.origin)
        base[0, j], base[1, j] = math.cos(angle), math.sin(angle)


@numba.njit(fastmath=FAST)
def template_term(theta, total, count, s, work, keep, templates, variance, base, real, extra):  # type: ignore[no-untyped-def]
    """Add the variance of the score from the statistics of the template.

    Parameters
    ----------
    theta : array, shape (parameters,)
        (lambda, v, background, slope[, curvature]).
    total : float
        Sum of the effective counts.
    count : int
        Number of frequencies that the signal needed.
    s : Shared
        Frequencies and basis.
    work : Work
        At theta; its rows are used up.
    keep : bool array, shape (parameters,)
        Parameters that are held.
    templates, variance : array, shape (gen bins,)
        Contents of the template and their variances.
    base : array, shape (2, gen bins)
        exp(i w_1 ln m_j), by `turns`.
    real : array, shape (5 + parameters, gen bins)
        Workspace, in single precision, since these are errors.
    extra : array, shape (parameters, parameters)
        The term is added to it.
    """
    p, bins = len(theta), len(work.t)
    factor = (1 - FLOOR) * (1 - theta[2]) * total / work.norm[0]
    for i in range(p):
        if keep[i]:
            continue
        mean = 0.0
        for k in range(bins):
            work.rows[i, k] /= work.t[k]
            mean += work.rows[i, k] * work.q[0, k]
        for k in range(bins):
            work.rows[i, k] = factor * (work.rows[i, k] - mean)
    used, size = 0, 1 / sum_of(templates)
    for j in range(len(variance)):
        if variance[j] > 0:
            real[0, used], real[1, used] = base[0, j], base[1, j]
            real[2, used] = variance[j] * size * size
            used += 1
    for m in range(used):
        real[3, m], real[4, m] = 1.0, 0.0
        for i in range(p):
            real[5 + i, m] = 0.0
    ar, ai = np.zeros(p, np.float32), np.zeros(p, np.float32)
    for f in range(count):
        tr, ti = work.turn[0, f], work.turn[1, f]
        if abs(tr) + abs(ti) < DAMPED and not s.signed:
            break
        for i in range(p):
            if keep[i]:
                continue
            yr, yi = 0.0, 0.0
            for k in range(bins):
                yr += work.rows[i, k] * s.basis[2 * f, k]
                yi += work.rows[i, k] * s.basis[2 * f + 1, k]
            if work.phi[0, f] != 0.0 or work.phi[1, f] != 0.0:  # 0: beyond a smeared template
                ar[i], ai[i] = tr * yr + ti * yi, ti * yr - tr * yi
            else:
                ar[i], ai[i] = 0.0, 0.0
        _add(ar, ai, used, real)
    for i in range(p):
        if keep[i]:
            continue
        for j in range(i + 1):
            x = 0.0
            for m in range(used):
                x += real[2, m] * real[5 + i, m] * real[5 + j, m]
            extra[i, j] += x
            if i != j:
                extra[j, i] += x


@numba.njit(fastmath=FAST)
def _add(ar, ai, used, real):  # type: ignore[no-untyped-def]
    """Add Re(a exp(i w_f x)) for each parameter and gen bin, then go on to the next frequency."""
    a0, a1, a2, a3 = ar[0], ar[1], ar[2], ar[3]
    b0, b1, b2, b3 = ai[0], ai[1], ai[2], ai[3]
    for m in range(used):
        c, d, x, y = real[3, m], real[4, m], real[0, m], real[1, m]
        real[5, m] += a0 * c - b0 * d
        real[6, m] += a1 * c - b1 * d
        real[7, m] += a2 * c - b2 * d
        real[8, m] += a3 * c - b3 * d
        real[3, m], real[4, m] = c * x - d * y, c * y + d * x
        if len(ar) > 4:
            real[9, m] += ar[4] * c - ai[4] * d


@numba.njit
def sandwich(inv, extra, keep, out):  # type: ignore[no-untyped-def]
    """Fill out with inv + inv extra inv, without the parameters that are held.

    Parameters
    ----------
    inv : array, shape (p, p)
        Inverse Hessian.
    extra : array, shape (p, p)
        Variance of the score, beyond that of the Hessian.
    keep : bool array, shape (p,)
        Parameters that are held: rows and columns of 0.
    out : array, shape (p, p)
        Filled.
    """
    p = len(keep)
    for i in range(p):
        for j in range(p):
            out[i, j] = 0.0
            if keep[i] or keep[j]:
                continue
            out[i, j] = inv[i, j]
            for m in range(p):
                for n in range(p):
                    if not (keep[m] or keep[n]):
                        out[i, j] += inv[i, m] * extra[m, n] * inv[n, j]
