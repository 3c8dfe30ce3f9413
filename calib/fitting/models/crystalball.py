"""Double-sided Crystal Ball: a Gaussian core with a power tail on each side.

For a peak with a symmetric or asymmetric tail in the resolution. The exponents of the tails are
degenerate with where they begin; fix or constrain what the data do not see.
`CrystalBallPeak` is it alone, for a resonance whose natural width is negligible.
(J. E. Gaiser, PhD thesis, SLAC-R-255 (1982), appendix F.)
"""

import math
from collections.abc import Sequence

import numba
import numpy as np

from calib.types import Array

PARTS = 4
"""Equal parts of a bin over which the shape is summed."""


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


class CrystalBallPeak:
    """Double-sided Crystal Ball without background, normalised in the window.

    Parameters
    ----------
    edges : array, shape (bins + 1,)
        GeV, of equal bins that are narrower than the peak.
    mass : float
        GeV; ``mean`` is relative to it.
    """

    names: Sequence[str] = ("mean", "sigma", "alpha_low", "n_low", "alpha_high", "n_high")
    limits: Sequence[tuple[float, float]] = (
        (-3.0, 3.0),
        (0.05, 10.0),
        (0.5, 5.0),
        (1.05, 50.0),
        (0.5, 5.0),
        (1.05, 50.0),
    )

    def __init__(self, edges: Array, mass: float) -> None:
        parts = np.linspace(edges[:-1], edges[1:], 2 * PARTS + 1)[1::2]  # the middles
        self._x = (parts - mass).T.ravel()
        self._bins = len(edges) - 1

    def starts(self, width: float) -> list[list[float]]:
        """Return start values for a peak of about some width, in GeV."""
        return [[0.0, f * width, a, n, a, n] for f, a, n in ((1.0, 1.8, 4.0), (0.8, 1.3, 8.0))]

    def __call__(self, *parameters: float) -> Array:
        """Return the expected fraction per bin."""
        content = density(self._x, *parameters).reshape(self._bins, PARTS).sum(1)
        return np.asarray(content / content.sum())

    def penalty(self, *parameters: float) -> float:
        """Return weak constraints on the logarithms of the exponents (1.5 around 4)."""
        _, _, _, n_low, _, n_high = parameters
        return 0.5 * sum((math.log(n / 4) / 1.5) ** 2 for n in (n_low, n_high))

    def relative_variance(self, *parameters: float) -> Array:
        """Return zeros: there is no template."""
        return np.zeros(self._bins)
