"""What a minimum says besides its place, compiled: chi2, and what enters the errors.

The same as `covariance`, for one category. Not cached: see `compiled`.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from calib.kernel.compiled_algebra import total as sum_of
from calib.kernel.compiled_model import FAST, TINY
from calib.kernel.covariance import LEAST
from calib.kernel.problem import FLOOR

DAMPED = 1e-4
"""Frequencies damped below this do not count for the statistics of the template."""


@numba.njit
def saturated(n, total):  # type: ignore[no-untyped-def]
    """Return the sum of n ln(n / N); |n| where sums of weights are negative."""
    value = 0.0
    for k in range(len(n)):
        if n[k] != 0:
            value += n[k] * math.log(abs(n[k]) / total)
    return value


@numba.njit
def chi_square(n, t, total, floating):  # type: ignore[no-untyped-def]
    """Return Pearson's chi2 and ndf; bins are joined until each holds enough expected entries."""
    entries, last = 0.0, max(int(total * sum_of(t) / LEAST) - 1, 0)
    chi2, found, expected = 0.0, 0.0, 0.0
    group, groups = 0, 1
    for k in range(len(n)):
        here = max(total * t[k], TINY)
        entries += here
        now = min(int(entries / LEAST), last)
        if now != group and k:
            chi2 += (found - expected) ** 2 / expected
            groups += 1
            found, expected = 0.0, 0.0
        group = now
        found += n[k]
        expected += here
    return chi2 + (found - expected) ** 2 / expected, groups - floating


@numba.njit
def turns(mass, s, base):  # type: ignore[no-untyped-def]
    """Fill base (2, gen bins) with exp(i w_1 ln m)."""
    for j in range(len(mass)):
        angle = s.w[1] * (math.log(mass[j]) - s.origin)
        base[0, j], base[1, j] = math.cos(angle), math.sin(angle)


@numba.njit(fastmath=FAST)
def template_term(theta, total, count, s, work, keep, templates, variance, base, real, extra):  # type: ignore[no-untyped-def]
    """Add the variance of the score from the statistics of the template.

    base (2, gen bins): exp(i w_1 ln m_j); real (5 + parameters, gen bins): workspace, in single
    precision, since these are errors. The rows of the workspace of the model are used up.
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
    """Fill out with inv + inv extra inv, without the parameters that are held."""
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
