"""What muons radiate: final-state photons in the rest frame of a pair, and weights for their rate.

When to use: muons are made without a generator that radiates, or the rate of radiation is varied.
When not: a simulation has its own photons.

Two radiators, independent of each other, are there to be compared. ``leading_log``: at most one
collinear photon a muon, its rate the leading logarithm. ``exponentiated``: the exact first order
of a pair, exponentiated: any number of photons, at angles. The first lacks ln(1 - x) beside the
logarithm of the mass and radiates harder (400 000 pairs and quadrature, see its test):

============================ =========== ============= =====
pairs                        leading_log exponentiated ratio
============================ =========== ============= =====
Z below 0.9 of its mass      6.35 %      5.96 %        1.064
Z mean loss of mass          2.30 %      2.11 %        1.09
J/psi below 0.9 of its mass  2.91 %      2.54 %        1.15
J/psi mean loss of mass      1.04 %      0.88 %        1.17
============================ =========== ============= =====
"""

from __future__ import annotations

import math
from functools import lru_cache
from typing import Literal

import numba
import numpy as np

from calib.events.random import uniform
from calib.events.vecmath import exp, log, sin_cos
from calib.physics.constants import ALPHA, MUON_MASS
from calib.types import Array

Radiation = Literal["none", "leading_log", "exponentiated"]
"""Radiators that there are."""

MIN_PHOTON = 1e-4
"""Smallest energy fraction of a radiated photon."""
_LOG_MIN_PHOTON = math.log(MIN_PHOTON)

_ACCEPTED = -_LOG_MIN_PHOTON - 0.75 + MIN_PHOTON - 0.25 * MIN_PHOTON**2
"""Integral of (1 + (1 - x)^2) / (2x) from `MIN_PHOTON` to 1."""


@numba.njit(cache=True, inline="always", error_model="numpy")
def collinear_photon(log_ratio, key, counter):  # type: ignore[no-untyped-def]
    """Return the energy fraction that a muon radiates.

    Leading logarithm, collinear: dP/dx = (alpha/pi)(ln(m^2/m_mu^2) - 1)(1 + (1-x)^2)/(2x).

    Parameters
    ----------
    log_ratio : float
        ln(m^2 / m_mu^2) of the pair.
    key, counter : int
        Of the random numbers; two are used, from counter on.

    Returns
    -------
    float
        Energy fraction, 0 for most muons.
    """
    rate = ALPHA / math.pi * (log_ratio - 1.0) * -_LOG_MIN_PHOTON
    u = uniform(key, counter)
    x = exp(_LOG_MIN_PHOTON * u / rate)
    accepted = (u < rate) & (uniform(key, counter + 1) < 0.5 * (1.0 + (1.0 - x) ** 2))
    return x if accepted else 0.0


def collinear_probability(mass: Array) -> Array:
    """Return the probability of a muon to radiate in ``leading_log``.

    Parameters
    ----------
    mass : array
        Of the pair, in GeV.

    Returns
    -------
    array
        From 0 to 1, shape as mass.
    """
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
    """Return weights from ``leading_log`` to one of ``strength`` times its rate.

    Exact: for each muon ``strength`` if it radiated, else (1 - strength p)/(1 - p).

    Parameters
    ----------
    born_mass : array, shape (n,)
        Mass before radiation, in GeV.
    lost_first, lost_second : array, shape (n,)
        Energy fraction that each muon radiated, 0 for none.
    strength : float
        Rate of radiation over that of ``leading_log``.

    Returns
    -------
    array, shape (n,)
        Weights about 1.

    Raises
    ------
    ValueError
        If a muon would radiate with a probability below 0 or above 1.
    """
    # the probability grows with the mass
    most = float(collinear_probability(np.asarray(np.max(born_mass, initial=MUON_MASS))))
    if not (strength >= 0 and strength * most <= 1):
        raise ValueError(
            f"FSR strength {strength:g}: the probability of a muon to radiate, {most:.3g} now,"
            " must stay between 0 and 1"
        )
    out = np.empty(len(born_mass))
    _collinear_weights(born_mass, lost_first, lost_second, float(strength), out)
    return out


# first order, exponentiated --------------------------------------------------------------------
MOST_PHOTONS = 16
"""Photons of one pair that are tried: a Z has half a photon on average."""
PHOTON_DRAWS = 4 * MOST_PHOTONS
"""Random numbers kept for the photons of one copy of one event."""
FIRST_PHOTON_DRAW = 1 << 20
"""First of them: those of the leading logarithm and of smearing lie below."""


