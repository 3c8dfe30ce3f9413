"""The categories of one resonance: those that can be filled at all, and the bins of the masses.

eta_plus x eta_minus x log(pt_plus/pt_minus) x cos(delta phi) has many bins that no decay can
reach: m^2 = 2 pt pt (cosh(delta eta) - cos(delta phi)) bounds the opening from above where pt is
bounded from below. Only the others are kept, in the same order.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from calib.calibrations.momentum_scale.settings import ResonanceSettings, Settings
from calib.events.categories import Axis, Categories
from calib.physics.constants import RESONANCES
from calib.types import Array, IntArray

LOOSE = 0.9
"""Where events are selected, as a share of the least pt: the cut itself is on the corrected pt."""

WIDE = 0.03
"""How much wider than the window the mass of an event may be before it is corrected."""


@dataclass(frozen=True)
class Grid:
    """Categories of a resonance.

    Parameters
    ----------
    full : Categories
        eta_plus x eta_minus x log_pt_ratio x cos_delta_phi.
    number : int array, shape (len(full),)
        Number of each among those kept, -1 for the others.
    kept : int array, shape (n,)
        Flat indices in ``full``.
    mass_edges, gen_edges : array
        GeV.
    """

    resonance: str
    full: Categories
    number: IntArray
    kept: IntArray
    mass_edges: Array
    gen_edges: Array
    leading_pt: float
    subleading_pt: float

    def __len__(self) -> int:
        return len(self.kept)

    @property
    def n_bins(self) -> int:
        """Number of mass bins."""
        return len(self.mass_edges) - 1

    @property
    def n_gen(self) -> int:
        """Number of bins of the generated mass."""
        return len(self.gen_edges) - 1

    def bins(self) -> tuple[IntArray, IntArray, IntArray, IntArray]:
        """Return the bin on each axis of every category, four arrays of shape (n,)."""
        a, b, c, d = np.unravel_index(self.kept, self.full.shape)
        return a, b, c, d

    def names(self) -> list[str]:
        """Return the names: ``jpsi_e12_e14_r2_a1`` (eta plus, eta minus, pt ratio, angle)."""
        return [
            f"{self.resonance}_e{i}_e{j}_r{r}_a{a}"
            for i, j, r, a in zip(*(b.tolist() for b in self.bins()), strict=True)
        ]

    def centres(self, axis: int) -> Array:
        """Return the centre of each category's bin on an axis, shape (n,)."""
        edges = np.asarray(self.full.axes[axis].edges)
        return np.asarray(0.5 * (edges[1:] + edges[:-1])[self.bins()[axis]])


@lru_cache(maxsize=8)
def grid(settings: Settings, resonance: str) -> Grid:
    """Return the categories of a resonance.

    Parameters
    ----------
    settings : Settings
        Edges and cuts.
    resonance : str
        ``jpsi``, ``upsilon`` or ``z``.

    Returns
    -------
    Grid
        Without the categories that no decay can reach.
    """
    own = settings.of(resonance)
    full = Categories(
        (
            Axis("eta_plus", settings.eta),
            Axis("eta_minus", settings.eta),
            Axis("log_pt_ratio", own.log_pt_ratio),
            Axis("cos_delta_phi", own.cos_delta_phi),
        ),
        (),
    )
    possible = _possible(settings, own).ravel()
    kept = np.flatnonzero(possible)
    number = np.full(len(possible), -1, dtype=np.int64)
    number[kept] = np.arange(len(kept))
    return Grid(
        resonance,
        full,
        number,
        kept,
        own.mass_edges,
        gen_edges(own, RESONANCES[resonance].masses, RESONANCES[resonance].width),
        own.leading_pt,
        own.subleading_pt,
    )


def _possible(settings: Settings, own: ResonanceSettings) -> Array:
    """Return which bins a pair in the window with muons above the cuts can reach."""
    eta, ratio = np.asarray(settings.eta), np.asarray(own.log_pt_ratio)
    low, high = eta[:-1], eta[1:]
    apart = np.maximum(np.maximum(low[:, None] - high, low - high[:, None]), 0.0)
    across = np.where(
        (ratio[:-1] < 0) & (ratio[1:] > 0), 0.0, np.minimum(np.abs(ratio[:-1]), np.abs(ratio[1:]))
    )
    least = np.maximum(own.leading_pt * own.subleading_pt, own.subleading_pt**2 * np.exp(across))
    angle = np.minimum(np.asarray(own.cos_delta_phi)[1:], 1.0)
    opening = np.cosh(apart)[:, :, None, None] - angle
    most = (1.02 * own.window[1]) ** 2 / (2 * least)
    return np.asarray(opening < most[:, None])


def gen_edges(own: ResonanceSettings, masses: tuple[float, ...], width: float) -> Array:
    """Return edges of the generated mass after FSR, wider than the window.

    A narrow line is a spike with a tail below: the bins get finer toward each peak. Bins of a wide
    one are a tenth of its width.

    Parameters
    ----------
    own : ResonanceSettings
        With the window, in GeV.
    masses : tuple of float
        Of the peaks, in GeV.
    width : float
        Natural width, in GeV.

    Returns
    -------
    array, shape (gen bins + 1,)
        In GeV.
    """
    low, high = own.window
    if width > 0.1:
        return np.arange(0.8 * low, 1.15 * high, 0.1 * width)
    step = 0.003 * masses[0]
    near = np.array([-1.5e-2, -1e-2, -7e-3, -5e-3, -3.5e-3, -2e-3, -1e-3, -3e-4, 3e-4])
    spikes = [mass * (1 + near) for mass in masses]
    coarse = np.arange(0.85 * low, masses[-1] * 1.01, step)
    clear = [all(not (s[0] - 0.3 * step < x < s[-1] + 0.3 * step) for s in spikes) for x in coarse]
    return np.unique(np.concatenate([coarse[clear], *spikes]))
