"""Exponential background over a window, p(x) ~ exp(-slope t), t = (x - low)/(high - low).

For combinatorial background in a narrow window. Not for a background with a turn-on: `cmsshape`.
"""

import math

import numba
import numpy as np

from calib.types import Array


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def cdf(x: Array, slope: float, low: float, high: float) -> Array:
    """Return the integral from low to x of the density normalised in [low, high].

    Parameters
    ----------
    x : array, shape (n,)
        GeV.
    slope : float
        Falling for positive values; no unit (per window).
    low, high : float
        The window, in GeV.

    Returns
    -------
    array, shape (n,)
        From 0 at low to 1 at high.
    """
    t = (x - low) / (high - low)
    if abs(slope) < 1e-8:
        return t * (1 - 0.5 * slope * (t - 1))
    return np.expm1(-slope * t) / math.expm1(-slope)
