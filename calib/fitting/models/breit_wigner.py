"""Breit-Wigner convolved with a double-sided Crystal Ball: the field's model of the Z.

When to use: as a reference. When not: to measure a resolution in a category that cuts on the
muons' pt. The cut carves the line shape, and the fit puts that into sigma, with a good chi2 (wrong
by -55 to +96 % in some categories).

Mass and width of the resonance are fixed: they are degenerate with the Crystal Ball's mean and
width. The integrals of the Breit-Wigner over the bins are known in closed form; so the
convolution is one product with a fixed matrix.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from calib.fitting.models import crystalball, exponential
from calib.types import Array

_REACH = 12.0  # GeV
_STEP = 0.1  # GeV


class BreitWignerPeak:
    """Breit-Wigner (x) double-sided Crystal Ball with an exponential background.

    ``mean`` is that of the Crystal Ball, in GeV away from the resonance; ``sigma`` its core.
    """

    names: Sequence[str] = (
        "mean",
        "sigma",
        "alpha_low",
        "n_low",
        "alpha_high",
        "n_high",
        "background",
        "slope",
    )
    limits: Sequence[tuple[float, float]] = (
        (-3.0, 3.0),
        (0.05, 8.0),
        (0.3, 5.0),
        (1.05, 30.0),
        (0.3, 5.0),
        (1.05, 30.0),
        (0.0, 0.9),
        (-10.0, 10.0),
    )
    starts: Sequence[Sequence[float]] = (
        (0.0, 1.2, 1.5, 3.0, 1.5, 3.0, 0.03, 0.5),
        (0.0, 0.8, 2.0, 5.0, 2.0, 5.0, 0.03, 0.5),
        (0.0, 1.8, 1.2, 2.0, 1.2, 8.0, 0.10, 1.0),
    )

    def __init__(self, edges: Array, mass: float, width: float) -> None:
        self._edges = edges
        self._x = np.arange(-_REACH, _REACH + _STEP / 2, _STEP)
        at = 2 * (edges[None, :] - mass - self._x[:, None]) / width
        self._integrals = np.diff(np.arctan(at) / np.pi, axis=1)

    def signal(self, *core: float) -> Array:
        """Return the signal's fraction per bin, normalised in the window."""
        content = crystalball.density(self._x, *core) @ self._integrals
        return np.asarray(content / content.sum())

    def background(self, slope: float) -> Array:
        """Return the background's fraction per bin, normalised in the window."""
        return np.diff(exponential.cdf(self._edges, slope, self._edges[0], self._edges[-1]))

    def __call__(self, *parameters: float) -> Array:
        """Return the expected fraction per bin."""
        *core, background, slope = parameters
        return np.asarray(
            (1 - background) * self.signal(*core) + background * self.background(slope)
        )

    def penalty(self, *parameters: float) -> float:
        """Return weak constraints on the slope (5) and the logarithms of the exponents (1.5)."""
        n_low, n_high, slope = parameters[3], parameters[5], parameters[7]
        exponents = (np.log(n_low / 3) / 1.5) ** 2 + (np.log(n_high / 3) / 1.5) ** 2
        return float(0.5 * ((slope / 5.0) ** 2 + exponents))

    def relative_variance(self, *parameters: float) -> Array:
        """Return zeros: there is no template."""
        return np.zeros(len(self._edges) - 1)
