"""What a minimum says besides its place: chi2, and what weights and templates add to the errors.

The covariance is the sandwich H^-1 (H + W + T) H^-1: W for weighted events (C. Langenbruch, Eur.
Phys. J. C 82 (2022) 393), T for the finite statistics of the template, by linear propagation of
the variance of every gen bin.
"""

from __future__ import annotations

import numpy as np

from calib.arrays import AnyArray, Array, IntArray
from calib.kernel.numpy_engine import State
from calib.kernel.problem import FLOOR, Problem

LEAST = 5.0


def weights_term(s: State, counts: Array, variance: Array, scale: Array) -> Array:
    """Return W: variance of the score of weighted events, minus what the Hessian stands for.

    ``counts`` are effective ones (sums of weights times ``scale``), ``variance`` the sums of
    squared weights.
    """
    excess = (variance * scale[:, None] ** 2 - counts) / s.t**2
    return np.asarray(np.matmul(s.rows * excess[:, None], s.rows.transpose(0, 2, 1)))


def template_term(
    shared: Problem,
    s: State,
    g: AnyArray,
    theta: Array,
    total: Array,
    templates: Array,
    variance: Array,
    mass: Array,
) -> Array:
    """Return T: variance of the score from the statistics of the template.

    d score / d g_j = N sum_k (d t_k / d theta)(d t_k / d g_j) / t_k, where the bin contents of a
    single gen bin are those of the model with G(w) = exp(i w ln m_j).
    """
    n, count = s.phi.shape
    w = shared.w[:count]
    with np.errstate(divide="ignore", invalid="ignore"):
        kernel = np.where(np.abs(g[:, :count]) > 0, s.phi / g[:, :count], 0.0)
    ratio = s.rows / s.t[:, None]  # (n, p, k)
    mean = np.einsum("npk,nk->np", ratio, s.shape)
    c = ratio - mean[:, :, None]
    c *= ((1 - FLOOR) * (1 - theta[:, 2]) * total / s.norm[0])[:, None, None]
    # single precision: these are errors, and half of the time of a fit
    p = s.rows.shape[1]
    flat = c.reshape(n * p, -1).astype(np.float32)
    back = (flat @ shared.basis[: 2 * count].T.astype(np.float32)).view(np.complex64)
    amplitude = kernel.astype(np.complex64)[:, None] * back.reshape(n, p, count).conj()
    used = (templates != 0).any(0)
    x = np.log(mass) - shared.origin
    if x.ndim == 2:
        x = np.where(templates != 0, x, 0.0).sum(0) / np.maximum((templates != 0).sum(0), 1)
    phase = np.outer(w, x[used])
    turned = np.empty((2 * count, phase.shape[1]), dtype=np.float32)
    turned[::2], turned[1::2] = np.cos(phase), -np.sin(phase)
    v = (amplitude.reshape(n * p, count).view(np.float32) @ turned).reshape(n, p, -1)
    relative = variance[:, used] / templates.sum(1, keepdims=True) ** 2
    product = np.matmul(v * relative[:, None].astype(np.float32), v.transpose(0, 2, 1))
    return np.asarray(product, dtype=float)


def chi_square(
    counts: Array, expected: Array, variance: Array, floating: IntArray
) -> tuple[Array, IntArray]:
    """Return Pearson's chi2 and ndf of each category, with neighbouring bins joined.

    Bins are joined until each holds five (effective) expected entries; the number of events
    counts as one of the ``floating`` parameters.
    """
    n, bins = counts.shape
    entries = np.cumsum(expected**2 / variance, axis=1)
    last = np.maximum((entries[:, -1:] / LEAST).astype(np.int64) - 1, 0)
    group = np.minimum((entries / LEAST).astype(np.int64), last)
    first = np.ones((n, bins), dtype=bool)
    first[:, 1:] = group[:, 1:] != group[:, :-1]
    at = np.flatnonzero(first.ravel())
    difference = np.add.reduceat((counts - expected).ravel(), at)
    terms = difference**2 / np.add.reduceat(variance.ravel(), at)
    rows = at // bins
    chi2: Array = np.bincount(rows, terms, minlength=n).astype(float)
    ndf: IntArray = (np.bincount(rows, minlength=n) - floating).astype(np.int64)
    return chi2, ndf
