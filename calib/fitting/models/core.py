"""A Gaussian core on a wider Gaussian, for residuals whose tails shall not pull the width.

For impact parameters and other residuals around zero: most are Gaussian, a few per cent (nuclear
interactions, hard scatters, wrong hits) are several times as wide. Not for a tail that is nearly
as narrow as the core, or as large: what is core and what is tail is then a matter of definition.
"""

from __future__ import annotations

import math
from collections.abc import Sequence

import numba
import numpy as np

from calib.types import Array

USUAL = (0.05, 3.5)
"""Share of the tail, and its width in widths of the core: where the constraints are centred."""

LOOSE = (0.10, 0.35)
"""Standard deviations of the constraints, of the share and of the logarithm of the ratio."""


class CorePeak:
    """Core with a tail: width, mean, tail, ratio.

    ``width`` is the root of the core's mean variance and ``mean`` its centre, both over ``unit``;
    ``tail`` is a fraction of the entries, ``ratio`` the width of the tail over that of the core.
    Integrated over the bins and normalised in the window.

    Parameters
    ----------
    edges : array, shape (bins + 1,)
    unit : float
        A guess of the width, in the unit of the edges.
    spread : float
        Relative standard deviation of the core's variance among the entries, below 1. The core is
        then the mean of many Gaussians; two of them have its variance and its kurtosis.
    usual : (float, float)
        Centres of the weak constraints on tail and ratio.
    """

    names: Sequence[str] = ("width", "mean", "tail", "ratio")
    limits: Sequence[tuple[float, float]] = ((0.2, 3.0), (-1.0, 1.0), (0.0, 0.5), (1.7, 12.0))

    def __init__(
        self, edges: Array, unit: float, spread: float = 0.0, usual: tuple[float, float] = USUAL
    ) -> None:
        self._edges = np.asarray(edges, dtype=np.float64) / unit
        self._spread = min(spread, 0.95)
        self._usual = usual

    def __call__(self, *parameters: float) -> Array:
        """Return the expected fraction per bin."""
        return np.asarray(_fractions(self._edges, *parameters, self._spread))

    def tail(self, *parameters: float) -> Array:
        """Return the part of the expected fraction per bin that is tail."""
        width, mean, tail, ratio = parameters
        inside = tail * _inside(self._edges, mean, width * ratio)
        core = (
            0.5
            * (1 - tail)
            * sum(
                _inside(self._edges, mean, width * math.sqrt(1 + s * self._spread)) for s in (1, -1)
            )
        )
        alone = _fractions(self._edges, width, mean, 1.0, ratio, self._spread)
        return np.asarray(inside / (inside + core) * alone)

    def penalty(self, *parameters: float) -> float:
        """Return the weak constraints on share and width of the tail."""
        share = (parameters[2] - self._usual[0]) / LOOSE[0]
        ratio = math.log(parameters[3] / self._usual[1]) / LOOSE[1]
        return 0.5 * (share**2 + ratio**2)

    def relative_variance(self, *parameters: float) -> Array:
        """Return zeros: the shape has no statistics of its own."""
        return np.zeros(len(self._edges) - 1)


def _inside(edges: Array, mean: float, width: float) -> float:
    """Return the share of a Gaussian between the first and the last edge."""
    root = math.sqrt(2.0) * width
    return 0.5 * (math.erf((edges[-1] - mean) / root) - math.erf((edges[0] - mean) / root))


@numba.njit(cache=True, nogil=True)
def _fractions(edges, width, mean, tail, ratio, spread):  # type: ignore[no-untyped-def]
    root = math.sqrt(2.0) * width
    wide, narrow = root * math.sqrt(1.0 + spread), root * math.sqrt(1.0 - spread)
    far = root * ratio
    out = np.empty(len(edges) - 1)
    before = 0.0
    total = 0.0
    for j in range(len(edges)):
        t = edges[j] - mean
        core = 0.25 * (math.erf(t / wide) + math.erf(t / narrow))
        value = (1.0 - tail) * core + 0.5 * tail * math.erf(t / far)
        if j > 0:
            out[j - 1] = value - before
            total += value - before
        before = value
    return out / total
