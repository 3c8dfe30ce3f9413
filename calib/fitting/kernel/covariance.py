"""What a minimum says besides its place: chi2, and what weights and templates add to the errors.

The covariance is the sandwich H^-1 (H + W + T) H^-1: W for weighted events (C. Langenbruch, Eur.
Phys. J. C 82 (2022) 393), T for the finite statistics of the template, by linear propagation of
the variance of every gen bin.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from calib.fitting.kernel.numpy_engine import ModelState
from calib.fitting.kernel.problem import FLOOR, Problem, coefficients
from calib.types import AnyArray, Array, IntArray

LEAST = 5.0
"""Expected entries that a bin must hold for chi2."""
ROOT = 2 * math.sqrt(math.pi)


def weights_term(s: ModelState, counts: Array, variance: Array, scale: Array) -> Array:
    """Return W: variance of the score of weighted events, minus what the Hessian stands for.

    Parameters
    ----------
    s : ModelState
        At the minimum, of n categories.
    counts : array, shape (n, bins)
        Effective counts: sums of weights times scale.
    variance : array, shape (n, bins)
        Sums of squared weights.
    scale : array, shape (n,)
        Effective counts over sums of weights.

    Returns
    -------
    array, shape (n, parameters, parameters)
        W.

    References
    ----------
    C. Langenbruch, Eur. Phys. J. C 82 (2022) 393.
    """
    excess = (variance * scale[:, None] ** 2 - counts) / s.t**2
    return np.asarray(np.matmul(s.rows * excess[:, None], s.rows.transpose(0, 2, 1)))


def template_term(
    shared: Problem,
    s: ModelState,
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

    Parameters
    ----------
    shared : Problem
        Its frequencies and basis.
    s : ModelState
        At the minimum, of n categories.
    g : array, shape (n, frequencies)
        Coefficients of the templates, complex.
    theta : array, shape (n, parameters)
        The minimum.
    total : array, shape (n,)
        Sums of the effective counts.
    templates, variance : array, shape (n, gen bins)
        Contents of the templates and their variances.
    mass : array, shape (gen bins,) or (n, gen bins)
        Means of the gen bins, in GeV.

    Returns
    -------
    array, shape (n, parameters, parameters)
        T.
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


@dataclass(frozen=True)
class Noise:
    """What the statistics of the template do to the bins.

    Parameters
    ----------
    variance : array, shape (n, bins)
        That of the signal's bin contents, times 2 sqrt(pi) s over the width of the bin.
    norm : array, shape (n, bins)
        Root of what the normalisation takes out of it: the same for all gen bins.
    width : array, shape (n,)
        s, the relative width.
    absorbed : array, shape (n,)
        What the fitted parameters take up of chi2: the trace of H^-1 T.
    """

    variance: Array
    norm: Array
    width: Array
    absorbed: Array


def template_noise(
    shared: Problem,
    s: ModelState,
    g: AnyArray,
    theta: Array,
    templates: Array,
    variance: Array | None,
    mass: Array,
    absorbed: Array,
) -> Noise:
    """Return the noise of the templates.

    The square of a Gaussian of width s is one of width s / sqrt(2), over 2 sqrt(pi) s: so the
    variance of the contents is that of the gen bins, smeared with it. The width of the bins is
    left to `chi_square`, which joins them.

    Parameters
    ----------
    shared : Problem
        Its frequencies and basis.
    s : ModelState
        At the minimum, of n categories.
    g : array, shape (n, frequencies)
        Coefficients of the templates, complex.
    theta : array, shape (n, parameters)
        The minimum.
    templates : array, shape (n, gen bins)
        Contents.
    variance : array, shape (n, gen bins), optional
        Of the contents; without it they are counts.
    mass : array, shape (gen bins,) or (n, gen bins)
        Means of the gen bins, in GeV.
    absorbed : array, shape (n,)
        What the fitted parameters take up of chi2: the trace of H^-1 T.

    Returns
    -------
    Noise
        Of n categories.
    """
    h = spectrum(shared, g, templates, variance, mass)
    w = shared.w
    damping = np.exp(-0.25 * w**2 * theta[:, 1:2])
    angle = (theta[:, :1] - 0.5 * theta[:, 1:2]) * w
    phi = (h * damping * np.exp(1j * angle)).astype(np.complex64)
    content = (phi.view(np.float32) @ shared.basis.astype(np.float32)).astype(float)
    share = (1 - FLOOR) * (1 - theta[:, 2:3])
    return Noise(
        np.maximum(content, 0.0) * (share / s.norm[0][:, None]) ** 2,
        share * s.shape * np.sqrt(h[:, :1].real),
        np.sqrt(theta[:, 1]),
        absorbed,
    )


def spectrum(
    shared: Problem, g: AnyArray, templates: Array, variance: Array | None, mass: Array
) -> AnyArray:
    """Return the coefficients of the relative variances of the gen bins; of counts these are G.

    Parameters
    ----------
    shared : Problem
        Its frequencies.
    g : array, shape (n, frequencies)
        Coefficients of the templates, complex.
    templates : array, shape (n, gen bins)
        Contents.
    variance : array, shape (n, gen bins), optional
        Of the contents; without it they are counts.
    mass : array, shape (gen bins,) or (n, gen bins)
        Means of the gen bins, in GeV.

    Returns
    -------
    array, shape (n, frequencies)
        Complex; at the frequency 0 the relative variance of the sum.
    """
    size = templates.sum(1, keepdims=True)
    if variance is None:
        return np.asarray(g / size)
    total = np.maximum(variance.sum(1, keepdims=True), 1e-300)
    centre = mass if mass.ndim == 1 else mass.mean(0)
    return np.asarray(coefficients(shared, np.maximum(variance, 1e-300), centre) * total / size**2)


def chi_square(
    shared: Problem, counts: Array, expected: Array, floating: IntArray, noise: Noise | None = None
) -> tuple[Array, IntArray]:
    """Return Pearson's chi2 and ndf of each category, with neighbouring bins joined.

    Bins are joined until each holds five (effective) expected entries; the number of events
    counts as one of the ``floating`` parameters. Where the template is not known exactly the
    variance of a bin is larger, less the share that the fitted parameters take up.

    Parameters
    ----------
    shared : Problem
        Its edges.
    counts, expected : arrays, shape (n, bins)
        Effective entries.
    floating : int array, shape (n,)
        Number of free parameters.
    noise : Noise, optional
        Of the templates; without it they are exact.

    Returns
    -------
    array, shape (n,)
        chi2.
    int array, shape (n,)
        ndf.
    """
    n, bins = counts.shape
    entries = np.cumsum(expected, axis=1)
    last = np.maximum((entries[:, -1:] / LEAST).astype(np.int64) - 1, 0)
    group = np.minimum((entries / LEAST).astype(np.int64), last)
    first = np.ones((n, bins), dtype=bool)
    first[:, 1:] = group[:, 1:] != group[:, :-1]
    at = np.flatnonzero(first.ravel())
    rows = at // bins
    difference = np.add.reduceat((counts - expected).ravel(), at)
    variance = np.add.reduceat(expected.ravel(), at)
    if noise is not None:
        x = np.log(shared.edges)
        ends = np.append(at[1:], n * bins) - 1
        width = x[ends % bins + 1] - x[at % bins]
        more = np.add.reduceat(noise.variance.ravel(), at)
        more *= width / (ROOT * np.sqrt(noise.width[rows] ** 2 + width**2 / 12))
        more -= np.add.reduceat(noise.norm.ravel(), at) ** 2
        more = np.maximum(more, 0.0) * (counts.sum(1) ** 2)[rows]
        whole = np.bincount(rows, more / variance, minlength=n)
        left = np.clip(1 - noise.absorbed / np.maximum(whole, 1e-300), 0.0, 1.0)
        variance = variance + more * left[rows]
    chi2: Array = np.bincount(rows, difference**2 / variance, minlength=n).astype(float)
    ndf: IntArray = (np.bincount(rows, minlength=n) - floating).astype(np.int64)
    return chi2, ndf
