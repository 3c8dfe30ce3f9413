"""From templates on a grid to the model of one category, or of several merged.

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
from scipy.interpolate import CubicSpline
from scipy.signal import savgol_coeffs, savgol_filter

from calib.arrays import AnyArray, Array
from calib.models.template import TemplatePeak, half_width

from .scan import NODES, RESIDUAL_EDGES

LOG_NODES = np.log(NODES)
_REACH = 2.83  # GeV at the Z, whole length of the smoothing
_ORDER = 4


@dataclass(frozen=True)
class Width:
    """Half of the central 68.27 % of m - m_gen against the common factor, in GeV."""

    shifts: Array
    widths: Array

    def at(self, factor: float) -> float:
        """Return the width at this common factor."""
        return float(CubicSpline(self.shifts, self.widths)(np.log(factor)))

    def slope(self, factor: float) -> float:
        """Return d width / d factor."""
        return float(CubicSpline(self.shifts, self.widths)(np.log(factor), 1)) / factor


@dataclass(frozen=True)
class Templates:
    """Smoothed templates of all categories.

    ``template`` (categories, order, order, bins) holds the coefficients of the polynomial in
    the logarithms of both factors (of the one factor, in its first row, where both muons are
    in one ring), ``residual`` likewise; ``weight`` the mean weight of an entry per category and
    bin (it gives the variance), ``rings`` the pair of rings of each category, ``edges`` of the
    mass, in GeV, ``unit`` of the residuals.
    """

    template: Array
    residual: Array
    weight: Array
    rings: Sequence[tuple[int, int]]
    edges: Array
    unit: float
    smoothing: float

    def entries(self, members: Sequence[int]) -> float:
        """Return the sum of the templates of some categories at factors of 1."""
        return float(self.template[list(members), 0, 0].sum())

    def model(
        self, members: Sequence[int], log_rings: Array, low: int, high: int
    ) -> tuple[TemplatePeak, Width] | None:
        """Return the peak and the width of some categories together.

        Parameters
        ----------
        members : sequence of int
            Categories.
        log_rings : array, shape (rings,)
            Logarithm of the factor of each ring, where the common factor is 1.
        low, high : int
            First and last edge of the fit range.

        Returns
        -------
        (TemplatePeak, Width), or None where the templates have no entries
        """
        if self.entries(members) <= 0:
            return None
        first = [float(log_rings[self.rings[c][0]]) for c in members]
        second = [float(log_rings[self.rings[c][1]]) for c in members]
        ends = (
            LOG_NODES[0] - min(min(first), min(second)),
            LOG_NODES[-1] - max(max(first), max(second)),
        )
        shifts = np.linspace(*ends, 2 * len(NODES) + 1)
        template: Array = np.zeros((len(shifts), self.template.shape[-1]))
        residual: Array = np.zeros((len(shifts), self.residual.shape[-1]))
        for category, x, y in zip(members, first, second, strict=True):
            powers_x, powers_y = _powers(x + shifts), _powers(y + shifts)
            if self.rings[category][0] == self.rings[category][1]:
                powers_y[:, 1:] = 0.0
            powers = powers_x[:, :, None] * powers_y[:, None, :]
            for total, grid in ((template, self.template), (residual, self.residual)):
                total += np.tensordot(powers, grid[category], axes=2)
        weight = np.average(
            self.weight[list(members)], axis=0, weights=[self.entries([c]) for c in members]
        )
        middle = template[int(np.argmin(np.abs(shifts))), low:high]
        variance = weight[low:high] / np.maximum(middle, np.maximum(weight[low:high], 1e-9))
        peak = TemplatePeak(
            shifts, template, self.edges, self.edges[low : high + 1], variance, self.smoothing
        )
        widths = np.array([half_width(np.maximum(r, 0), RESIDUAL_EDGES) for r in residual])
        if not np.all(np.isfinite(widths)):
            return None
        return peak, Width(shifts, widths * self.unit)


def _powers(log_factor: Array) -> Array:
    """Return 1, x, x^2 ... of each logarithm, shape (n, order + 1)."""
    return np.vander(log_factor, _ORDER + 1, increasing=True)


def prepare(
    sums: Mapping[str, AnyArray],
    rings: Sequence[tuple[int, int]],
    edges: Array,
    unit: float,
) -> Templates:
    """Return smoothed templates from the sums of `scan` (template, squares, residual)."""
    step = float(edges[1] - edges[0])
    length = max(int(_REACH * unit / step) // 2 * 2 + 1, _ORDER + 1 + _ORDER % 2)
    raw = sums["template"]
    template, residual = raw, sums["residual"].astype(np.float64)
    smoothing = 1.0
    if length > _ORDER + 1 and length <= raw.shape[-1]:
        template = savgol_filter(raw, length, _ORDER, axis=-1)
        smoothing = float(np.sum(savgol_coeffs(length, _ORDER) ** 2))
    nodes_total = raw.sum((1, 2))
    mean = np.where(nodes_total > 0, sums["squares"] / np.maximum(nodes_total, 1e-300), 0.0)
    overall = sums["squares"].sum(1) / np.maximum(nodes_total.sum(1), 1e-300)
    weight = np.where(nodes_total > 0, mean, overall[:, None])
    solve = np.linalg.pinv(_powers(LOG_NODES))
    line = np.arange(len(NODES))
    smoothed = []
    for grid in (template, residual):
        out = np.einsum("ia,jb,cabk->cijk", solve, solve, grid, optimize=True)
        for category, (x, y) in enumerate(rings):
            if x == y:
                out[category] = 0.0
                out[category, :, 0] = solve @ grid[category, line, line]
        smoothed.append(out)
    return Templates(smoothed[0], smoothed[1], np.abs(weight), rings, edges, unit, smoothing)
