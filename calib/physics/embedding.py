"""Generated muons made from reconstructed pairs: a new mass, the same pair, radiation.

When to use: no simulation is at hand, or none is trusted, and the shape of the mass in a
category must carry the category's own selection. The pair pt, rapidity and decay angles hardly
depend on the mass; so they are kept, a new mass is drawn from the line shape, radiation is
added, and the muons are rebuilt. What comes out are *generated* muons after FSR; smearing, cuts
and categories are the caller's. What was drawn is kept: weights vary the line and the radiation.

When not: if the generated muons are known (simulation), start from them.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from typing import Literal

import numba
import numpy as np

from calib.events.pairs import Pairs
from calib.events.random import normal_pair, uniform
from calib.events.vecmath import atan2, exp, log, sin_cos
from calib.physics.constants import MUON_MASS
from calib.physics.kinematics import mass_of
from calib.physics.line_shapes import LineTable, line_weight, narrow_line, z_line
from calib.physics.radiation import (
    FIRST_PHOTON_DRAW,
    MIN_PHOTON,
    PHOTON_DRAWS,
    Radiation,
    collinear_photon,
    collinear_weight,
    photons,
    poisson_weight,
    softest,
)
from calib.types import Array, UIntArray

__all__ = [
    "DRAWS",
    "Generated",
    "LineTable",
    "MIN_PHOTON",
    "Radiation",
    "embed",
    "fsr_weight",
    "line_weight",
    "narrow_line",
    "z_line",
]

DRAWS = 16
"""Random numbers kept for one copy of one event."""


@dataclass(frozen=True)
class Generated:
    """Generated muons after FSR, one entry a made pair; arrays of shape (n,), GeV.

    ``relative`` is the muon's reconstructed minus generated k over the generated k, for a
    resolution that is as predicted (residual at factor 1). ``first`` and ``second`` follow the
    leading and the sub-leading muon of the source pair. ``source`` is the index of that pair.

    ``born_mass`` is the mass before radiation, ``lost`` the share of its energy in the rest frame
    of the pair that the muon radiated, 0 for none, and ``photons`` the number of photons where
    there may be several. ``radiation`` says what made them: ``unknown`` are those of a
    simulation, where ``born_mass`` is the mass after FSR, the nearest that is known, and
    ``lost`` is NaN.
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
    lost_first: Array
    lost_second: Array
    born_mass: Array
    photons: Array | None = None
    radiation: Radiation | Literal["unknown"] = "unknown"

    def __len__(self) -> int:
        return len(self.mass)


BLOCK = 128
"""Pairs that are worked on at a time, a step for all of them after the other. What the steps hand
on lies in one array, column after column at known distances: so the compiler can tell that the
columns do not overlap, and does many pairs at once. Twice as many leave the nearest cache."""

(
    PT1,
    PT2,
    ETA1,
    ETA2,
    PHI1,
    PHI2,
    MASS,
    NORMAL1,
    NORMAL2,
    LOST1,
    LOST2,
    BORN,
    PHOTONS,
    PX,
    PY,
    COSH,
    SINH,
    NX,
    NY,
    NZ,
) = (BLOCK * column for column in range(20))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _to_rest(n, w):  # type: ignore[no-untyped-def]
    """Write the pair's px, py, cosh and sinh of its rapidity, and the first muon's direction.

    The direction is a unit vector in the rest frame that the boost along the pair's own momentum
    leads to.
    """
    for i in range(n):
        pt1, eta1, phi1 = w[PT1 + i], w[ETA1 + i], w[PHI1 + i]
        pt2, eta2, phi2 = w[PT2 + i], w[ETA2 + i], w[PHI2 + i]
        sin1, cos1 = sin_cos(phi1)
        sin2, cos2 = sin_cos(phi2)
        t1, t2 = exp(eta1), exp(eta2)
        x1, y1, z1 = pt1 * cos1, pt1 * sin1, 0.5 * pt1 * (t1 - 1.0 / t1)
        x2, y2, z2 = pt2 * cos2, pt2 * sin2, 0.5 * pt2 * (t2 - 1.0 / t2)
        e1 = math.sqrt(x1 * x1 + y1 * y1 + z1 * z1 + MUON_MASS**2)
        e2 = math.sqrt(x2 * x2 + y2 * y2 + z2 * z2 + MUON_MASS**2)
        px, py, pz, e = x1 + x2, y1 + y2, z1 + z2, e1 + e2
        old, _ = mass_of(pt1, eta1, phi1, pt2, eta2, phi2)
        dot = (px * x1 + py * y1 + pz * z1) / (old * (e + old)) - e1 / old
        nx, ny, nz = x1 + px * dot, y1 + py * dot, z1 + pz * dot
        norm = math.sqrt(nx * nx + ny * ny + nz * nz)
        across = math.sqrt(old * old + px * px + py * py)
        w[PX + i], w[PY + i], w[COSH + i], w[SINH + i] = px, py, e / across, pz / across
        w[NX + i], w[NY + i], w[NZ + i] = nx / norm, ny / norm, nz / norm


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _draw(keys, base, quantiles, collinear, w):  # type: ignore[no-untyped-def]
    """Write the new mass, what both muons radiate, and their normal numbers."""
    last = len(quantiles) - 2
    for i in range(len(keys)):
        u = uniform(keys[i], base) * (last + 1)
        j = min(int(u), last)
        w[MASS + i] = quantiles[j] + (u - j) * (quantiles[j + 1] - quantiles[j])
        w[BORN + i] = w[MASS + i]
    for i in range(len(keys)):
        w[NORMAL1 + i], w[NORMAL2 + i] = normal_pair(keys[i], base + 5)
    if not collinear:
        w[LOST1 : LOST1 + len(keys)] = 0.0
        w[LOST2 : LOST2 + len(keys)] = 0.0
        return
    for i in range(len(keys)):
        log_ratio = 2.0 * log(w[MASS + i] / MUON_MASS)
        w[LOST1 + i] = collinear_photon(log_ratio, keys[i], base + 1)
        w[LOST2 + i] = collinear_photon(log_ratio, keys[i], base + 3)