@numba.njit(cache=True, inline="always", error_model="numpy")
def _logarithm(square):  # type: ignore[no-untyped-def]
    """Return (1 + b^2)/(2b) ln((1 + b)/(1 - b)) and that ln; square = 1 - b^2 = 4 m_mu^2/m^2."""
    beta = math.sqrt(1.0 - square)
    span = 2.0 * log(1.0 + beta) - log(square)
    return 0.5 * (2.0 - square) / beta * span, span


@numba.njit(cache=True, inline="always", error_model="numpy")
def _matrix_element(x, square, u):  # type: ignore[no-untyped-def]
    """Return the cosine, the sine and the weight of a photon; see `photons`.

    The cosine is drawn from 1/(1 - b^2 cos^2) with u between 0 and 1.
    """
    whole, span = _logarithm(square)
    e = exp((2.0 * u - 1.0) * span)
    fall = 4.0 * e / ((1.0 + e) * (1.0 + e))  # 1 - b^2 cos^2, which is small along a muon
    cosine = (e - 1.0) / ((e + 1.0) * math.sqrt(1.0 - square))
    sine = math.sqrt(max(fall - square, 0.0) / (1.0 - square))
    hard = 1.0 - x + 0.25 * x * x * (1.0 + cosine * cosine)
    mass_term = (1.0 - x) * square * (2.0 - fall) / ((2.0 - square) * fall)
    return cosine, sine, whole * (hard - mass_term)


@numba.njit(cache=True, inline="always", error_model="numpy")
def softest(mass, key, counter):  # type: ignore[no-untyped-def]
    """Return x of the first photon that `photons` tries; beyond 1 there is none.

    Parameters
    ----------
    mass : float
        Of the pair, in GeV.
    key, counter : int
        Of the random numbers.

    Returns
    -------
    float
        Without unit.
    """
    square = 4.0 * MUON_MASS * MUON_MASS / (mass * mass)
    whole, _ = _logarithm(square)
    per_rate = math.pi / (2.0 * ALPHA * whole)
    return MIN_PHOTON * exp(-per_rate * log(uniform(key, counter)))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def photons(mass, nx, ny, nz, key, counter):  # type: ignore[no-untyped-def]
    """Return the number of photons of a pair and the muons' (E, px, py, pz), at rest before.

    Poisson process in ln x, x the share of m^2 that a photon takes away, in the rest frame of the
    two muons that remain, with the cosine c of its angle to them, each photon independent:

    dN = (alpha/pi) dx/x dc (1 + b^2)/(1 - b^2 c^2) (H - (1 - x) R), H = (x1^2 + x2^2)/2,
    R = (1 - b^2)(1 + b^2 c^2)/((1 + b^2)(1 - b^2 c^2)), b^2 = 1 - 4 m_mu^2/(m^2 (1 - x)),

    x1 = 1 - x(1 + c)/2, x2 = 1 - x(1 - c)/2. For soft photons this is the eikonal of the dipole,
    (2 alpha/pi) dx/x dc b^2 sin^2/(1 - b^2 c^2)^2 (D. R. Yennie, S. C. Frautschi, H. Suura, Ann.
    Phys. 13 (1961) 379); for hard ones the first order of Z -> mu mu gamma (Ellis, Stirling,
    Webber, section 3.3, for gluons), its mass terms those that do not vanish with the mass. Left
    out: terms of (m_mu/m)^2, and what is alpha^2 without a logarithm. The integral over c is
    (alpha/pi)(1 + (1-x)^2)/x (ln(m^2 (1-x)/m_mu^2) - 1).

    The mass squared after radiation is m^2 times all (1 - x). The hardest photon is radiated
    first; the axis of the muons is kept in their own rest frame.

    Parameters
    ----------
    mass : float
        Before radiation, in GeV.
    nx, ny, nz : float
        Direction of the first muon, a unit vector.
    key, counter : int
        `PHOTON_DRAWS` random numbers from counter on.

    Returns
    -------
    int
        Number of photons.
    tuple of float
        (E, px, py, pz) of the first muon, in GeV.
    tuple of float
        (E, px, py, pz) of the second one.
    """
    square = 4.0 * MUON_MASS * MUON_MASS / (mass * mass)
    whole, _ = _logarithm(square)
    per_rate = math.pi / (2.0 * ALPHA * whole)
    # four-vectors, the sum and the difference of those of the muons but for a number each
    a0, ax, ay, az = 1.0, 0.0, 0.0, 0.0
    b0, bx, by, bz = 0.0, nx, ny, nz
    left, number, x = 1.0, 0, MIN_PHOTON
    sign = 1.0 if nz >= 0.0 else -1.0
    turn = -1.0 / (sign + nz)
    for draw in range(counter, counter + PHOTON_DRAWS, 4):
        x *= exp(-per_rate * log(uniform(key, draw)))
        if x >= 1.0 - square:
            break
        cosine, sine, weight = _matrix_element(x, square / (1.0 - x), uniform(key, draw + 1))
        if uniform(key, draw + 2) * whole >= weight or left * (1.0 - x) <= square:
            continue
        number += 1
        left *= 1.0 - x
        s, c = sin_cos(2.0 * math.pi * uniform(key, draw + 3))
        s, c = sine * s, sine * c
        kx = cosine * nx + c * (1.0 + sign * nx * nx * turn) + s * nx * ny * turn
        ky = cosine * ny + c * sign * nx * ny * turn + s * (sign + ny * ny * turn)
        kz = cosine * nz - c * sign * nx - s * ny
        # what was there before recoils
        root = math.sqrt(1.0 - x)
        gamma, gamma_beta = 0.5 * (2.0 - x) / root, 0.5 * x / root
        along = ax * kx + ay * ky + az * kz
        push = (gamma - 1.0) * along - gamma_beta * a0
        a0 = gamma * a0 - gamma_beta * along
        ax, ay, az = ax + kx * push, ay + ky * push, az + kz * push
        along = bx * kx + by * ky + bz * kz
        push = (gamma - 1.0) * along - gamma_beta * b0
        b0 = gamma * b0 - gamma_beta * along
        bx, by, bz = bx + kx * push, by + ky * push, bz + kz * push
    e, p = 0.5 * mass * math.sqrt(left), 0.5 * mass * math.sqrt(left - square)
    plus = e * a0 + p * b0, e * ax + p * bx, e * ay + p * by, e * az + p * bz
    return number, plus, (e * a0 - p * b0, e * ax - p * bx, e * ay - p * by, e * az - p * bz)


