"""Generated mass convolved with a Gaussian relative in mass, m = m_gen (mu + sigma z).

For a peak whose generated shape is known per category. Integrated over the bins; exact, one
category at a time. For many at once: `calib.fit_categories`.
"""

import numpy as np

from calib.fitting.models import exponential
from calib.later import special
from calib.types import Array


def signal(edges: Array, template: Array, mass: Array, mu: float, sigma: float) -> Array:
    """Return the fraction of the signal per bin, normalised in the window.

    Parameters
    ----------
    edges : array, shape (bins + 1,)
        GeV.
    template, mass : array, shape (gen bins,)
        Generated events per bin of generated mass, and their mean mass, in GeV.
    mu : float
        Ratio of the reconstructed mass to the generated one.
    sigma : float
        Relative width.

    Returns
    -------
    array, shape (bins,)
        Its sum is 1.
    """
    filled = template > 0
    below = special.ndtr((edges[:, None] / mass[filled] - mu) / sigma) @ template[filled]
    content = np.diff(below)
    return np.asarray(content / content.sum())


class KernelPeak:
    """The signal with an exponential background: mu, sigma, background, slope."""

    def __init__(self, edges: Array, template: Array, mass: Array) -> None:
        self._edges, self._template, self._mass = edges, template, mass

    def background(self, slope: float) -> Array:
        """Return the background's fraction per bin, normalised in the window."""
        return np.diff(exponential.cdf(self._edges, slope, self._edges[0], self._edges[-1]))

    def __call__(self, *parameters: float) -> Array:
        """Return the expected fraction per bin."""
        mu, sigma, background, slope = parameters
        shape = signal(self._edges, self._template, self._mass, mu, sigma)
        return np.asarray((1 - background) * shape + background * self.background(slope))
