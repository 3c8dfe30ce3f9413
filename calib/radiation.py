"""What muons radiate: final-state photons in the rest frame of a pair, and weights for their rate.

When to use: muons are made without a generator that radiates, or the rate of radiation is varied.
When not: a simulation has its own photons.

Two radiators, independent of each other, are there to be compared. ``leading_log``: at most one
collinear photon a muon, its rate the leading logarithm. ``exponentiated``: the exact first order
of a pair, exponentiated: any number of photons, at angles.
"""

from __future__ import annotations

import math
from typing import Literal

import numba
import numpy as np

from calib.arrays import Array
from calib.constants import ALPHA, MUON_MASS
from calib.fast import exp, log
from calib.random import uniform

Radiation = Literal["none", "leading_log", "exponentiated"]
"""Radiators that there are."""

MIN_PHOTON = 1e-4
"""Smallest energy fraction of a radiated photon."""
_LOG_MIN_PHOTON = math.log(MIN_PHOTON)

_ACCEPTED = -_LOG_MIN_PHOTON - 0.75 + MIN_PHOTON - 0.25 * MIN_PHOTON**2
"""Integral of (1 + (1 - x)^2) / (2x) from `MIN_PHOTON` to 1."""


@numba.njit(cache=True, inline="always", error_model="numpy")
def collinear_photon(log_ratio, key, counter):  # type: ignore[no-untyped-def]
    """Return the energy fraction that a muon radiates, 0 for most; log_ratio = ln(m^2/m_mu^2).

    Leading logarithm, collinear: dP/dx = (alpha/pi)(ln(m^2/m_mu^2) - 1)(1 + (1-x)^2)/(2x).
    """
    rate = ALPHA / math.pi * (log_ratio - 1.0) * -_LOG_MIN_PHOTON
    u = uniform(key, counter)
    x = exp(_LOG_MIN_PHOTON * u / rate)
    accepted = (u < rate) & (uniform(key, counter + 1) < 0.5 * (1.0 + (1.0 - x) ** 2))
    return x if accepted else 0.0


def collinear_probability(mass: Array) -> Array:
    """Return the probability of a muon to radiate in ``leading_log``, shape as mass (GeV)."""
    rate = ALPHA / math.pi * (2 * np.log(np.asarray(mass) / MUON_MASS) - 1)
    return np.asarray(rate * _ACCEPTED)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _collinear_weights(mass, lost_first, lost_second, strength, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        p = ALPHA / math.pi * (2.0 * log(mass[i] / MUON_MASS) - 1.0) * _ACCEPTED
        silent = (1.0 - strength * p) / (1.0 - p)
        first = strength if lost_first[i] > 0.0 else silent
        out[i] = first * (strength if lost_second[i] > 0.0 else silent)


def collinear_weight(
    born_mass: Array, lost_first: Array, lost_second: Array, strength: float
) -> Array:
    """Return weights from ``leading_log`` to one of ``strength`` times its rate, shape (n,).

    Exact: for each muon ``strength`` if it radiated, else (1 - strength p)/(1 - p).

    Parameters
    ----------
    born_mass : array, shape (n,)
        Mass before radiation, in GeV.
    lost_first, lost_second : array, shape (n,)
        Energy fraction that each muon radiated, 0 for none.
    strength : float

    Raises
    ------
    ValueError
        If a muon would radiate with a probability below 0 or above 1.
    """
    most = float(np.max(collinear_probability(born_mass), initial=0.0))
    if not (strength >= 0 and strength * most <= 1):
        raise ValueError(
            f"FSR strength {strength:g}: the probability of a muon to radiate, {most:.3g} now,"
            " must stay between 0 and 1"
        )
    out = np.empty(len(born_mass))
    _collinear_weights(born_mass, lost_first, lost_second, float(strength), out)
    return out