@numba.njit(cache=True, inline="always", error_model="numpy")
def _pt_eta_phi(px, py, pz):  # type: ignore[no-untyped-def]
    pt = math.sqrt(px * px + py * py)
    slope = pz / pt
    eta = log(abs(slope) + math.sqrt(slope * slope + 1.0))
    return pt, eta if slope >= 0.0 else -eta, atan2(py, px)


@numba.njit(cache=True, inline="always", error_model="numpy")
def _muon(sign, px, py, long, nx, ny, nz, half, along):  # type: ignore[no-untyped-def]
    """Return pt, eta, phi of a muon of momentum +-half n in the pair's rest frame."""
    scale = sign * along + 0.5
    ax, ay = sign * half * nx + px * scale, sign * half * ny + py * scale
    return _pt_eta_phi(ax, ay, sign * half * nz + long * scale)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _decay(n, w):  # type: ignore[no-untyped-def]
    """Write the muons and their mass after FSR."""
    for i in range(n):
        px, py, mass = w[PX + i], w[PY + i], w[MASS + i]
        nx, ny, nz = w[NX + i], w[NY + i], w[NZ + i]
        # the pair's pt, phi and rapidity with the new mass
        mt = math.sqrt(mass * mass + px * px + py * py)
        energy, long = mt * w[COSH + i], mt * w[SINH + i]
        # each muon has half of the mass as energy, in the pair's rest frame
        half = math.sqrt(0.25 * mass * mass - MUON_MASS**2)
        along = (px * nx + py * ny + long * nz) * half / (mass * (energy + mass))
        pt1, eta1, phi1 = _muon(1.0, px, py, long, nx, ny, nz, half, along)
        pt2, eta2, phi2 = _muon(-1.0, px, py, long, nx, ny, nz, half, along)
        pt1, pt2 = pt1 * (1.0 - w[LOST1 + i]), pt2 * (1.0 - w[LOST2 + i])
        w[PT1 + i], w[ETA1 + i], w[PHI1 + i] = pt1, eta1, phi1
        w[PT2 + i], w[ETA2 + i], w[PHI2 + i] = pt2, eta2, phi2
        w[MASS + i], _ = mass_of(pt1, eta1, phi1, pt2, eta2, phi2)


