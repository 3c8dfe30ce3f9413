"""The same minimiser, compiled and fused: one category from start to end, categories in parallel.

The steps are those of `numpy_engine`, and so are the results, to 1e-6 of an error.
"""

from __future__ import annotations

import math

import numba
import numpy as np

from calib.arrays import AnyArray, Array, BoolArray
from calib.kernel.numpy_engine import (
    EDM_FISHER,
    EDM_GOAL,
    MAX_ITERATIONS,
    Engine,
    Found,
    State,
    frequencies_needed,
)
from calib.kernel.problem import CUMULANTS, FLOOR, MOMENTS, REACH, SLOPE_ERROR, Problem

FAST = {"contract", "reassoc", "nsz", "arcp"}
TINY = 1e-12


@numba.njit(cache=True)
def _polynomials(v, table, a):  # type: ignore[no-untyped-def]
    """Fill a (3, 5) with the cumulants / m! and their two derivatives in v."""
    for m in range(5):
        x, y, z = 0.0, 0.0, 0.0
        for i in range(4, -1, -1):
            z = z * v + 2 * y
            y = y * v + x
            x = x * v + table[m, i]
        a[0, m], a[1, m], a[2, m] = x, y, z


@numba.njit(cache=True, fastmath=FAST)
def _model(theta, gr, gi, w, basis, signed, table, a, phi, q):  # type: ignore[no-untyped-def]
    """Fill phi (2, F) and q (3, bins); return the number of frequencies."""
    lam, v = theta[0], theta[1]
    _polynomials(v, table, a)
    count = len(w)
    if not signed:
        count = min(count, int(REACH / math.sqrt(max(v, TINY)) / w[1]) + 2)
    bins = q.shape[1]
    reach = REACH / math.sqrt(max(v, TINY))
    turned = np.zeros((6, count + 1))
    for f in range(count):
        x = w[f]
        if not signed and x > reach:
            count = f
            break
        x2 = x * x
        size = math.exp(min(-x2 * (a[0, 1] - x2 * a[0, 3]), 60.0))
        turn = x * (a[0, 0] - x2 * (a[0, 2] - x2 * a[0, 4])) + lam * x
        c, s = size * math.cos(turn), size * math.sin(turn)
        re, im = gr[f] * c - gi[f] * s, gr[f] * s + gi[f] * c
        phi[0, f], phi[1, f] = re, im
        pr = -x2 * (a[1, 1] - x2 * a[1, 3])
        pi = x * (a[1, 0] - x2 * (a[1, 2] - x2 * a[1, 4]))
        turned[0, f], turned[1, f] = re, im
        turned[2, f], turned[3, f] = -x * im, x * re
        turned[4, f], turned[5, f] = re * pr - im * pi, re * pi + im * pr
    turned[:, count] = 0.0
    q[:] = 0.0
    for f in range(0, count, 2):  # two at a time: half the traffic to q
        g = f + 1 if f + 1 < len(w) else f  # beyond the last one turned is 0
        r0, i0, r1, i1 = turned[0, f], turned[1, f], turned[2, f], turned[3, f]
        r2, i2 = turned[4, f], turned[5, f]
        u0, j0, u1, j1 = turned[0, f + 1], turned[1, f + 1], turned[2, f + 1], turned[3, f + 1]
        u2, j2 = turned[4, f + 1], turned[5, f + 1]
        for k in range(bins):
            c0, s0 = basis[2 * f, k], basis[2 * f + 1, k]
            c1, s1 = basis[2 * g, k], basis[2 * g + 1, k]
            q[0, k] += r0 * c0 + i0 * s0 + u0 * c1 + j0 * s1
            q[1, k] += r1 * c0 + i1 * s0 + u1 * c1 + j1 * s1
            q[2, k] += r2 * c0 + i2 * s0 + u2 * c1 + j2 * s1
    return count


@numba.njit(cache=True, fastmath=FAST)
def _background(theta, p, nodes, weights, b):  # type: ignore[no-untyped-def]
    """Fill b (6, bins): shape, two first derivatives, three second derivatives."""
    bins = b.shape[1]
    b[:] = 0.0
    extra = p - 3
    for i in range(nodes.shape[0]):
        for k in range(bins):
            x = nodes[i, k]
            power = theta[3] * x
            if extra == 2:
                power += theta[4] * x * x
            e = math.exp(-power) * weights[i, k]
            b[0, k] += e
            b[1, k] -= e * x
            b[2, k] -= e * x * x
            b[3, k] += e * x * x
            b[4, k] += e * x * x * x
            b[5, k] += e * x * x * x * x
    total = b[0].sum()
    for i in range(6):
        mean = b[i].sum() / total
        for k in range(bins):
            b[i, k] /= total
        if i == 0:
            continue
        for k in range(bins):
            b[i, k] -= b[0, k] * mean
        if i == 1:
            m1 = mean
        if i == 2:
            m2 = mean
    for k in range(bins):
        b[3, k] -= 2 * b[1, k] * m1
        b[4, k] -= b[1, k] * m2 + b[2, k] * m1
        b[5, k] -= 2 * b[2, k] * m2


