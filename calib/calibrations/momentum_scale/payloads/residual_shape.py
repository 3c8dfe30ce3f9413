"""Width and tails of simulated muons by |eta|, tracker layers and pt, as layouts of others need it.

From the residuals that the first pass over the events has collected (`sums.residuals`): the width
is half of the central 68.27 %, std(pt) a polynomial next to sqrt(a^2 + c^2 pt^2), and the tails
those of a Crystal Ball, both alike, whose central 68.27 % are within one width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, minimize
from scipy.special import erf

from calib.calibrations.momentum_scale.sums import residuals
from calib.events.histograms import Sums
from calib.types import Array

ABS_ETA, N_LAYERS = residuals.ABS_ETA, residuals.N_LAYERS
LEAST_PT, MOST_PT, USUAL_PT = 26.0, 200.0, 45.0
"""GeV: muons that the layout corrects, and the pt of those of a Z."""

GAUSSIAN = (10.0, 4.0)
"""n and alpha of a Crystal Ball that is a Gaussian to 6e-5 of its entries."""

LEAST_WIDTH, LEAST_TAIL = 200.0, 4000.0
"""Muons from which a width, and a tail, is taken from a bin itself."""

CORE = 0.6827
"""Share of the muons within one width: of a Gaussian, within its sigma."""


@dataclass(frozen=True)
class Shape:
    """Resolution of simulated muons by |eta| and layers.

    Parameters
    ----------
    polynomial : array, shape (|eta|, layers, 3)
        std(pt) = p0 + p1 pt + p2 pt^2.
    tails : array, shape (|eta|, layers, 2)
        n and alpha.
    share : array, shape (|eta|, layers)
        Of the muons of an |eta| bin.
    note : str
        Where they come from.
    """

    polynomial: Array
    tails: Array
    share: Array
    note: str

    def std(self, abs_eta: Array, pt: Array) -> Array:
        """Return the width at some |eta| and pt, root of the mean square over the layers.

        Parameters
        ----------
        abs_eta : array, shape (n,)
            |eta| of muons.
        pt : array, shape (n,)
            In GeV.

        Returns
        -------
        array, shape (n,)
            Relative.
        """
        i = np.clip(np.searchsorted(ABS_ETA, abs_eta, side="right") - 1, 0, len(ABS_ETA) - 2)
        width = _values(self.polynomial[i], pt[:, None])
        return np.asarray(np.sqrt((self.share[i] * width**2).sum(1)))


def _values(polynomial: Array, pt: Array) -> Array:
    p = np.moveaxis(polynomial, -1, 0)
    return np.asarray(np.maximum(p[0] + p[1] * pt + p[2] * pt**2, 0.0))


def shape_of(sums: Sequence[Sums], fallback: Sequence[tuple[float, float]]) -> Shape:
    """Return widths and tails of simulated muons, as far as they were collected.

    Parameters
    ----------
    sums : sequence of Sums
        Those with ``residual/...``; weights may be negative.
    fallback : sequence of (a^2, c^2), one a bin of |eta|
        What stands in where there are too few muons.

    Returns
    -------
    Shape
        With a note on where the numbers come from.
    """
    counts, pt2 = _together(sums)
    n_eta, n_layers = len(ABS_ETA) - 1, len(N_LAYERS) - 1
    every, every_pt2 = counts.sum(1), pt2.sum(1)
    polynomial, tails = np.zeros((n_eta, n_layers, 3)), np.tile(GAUSSIAN, (n_eta, n_layers, 1))
    entries = counts[:, :n_layers].sum((2, 3))
    share = np.where(entries.sum(1, keepdims=True) > 0, np.maximum(entries, 0), 1.0)
    share = share / share.sum(1, keepdims=True)
    n_width = n_tail = 0
    for i in range(n_eta):
        a2c2 = _straight(every[i], every_pt2[i], fallback[i])
        all_tails = _tail(every[i], every_pt2[i], a2c2)
        for j in range(n_layers):
            own = _straight(counts[i, j], pt2[i, j], a2c2)
            polynomial[i, j] = polynomial_of(*own)
            found = _tail(counts[i, j], pt2[i, j], own) or all_tails
            n_width += own is not a2c2
            n_tail += found is not None
            tails[i, j] = found or GAUSSIAN
    total = n_eta * n_layers
    if not every.sum() > 0:
        note = (
            "Widths (poly_params) are those of the mass fits, tails (cb_params) Gaussian: no"
            " simulated muons beside their generated ones are at hand; export the directory of the"
            " run, not its payload, if it has a simulation."
        )
    else:
        note = (
            f"Widths and tails are of {every.sum():.3g} simulated muons beside their generated"
            f" ones: {n_width} of {total} bins of |eta| and nTrackerLayers have a width of their"
            f" own (the others that of all layers), {n_tail} have tails that were fitted (the"
            " others are Gaussian)."
        )
    return Shape(polynomial, tails, share, note)


def _together(sums: Sequence[Sums]) -> tuple[Array, Array]:
    """Return residuals and sums of pt^2 of all samples, by |eta|, layers and pt."""
    counts = np.zeros((*residuals.SHAPE, len(residuals.EDGES) - 1))
    pt2 = np.zeros(residuals.SHAPE)
    for own in sums:
        if np.size(own.get("residual/pt2", ())) != pt2.size:
            continue  # data, or sums of other bins
        pt2 += np.asarray(own["residual/pt2"]).reshape(pt2.shape)
        for kind in ("counts", "sumw"):
            if f"residual/{kind}" in own:
                counts += np.asarray(own[f"residual/{kind}"]).reshape(counts.shape)
    return counts, pt2


def _straight(counts: Array, pt2: Array, otherwise: tuple[float, float]) -> tuple[float, float]:
    """Return a2, c2 of the widths of some bins of pt: sigma^2 is a straight line in pt^2."""
    n = counts.sum(1)
    use = n >= LEAST_WIDTH
    if not use.any():
        return otherwise
    width2 = np.array([_core(c) for c in counts[use]]) ** 2
    pt2 = pt2[use] / n[use]
    weight = np.sqrt(n[use]) / width2
    if use.sum() < 3:
        scale = np.average(width2 / (otherwise[0] + otherwise[1] * pt2), weights=weight * width2)
        return otherwise[0] * scale, otherwise[1] * scale
    slope, constant = np.polyfit(pt2, width2, 1, w=weight)
    if slope < 0 or constant < 0:  # a width does not fall with pt
        mean = float(np.average(width2, weights=weight**2))
        by_pt = float(np.average(width2 / pt2, weights=(weight * pt2) ** 2))
        return (mean, 0.0) if slope < 0 else (0.0, by_pt)
    return float(constant), float(slope)


def _core(counts: Array) -> float:
    """Return half of the central 68.27 %."""
    total = np.concatenate([[0.0], np.cumsum(counts)]) / counts.sum()
    total = np.maximum.accumulate(total)  # weights may be negative
    low, high = np.interp([0.5 - CORE / 2, 0.5 + CORE / 2], total, residuals.EDGES)
    return float(0.5 * (high - low))


def polynomial_of(a2: float, c2: float) -> Array:
    """Return p0, p1, p2 next to sqrt(a2 + c2 pt^2) from 26 to 200 GeV, nearest for those of a Z.

    Parameters
    ----------
    a2, c2 : float
        Without unit and in 1/GeV^2.

    Returns
    -------
    array, shape (3,)
        Without unit, 1/GeV, 1/GeV^2.
    """
    pt = np.linspace(20.0, MOST_PT, 181)
    width = np.sqrt(np.maximum(a2 + c2 * pt**2, 1e-8))
    weight = (1 + 20 * np.exp(-0.5 * ((pt - USUAL_PT) / 12) ** 2)) / width
    return np.asarray(np.polynomial.polynomial.polyfit(pt, width, 2, w=weight))


WITHIN = 8.0
FOLDED = np.sinh(np.linspace(0.0, np.arcsinh(2 * WITHIN), 41)) / 2
"""Edges of |residual| / std in which tails are fitted."""


def crystal_ball_within(t: Array, sigma: float, n: float, alpha: float) -> Array:
    """Return the share of a Crystal Ball of both tails alike within +-t of its mean.

    Parameters
    ----------
    t : array
        Not negative.
    sigma, n, alpha : float
        n > 1, alpha > 0.

    Returns
    -------
    array, shape as t
        From 0 to 1.
    """
    x = np.asarray(t) / sigma
    slope = n / alpha
    tail = slope / (n - 1) * np.exp(-0.5 * alpha**2)
    core = np.sqrt(np.pi / 2) * erf(np.minimum(x, alpha) / np.sqrt(2))
    beyond = np.maximum(x - alpha, 0.0)
    outside = tail * (1 - (1 + beyond / slope) ** (1 - n))
    return np.asarray((core + outside) / (np.sqrt(np.pi / 2) * erf(alpha / np.sqrt(2)) + tail))


def unit_sigma(n: float, alpha: float) -> float:
    """Return the sigma of a Crystal Ball whose central 68.27 % are within +-1.

    Parameters
    ----------
    n, alpha : float
        Exponent and begin of the tails, n > 1, alpha > 0.

    Returns
    -------
    float
        At most 1.01.
    """
    one = np.ones(1)
    return float(
        brentq(lambda s: float(crystal_ball_within(one, s, n, alpha)[0]) - CORE, 0.05, 1.01)
    )


def _tail(counts: Array, pt2: Array, a2c2: tuple[float, float]) -> tuple[float, float] | None:
    """Return n and alpha of the residuals over their width, None where there are too few."""
    n = counts.sum(1)
    use = (n > 0) & (pt2 > 0)
    folded = np.zeros(len(FOLDED) - 1)
    variance = a2c2[0] + a2c2[1] * pt2[use] / n[use]
    for c, std in zip(counts[use], np.sqrt(np.maximum(variance, 1e-8)), strict=True):
        total = np.concatenate([[0.0], np.cumsum(c)])
        middle = float(np.interp(0.5 * total[-1], np.maximum.accumulate(total), residuals.EDGES))
        up, down = (np.interp(middle + s * FOLDED * std, residuals.EDGES, total) for s in (1, -1))
        folded += np.diff(up) - np.diff(down)
    folded = np.maximum(folded, 0.0)
    if folded.sum() < LEAST_TAIL:
        return None

    def distance(x: Array) -> float:
        n, alpha = 1.2 + np.exp(x[0]), np.exp(x[1])
        if not (n < 60 and 0.4 < alpha < 4):
            return 1e12
        model = np.diff(crystal_ball_within(FOLDED, unit_sigma(n, alpha), n, alpha))
        model = np.maximum(model / model.sum(), 1e-12)
        return float(-(folded * np.log(model)).sum())

    found = minimize(
        distance, [np.log(3.0), np.log(1.8)], method="Nelder-Mead", options={"fatol": 0.1}
    )
    n, alpha = float(1.2 + np.exp(found.x[0])), float(np.exp(found.x[1]))
    return (n, alpha) if np.isfinite(found.fun) and found.fun < 1e12 else None
