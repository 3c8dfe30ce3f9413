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
    back = np.matmul(c, shared.basis[: 2 * count].T).view(complex)  # (n, p, frequencies)
    amplitude = kernel[:, None] * back.conj()
    relative = variance / templates.sum(1, keepdims=True) ** 2
    p = s.rows.shape[1]
    x = np.log(mass) - shared.origin
    if x.ndim == 2:
        x = np.where(templates > 0, x, 0.0).sum(0) / np.maximum((templates > 0).sum(0), 1)
    phase = np.exp(1j * np.outer(w, x))
    flat = amplitude.reshape(n * p, count)
    v = (flat.real @ phase.real - flat.imag @ phase.imag).reshape(n, p, -1)
    return np.asarray(np.matmul(v * relative[:, None], v.transpose(0, 2, 1)))


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