def mean_photons(mass: Array) -> Array:
    """Return the mean number of photons above `MIN_PHOTON` of ``exponentiated``.

    Parameters
    ----------
    mass : array, shape (n,)
        Before radiation, 0.5 to 5000 GeV.
    """
    return np.interp(np.log(mass), *_mean_photons())


@lru_cache
def _mean_photons() -> tuple[Array, Array]:
    """Return ln(mass) and the integral of `photons`' formula over x and c."""
    log_mass = np.linspace(math.log(0.5), math.log(5000.0), 2001)
    threshold = 4 * MUON_MASS**2 * np.exp(-2 * log_mass)
    node, share = np.polynomial.legendre.leggauss(200)
    high = np.log1p(-threshold)
    half = 0.5 * (high - _LOG_MIN_PHOTON)
    x = np.exp(_LOG_MIN_PHOTON + half * (node[:, np.newaxis] + 1))
    beta_sq = 1 - threshold / (1 - x)
    beta = np.sqrt(beta_sq)
    whole = (1 + beta_sq) / (2 * beta) * (2 * np.log1p(beta) - np.log1p(-beta_sq))
    square = (whole - (1 + beta_sq)) / beta_sq  # of the cosine
    hard = (1 - x + 0.25 * x**2) * whole + 0.25 * x**2 * square
    return log_mass, 2 * ALPHA / math.pi * half * (share @ (hard - (1 - x)))


def poisson_weight(born_mass: Array, number: Array, strength: float) -> Array:
    """Return weights from ``exponentiated`` to one of ``strength`` times its rate.

    Exact, for photons that are independent: strength^number exp(-(strength - 1) mean).

    Parameters
    ----------
    born_mass : array, shape (n,)
        Mass before radiation, in GeV.
    number : array, shape (n,)
        Photons of each pair.
    strength : float
        Rate of radiation over that of ``exponentiated``.

    Returns
    -------
    array, shape (n,)
        Weights about 1.

    Raises
    ------
    ValueError
        If the strength is negative.
    """
    if not strength >= 0:
        raise ValueError(f"FSR strength {strength:g}: 0 or more is possible")
    powers = float(strength) ** np.arange(MOST_PHOTONS + 1)
    fewer = np.exp(-(strength - 1) * mean_photons(born_mass))
    return np.asarray(powers[number.astype(np.int64)] * fewer)
