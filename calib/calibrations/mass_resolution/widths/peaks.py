"""From templates on a grid to the shape and the width of one category, or of several merged.

The noise of a template from bin to bin, and from node to node, would be taken for information
by a fit (errors too small by up to two). The true shape is smooth: it is known to be the line
convolved with the resolution. So the templates are smoothed over about 1.4 GeV to each side by a
local polynomial of fourth order (it leaves width and mean untouched), and over the factors by one
polynomial of fourth order in their logarithm.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calib.calibrations.mass_resolution.sums.template_grid import MIDDLE, NODES, RESIDUAL_EDGES
from calib.fitting.models.template import half_width
from calib.types import AnyArray, Array, IntArray

LOG_NODES = np.log(NODES)
_REACH = 2.83  # GeV at the Z, whole length of the smoothing
_ORDER = 4
POINTS = 41
"""Points of the grid of common factors."""


@dataclass(frozen=True)
class PeakShapes:
    """Templates of some rows on a grid of the logarithm x of a common factor.

    Parameters
    ----------
    x : array, shape (rows, points)
        Logarithm of the factor that is common to both muons, 0 at the rings' factors.
    cumulative : array, shape (rows, points, bins + 1)
        Cumulative mass histogram.
    widths : array, shape (rows, points)
        Half of the central 68.27 % of m - m_gen, in GeV; NaN without entries.
    entries, sources : arrays, shape (rows,)
        Sum of weights of the template at the middle node, and the weight that one source event
        with all its copies has in it.
    pairs : array, shape (rows, coarse, coarse)
        Sum over source events of their copies in one bin times those in another.
    varied : mapping of name to array, shape (rows, bins)
        Templates at the middle node with another line shape, and as they are (``nominal``).
    smoothing : float
        What the smoothing leaves of the variance of one bin.
    """

    x: Array
    cumulative: Array
    widths: Array
    entries: Array
    sources: Array
    pairs: Array
    varied: Mapping[str, Array]
    smoothing: float

    def take(self, at: Sequence[int] | IntArray) -> PeakShapes:
        """Return some of the rows.

        Parameters
        ----------
        at : sequence of int
            Rows.

        Returns
        -------
        PeakShapes
            Of these rows.
        """
        rows = np.asarray(at, dtype=np.int64)
        varied = {name: values[rows] for name, values in self.varied.items()}
        return PeakShapes(
            self.x[rows],
            self.cumulative[rows],
            self.widths[rows],
            self.entries[rows],
            self.sources[rows],
            self.pairs[rows],
            varied,
            self.smoothing,
        )


@dataclass(frozen=True)
class Templates:
    """Smoothed templates of all categories.

    ``template`` (categories, order, order, bins) holds the coefficients of the polynomial in
    the logarithms of both factors (of the one factor, in its first row, where both muons are
    in one ring), ``residual`` likewise; ``raw`` the templates at the middle node, ``pairs`` and
    ``varied`` as in `PeakShapes`; ``rings`` the pair of rings of each category, ``unit`` of the
    residuals.
    """

    template: Array
    residual: Array
    raw: Array
    pairs: Array
    varied: Mapping[str, Array]
    rings: Sequence[tuple[int, int]]
    unit: float
    smoothing: float

    def shapes(self, groups: Sequence[Sequence[int]], log_rings: Array) -> PeakShapes:
        """Return the shapes of some groups of categories, each together.

        Parameters
        ----------
        groups : sequence of sequences of int
            Categories.
        log_rings : array, shape (rings,)
            Logarithm of the factor of each ring, where the common factor is 1.

        Returns
        -------
        PeakShapes
            One row a group.
        """
        n = len(groups)
        x = np.zeros((n, POINTS))
        mass, gen = self.template.shape[-1], self.residual.shape[-1]
        template, residual = np.zeros((n, POINTS, mass)), np.zeros((n, POINTS, gen))
        for g, members in enumerate(groups):
            first, second = (
                np.array([log_rings[self.rings[c][k]] for c in members]) for k in (0, 1)
            )
            both = np.concatenate([first, second])
            x[g] = np.linspace(LOG_NODES[0] - both.min(), LOG_NODES[-1] - both.max(), POINTS)
            for c, a, b in zip(members, first, second, strict=True):
                powers_x, powers_y = powers_of(a + x[g]), powers_of(b + x[g])
                if self.rings[c][0] == self.rings[c][1]:
                    powers_y[:, 1:] = 0.0
                powers = powers_x[:, :, None] * powers_y[:, None, :]
                template[g] += np.tensordot(powers, self.template[c], axes=2)
                residual[g] += np.tensordot(powers, self.residual[c], axes=2)
        pairs = np.array([self.pairs[list(m)].sum(0) for m in groups])
        entries = np.array([self.raw[list(m)].sum() for m in groups])
        squares = pairs.sum((1, 2))
        cumulative = np.zeros((n, POINTS, mass + 1))
        np.cumsum(template, axis=2, out=cumulative[:, :, 1:])
        widths = np.array(
            [[half_width(np.maximum(r, 0), RESIDUAL_EDGES) for r in row] for row in residual]
        )
        varied = {k: np.array([v[list(m)].sum(0) for m in groups]) for k, v in self.varied.items()}
        varied["nominal"] = np.array([self.raw[list(m)].sum(0) for m in groups])
        return PeakShapes(
            x,
            cumulative,
            widths * self.unit,
            entries,
            squares / np.where(entries > 0, entries, np.inf),
            pairs,
            varied,
            self.smoothing,
        )


def powers_of(log_factor: Array) -> Array:
    """Return 1, x, x^2 ... of each logarithm.

    Parameters
    ----------
    log_factor : array, shape (n,)
        Logarithms x of factors.

    Returns
    -------
    array, shape (n, order + 1)
        Without unit.
    """
    return np.vander(log_factor, _ORDER + 1, increasing=True)


def smoothed(raw: Array, step: float, unit: float) -> tuple[Array, float]:
    """Return histograms smoothed along their last axis, and what is left of a bin's variance.

    Parameters
    ----------
    raw : array, shape (..., bins)
        Histograms.
    step : float
        Width of a bin, in GeV.
    unit : float
        Of the residuals, in GeV: the reach of the smoothing goes with it.

    Returns
    -------
    array, shape (..., bins)
        As they are, where there are too few bins.
    float
        Variance of a bin over that before; 1: not smoothed.
    """
    length = max(int(_REACH * unit / step) // 2 * 2 + 1, _ORDER + 1 + _ORDER % 2)
    if not _ORDER + 1 < length <= raw.shape[-1]:
        return raw, 1.0
    from scipy.signal import savgol_coeffs, savgol_filter  # slow to load

    left = float(np.sum(savgol_coeffs(length, _ORDER) ** 2))
    return np.asarray(savgol_filter(raw, length, _ORDER, axis=-1)), left


def prepare(
    sums: Mapping[str, AnyArray], rings: Sequence[tuple[int, int]], edges: Array, unit: float
) -> Templates:
    """Return smoothed templates from the sums of `scan`.

    Parameters
    ----------
    sums : mapping of name to array
        ``template, residual, pairs`` and the variations ``varied_NAME``; nodes of both muons'
        factors, or of one that they share, before the bins.
    rings : sequence of (int, int)
        Rings of the leading and the other muon of each category.
    edges : array, shape (bins + 1,)
        Of the mass, in GeV.
    unit : float
        Of the residuals, in GeV.

    Returns
    -------
    Templates
        Of all categories.
    """
    step = float(edges[1] - edges[0])
    template, smoothing = smoothed(sums["template"], step, unit)
    residual = sums["residual"].astype(np.float64)
    solve = np.linalg.pinv(powers_of(LOG_NODES))
    line = np.arange(len(NODES))
    found = []
    for grid in (template, residual):
        if grid.ndim == 3:  # both muons have the same factor
            out = np.zeros((len(grid), len(solve), len(solve), grid.shape[-1]))
            out[:, :, 0] = np.einsum("ia,cak->cik", solve, grid)
            found.append(out)
            continue
        out = np.einsum("ia,jb,cabk->cijk", solve, solve, grid, optimize=True)
        for category, (x, y) in enumerate(rings):
            if x == y:
                out[category] = 0.0
                out[category, :, 0] = solve @ grid[category, line, line]
        found.append(out)
    prefix = "varied_"
    varied = {k[len(prefix) :]: v for k, v in sums.items() if k.startswith(prefix)}
    raw = sums["template"][:, MIDDLE].astype(np.float64)
    raw = raw if raw.ndim == 2 else raw[:, MIDDLE]
    return Templates(found[0], found[1], raw, sums["pairs"], varied, rings, unit, smoothing)
