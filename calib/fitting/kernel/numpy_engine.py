"""The minimiser for a block of categories at once, in matrix products (NumPy and BLAS alone).

Fisher steps far from the minimum, then the exact Hessian where it is positive definite, with
Levenberg-Marquardt damping, step limits and bounds by an active set. The inverse of the exact
Hessian at the minimum is the covariance.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from calib.fitting.kernel.problem import FLOOR, MOMENTS, REACH, SLOPE_ERROR, Problem, polynomials
from calib.types import AnyArray, Array, BoolArray, IntArray

EDM_GOAL = 1e-5
"""Below it one more Newton step is the last; what is left then is below EDM_LEFT."""
EDM_LEFT = 1e-7
EDM_FISHER = 2.0
MAX_ITERATIONS = 60


@dataclass(frozen=True)
class Found:
    """Where the minimiser ended, one row per category; parameters (lambda, v, f, slope, ...)."""

    theta: Array
    nll: Array
    edm: Array
    inverse: Array
    gradient: Array
    held: BoolArray
    iterations: IntArray
    converged: BoolArray


@dataclass(frozen=True)
class ModelState:
    """The model of a block at one point: bin contents, derivatives, and what made them."""

    t: Array
    rows: Array
    phi: AnyArray
    shape: Array
    norm: Array
    rows_signal: Array
    background: Array
    background_rows: Array
    background_second: Array


def frequencies_needed(shared: Problem, v: Array) -> int:
    """Return how many frequencies the narrowest of these widths needs.

    Parameters
    ----------
    shared : Problem
        Its frequencies.
    v : array, shape (n,)
        Relative widths squared.

    Returns
    -------
    int
        At most the number there are.
    """
    if shared.signed:
        return len(shared.w)
    limit = REACH / np.sqrt(max(float(v.min()), 1e-12))
    return min(len(shared.w), int(limit / shared.w[1]) + 2)


def evaluate(shared: Problem, g: AnyArray, theta: Array) -> ModelState:
    """Return bin contents and their derivatives.

    Parameters
    ----------
    shared : Problem
        Its bins and frequencies.
    g : array, shape (n, frequencies)
        Coefficients of the templates, complex.
    theta : array, shape (n, parameters)
        (lambda, v, background, slope[, curvature]).

    Returns
    -------
    ModelState
        t of shape (n, bins), rows of shape (n, parameters, bins).
    """
    n, k = len(theta), shared.n_bins
    count = frequencies_needed(shared, theta[:, 1])
    w = shared.w[:count]
    basis = shared.basis[: 2 * count]
    value, first, _ = polynomials(theta[:, 1])
    even = np.stack([-(w**2), w**4])
    odd = np.stack([w, -(w**3), w**5])
    damping = value[:, 1::2] @ even
    phase = value[:, ::2] @ odd + theta[:, :1] * w
    size = np.exp(np.minimum(damping, 60.0))
    if not shared.signed:
        size[w * np.sqrt(theta[:, 1:2]) > REACH] = 0.0
    phi = np.empty((3, n, count), dtype=complex)
    turn = np.empty((n, count), dtype=complex)
    turn.real = size * np.cos(phase)
    turn.imag = size * np.sin(phase)
    np.multiply(g[:, :count], turn, out=phi[0])
    np.multiply(phi[0], 1j * w, out=phi[1])
    turn.real = first[:, 1::2] @ even
    turn.imag = first[:, ::2] @ odd
    np.multiply(phi[0], turn, out=phi[2])
    q = (phi.reshape(3 * n, count).view(float) @ basis).reshape(3, n, k)
    norm = np.maximum(q.sum(2), np.array([1e-6, -np.inf, -np.inf])[:, None])
    shape = q[0] / norm[0][:, None]
    signal = (q[1:] - shape * norm[1:, :, None]) / norm[0][:, None]
    rows = np.zeros((n, shared.n_parameters, k))
    share = 1 - FLOOR
    f = theta[:, 2:3]
    rows[:, :2] = (share * (1 - f) * signal).transpose(1, 0, 2)
    if shared.n_background:
        b, b_rows, b_second = background(shared, theta[:, 3:])
        rows[:, 2] = share * (b - shape)
        rows[:, 3:] = share * f[:, None] * b_rows
        t = share * (shape + f * (b - shape)) + FLOOR / k
    else:
        b = b_rows = b_second = np.zeros((n, 0, k))
        t = share * shape + FLOOR / k
    if t.min() < shared.least:
        rows = np.where((t < shared.least)[:, None], 0.0, rows)
        np.maximum(t, shared.least, out=t)
    return ModelState(t, rows, phi[0], shape, norm, signal, b, b_rows, b_second)


def background(shared: Problem, theta: Array) -> tuple[Array, Array, Array]:
    """Return the background per bin, its gradient and its Hessian.

    Parameters
    ----------
    shared : Problem
        The quadrature in each bin.
    theta : array, shape (n, p)
        Slope, or slope and curvature; without unit.

    Returns
    -------
    array, shape (n, bins)
        Bin contents; the sum of a category is 1.
    array, shape (n, p, bins)
        Gradient.
    array, shape (n, p, p, bins)
        Hessian.
    """
    n, p = theta.shape
    features = np.stack([shared.nodes, shared.nodes**2])[:p]
    e = np.exp(-np.tensordot(theta, features, 1)) * shared.weights  # (n, nodes, bins)
    u = e.sum(1)
    first = [-(e * features[i]).sum(1) for i in range(p)]
    total = u.sum(1)[:, None]
    b = u / total
    mean = [x.sum(1)[:, None] / total for x in first]
    rows = np.stack([first[i] / total - b * mean[i] for i in range(p)], 1)
    second = np.empty((n, p, p, shared.n_bins))
    for i in range(p):
        for j in range(i + 1):
            both = (e * features[i] * features[j]).sum(1) / total
            second[:, i, j] = second[:, j, i] = (
                both - b * both.sum(1)[:, None] - rows[:, i] * mean[j] - rows[:, j] * mean[i]
            )
    return b, rows, second


def likelihood(
    shared: Problem, counts: Array, saturated: Array, s: ModelState, theta: Array
) -> Array:
    """Return the NLL above that of the saturated model, with the constraint on the slope.

    Parameters
    ----------
    shared : Problem
        Tells whether there is a background.
    counts : array, shape (n, bins)
        Effective counts.
    saturated : array, shape (n,)
        Log likelihoods of the saturated model.
    s : ModelState
        At theta.
    theta : array, shape (n, parameters)
        The point.

    Returns
    -------
    array, shape (n,)
        NLL.
    """
    found = saturated - np.einsum("nk,nk->n", counts, np.log(s.t))
    if shared.n_background:
        found += 0.5 * (theta[:, 3:] ** 2).sum(1) / SLOPE_ERROR**2
    return np.asarray(found)


def gradient(shared: Problem, counts: Array, s: ModelState, theta: Array) -> Array:
    """Return the gradient of the NLL.

    Parameters
    ----------
    shared : Problem
        Tells whether there is a background.
    counts : array, shape (n, bins)
        Effective counts.
    s : ModelState
        At theta.
    theta : array, shape (n, parameters)
        The point.

    Returns
    -------
    array, shape (n, parameters)
        d NLL / d theta.
    """
    found = -np.matmul(s.rows, (counts / s.t)[:, :, None])[:, :, 0]
    if shared.n_background:
        found[:, 3:] += theta[:, 3:] / SLOPE_ERROR**2
    return np.asarray(found)


def fisher(shared: Problem, total: Array, s: ModelState) -> Array:
    """Return the expected information.

    Parameters
    ----------
    shared : Problem
        Tells whether there is a background.
    total : array, shape (n,)
        Sums of the effective counts.
    s : ModelState
        At the point.

    Returns
    -------
    array, shape (n, parameters, parameters)
        Positive semi-definite.
    """
    found = np.matmul(s.rows * (total[:, None] / s.t)[:, None], s.rows.transpose(0, 2, 1))
    _constrain(shared, found)
    return np.asarray(found)


def exact(shared: Problem, counts: Array, s: ModelState, theta: Array) -> Array:
    """Return the exact Hessian of the NLL; its second derivatives are moments over frequencies.

    Parameters
    ----------
    shared : Problem
        Its frequencies and basis.
    counts : array, shape (n, bins)
        Effective counts.
    s : ModelState
        At theta.
    theta : array, shape (n, parameters)
        The point.

    Returns
    -------
    array, shape (n, parameters, parameters)
        Second derivatives of the NLL.
    """
    ratio = np.where(s.t > shared.least, counts / s.t, 0.0)
    found = np.matmul(s.rows * (ratio / s.t)[:, None], s.rows.transpose(0, 2, 1))
    found[:, :2, :2] -= _signal_second(shared, ratio, s, theta)
    if shared.n_background:
        share = 1 - FLOOR
        cross = share * np.matmul(s.rows_signal.transpose(1, 0, 2), ratio[:, :, None])[:, :, 0]
        found[:, :2, 2] += cross
        found[:, 2, :2] += cross
        slopes = share * np.matmul(s.background_rows, ratio[:, :, None])[:, :, 0]
        found[:, 2, 3:] -= slopes
        found[:, 3:, 2] -= slopes
        found[:, 3:, 3:] -= (share * theta[:, 2])[:, None, None] * np.einsum(
            "nijk,nk->nij", s.background_second, ratio
        )
    _constrain(shared, found)
    return np.asarray(found)


def _signal_second(shared: Problem, ratio: Array, s: ModelState, theta: Array) -> Array:
    """Return sum_k n_k/t_k d2 t_k / d(lambda, v)^2, shape (n, 2, 2)."""
    n, count = s.phi.shape
    mean = np.einsum("nk,nk->n", ratio, s.shape)
    back = (ratio - mean[:, None]) @ shared.basis[: 2 * count].T
    product = s.phi * back.view(complex).conj()
    w = shared.w[:count]
    powers = np.zeros((2 * count, MOMENTS))
    for m in range(MOMENTS):
        turned = (1j * w) ** m  # Re(z turned) = Re z Re turned - Im z Im turned
        powers[::2, m], powers[1::2, m] = turned.real, -turned.imag
    moments = product.view(float) @ powers
    _, first, second = polynomials(theta[:, 1])
    out = np.empty((n, 2, 2))
    out[:, 0, 0] = moments[:, 2]
    out[:, 0, 1] = np.einsum("nm,nm->n", first, moments[:, 2:7])
    out[:, 1, 1] = np.einsum("nm,nm->n", second, moments[:, 1:6])
    for m in range(5):
        out[:, 1, 1] += first[:, m] * np.einsum("nm,nm->n", first, moments[:, m + 2 : m + 7])
    out[:, 1, 0] = out[:, 0, 1]
    weighted = np.matmul(s.rows_signal.transpose(1, 0, 2), ratio[:, :, None])[:, :, 0]
    for i in range(2):
        for j in range(2):
            out[:, i, j] -= weighted[:, i] * s.norm[1 + j] + weighted[:, j] * s.norm[1 + i]
    factor = (1 - FLOOR) * (1 - theta[:, 2]) / s.norm[0]
    return np.asarray(out * factor[:, None, None])


def _constrain(shared: Problem, hessian: Array) -> None:
    if shared.n_background:
        for i in range(3, hessian.shape[1]):
            hessian[:, i, i] += 1 / SLOPE_ERROR**2


def cholesky(matrix: Array) -> tuple[Array, BoolArray]:
    """Return lower factors of many small matrices, and which are positive definite.

    Parameters
    ----------
    matrix : array, shape (n, p, p)
        Symmetric.

    Returns
    -------
    array, shape (n, p, p)
        Lower factors; of no use where the matrix is not positive definite.
    bool array, shape (n,)
        Whether it is.
    """
    n = matrix.shape[1]
    low = np.zeros_like(matrix)
    good = np.ones(len(matrix), dtype=bool)
    for j in range(n):
        pivot = matrix[:, j, j] - (low[:, j, :j] ** 2).sum(1)
        positive = pivot > 1e-12 * np.abs(matrix[:, j, j])
        good &= positive
        low[:, j, j] = np.sqrt(np.where(positive, pivot, 1.0))
        for i in range(j + 1, n):
            dot = (low[:, i, :j] * low[:, j, :j]).sum(1)
            low[:, i, j] = (matrix[:, i, j] - dot) / low[:, j, j]
    return low, good


def solve(low: Array, b: Array) -> Array:
    """Return the solutions of L L^T x = b.

    Parameters
    ----------
    low : array, shape (n, p, p)
        Lower factors L.
    b : array, shape (n, p)
        Right sides.

    Returns
    -------
    array, shape (n, p)
        x.
    """
    x = b.copy()
    n = x.shape[1]
    for i in range(n):
        x[:, i] = (x[:, i] - (low[:, i, :i] * x[:, :i]).sum(1)) / low[:, i, i]
    for i in reversed(range(n)):
        x[:, i] = (x[:, i] - (low[:, i + 1 :, i] * x[:, i + 1 :]).sum(1)) / low[:, i, i]
    return x


def inverse(low: Array) -> Array:
    """Return the inverses of L L^T.

    Parameters
    ----------
    low : array, shape (n, p, p)
        Lower factors L.

    Returns
    -------
    array, shape (n, p, p)
        Symmetric.
    """
    n = low.shape[1]
    columns = [solve(low, np.tile(np.eye(n)[i], (len(low), 1))) for i in range(n)]
    return np.stack(columns, 2)


def without(hessian: Array, held: BoolArray) -> Array:
    """Return the Hessian with the held parameters taken out (unit rows and columns).

    Parameters
    ----------
    hessian : array, shape (n, p, p)
        Of the NLL.
    held : bool array, shape (n, p)
        Parameters that are taken out.

    Returns
    -------
    array, shape (n, p, p)
        A new array.
    """
    free = ~held
    out = hessian * (free[:, :, None] & free[:, None, :])
    i = np.arange(hessian.shape[1])
    out[:, i, i] += held
    return np.asarray(out)


def limited(shared: Problem, theta: Array, step: Array) -> Array:
    """Return the next point: step limits, then bounds.

    Parameters
    ----------
    shared : Problem
        Its bounds.
    theta : array, shape (n, p)
        (lambda, v, background, slope[, curvature]).
    step : array, shape (n, p)
        The step that is wanted.

    Returns
    -------
    array, shape (n, p)
        Within the bounds.
    """
    v = theta[:, 1]
    room = np.maximum(np.abs(v), 1e-5 if shared.signed else 0.0)
    step = step.copy()
    step[:, 0] = np.clip(step[:, 0], -0.01, 0.01)
    step[:, 1] = np.clip(step[:, 1], -0.75 * room, 1.25 * room)
    step[:, 2] = np.clip(step[:, 2], -0.2, 0.2)
    step[:, 3:] = np.clip(step[:, 3:], -3.0, 3.0)
    p = theta.shape[1]
    return np.asarray(np.clip(theta + step, shared.low[:p], shared.high[:p]))


def outward(shared: Problem, theta: Array, slope: Array, fixed: BoolArray) -> BoolArray:
    """Return which parameters stay: fixed, or at a bound with the NLL falling beyond it.

    Parameters
    ----------
    shared : Problem
        Its bounds.
    theta : array, shape (n, p)
        The point.
    slope : array, shape (n, p)
        Gradient of the NLL there.
    fixed : bool array, shape (n, p) or (p,)
        Parameters that never move.

    Returns
    -------
    bool array, shape (n, p)
        True where a parameter stays.
    """
    p = theta.shape[1]
    below = (theta <= shared.low[:p]) & (slope > 0)
    above = (theta >= shared.high[:p]) & (slope < 0)
    return np.asarray(fixed | below | above)


def minimise(
    shared: Problem, counts: Array, saturated: Array, g: AnyArray, start: Array, fixed: BoolArray
) -> Found:
    """Return the minima of one block.

    Parameters
    ----------
    shared : Problem
        Its bins, frequencies and bounds.
    counts : array, shape (n, bins)
        Effective counts (sums of weights over the mean weight).
    saturated : array, shape (n,)
        Sum of n ln(n / N).
    g : complex array, shape (n, frequencies)
        Coefficients of the templates.
    start : array, shape (n, parameters)
        (lambda, v, background, slope[, curvature]).
    fixed : bool array, shape (parameters,)
        Parameters that stay at their start.

    Returns
    -------
    Found
        Of n categories.
    """
    n, p = start.shape
    total = counts.sum(1)
    theta, nll = start.copy(), np.full(n, np.inf)
    grad, hess = np.zeros((n, p)), np.zeros((n, p, p))
    damping, edm = np.full(n, 1e-3), np.full(n, np.inf)
    inv = np.full((n, p, p), np.nan)
    held = np.zeros((n, p), dtype=bool)
    iterations = np.zeros(n, dtype=np.int64)
    converged = np.zeros(n, dtype=bool)
    active, trial = np.arange(n), start.copy()
    for _ in range(MAX_ITERATIONS):
        iterations[active] += 1
        c = counts[active]
        state = evaluate(shared, g[active], trial)
        value = likelihood(shared, c, saturated[active], state, trial)
        better = value <= nll[active] + 1e-10 * (1 + np.abs(value))
        slope = gradient(shared, c, state, trial)
        near = edm[active] < EDM_FISHER
        matrix = np.empty((len(active), p, p))
        if near.any():
            matrix = exact(shared, c, state, trial)
            stay = outward(shared, trial, slope, fixed)
            sound = cholesky(without(matrix, stay))[1] & near
        else:
            sound = near
        if not sound.all():
            matrix[~sound] = fisher(shared, total[active], state)[~sound]
        # take the better points, stay with the others and step shorter
        up = active[better]
        theta[up], nll[up] = trial[better], value[better]
        grad[up], hess[up] = slope[better], matrix[better]
        damping[active] = np.where(
            better, np.maximum(damping[active] * 0.1, 1e-9), np.maximum(damping[active] * 10, 1e-4)
        )
        here = outward(shared, theta[active], grad[active], fixed)
        free_hess = without(hess[active], here)
        low, good = cholesky(free_hess)
        b = np.where(here, 0.0, -grad[active])
        distance = 0.5 * (b * solve(low, b)).sum(1)
        edm[active] = np.where(better & good, distance, edm[active])
        done = better & good & sound & (distance < EDM_GOAL)
        if done.any():
            at = active[done]
            last = solve(low[done], b[done])
            theta[at] = limited(shared, theta[at], last)
            inv[at] = inverse(low[done])
            held[at] = here[done]
            converged[at] = True
        go = ~done & (damping[active] < 1e8)
        if not go.any():
            break
        active = active[go]
        free_hess, b = free_hess[go], b[go]
        i = np.arange(p)
        free_hess[:, i, i] += damping[active][:, None] * np.abs(free_hess[:, i, i])
        low, good = cholesky(free_hess)
        step = np.where(good[:, None], solve(low, b), 0.0)
        damping[active[~good]] *= 10
        trial = limited(shared, theta[active], step)
    return Found(theta, nll, edm, inv, grad, held, iterations, converged)
