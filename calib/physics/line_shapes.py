"""Line shapes of the generated mass before radiation, and weights from one to another.

When to use: masses are drawn for made pairs, or a systematic variation of the line is wanted as
weights on pairs that are made already. When not: a simulation brings its own line; its weights
hold as far as its mass before radiation is known.

The Z is q qbar -> photon, Z -> mu mu at lowest order with the effective couplings, as in R. K.
Ellis, W. J. Stirling and B. R. Webber, QCD and Collider Physics, section 9.1, or PDG 2024,
section 10; the parton luminosities are taken as flat in ln(m^2).
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from typing import Literal, NamedTuple

import numba
import numpy as np

from calib.physics.constants import RESONANCES, SIN2_THETA_W
from calib.types import Array

LineVariation = Literal["no_photon", "no_interference", "mass_power"]
"""Other line shapes of the Z: the Z alone, Z and photon without interference, (m/M_Z)^power."""

_TABLE = 8192


@dataclass(frozen=True)
class LineTable:
    """A line shape as the table of its inverse cumulative distribution, in GeV."""

    quantiles: Array


class _Parts(NamedTuple):
    """Photon and interference over Z exchange, but for the masses; means of u and d quarks."""

    photon: float
    interference: float


@lru_cache(maxsize=16)
def z_line(
    low: float = 60.0, high: float = 140.0, *, photon: bool = True, interference: bool = True
) -> LineTable:
    """Return the Z, the photon and their interference between two masses.

    Relativistic Breit-Wigner with running width, s / ((s - M^2)^2 + s^2 Gamma^2 / M^2), s = m^2,
    the photon falling as 1/s, and the interference, (s - M^2) over the same denominator. The
    couplings are those of u and d quarks that make equally many Z, as up-type and down-type quarks
    do at the LHC to about a tenth.

    Parameters
    ----------
    low, high : float
        In GeV.
    photon : bool
        Whether there is photon exchange; without, there is no interference either.
    interference : bool
        Whether photon and Z interfere.

    Returns
    -------
    LineTable
        Masses of the Z before radiation, in GeV.
    """
    grid = np.linspace(low, high, 200_001)
    return _tabulated(grid, line_density(grid, photon, interference))


def line_density(mass: Array, photon: bool = True, interference: bool = True) -> Array:
    """Return dN/dm of the Z line; the Z alone is 1/Gamma^2 at its mass.

    Parameters
    ----------
    mass : array, shape (n,)
        Before radiation, in GeV.
    photon, interference : bool
        As of `z_line`.

    Returns
    -------
    array, shape (n,)
        In 1/GeV^2.
    """
    (m0,), width = RESONANCES["z"].masses, RESONANCES["z"].width
    s = mass**2
    below = (s - m0**2) ** 2 + (s * width / m0) ** 2
    density = s / below
    if not photon:
        return density
    parts = _parts()
    density = density + parts.photon * (width / m0) ** 2 * (1.0 / width**2) * (m0 / mass) ** 2
    if not interference:
        return density
    return np.asarray(density + parts.interference * (s - m0**2) / below)


@lru_cache
def _parts() -> _Parts:
    weak = 4 * SIN2_THETA_W * (1 - SIN2_THETA_W)

    def couplings(charge: float, isospin: float) -> tuple[float, float]:
        """Return (v^2 + a^2) and v of a fermion, each over 4 sin^2 cos^2 or its root."""
        vector = isospin - 2 * charge * SIN2_THETA_W
        return (vector**2 + isospin**2) / weak, vector / weak**0.5

    z_muon, vector_muon = couplings(-1.0, -0.5)
    photon, interference = [], []
    for charge, isospin in ((2 / 3, 0.5), (-1 / 3, -0.5)):
        z_quark, vector_quark = couplings(charge, isospin)
        photon.append(charge**2 / (z_quark * z_muon))
        product = -charge * vector_quark * vector_muon
        interference.append(2 * product / (z_quark * z_muon))
    return _Parts(float(np.mean(photon)), float(np.mean(interference)))


def narrow_line(mass: float) -> LineTable:
    """Return a line without width at this mass, in GeV."""
    return LineTable(np.full(2, mass))


def _tabulated(grid: Array, density: Array) -> LineTable:
    steps = 0.5 * (density[1:] + density[:-1])
    cumulative = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    # a table even in probability, but for its two ends, where the tails need their own
    return LineTable(np.interp(np.linspace(0.0, 1.0, _TABLE * 16 + 1), cumulative, grid))


def line_weight(
    born_mass: Array,
    variation: LineVariation,
    *,
    power: float = 0.0,
    window: tuple[float, float] = (60.0, 140.0),
) -> Array:
    """Return weights that turn pairs of the nominal Z line into those of another one.

    Parameters
    ----------
    born_mass : array, shape (n,)
        Mass before radiation, in GeV (`calib.physics.embedding.Generated`).
    variation : str
        ``no_photon``, ``no_interference``, or ``mass_power``: times (m/M_Z)^power.
    power : float
        Of ``mass_power``.
    window : (float, float)
        Where masses were drawn, in GeV: the mean weight there is 1.

    Returns
    -------
    array, shape (n,)

    Raises
    ------
    ValueError
        If there is no such variation.
    """
    mass = np.asarray(born_mass, dtype=float)
    if variation == "mass_power":  # as fast as a table
        return _ratio(mass, variation, power) / _mean_ratio(variation, power, window)
    found = interpolated(mass, *_TABULATED, _tabulated_weight(variation, power, window))
    outside = ~((mass >= _TABULATED[0]) & (mass <= _TABULATED[1]))
    if outside.any():
        scale = _mean_ratio(variation, power, window)
        found[outside] = _ratio(mass[outside], variation, power) / scale
    return found


_TABULATED = (40.0, 200.0)
"""Masses in GeV between which weights are looked up, in steps of 10 MeV: to 1e-6 of a weight."""


@lru_cache(maxsize=16)
def _tabulated_weight(variation: LineVariation, power: float, window: tuple[float, float]) -> Array:
    grid = np.linspace(*_TABULATED, 16_001)
    return _ratio(grid, variation, power) / _mean_ratio(variation, power, window)


def interpolated(values: Array, low: float, high: float, table: Array) -> Array:
    """Return a tabulated function, linear in between; beyond its ends it has their values.

    Parameters
    ----------
    values : array, any shape
    low, high : float
        Where the table begins and ends.
    table : array, shape (n,)
        The function at equal steps from low to high.

    Returns
    -------
    array, shape as values
    """
    flat = np.ascontiguousarray(values, dtype=np.float64).ravel()
    out = np.empty(len(flat))
    _look_up(flat, low, (len(table) - 1) / (high - low), table, out)
    return out.reshape(np.shape(values))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _look_up(values, low, per_step, table, out):  # type: ignore[no-untyped-def]
    last = len(table) - 1.0
    for i in range(len(out)):
        x = (values[i] - low) * per_step
        x = x if x > 0.0 else 0.0
        x = x if x < last else last
        j = min(int(x), len(table) - 2)
        out[i] = table[j] + (x - j) * (table[j + 1] - table[j])


def _ratio(mass: Array, variation: LineVariation, power: float) -> Array:
    (m0,) = RESONANCES["z"].masses
    if variation == "mass_power":
        return np.asarray(np.exp(power * np.log(mass / m0)))
    if variation not in ("no_photon", "no_interference"):
        raise ValueError(
            f"line variation {variation!r}; there are no_photon, no_interference, mass_power"
        )
    other = line_density(mass, photon=variation != "no_photon", interference=False)
    return other / line_density(mass, photon=True, interference=True)


@lru_cache
def _mean_ratio(variation: LineVariation, power: float, window: tuple[float, float]) -> float:
    grid = np.linspace(*window, 20_001)
    nominal = line_density(grid, photon=True, interference=True)
    varied = nominal * _ratio(grid, variation, power)
    return float(np.trapezoid(varied, grid) / np.trapezoid(nominal, grid))
