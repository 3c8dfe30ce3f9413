"""Muon and pair kinematics: k, mass, predicted mass resolution. GeV everywhere."""

import numpy as np

from calib.arrays import Array
from calib.constants import MUON_MASS


def k(pt: Array) -> Array:
    """Return k = 1/pt, in 1/GeV (not q/p, not 1/p)."""
    return 1.0 / pt


def mass(pt1: Array, eta1: Array, phi1: Array, pt2: Array, eta2: Array, phi2: Array) -> Array:
    """Return the invariant mass of two muons, in GeV.

    E1 E2 - p1 p2 cos(angle) is written as (E1 E2 - |p1| |p2|), where the muon mass enters, and
    pt1 pt2 (cosh(d eta) - cos(d phi)), each in a form that keeps its precision for close muons,
    where the difference of energies and momenta loses it.
    """
    p1, p2 = pt1 * np.cosh(eta1), pt2 * np.cosh(eta2)
    e1, e2 = np.sqrt(p1 * p1 + MUON_MASS**2), np.sqrt(p2 * p2 + MUON_MASS**2)
    # (E1 E2 - |p1| |p2|) / m^2
    rest = (p1 * p1 + p2 * p2 + MUON_MASS**2) / (e1 * e2 + p1 * p2)
    opening = np.sinh((eta1 - eta2) / 2) ** 2 + np.sin((phi1 - phi2) / 2) ** 2
    squared = 2 * MUON_MASS**2 * (1 + rest) + 4 * pt1 * pt2 * opening
    return np.asarray(np.sqrt(squared), dtype=np.float64)


def predicted_mass_resolution(mass: Array, relative1: Array, relative2: Array) -> Array:
    """Return sigma_pred = m/2 sqrt((ptErr1/pt1)^2 + (ptErr2/pt2)^2), in GeV.

    The measurement errors of the angles are neglected. ``relative1, relative2`` are ptErr/pt.
    """
    return 0.5 * mass * np.hypot(relative1, relative2)