@numba.njit(cache=True, inline="always", error_model="numpy")
def _boosted(muon, px, py, long, energy, mass):  # type: ignore[no-untyped-def]
    """Return pt, eta, phi of a muon that has (E, px, py, pz) in the pair's rest frame."""
    e, x, y, z = muon
    scale = (px * x + py * y + long * z) / (mass * (energy + mass)) + e / mass
    return _pt_eta_phi(x + px * scale, y + py * scale, z + long * scale)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _radiate(keys, base, w):  # type: ignore[no-untyped-def]
    """Write the muons, what they lost and their mass anew, for pairs that radiate at angles."""
    for i in range(len(keys)):
        w[PHOTONS + i] = softest(w[BORN + i], keys[i], base)
    for i in range(len(keys)):
        if w[PHOTONS + i] >= 1.0:
            w[PHOTONS + i] = 0.0
            continue
        px, py, mass = w[PX + i], w[PY + i], w[BORN + i]
        nx, ny, nz = w[NX + i], w[NY + i], w[NZ + i]
        number, first, second = photons(mass, nx, ny, nz, keys[i], base)
        w[PHOTONS + i] = number
        if number == 0:
            continue
        mt = math.sqrt(mass * mass + px * px + py * py)
        energy, long = mt * w[COSH + i], mt * w[SINH + i]
        pt1, eta1, phi1 = _boosted(first, px, py, long, energy, mass)
        pt2, eta2, phi2 = _boosted(second, px, py, long, energy, mass)
        w[PT1 + i], w[ETA1 + i], w[PHI1 + i] = pt1, eta1, phi1
        w[PT2 + i], w[ETA2 + i], w[PHI2 + i] = pt2, eta2, phi2
        w[MASS + i], _ = mass_of(pt1, eta1, phi1, pt2, eta2, phi2)
        w[LOST1 + i] = 1.0 - 2.0 * first[0] / mass
        w[LOST2 + i] = 1.0 - 2.0 * second[0] / mass


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _embed(  # type: ignore[no-untyped-def]
    pt1, eta1, phi1, pt2, eta2, phi2, width1, width2, keys, copy, quantiles, radiator, out
):
    w = np.empty(20 * BLOCK)
    for low in range(0, len(pt1), BLOCK):
        high = min(low + BLOCK, len(pt1))
        n = high - low
        w[PT1 : PT1 + n], w[PT2 : PT2 + n] = pt1[low:high], pt2[low:high]
        w[ETA1 : ETA1 + n], w[ETA2 : ETA2 + n] = eta1[low:high], eta2[low:high]
        w[PHI1 : PHI1 + n], w[PHI2 : PHI2 + n] = phi1[low:high], phi2[low:high]
        _to_rest(n, w)
        _draw(keys[low:high], copy * DRAWS, quantiles, radiator == 1, w)
        _decay(n, w)
        if radiator == 2:
            _radiate(keys[low:high], FIRST_PHOTON_DRAW + copy * PHOTON_DRAWS, w)
        for row in range(len(out)):
            out[row, low:high] = w[row * BLOCK : row * BLOCK + n]
        out[7, low:high] *= width1[low:high]
        out[8, low:high] *= width2[low:high]


def embed(
    pairs: Pairs,
    relative_first: Array,
    relative_second: Array,
    keys: UIntArray,
    copy: int,
    line: LineTable,
    *,
    radiation: Radiation = "leading_log",
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
        Keys of the events (`calib.events.random.keys`).
    copy : int
        Number of the copy; each has its own random numbers.
    line : LineTable
        Masses that are drawn from, in GeV.
    radiation : str
        What the muons radiate: ``none``, ``leading_log`` or ``exponentiated``
        (`calib.physics.radiation`).
    fsr : bool
        Whether they radiate at all: False is ``none``.

    Returns
    -------
    Generated
        n pairs after radiation, GeV.
    """
    a, b = pairs.leading, pairs.subleading
    radiation = radiation if fsr else "none"
    radiators: dict[str, int] = {"none": 0, "leading_log": 1, "exponentiated": 2}
    # photons are counted where there may be several
    out = np.empty((13 if radiation == "exponentiated" else 12, len(pairs)))
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
        radiators[radiation],
        out,
    )
    return replace(Generated(*out), radiation=radiation)


def fsr_weight(generated: Generated, strength: float) -> Array:
    """Return weights that turn the pairs into those of muons that radiate more or less.

    Parameters
    ----------
    generated : Generated
        From `embed`.
    strength : float
        Of the rate of radiation, over that of the radiator that made the pairs.

    Returns
    -------
    array, shape (n,)
        Mean 1; all 1 if the muons do not radiate.

    Raises
    ------
    ValueError
        If the photons are not known (simulation), or the strength is not possible.
    """
    if generated.radiation == "none":
        return np.ones(len(generated))
    if generated.radiation == "unknown":
        raise ValueError("what simulated muons radiated is not known: no weights for another rate")
    if generated.photons is not None:
        return poisson_weight(generated.born_mass, generated.photons, strength)
    return collinear_weight(
        generated.born_mass, generated.lost_first, generated.lost_second, strength
    )
