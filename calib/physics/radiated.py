"""Spectrum of the generated mass after radiation, and its ratio for another rate of radiation.

When to use: simulated pairs, whose photons are not known, are to be varied in their radiation.
When not: the pairs were made by `calib.physics.embedding`, which knows what was radiated; then
`calib.physics.embedding.fsr_weight` is exact.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from calib.physics.constants import ALPHA, MUON_MASS, RESONANCES
from calib.physics.line_shapes import interpolated, line_density
from calib.physics.radiation import MIN_PHOTON, collinear_probability
from calib.types import Array

_STEP = 2.5e-4
_LOW, _HIGH = 0.25, 1.6
"""Masses of the grid, over the resonance's."""


def radiated_ratio(mass: Array, resonance: str, strength: float) -> Array:
    """Return weights that turn radiated pairs into those of muons that radiate more or less.

    The spectra are the line of the resonance, twice convolved with the leading-log radiator of
    `calib.physics.radiation`; a cut on the muons does not enter, which is a second-order effect on
    a ratio.

    Parameters
    ----------
    mass : array, shape (n,)
        After radiation, in GeV.
    resonance : str
    strength : float
        Of the rate of radiation.

    Returns
    -------
    array, shape (n,)
    """
    at, ratio = _ratio(resonance, float(strength))
    pole = RESONANCES[resonance].masses[0]
    return interpolated(np.log(np.asarray(mass) / pole), at[0], at[-1], ratio)


@lru_cache
def _ratio(resonance: str, strength: float) -> tuple[Array, Array]:
    """Return ln(m / pole) and the ratio of the spectra there."""
    # the mass of the resonance is the middle of a bin
    at = _STEP * np.arange(round(np.log(_LOW) / _STEP), round(np.log(_HIGH) / _STEP))
    pole = RESONANCES[resonance].masses[0]
    line = _born(resonance, pole * np.exp(at), at)
    more, once = (_spectrum(line, pole, s, len(at)) for s in (strength, 1.0))
    filled = np.flatnonzero(once > 1e-12 * once.max())  # without gaps
    # above a narrow peak there are only masses that were rounded: they have its ratio
    return at[filled], more[filled] / once[filled]


def _born(resonance: str, mass: Array, at: Array) -> Array:
    """Return the content of each bin of ln(m) before radiation."""
    if RESONANCES[resonance].width > 0.1:
        return line_density(mass) * mass
    line = np.zeros(len(at))
    line[int(np.argmin(np.abs(at)))] = 1.0
    return line


def _spectrum(line: Array, pole: float, strength: float, n: int) -> Array:
    """Return the line after both muons have radiated."""
    p = strength * float(collinear_probability(np.array(pole)))
    # d = -1/2 ln(1 - x) is what ln(m) loses; the content of its bins, rounded to the middle
    edges = np.maximum(np.arange(n + 1) - 0.5, 0.0) * _STEP
    x = np.maximum(-np.expm1(-2 * edges), MIN_PHOTON)
    rate = strength * ALPHA / np.pi * (2 * np.log(pole / MUON_MASS) - 1)
    lost = rate * np.diff(np.log(x) - x + 0.25 * x**2)
    lost[0] += 1.0 - p
    twice = np.convolve(lost, lost)[:n]
    # a loss moves to smaller ln(m)
    return np.convolve(line[::-1], twice)[:n][::-1]