@numba.njit(cache=True, fastmath=FAST)
def _rows(theta, p, n_background, q, b, rows, t, norm, least):  # type: ignore[no-untyped-def]
    """Fill t (bins) and rows (7, bins): p derivatives of t, then the signal's two."""
    bins = len(t)
    share = 1 - FLOOR
    f = theta[2]
    for i in range(3):
        norm[i] = q[i].sum()
    norm[0] = max(norm[0], 1e-6)
    for k in range(bins):
        shape = q[0, k] / norm[0]
        q[0, k] = shape
        for i in range(2):
            rows[5 + i, k] = (q[1 + i, k] - shape * norm[1 + i]) / norm[0]
            rows[i, k] = share * (1 - f) * rows[5 + i, k]
        t[k] = share * shape + FLOOR / bins
        if n_background:
            rows[2, k] = share * (b[0, k] - shape)
            t[k] += f * rows[2, k]
            for i in range(3, p):
                rows[i, k] = share * f * b[i - 2, k]
        if t[k] < least:
            t[k] = least
            rows[:p, k] = 0.0


@numba.njit(cache=True, fastmath=FAST)
def _outer(rows, weight, p, h):  # type: ignore[no-untyped-def]
    bins = rows.shape[1]
    for i in range(p):
        for j in range(i + 1):
            total = 0.0
            for k in range(bins):
                total += weight[k] * rows[i, k] * rows[j, k]
            h[i, j] = h[j, i] = total


@numba.njit(cache=True, fastmath=FAST)
def _exact(theta, p, nb, n, t, rows, q, norm, b, phi, count, w, basis, a, weight, h, least):  # type: ignore[no-untyped-def]
    """Fill h with the exact Hessian (without the constraint)."""
    bins = len(t)
    mean = 0.0
    ratios = np.empty(bins)
    for k in range(bins):
        ratios[k] = n[k] / t[k] if t[k] > least else 0.0
        weight[k] = ratios[k] / t[k]
        mean += ratios[k] * q[0, k]
    _outer(rows, weight, p, h)
    for k in range(bins):
        weight[k] = ratios[k] - mean
    moments = np.zeros(MOMENTS)
    for f in range(count):
        yr, yi = 0.0, 0.0
        for k in range(bins):
            yr += weight[k] * basis[2 * f, k]
            yi += weight[k] * basis[2 * f + 1, k]
        dr = phi[0, f] * yr + phi[1, f] * yi
        di = phi[1, f] * yr - phi[0, f] * yi
        x = w[f]
        for m in range(MOMENTS):
            moments[m] += dr
            dr, di = -x * di, x * dr
    s = np.empty((2, 2))
    s[0, 0] = moments[2]
    s[0, 1] = 0.0
    s[1, 1] = 0.0
    for i in range(5):
        s[0, 1] += a[1, i] * moments[i + 2]
        s[1, 1] += a[2, i] * moments[i + 1]
        for j in range(5):
            s[1, 1] += a[1, i] * a[1, j] * moments[i + j + 2]
    dot = np.zeros(4)  # n/t with the signal's two derivatives, then the background's
    for k in range(bins):
        ratio = ratios[k]
        dot[0] += ratio * rows[5, k]
        dot[1] += ratio * rows[6, k]
    s[0, 0] -= 2 * dot[0] * norm[1]
    s[0, 1] -= dot[0] * norm[2] + dot[1] * norm[1]
    s[1, 1] -= 2 * dot[1] * norm[2]
    share = 1 - FLOOR
    factor = share * (1 - theta[2]) / norm[0]
    h[0, 0] -= factor * s[0, 0]
    h[1, 0] -= factor * s[0, 1]
    h[0, 1] = h[1, 0]
    h[1, 1] -= factor * s[1, 1]
    if nb:
        for i in range(2):
            h[i, 2] += share * dot[i]
            h[2, i] = h[i, 2]
        for i in range(3, p):
            x = 0.0
            for k in range(bins):
                x += ratios[k] * b[i - 2, k]
            h[2, i] -= share * x
            h[i, 2] = h[2, i]
            for j in range(3, i + 1):
                y = 0.0
                row = 3 + (i - 3) + (j - 3)
                for k in range(bins):
                    y += ratios[k] * b[row, k]
                h[i, j] -= share * theta[2] * y
                h[j, i] = h[i, j]


