"""Small matrices and steps of the compiled minimiser. Not cached: see `compiled`."""

from __future__ import annotations

import math

import numba


@numba.njit
def copy(x, out):  # type: ignore[no-untyped-def]
    """Fill out with x; ``out[:] = x`` compiles for seconds.

    Parameters
    ----------
    x : array, shape (n,)
        Source.
    out : array, shape (n,)
        Filled.
    """
    for i in range(len(x)):
        out[i] = x[i]


@numba.njit
def total(x):  # type: ignore[no-untyped-def]
    """Return the sum of a vector."""
    found = 0.0
    for i in range(len(x)):
        found += x[i]
    return found


@numba.njit
def cholesky(h, keep, extra, low):  # type: ignore[no-untyped-def]
    """Factor the free part of h with its diagonal enlarged; return if it is positive definite.

    Parameters
    ----------
    h : array, shape (p, p)
        Symmetric; its lower half is read.
    keep : bool array, shape (p,)
        Parameters that are held: unit rows and columns.
    extra : float
        The diagonal is enlarged by this share of its size.
    low : array, shape (p, p)
        Filled: the lower factor.

    Returns
    -------
    bool
        Whether the free part is positive definite.
    """
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


@numba.njit
def solve(low, b, x):  # type: ignore[no-untyped-def]
    """Fill x with the solution of L L^T x = b.

    Parameters
    ----------
    low : array, shape (p, p)
        Lower factor L.
    b : array, shape (p,)
        Right side.
    x : array, shape (p,)
        Filled.
    """
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


@numba.njit
def inverse(low, right, x, out):  # type: ignore[no-untyped-def]
    """Fill out with the inverse of L L^T; right and x are workspaces.

    Parameters
    ----------
    low : array, shape (p, p)
        Lower factor L.
    right, x : array, shape (p,)
        Workspaces.
    out : array, shape (p, p)
        Filled.
    """
    for i in range(len(right)):
        for j in range(len(right)):
            right[j] = 1.0 if i == j else 0.0
        solve(low, right, x)
        for j in range(len(right)):
            out[i, j] = x[j]


@numba.njit
def outward(theta, slope, fixed, s, keep):  # type: ignore[no-untyped-def]
    """Fill keep: which parameters stay, fixed or at a bound with the NLL falling beyond it.

    Parameters
    ----------
    theta : array, shape (p,)
        The point.
    slope : array, shape (p,)
        Gradient of the NLL there.
    fixed : bool array, shape (p,)
        Parameters that never move.
    s : Shared
        Its bounds.
    keep : bool array, shape (p,)
        Filled.
    """
    for i in range(len(theta)):
        below = theta[i] <= s.low[i] and slope[i] > 0
        above = theta[i] >= s.high[i] and slope[i] < 0
        keep[i] = fixed[i] or below or above


@numba.njit
def limited(theta, step, s, out):  # type: ignore[no-untyped-def]
    """Fill out with the next point: step limits, then bounds.

    Parameters
    ----------
    theta : array, shape (p,)
        (lambda, v, background, slope[, curvature]).
    step : array, shape (p,)
        The step that is wanted.
    s : Shared
        Its bounds.
    out : array, shape (p,)
        Filled.
    """
    room = abs(theta[1])
    if s.signed:
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
        out[i] = min(max(theta[i] + x, s.low[i]), s.high[i])
