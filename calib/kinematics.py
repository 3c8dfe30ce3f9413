"""Muon and pair kinematics: k, mass, predicted mass resolution. GeV everywhere."""

import numpy as np

from calib.constants import MUON_MASS
from calib.typing import Array


def k(pt: Array) -> Array:
    """Return k = 1/pt, in 1/GeV (not q/p, not 1/p)."""
    return 1.0 / pt


def mass(
    pt1: Array, eta1: Array, phi1: Array, pt2: Array, eta2: Array, phi2: Array
) -> Array:
    """Return the invariant mass of two muons, in GeV.

    The opening of the pair enters through ``cosh(d eta) - cos(d phi)``, which keeps its
    precision for close muons, where the difference of energies and momenta loses it; the muon
    mass enters exactly, through the transverse masses.
    """
    mt1, mt2 = np.hypot(pt1, MUON_MASS), np.hypot(pt2, MUON_MASS)
    y1, y2 = np.arcsinh(pt1 * np.sinh(eta1) / mt1), np.arcsinh(pt2 * np.sinh(eta2) / mt2)
    half_y, half_phi = np.sinh((y1 - y2) / 2), np.sin((phi1 - phi2) / 2)
    # mt1 mt2 cosh(dy) - pt1 pt2 cos(dphi), each difference in its stable form
    stable = 2 * mt1 * mt2 * half_y**2 + 2 * pt1 * pt2 * half_phi**2 + (mt1 * mt2 - pt1 * pt2)
    return np.asarray(np.sqrt(2 * MUON_MASS**2 + 2 * stable), dtype=np.float64)


def predicted_mass_resolution(mass: Array, relative1: Array, relative2: Array) -> Array:
    """Return sigma_pred = m/2 sqrt((ptErr1/pt1)^2 + (ptErr2/pt2)^2), in GeV.

    The measurement errors of the angles are neglected. ``relative1, relative2`` are ptErr/pt.
    """
    return 0.5 * mass * np.hypot(relative1, relative2)