@numba.njit(cache=True)
def _cholesky(h, keep, extra, low):  # type: ignore[no-untyped-def]
    """Factor the free part of h with its diagonal enlarged; return if it is positive definite."""
    p = len(keep)
    good = True
    for j in range(p):
        d = 1.0 if keep[j] else h[j, j]
        whole = d + extra * abs(d)
        d = whole
        for m in range(j):
            d -= low[j, m] ** 2
        if not d > 1e-12 * abs(whole):
            good = False
            d = 1.0
        low[j, j] = math.sqrt(d)
        for i in range(j + 1, p):
            x = 0.0 if keep[i] or keep[j] else h[i, j]
            for m in range(j):
                x -= low[i, m] * low[j, m]
            low[i, j] = x / low[j, j]
    return good


@numba.njit(cache=True)
def _solve(low, b, x):  # type: ignore[no-untyped-def]
    p = len(b)
    for i in range(p):
        y = b[i]
        for m in range(i):
            y -= low[i, m] * x[m]
        x[i] = y / low[i, i]
    for i in range(p - 1, -1, -1):
        y = x[i]
        for m in range(i + 1, p):
            y -= low[m, i] * x[m]
        x[i] = y / low[i, i]


@numba.njit(cache=True)
def _outward(theta, slope, fixed, lower, upper, keep):  # type: ignore[no-untyped-def]
    for i in range(len(theta)):
        below = theta[i] <= lower[i] and slope[i] > 0
        above = theta[i] >= upper[i] and slope[i] < 0
        keep[i] = fixed[i] or below or above


@numba.njit(cache=True)
def _limited(theta, step, signed, lower, upper, out):  # type: ignore[no-untyped-def]
    room = abs(theta[1])
    if signed:
        room = max(room, 1e-5)
    for i in range(len(theta)):
        if i == 0:
            x = min(max(step[i], -0.01), 0.01)
        elif i == 1:
            x = min(max(step[i], -0.75 * room), 1.25 * room)
        elif i == 2:
            x = min(max(step[i], -0.2), 0.2)
        else:
            x = min(max(step[i], -3.0), 3.0)
        out[i] = min(max(theta[i] + x, lower[i]), upper[i])


@numba.njit(cache=True, parallel=True)
def _minimise(  # type: ignore[no-untyped-def]
    counts, saturated, gr, gi, start, fixed, w, basis, nodes, weights, nb, lower, upper, signed,
    least, table, out_theta, out_value, out_inverse, out_gradient, out_held, out_number, out_good,
):  # fmt: skip
    n_categories, p = start.shape
    bins = counts.shape[1]
    for c in numba.prange(n_categories):
        n = counts[c]
        total = n.sum()
        theta, trial = start[c].copy(), start[c].copy()
        grad, slope = np.zeros(p), np.zeros(p)
        hess, matrix = np.zeros((p, p)), np.zeros((p, p))
        low, x, right = np.zeros((p, p)), np.zeros(p), np.zeros(p)
        keep = np.zeros(p, dtype=np.bool_)
        phi, q, b = np.zeros((2, len(w))), np.zeros((3, bins)), np.zeros((6, bins))
        rows, t, norm = np.zeros((7, bins)), np.zeros(bins), np.zeros(3)
        weight, a = np.zeros(bins), np.zeros((3, 5))
        nll, edm, damping = np.inf, np.inf, 1e-3
        done = False
        number = 0
        while number < MAX_ITERATIONS:
            number += 1
            count = _model(trial, gr[c], gi[c], w, basis, signed, table, a, phi, q)
            if nb:
                _background(trial, p, nodes, weights, b)
            _rows(trial, p, nb, q, b, rows, t, norm, least)
            value = saturated[c]
            for k in range(bins):
                value -= n[k] * math.log(t[k])
                weight[k] = n[k] / t[k]
            for i in range(p):
                s = 0.0
                for k in range(bins):
                    s -= weight[k] * rows[i, k]
                slope[i] = s
            if nb:
                for i in range(3, p):
                    value += 0.5 * (trial[i] / SLOPE_ERROR) ** 2
                    slope[i] += trial[i] / SLOPE_ERROR**2
            better = value <= nll + 1e-10 * (1 + abs(value))
            sound = False
            if better:
                sound = edm < EDM_FISHER
                if sound:
                    _exact(
                        trial, p, nb, n, t, rows, q, norm, b, phi, count, w, basis, a, weight,
                        matrix, least,
                    )  # fmt: skip
                    if nb:
                        for i in range(3, p):
                            matrix[i, i] += 1 / SLOPE_ERROR**2
                    _outward(trial, slope, fixed, lower, upper, keep)
                    sound = _cholesky(matrix, keep, 0.0, low)
                if not sound:
                    for k in range(bins):
                        weight[k] = total / t[k]
                    _outer(rows, weight, p, matrix)
                    if nb:
                        for i in range(3, p):
                            matrix[i, i] += 1 / SLOPE_ERROR**2
                nll = value
                theta[:] = trial
                grad[:] = slope
                hess[:] = matrix
                damping = max(damping * 0.1, 1e-9)
            else:
                damping = max(damping * 10, 1e-4)
            _outward(theta, grad, fixed, lower, upper, keep)
            good = _cholesky(hess, keep, 0.0, low)
            for i in range(p):
                right[i] = 0.0 if keep[i] else -grad[i]
            _solve(low, right, x)
            if better and good:
                edm = 0.0
                for i in range(p):
                    edm += 0.5 * right[i] * x[i]
            if better and good and sound and edm < EDM_GOAL:
                done = True
                _limited(theta, x, signed, lower, upper, trial)
                theta[:] = trial
                break
            if not damping < 1e8:
                break
            if _cholesky(hess, keep, damping, low):
                _solve(low, right, x)
            else:
                x[:] = 0.0
                damping *= 10
            _limited(theta, x, signed, lower, upper, trial)
        out_theta[c] = theta
        out_value[c, 0], out_value[c, 1] = nll, edm
        out_gradient[c] = grad
        out_held[c] = keep
        out_number[c] = number
        out_good[c] = done
        if done:
            for i in range(p):
                right[:] = 0.0
                right[i] = 1.0
                _solve(low, right, x)
                out_inverse[c, i] = x


