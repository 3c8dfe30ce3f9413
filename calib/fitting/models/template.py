"""Width of a histogram that is not a Gaussian, as the field states it: half of the central 68 %."""

from __future__ import annotations

import numpy as np

from calib.types import Array


def half_width(histogram: Array, edges: Array, share: float = 0.6827) -> float:
    """Return half of the central ``share`` of a histogram, in the units of its edges.

    Parameters
    ----------
    histogram : array, shape (bins,)
        Contents; those below 0 are evened out in the cumulative sum.
    edges : array, shape (bins + 1,)
        Ascending, in any unit.
    share : float
        Central part of the entries.

    Returns
    -------
    float
        In the unit of the edges; NaN where the sum of the contents is not positive.
    """
    cumulative = np.concatenate([[0.0], np.cumsum(histogram)])
    if cumulative[-1] <= 0:
        return float("nan")
    cumulative = np.maximum.accumulate(cumulative / cumulative[-1])
    low, high = np.interp([(1 - share) / 2, (1 + share) / 2], cumulative, edges)
    return float(high - low) / 2
