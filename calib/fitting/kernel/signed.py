"""Templates that are smeared already: sigma^2 with its sign, as far as the template can tell.

Where v < 0 the template is made narrower: its frequencies are divided by a falling Gaussian, and
beyond its bandwidth there is only noise. A peak that needs more than that rings, and the
likelihood has false minima. Such a fit is marked ``not_determined``.
"""

from __future__ import annotations

import numpy as np

from calib.fitting.kernel.block import Block, BlockMinimum
from calib.fitting.kernel.problem import Problem
from calib.types import AnyArray, Array, BoolArray

SEEN = 0.8
"""What the model would have beyond the bandwidth, at most, in units of the noise of the data."""
SAME = 0.3
"""Minima from different starts are the same within this share of their error."""


def noise(block: Block) -> Array:
    """Return the noise of the coefficients of the templates, shape (n,)."""
    variance = block.templates if block.template_variance is None else block.template_variance
    return np.asarray(np.sqrt(np.maximum(variance.sum(1), 0.0)) / block.templates.sum(1))


def bandwidth(block: Block, g: AnyArray) -> AnyArray:
    """Return G without the frequencies at which the template has only noise.

    Parameters
    ----------
    block : Block
        Of n categories.
    g : array, shape (n, frequencies)
        Coefficients of the templates, complex.

    Returns
    -------
    array, shape (n, frequencies)
        Faded out to 0.
    """
    size = np.abs(g) / (1.5 * noise(block)[:, None])
    # an edge would ring: fade out over a factor of two above the noise
    fade = np.clip(np.log(np.maximum(size, 1e-9)) / np.log(2), 0, 1)
    fade = np.minimum.accumulate(fade, axis=1)
    return np.asarray(g * fade**2 * (3 - 2 * fade))


def own_variance(shared: Problem, g: AnyArray) -> float:
    """Return about the variance of the templates, relative: where |G| falls to exp(-1/2).

    Parameters
    ----------
    shared : Problem
        Its frequencies.
    g : array, shape (n, frequencies)
        Coefficients of the templates, complex.

    Returns
    -------
    float
        Median over the categories, as (sigma / m)^2; 0 where no frequency is damped.
    """
    wide = np.abs(g) > np.exp(-0.5)
    at = np.median(np.minimum.accumulate(wide, axis=1).sum(1))
    return float(1 / shared.w[max(int(at), 1)] ** 2) if at < len(shared.w) else 0.0


def undetermined(
    shared: Problem, block: Block, g: AnyArray, theta: Array, cov: Array, fits: list[BlockMinimum]
) -> BoolArray:
    """Return which fits do not say where the minimum is: it rings or depends on the start.

    Parameters
    ----------
    shared : Problem
        Its bounds and frequencies.
    block : Block
        Of n categories.
    g : complex array, shape (n, frequencies)
        Coefficients of the templates.
    theta : array, shape (n, parameters)
        What stands.
    cov : array, shape (n, parameters, parameters)
        Its covariance.
    fits : list of BlockMinimum
        From all starts.

    Returns
    -------
    bool array, shape (n,)
        True where it is not determined.
    """
    inside = np.minimum.accumulate(np.abs(g) >= noise(block)[:, None], axis=1)
    edge = np.maximum(inside.sum(1) - 1, 0)
    v = theta[:, 1]
    size = np.abs(g)[np.arange(len(g)), edge] * np.exp(-0.5 * shared.w[edge] ** 2 * v)
    rings = size * np.sqrt(block.counts.sum(1)) > SEEN
    error = np.sqrt(np.maximum(cov[:, 1, 1], 0.0))
    differs = [~(np.abs(found.theta[:, 1] - v) < SAME * error) for found in fits]
    return np.asarray(rings | np.any(differs, axis=0))