@numba.njit(cache=True, parallel=True)
def _states(theta, gr, gi, w, basis, nodes, weights, nb, signed, least, table, bins, count):  # type: ignore[no-untyped-def]
    n, p = theta.shape
    t, shape, norm = np.empty((n, bins)), np.empty((n, bins)), np.empty((3, n))
    rows, phi = np.empty((n, p, bins)), np.zeros((n, 2, count))
    for c in numba.prange(n):
        q, b = np.zeros((3, bins)), np.zeros((6, bins))
        derivatives, a, size = np.zeros((7, bins)), np.zeros((3, 5)), np.zeros(3)
        _model(theta[c], gr[c], gi[c], w[:count], basis, signed, table, a, phi[c], q)
        if nb:
            _background(theta[c], p, nodes, weights, b)
        _rows(theta[c], p, nb, q, b, derivatives, t[c], size, least)
        shape[c] = q[0]
        norm[:, c] = size
        rows[c] = derivatives[:p]
    return t, rows, phi, shape, norm


def evaluate(shared: Problem, g: AnyArray, theta: Array) -> State:
    """Return what `numpy_engine.evaluate` does, without the parts that only its Hessian needs."""
    count = frequencies_needed(shared, theta[:, 1])
    t, rows, phi, shape, norm = _states(
        theta, np.ascontiguousarray(g.real), np.ascontiguousarray(g.imag), shared.w, shared.basis,
        shared.nodes, shared.weights, shared.n_background, shared.signed, shared.least, CUMULANTS,
        shared.n_bins, count,
    )  # fmt: skip
    none = np.zeros((0,))
    return State(t, rows, phi[:, 0] + 1j * phi[:, 1], shape, norm, none, none, none, none)


def minimise(
    shared: Problem, counts: Array, saturated: Array, g: AnyArray, start: Array, fixed: BoolArray
) -> Found:
    """Return the minima of one block; arguments as those of `numpy_engine.minimise`."""
    n, p = start.shape
    theta, value = np.empty((n, p)), np.empty((n, 2))
    inverse, slope = np.full((n, p, p), np.nan), np.empty((n, p))
    held, good = np.zeros((n, p), dtype=bool), np.zeros(n, dtype=bool)
    number = np.zeros(n, dtype=np.int64)
    _minimise(
        np.ascontiguousarray(counts),
        saturated,
        np.ascontiguousarray(g.real),
        np.ascontiguousarray(g.imag),
        start,
        fixed,
        shared.w,
        shared.basis,
        shared.nodes,
        shared.weights,
        shared.n_background,
        shared.low,
        shared.high,
        shared.signed,
        shared.least,
        CUMULANTS,
        theta,
        value,
        inverse,
        slope,
        held,
        number,
        good,
    )
    return Found(theta, value[:, 0], value[:, 1], inverse, slope, held, number, good)


COMPILED = Engine("compiled", evaluate, minimise)
