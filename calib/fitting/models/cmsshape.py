"""Background with a turn-on: erfc((alpha - m) beta) exp(-gamma (m - peak)).

Used for the Z where cuts on pt carve the low side (tag-and-probe of CMS). ``alpha`` and ``beta``
are degenerate where the window does not see the turn-on: fix or constrain them there.
"""

import numpy as np

from calib.later import special
from calib.types import Array


def density(x: Array, alpha: float, beta: float, gamma: float, peak: float) -> Array:
    """Return the shape, not normalised; x, alpha and peak in GeV, beta and gamma in 1/GeV.

    Parameters
    ----------
    x : array, shape (n,)
        Mass, in GeV.
    alpha : float
        Mass of the turn-on, in GeV.
    beta : float
        Steepness of the turn-on, in 1/GeV.
    gamma : float
        Slope of the exponential, in 1/GeV.
    peak : float
        Mass at which the exponential is 1, in GeV.

    Returns
    -------
    array, shape (n,)
        Without unit; its integral is not 1.
    """
    return np.asarray(special.erfc((alpha - x) * beta) * np.exp(-gamma * (x - peak)))


def cdf(
    x: Array, alpha: float, beta: float, gamma: float, peak: float, low: float, high: float
) -> Array:
    """Return the integral from low to x, normalised in [low, high].

    Gauss-Legendre with five points a step. ``x`` is ascending and lies in the window, in GeV.

    Parameters
    ----------
    x : array, shape (n,)
        Mass, ascending, in [low, high], in GeV.
    alpha : float
        Mass of the turn-on, in GeV.
    beta : float
        Steepness of the turn-on, in 1/GeV.
    gamma : float
        Slope of the exponential, in 1/GeV.
    peak : float
        Mass at which the exponential is 1, in GeV.
    low, high : float
        Window of the normalisation, in GeV.

    Returns
    -------
    array, shape (n,)
        From 0 at low to 1 at high.
    """
    nodes, weights = np.polynomial.legendre.leggauss(5)
    points = np.concatenate([[low], x, [high]])
    centre, half = 0.5 * (points[1:] + points[:-1]), 0.5 * np.diff(points)
    values = density(centre[:, None] + half[:, None] * nodes, alpha, beta, gamma, peak)
    steps = half * (values @ weights)
    total = np.cumsum(steps)
    return np.asarray(total[:-1] / total[-1])
