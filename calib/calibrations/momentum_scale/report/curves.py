"""Pictures of the fits of the categories: the page draws them on a click."""

from __future__ import annotations

import numpy as np

from calib.calibrations.momentum_scale.constants.peaks import Peaks
from calib.fitting.models.kernel import KernelPeak
from calib.results import Curve, Status

MOST = 1500
"""Pictures of a resonance: all of them, or the worst third of this number and a random rest."""


def curves(peaks: Peaks, seed: int) -> list[Curve]:
    """Return the pictures of the fitted categories of one resonance.

    Parameters
    ----------
    peaks : Peaks
        Categories of one resonance.
    seed : int
        Of the choice of categories.

    Returns
    -------
    list of Curve
        Masses in GeV.
    """
    names, group = peaks.names(), f"{peaks.source.sample} {peaks.resonance}"
    return [_curve(peaks, int(i), names[i], group) for i in chosen(peaks, seed)]


def chosen(peaks: Peaks, seed: int) -> np.ndarray:
    """Return the categories that get a picture.

    Parameters
    ----------
    peaks : Peaks
        Categories of one resonance.
    seed : int
        Of the choice; the worst fits are always there.

    Returns
    -------
    int array
        Indices of the categories, ascending.
    """
    fitted = np.flatnonzero(np.isfinite(peaks.data.mu))
    if len(fitted) <= MOST:
        return fitted
    per_ndf = peaks.data.chi2[fitted] / np.maximum(peaks.data.ndf[fitted], 1)
    odd = peaks.status[fitted] != Status.OK.value
    worst = fitted[np.lexsort((-per_ndf, ~odd))][: MOST // 3]
    rest = np.setdiff1d(fitted, worst)
    some = np.random.default_rng(seed).choice(rest, MOST - len(worst), replace=False)
    return np.sort(np.concatenate([worst, some]))


def _curve(peaks: Peaks, i: int, name: str, group: str) -> Curve:
    data = peaks.data
    peak = KernelPeak(peaks.source.grid.mass_edges, peaks.templates[i], peaks.template_mass)
    parameters = data.mu[i], data.sigma[i], data.background[i], data.slope[i]
    total = peaks.counts[i].sum()
    variance = peaks.counts[i] if peaks.variance is None else peaks.variance[i]
    text = (
        f"mu {data.mu[i]:.6f} +- {data.mu_err[i]:.6f}, of the reference"
        f" {np.exp(peaks.reference_log_mu[i]):.6f}, sigma {100 * data.sigma[i]:.2f} %,"
        f" background {100 * data.background[i]:.1f} %, step: {data.step[i]}"
    )
    return Curve(
        name,
        peaks.source.grid.mass_edges,
        peaks.counts[i],
        variance,
        total * peak(*parameters),
        total * data.background[i] * peak.background(data.slope[i]),
        group,
        text=text,
    )
