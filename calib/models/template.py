"""A peak given as histograms at some resolution factors: interpolated, moved, with background.

The cumulative histogram is a polynomial in the logarithm of the factor and is interpolated in the
mass, so that the model is smooth in all its parameters and is integrated over the bins.
"""

from __future__ import annotations

from collections.abc import Sequence

import numba
import numpy as np

from calib.arrays import Array
from calib.models import exponential


def half_width(histogram: Array, edges: Array, share: float = 0.6827) -> float:
    """Return half of the central ``share`` of a histogram, in the units of its edges."""
    cumulative = np.concatenate([[0.0], np.cumsum(histogram)])
    if cumulative[-1] <= 0:
        return float("nan")
    cumulative = np.maximum.accumulate(cumulative / cumulative[-1])
    low, high = np.interp([(1 - share) / 2, (1 + share) / 2], cumulative, edges)
    return float(high - low) / 2


DEGREE = 8
"""Of the polynomial in the logarithm of the factor."""


@numba.njit(cache=True, nogil=True)
def _content(coefficients, x, edges, low, step):  # type: ignore[no-untyped-def]
    """Return the fraction per bin of a template at x, with its edges moved.

    The cumulative histogram at x is a polynomial (Horner); between its edges it is the
    Lagrange polynomial through four of them.
    """
    degree, n = coefficients.shape
    cumulative = coefficients[0].copy()
    for p in range(1, degree):
        for j in range(n):
            cumulative[j] = cumulative[j] * x + coefficients[p, j]
    out = np.empty(len(edges) - 1)
    before = 0.0
    total = 0.0
    for j in range(len(edges)):
        at = (edges[j] - low) / step
        i = min(max(int(at), 1), n - 3)
        t = at - i
        value = (
            -t * (t - 1) * (t - 2) / 6 * cumulative[i - 1]
            + (t + 1) * (t - 1) * (t - 2) / 2 * cumulative[i]
            - (t + 1) * t * (t - 2) / 2 * cumulative[i + 1]
            + (t + 1) * t * (t - 1) / 6 * cumulative[i + 2]
        )
        if j > 0:
            out[j - 1] = value - before
            total += value - before
        before = value
    return out / total


class TemplatePeak:
    """Template peak with an exponential background: factor, mu, background, slope.

    ``relative_variance`` is that of the template per bin before it was smoothed, ``smoothing``
    what the smoothing leaves of the variance of one bin (the sum over many bins keeps it).
    ``factor`` multiplies the resolution relative to the point at which the template was cut
    from its grid; ``mu`` is the ratio of the mass to the template's; ``background`` a fraction.
    """

    names: Sequence[str] = ("factor", "mu", "background", "slope")

    def __init__(
        self,
        shifts: Array,
        histograms: Array,
        template_edges: Array,
        edges: Array,
        relative_variance: Array,
        smoothing: float = 1.0,
    ) -> None:
        cumulative = np.concatenate(
            [np.zeros((len(shifts), 1)), np.cumsum(histograms, axis=1)], axis=1
        )
        self._reach = float(np.abs(shifts).max())
        powers = np.vander(shifts / self._reach, DEGREE + 1)
        self._coefficients = np.linalg.pinv(powers) @ cumulative
        self._low = float(template_edges[0])
        self._step = float(template_edges[1] - template_edges[0])
        self._edges = edges
        self._relative_variance = relative_variance
        self.smoothing = smoothing
        self.limits: Sequence[tuple[float, float]] = (
            (float(np.exp(shifts[0])), float(np.exp(shifts[-1]))),
            (0.98, 1.02),
            (0.0, 0.9),
            (-10.0, 10.0),
        )

    def signal(self, factor: float, mu: float) -> Array:
        """Return the signal's fraction per bin, normalised in the window."""
        x, edges = np.log(factor) / self._reach, self._edges / mu
        return np.asarray(_content(self._coefficients, x, edges, self._low, self._step))

    def background(self, slope: float) -> Array:
        """Return the background's fraction per bin, normalised in the window."""
        return np.diff(exponential.cdf(self._edges, slope, self._edges[0], self._edges[-1]))

    def __call__(self, *parameters: float) -> Array:
        """Return the expected fraction per bin."""
        factor, mu, background, slope = parameters
        return np.asarray(
            (1 - background) * self.signal(factor, mu) + background * self.background(slope)
        )

    def penalty(self, *parameters: float) -> float:
        """Return the weak constraint on the slope (standard deviation 5)."""
        return float(0.5 * (parameters[3] / 5.0) ** 2)

    def relative_variance(self, *parameters: float) -> Array:
        """Return the relative variance per bin from the template's statistics."""
        return self._relative_variance
