"""Is there a peak where the resonance should be? A fine mass spectrum, and its contrast.

It tells a sample of another resonance, or of background alone, before anybody looks at fits;
it measures nothing.
"""

from __future__ import annotations

import numpy as np

from calib.events.binning import counts_of
from calib.physics.constants import RESONANCES
from calib.types import AnyArray, Array, IntArray

BINS = 240
REACH = {"jpsi": 0.08, "upsilon": 0.24, "z": 0.2, "h": 0.16}
"""Half of the range of the spectrum, relative to the mass of the resonance."""

CORE = {"jpsi": 0.02, "upsilon": 0.025, "z": 0.035, "h": 0.02}
"""Half of the range that holds most of a peak of any usual resolution, relative."""

SIDES = {"jpsi": (0.035, 0.06), "upsilon": (0.045, 0.1), "z": (0.08, 0.18), "h": (0.05, 0.15)}
"""Where the neighbourhood is, on either side, relative; below the 2S for the Upsilon."""


def edges(resonance: str) -> Array:
    """Return the edges of the spectrum, in GeV, shape (BINS + 1,)."""
    mass = RESONANCES[resonance].masses[0]
    return mass * np.linspace(1 - REACH[resonance], 1 + REACH[resonance], BINS + 1)


def spectrum(mass: Array, resonance: str) -> IntArray:
    """Return the counts of the masses in fine bins.

    Parameters
    ----------
    mass : array, shape (n,)
        In GeV.
    resonance : str
        Its window is the range.

    Returns
    -------
    int array, shape (BINS,)
        Without the masses outside.
    """
    return counts_of(mass, edges(resonance))


def contrast(counts: AnyArray, resonance: str) -> tuple[float, float]:
    """Return (density of the core over that of the sides, significance of the excess).

    Parameters
    ----------
    counts : int array, shape (BINS,)
    resonance : str

    Returns
    -------
    tuple of float
        Not a number where there is nothing in the sides and the core to compare.
    """
    centre = np.linspace(-1, 1, 2 * BINS + 1)[1::2] * REACH[resonance]
    core = np.abs(centre) < CORE[resonance]
    low, high = SIDES[resonance]
    parts = [(side * centre > low) & (side * centre < high) for side in (-1, 1)]
    # a cut on the mass may have taken a part of the sides: only bins inside of what is filled
    filled = np.flatnonzero(counts)
    if not len(filled):
        return float("nan"), float("nan")
    inside = np.zeros(BINS, dtype=np.bool_)
    inside[filled[0] : filled[-1] + 1] = True
    sides = [part & inside for part in parts if np.any(part & inside)]
    n_core = float(counts[core].sum())
    if not sides:
        return (float("inf"), float(np.sqrt(n_core))) if n_core else (float("nan"), float("nan"))
    densities = np.array([counts[s].mean() for s in sides])
    # the geometric mean: between two sides as far away, it is exact for an exponential
    density = float(np.prod(densities) ** (1 / len(densities)))
    expected = density * core.sum()
    relative = np.sqrt(sum(1 / max(counts[s].sum(), 1) for s in sides)) / len(sides)
    error = np.sqrt(max(n_core, expected, 1.0) + (relative * expected) ** 2)
    ratio = n_core / expected if expected else float("inf")
    return float(ratio), float((n_core - expected) / error)
