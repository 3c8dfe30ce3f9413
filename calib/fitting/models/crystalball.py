"""Double-sided Crystal Ball: a Gaussian core with a power tail on each side.

For a peak with a symmetric or asymmetric tail in the resolution. The exponents of the tails are
degenerate with where they begin; fix or constrain what the data do not see.
(J. E. Gaiser, PhD thesis, SLAC-R-255 (1982), appendix F.)
"""

import math

import numba
import numpy as np

from calib.types import Array


@numba.njit(cache=True)  # type: ignore[untyped-decorator]
def density(
    x: Array,
    mean: float,
    sigma: float,
    alpha_low: float,
    n_low: float,
    alpha_high: float,
    n_high: float,
) -> Array:
    """Return the shape, 1 at its top, not normalised.

    Parameters
    ----------
    x : array, shape (n,)
        GeV.
    mean, sigma : float
        Of the core, in GeV.
    alpha_low, n_low : float
        Where the lower tail begins, in units of sigma, positive; its exponent, above 1.
    alpha_high, n_high : float
        The same of the upper tail.

    Returns
    -------
    array, shape (n,)
        Without unit.
    """
    # (n/alpha)^n exp(-alpha^2/2) (n/alpha - alpha -+ t)^-n, written so that it cannot overflow
    low, high = math.exp(-0.5 * alpha_low**2), math.exp(-0.5 * alpha_high**2)
    out = np.empty(len(x))
    for i in range(len(x)):
        t = (x[i] - mean) / sigma
        if t < -alpha_low:
            out[i] = low * (1.0 - alpha_low / n_low * (alpha_low + t)) ** -n_low
        elif t > alpha_high:
            out[i] = high * (1.0 - alpha_high / n_high * (alpha_high - t)) ** -n_high
        else:
            out[i] = math.exp(-0.5 * t * t)
    return out
