"""Muon and pair kinematics: k, mass, predicted mass resolution. GeV everywhere."""

import math

import numba
import numpy as np
from numpy.typing import ArrayLike

from calib.events.vecmath import exp, sin_squared
from calib.physics.constants import MUON_MASS
from calib.types import Array


def k(pt: Array) -> Array:
    """Return k = 1/pt (not q/p, not 1/p).

    Parameters
    ----------
    pt : array
        In GeV.

    Returns
    -------
    array
        In 1/GeV, shape as pt.
    """
    return 1.0 / pt


@numba.njit(inline="always", error_model="numpy")
def mass_of(pt1, eta1, phi1, pt2, eta2, phi2):  # type: ignore[no-untyped-def]
    """Return `mass` of one pair and sin^2 of half the angle between the muons, in the plane.

    The order of the muons does not matter, to the bit.

    Parameters
    ----------
    pt1, eta1, phi1, pt2, eta2, phi2 : float
        The muons; pt in GeV, phi in rad.

    Returns
    -------
    float
        Mass, in GeV.
    float
        sin^2 of half the angle between the muons in the transverse plane.
    """
    x, y = exp(eta1), exp(eta2)
    p1, p2 = 0.5 * pt1 * (x + 1.0 / x), 0.5 * pt2 * (y + 1.0 / y)
    p1_sq, p2_sq = p1 * p1, p2 * p2
    m_sq = MUON_MASS * MUON_MASS
    # (E1 E2 - |p1| |p2|) / m^2
    rest = (p1_sq + p2_sq + m_sq) / (math.sqrt((p1_sq + m_sq) * (p2_sq + m_sq)) + p1 * p2)
    turn = sin_squared(0.5 * (phi1 - phi2))
    # sinh^2 of half of d eta, and sin^2 of half of d phi
    opening = (x - y) * (x - y) / (4.0 * x * y) + turn
    return math.sqrt(2.0 * m_sq * (1.0 + rest) + 4.0 * pt1 * pt2 * opening), turn


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _masses(pt1, eta1, phi1, pt2, eta2, phi2, out):  # type: ignore[no-untyped-def]
    for i in range(len(out)):
        out[i], _ = mass_of(pt1[i], eta1[i], phi1[i], pt2[i], eta2[i], phi2[i])


def mass(
    pt1: ArrayLike,
    eta1: ArrayLike,
    phi1: ArrayLike,
    pt2: ArrayLike,
    eta2: ArrayLike,
    phi2: ArrayLike,
) -> Array:
    """Return the invariant mass of two muons.

    E1 E2 - p1 p2 cos(angle) is written as (E1 E2 - |p1| |p2|), where the muon mass enters, and pt1
    pt2 (cosh(d eta) - cos(d phi)), each in a form that keeps its precision for close muons, where
    the difference of energies and momenta loses it.

    Parameters
    ----------
    pt1, eta1, phi1, pt2, eta2, phi2 : array_like
        The muons, in shapes that broadcast; pt in GeV, phi in rad.

    Returns
    -------
    array
        In GeV, in the common shape, double precision.
    """
    columns = [np.asarray(x, dtype=np.float64) for x in (pt1, eta1, phi1, pt2, eta2, phi2)]
    shape = np.broadcast_shapes(*(x.shape for x in columns))
    out = np.empty(math.prod(shape))
    _masses(*(np.ascontiguousarray(np.broadcast_to(x, shape)).ravel() for x in columns), out)
    return out.reshape(shape)


def p_tilde(pt: Array, eta: Array, observable: str) -> Array:
    """Return p beta sin(theta)^(3/2) of ``d0``, p beta sin(theta)^(5/2) of ``z0``.

    With muon mass. Multiple scattering in a cylinder goes with its inverse: a path longer by
    1/sin(theta), a lever arm too, and for z0 the projection onto the axis.

    Parameters
    ----------
    pt : array, shape (n,)
        In GeV.
    eta : array, shape (n,)
        Pseudorapidity.
    observable : {"d0", "z0"}
        Whose multiple scattering it is.

    Returns
    -------
    array, shape (n,)
        In GeV.
    """
    p = pt * np.cosh(eta)
    beta = p / np.hypot(p, MUON_MASS)
    return np.asarray(p * beta * np.cosh(eta) ** -{"d0": 1.5, "z0": 2.5}[observable])


def predicted_mass_resolution(mass: Array, relative1: Array, relative2: Array) -> Array:
    """Return sigma_pred = m/2 sqrt((ptErr1/pt1)^2 + (ptErr2/pt2)^2).

    The measurement errors of the angles are neglected.

    Parameters
    ----------
    mass : array, shape (n,)
        Of the pairs, in GeV.
    relative1, relative2 : array, shape (n,)
        ptErr/pt of the muons.

    Returns
    -------
    array, shape (n,)
        In GeV.
    """
    return 0.5 * mass * np.hypot(relative1, relative2)
