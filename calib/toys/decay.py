"""Generated muons of the toys: masses, kinematics of the pairs, decay, final-state radiation.

Arrays of shape (n,), GeV; every function takes its random numbers from the generator it is given.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from calib.physics.constants import ALPHA, MUON_MASS, RESONANCES
from calib.types import Array

MIN_PHOTON = 1e-4
"""Smallest energy fraction of a radiated photon."""


def pair_pt(n: int, heavy: bool, mean: float, random: np.random.Generator) -> Array:
    """Return the pt of the pairs, falling.

    Parameters
    ----------
    n : int
        Number of pairs.
    heavy : bool
        Z or H; else both muons must have pt enough to reach the detector.
    mean : float
        Mean pt, about, in GeV.
    random : Generator
        Of random numbers.

    Returns
    -------
    array, shape (n,)
        In GeV.
    """
    if not heavy:  # both muons must reach the detector
        return mean * (0.4 + 0.6 * random.gamma(1.2, 0.83, n))
    soft = mean * 0.45 * random.gamma(1.35, 1.48, n)
    recoil = random.random(n) < 0.12  # against jets
    return np.where(recoil, soft + random.exponential(16.0, n), soft)


def rapidity(n: int, random: np.random.Generator) -> Array:
    """Return the rapidity of the pairs: a plateau with falling edges.

    Parameters
    ----------
    n : int
        Number of pairs.
    random : Generator
        Of random numbers.

    Returns
    -------
    array, shape (n,)
        In [-2.6, 2.6].
    """
    flat = random.uniform(-2.6, 2.6, n)
    square = (flat / 2.2) ** 2
    return np.where(random.random(n) < np.exp(-square * square * square), flat, flat / 2)


def line(resonance: str, n: int, random: np.random.Generator) -> Array:
    """Return masses: a Breit-Wigner with running width for the Z, else narrow lines.

    Parameters
    ----------
    resonance : str
        One of ``calib.physics.constants.RESONANCES``.
    n : int
        Number of pairs.
    random : Generator
        Of random numbers.

    Returns
    -------
    array, shape (n,)
        Before radiation, in GeV.
    """
    masses, width = RESONANCES[resonance].masses, RESONANCES[resonance].width
    if width < 0.1:
        shares = np.array([0.62, 0.23, 0.15][: len(masses)])
        return random.choice(np.array(masses), n, p=shares / shares.sum())
    (m0,) = masses

    def density(m: Array) -> Array:
        s = m**2
        return s / ((s - m0**2) ** 2 + (s * width / m0) ** 2)

    return _inverse(density, 60.0, 130.0, n, random)


def _inverse(
    density: Callable[[Array], Array], low: float, high: float, n: int, random: np.random.Generator
) -> Array:
    grid = np.linspace(low, high, 20_001)
    cumulative = np.concatenate([[0], np.cumsum(density(0.5 * (grid[1:] + grid[:-1])))])
    return np.interp(random.random(n), cumulative / cumulative[-1], grid)


def exponential(
    n: int, low: float, high: float, slope: float, random: np.random.Generator
) -> Array:
    """Return masses from exp(-slope m) between low and high.

    Parameters
    ----------
    n : int
        Number of pairs.
    low, high : float
        Range of the masses, in GeV.
    slope : float
        In 1/GeV, falling for positive values.
    random : Generator
        Of random numbers.

    Returns
    -------
    array, shape (n,)
        In GeV.
    """
    u = random.random(n)
    if slope == 0:
        return low + u * (high - low)
    return np.asarray(low - np.log1p(-u * -np.expm1(-slope * (high - low))) / slope)


def one_plus_cos2(n: int, random: np.random.Generator) -> Array:
    """Return cos(theta) from 1 + cos^2, by Cardano's formula.

    Parameters
    ----------
    n : int
        Number of pairs.
    random : Generator
        Of random numbers.

    Returns
    -------
    array, shape (n,)
        In [-1, 1].
    """
    u = 4 * random.random(n) - 2
    root = np.cbrt(u + np.sqrt(u**2 + 1))
    return np.asarray(root - 1 / root)


def photon_fraction(mass: Array, random: np.random.Generator) -> Array:
    """Return the energy fraction that one muon radiates, 0 for most.

    Leading logarithm, collinear: dP/dx = (alpha/pi)(ln(m^2/m_mu^2) - 1)(1 + (1-x)^2)/(2x).

    Parameters
    ----------
    mass : array, shape (n,)
        Of the pair before radiation, in GeV.
    random : Generator
        Of random numbers.

    Returns
    -------
    array, shape (n,)
        Share of the muon's energy.
    """
    strength = ALPHA / np.pi * (2 * np.log(mass / MUON_MASS) - 1)
    x = MIN_PHOTON ** random.random(len(mass))  # 1/x
    emits = random.random(len(mass)) < strength * -np.log(MIN_PHOTON)
    accepted = random.random(len(mass)) < (1 + (1 - x) ** 2) / 2
    return np.where(emits & accepted, x, 0.0)


def decay(
    mass: Array, pair_pt: Array, rapidity: Array, cos: Array, random: np.random.Generator
) -> tuple[tuple[Array, Array, Array], tuple[Array, Array, Array]]:
    """Return (pt, eta, phi) of both muons in the laboratory.

    Parameters
    ----------
    mass : array, shape (n,)
        Of the pairs, in GeV.
    pair_pt, rapidity : array, shape (n,)
        Of the pairs; pt in GeV.
    cos : array, shape (n,)
        Cosine of the decay angle in the rest frame of the pair.
    random : Generator
        Of random numbers, for the azimuths.

    Returns
    -------
    tuple of array, shape (n,)
        (pt, eta, phi) of one muon, GeV and rad.
    tuple of array, shape (n,)
        Those of the other.
    """
    n = len(mass)
    azimuth, pair_phi = random.uniform(-np.pi, np.pi, n), random.uniform(-np.pi, np.pi, n)
    p = np.sqrt(mass**2 / 4 - MUON_MASS**2)
    sin = np.sqrt(1 - cos**2)
    px, py, pz = p * sin * np.cos(azimuth), p * sin * np.sin(azimuth), p * cos
    out = []
    for sign in (1.0, -1.0):
        x, y, z, e = sign * px, sign * py, sign * pz, mass / 2
        transverse_mass = np.hypot(mass, pair_pt)
        gamma, gamma_beta = transverse_mass / mass, pair_pt / mass
        x, e = gamma * x + gamma_beta * e, gamma * e + gamma_beta * x
        z, e = (
            np.cosh(rapidity) * z + np.sinh(rapidity) * e,
            np.cosh(rapidity) * e + np.sinh(rapidity) * z,
        )
        pt = np.hypot(x, y)
        phi = np.remainder(np.arctan2(y, x) + pair_phi + np.pi, 2 * np.pi) - np.pi
        out.append((pt, np.arcsinh(z / pt), phi))
    return out[0], out[1]
