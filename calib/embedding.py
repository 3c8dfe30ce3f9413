"""Generated muons made from reconstructed pairs: a new mass, the same pair, radiation.

When to use: no simulation is at hand, or none is trusted, and the shape of the mass in a
category must carry the category's own selection. The pair pt, rapidity and decay angles hardly
depend on the mass; so they are kept, a new mass is drawn from the line shape, radiation is
added, and the muons are rebuilt. What comes out are *generated* muons after FSR; smearing, cuts
and categories are the caller's.

When not: if the generated muons are known (simulation), start from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np

from calib.arrays import Array, UIntArray
from calib.constants import ALPHA, MUON_MASS, RESONANCES, SIN2_THETA_W
from calib.pairs import Pairs
from calib.random import normal_pair, uniform

MIN_PHOTON = 1e-4
"""Smallest energy fraction of a radiated photon."""

DRAWS = 16
"""Random numbers kept for one copy of one event."""

_TABLE = 8192


@dataclass(frozen=True)
class Line:
    """A line shape as the table of its inverse cumulative distribution, in GeV."""

    quantiles: Array


def z_line(low: float = 60.0, high: float = 140.0) -> Line:
    """Return Z and photon exchange between low and high, in GeV.

    Relativistic Breit-Wigner with running width, m^2 / ((m^2 - M^2)^2 + m^4 Gamma^2 / M^2), with
    the photon's share at the pole from the couplings of u and d quarks and falling as 1/m^2;
    their interference, odd around the pole, goes with the mass shift and the slope of the
    background.
    """
    (m0,), width = RESONANCES["z"].masses, RESONANCES["z"].width
    grid = np.linspace(low, high, 200_001)
    s = grid**2
    z = s / ((s - m0**2) ** 2 + (s * width / m0) ** 2)
    at_pole = 1.0 / width**2
    photon = _photon_share() * at_pole * (m0 / grid) ** 2
    return _tabulated(grid, z + photon)


def _photon_share() -> float:
    """Return the photon's cross section over the Z's at the pole, mean of u and d quarks."""

    def z_coupling(charge: float, isospin: float) -> float:
        vector = isospin - 2 * charge * SIN2_THETA_W
        return (vector**2 + isospin**2) / (4 * SIN2_THETA_W * (1 - SIN2_THETA_W))

    (m0,), width = RESONANCES["z"].masses, RESONANCES["z"].width
    lepton = z_coupling(-1.0, -0.5)
    shares = [
        charge**2 / (z_coupling(charge, isospin) * lepton) * (width / m0) ** 2
        for charge, isospin in ((2 / 3, 0.5), (-1 / 3, -0.5))
    ]
    return float(np.mean(shares))


def narrow_line(mass: float) -> Line:
    """Return a line without width at this mass, in GeV."""
    return Line(np.full(2, mass))


def _tabulated(grid: Array, density: Array) -> Line:
    steps = 0.5 * (density[1:] + density[:-1])
    cumulative = np.concatenate([[0.0], np.cumsum(steps)]) / steps.sum()
    # a table even in probability, but for its two ends, where the tails need their own
    return Line(np.interp(np.linspace(0.0, 1.0, _TABLE * 16 + 1), cumulative, grid))


@dataclass(frozen=True)
class Generated:
    """Generated muons after FSR, one entry a made pair; arrays of shape (n,), GeV.

    ``relative`` is the muon's reconstructed minus generated k over the generated k, for a
    resolution that is as predicted (residual at factor 1). ``first`` and ``second`` follow the
    leading and the sub-leading muon of the source pair. ``source`` is the index of that pair.
    """

    pt_first: Array
    pt_second: Array
    eta_first: Array
    eta_second: Array
    phi_first: Array
    phi_second: Array
    mass: Array
    relative_first: Array
    relative_second: Array

    def __len__(self) -> int:
        return len(self.mass)


@numba.njit(cache=True, inline="always")
def _photon(mass, key, counter):  # type: ignore[no-untyped-def]
    """Return the energy fraction that a muon radiates, 0 for most.

    Leading logarithm, collinear: dP/dx = (alpha/pi)(ln(m^2/m_mu^2) - 1)(1 + (1-x)^2)/(2x).
    """
    rate = ALPHA / math.pi * (2.0 * math.log(mass / MUON_MASS) - 1.0) * -math.log(MIN_PHOTON)
    u = uniform(key, counter)
    if u >= rate:
        return 0.0
    x = MIN_PHOTON ** (u / rate)
    if uniform(key, counter + 1) >= 0.5 * (1.0 + (1.0 - x) ** 2):
        return 0.0
    return x


@numba.njit(cache=True, inline="always")
def _mass(pt1, eta1, phi1, pt2, eta2, phi2):  # type: ignore[no-untyped-def]
    """Return the mass of two muons, as `calib.kinematics.mass`."""
    p1, p2 = pt1 * math.cosh(eta1), pt2 * math.cosh(eta2)
    e1, e2 = math.sqrt(p1 * p1 + MUON_MASS**2), math.sqrt(p2 * p2 + MUON_MASS**2)
    rest = (p1 * p1 + p2 * p2 + MUON_MASS**2) / (e1 * e2 + p1 * p2)
    opening = math.sinh((eta1 - eta2) / 2) ** 2 + math.sin((phi1 - phi2) / 2) ** 2
    return math.sqrt(2 * MUON_MASS**2 * (1 + rest) + 4 * pt1 * pt2 * opening)


@numba.njit(cache=True, nogil=True)
def _embed(  # type: ignore[no-untyped-def]
    pt1, eta1, phi1, pt2, eta2, phi2, width1, width2, keys, copy, quantiles, fsr, out
):
    for i in range(len(pt1)):
        x1, y1 = pt1[i] * math.cos(phi1[i]), pt1[i] * math.sin(phi1[i])
        x2, y2 = pt2[i] * math.cos(phi2[i]), pt2[i] * math.sin(phi2[i])
        z1, z2 = pt1[i] * math.sinh(eta1[i]), pt2[i] * math.sinh(eta2[i])
        e1 = math.sqrt(x1 * x1 + y1 * y1 + z1 * z1 + MUON_MASS**2)
        e2 = math.sqrt(x2 * x2 + y2 * y2 + z2 * z2 + MUON_MASS**2)
        px, py, pz, e = x1 + x2, y1 + y2, z1 + z2, e1 + e2
        old = _mass(pt1[i], eta1[i], phi1[i], pt2[i], eta2[i], phi2[i])
        # to the rest frame along the pair's own momentum
        dot = (px * x1 + py * y1 + pz * z1) / (old * (e + old)) - e1 / old
        nx, ny, nz = x1 + px * dot, y1 + py * dot, z1 + pz * dot
        norm = math.sqrt(nx * nx + ny * ny + nz * nz)
        nx, ny, nz = nx / norm, ny / norm, nz / norm
        # the new mass, with the pair's pt, phi and rapidity
        key = keys[i]
        base = copy * DRAWS
        u = uniform(key, base) * (len(quantiles) - 1)
        j = min(int(u), len(quantiles) - 2)
        mass = quantiles[j] + (u - j) * (quantiles[j + 1] - quantiles[j])
        rapidity = math.atanh(pz / e)
        mt = math.sqrt(mass * mass + px * px + py * py)
        energy, long = mt * math.cosh(rapidity), mt * math.sinh(rapidity)
        # each muon has half of the mass as energy, in the pair's rest frame
        half = math.sqrt(0.25 * mass * mass - MUON_MASS**2)
        along = (px * nx + py * ny + long * nz) * half / (mass * (energy + mass))
        for sign in (1.0, -1.0):
            scale = sign * along + 0.5
            ax, ay, az = (
                sign * half * nx + px * scale,
                sign * half * ny + py * scale,
                (sign * half * nz + long * scale),
            )
            pt = math.sqrt(ax * ax + ay * ay)
            eta, phi = math.asinh(az / pt), math.atan2(ay, ax)
            counter = base + 1 if sign > 0 else base + 3
            lost = _photon(mass, key, counter) if fsr else 0.0
            if sign > 0:
                out[0, i], out[2, i], out[4, i] = pt * (1.0 - lost), eta, phi
            else:
                out[1, i], out[3, i], out[5, i] = pt * (1.0 - lost), eta, phi
        out[6, i] = _mass(out[0, i], out[2, i], out[4, i], out[1, i], out[3, i], out[5, i])
        normal1, normal2 = normal_pair(key, base + 5)
        out[7, i] = width1[i] * normal1
        out[8, i] = width2[i] * normal2


def embed(
    pairs: Pairs,
    relative_first: Array,
    relative_second: Array,
    keys: UIntArray,
    copy: int,
    line: Line,
    *,
    fsr: bool = True,
) -> Generated:
    """Return one generated pair for each source pair.

    Parameters
    ----------
    pairs : Pairs
        Source, reconstructed, opposite sign.
    relative_first, relative_second : array, shape (n,)
        Predicted relative resolution ptErr/pt of the leading and the other muon.
    keys : uint array, shape (n,)
        Keys of the events (`calib.random.keys`).
    copy : int
        Number of the copy; each has its own random numbers.
    line : Line
    fsr : bool
        Whether the muons radiate.
    """
    a, b = pairs.leading, pairs.subleading
    out = np.empty((9, len(pairs)))
    _embed(
        a.pt,
        a.eta,
        a.phi,
        b.pt,
        b.eta,
        b.phi,
        relative_first,
        relative_second,
        keys,
        copy,
        line.quantiles,
        fsr,
        out,
    )
    return Generated(*out)
