"""Templates of the mass in each category on a grid of resolution factors.

One walk over generated muons with their residuals gives, for each pair of factors (of the
leading and of the other muon), the mass histogram and the histogram of m - m_gen of every
category: cuts and categories are applied to the muons as smeared, so that the templates carry
the selection. The same random numbers serve all nodes, so the templates are smooth in the
factors and can be interpolated.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from calib.arrays import Array, IntArray
from calib.embedding import Generated

NODES = np.geomspace(0.5, 2.0, 6)
"""Factors of the grid; a fit that leaves their range is at its limit.

One more than the polynomial in between has coefficients. With five the worst of 83 pulls of a
closure of 600 000 events was 4.7, with six 2.2, with seven 2.1.
"""

RESIDUAL_EDGES = np.linspace(-8.0, 8.0, 321)
"""Bins of (m - m_gen) in units of the mass over 91.188: GeV for a Z."""
RESIDUAL_LOW = float(RESIDUAL_EDGES[0])


@dataclass(frozen=True)
class Cuts:
    """Cuts and categories of the pairs, as numbers. Edges are [low, high)."""

    leading_pt: float
    subleading_pt: float
    pt_edges: Array
    ring_edges: Array
    mass_edges: Array


@numba.njit(cache=True, inline="always")
def bin_of(value, edges):  # type: ignore[no-untyped-def]
    """Return the bin of a value on a short axis, -1 outside."""
    if not (value >= edges[0] and value < edges[-1]):
        return -1
    i = 0
    while value >= edges[i + 1]:
        i += 1
    return i


@numba.njit(cache=True, inline="always")
def place(  # type: ignore[no-untyped-def]
    pt1, pt2, ring1, ring2, rings, pt_edges, leading_pt, subleading_pt
):
    """Return the category of two muons, -1 where they fail a cut."""
    if pt1 >= pt2:
        high, low, lead, sub = pt1, pt2, ring1, ring2
    else:
        high, low, lead, sub = pt2, pt1, ring2, ring1
    bin_pt = bin_of(high, pt_edges)
    if low < subleading_pt or high < leading_pt or bin_pt < 0:
        return -1
    return (bin_pt * rings + lead) * rings + sub


class _Limits(NamedTuple):
    """Cuts and axes as the compiled loop sees them."""

    leading_pt: float
    subleading_pt: float
    pt_edges: Array
    ring_edges: Array
    mass_low: float
    per_mass: float
    n_mass: int
    per_residual: float
    unit: float


@numba.njit(cache=True, nogil=True, inline="always", error_model="numpy")
def _smear(pt, relative, nodes, limits, pts, roots, bins, passes):  # type: ignore[no-untyped-def]
    """Write what a muon is at each node: pt, factor of the mass, bin of pt, whether it passes."""
    for a in range(len(nodes)):
        u = max(1.0 + nodes[a] * relative, 1e-3)
        pts[a], roots[a] = pt / u, 1.0 / math.sqrt(u)
        passes[a] = pts[a] >= limits.subleading_pt
        bins[a] = bin_of(pts[a], limits.pt_edges) if pts[a] >= limits.leading_pt else -1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _scan(  # type: ignore[no-untyped-def]
    pt1, pt2, eta1, eta2, base, gen, relative1, relative2, weight, unit, offset, nodes, limits,
    template, squares, residual,
):  # fmt: skip
    n, rings = len(nodes), len(limits.ring_edges) - 1
    p1, p2, r1, r2 = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    bin1, bin2 = np.empty(n, dtype=np.int64), np.empty(n, dtype=np.int64)
    passes1, passes2 = np.empty(n, dtype=np.bool_), np.empty(n, dtype=np.bool_)
    low, n_residual = RESIDUAL_LOW * limits.unit, residual.shape[1]
    for i in range(len(pt1)):
        ring1 = bin_of(abs(eta1[i]), limits.ring_edges)
        ring2 = bin_of(abs(eta2[i]), limits.ring_edges)
        if ring1 < 0 or ring2 < 0:
            continue
        _smear(pt1[i], relative1[i], nodes, limits, p1, r1, bin1, passes1)
        _smear(pt2[i], relative2[i], nodes, limits, p2, r2, bin2, passes2)
        w = weight[i]
        first, second = ring1 * rings + ring2, ring2 * rings + ring1
        for a in range(n):
            # muons of one ring share their factor
            start, stop = (a, a + 1) if ring1 == ring2 else (0, n)
            for b in range(start, stop):
                if p1[a] >= p2[b]:
                    bin_pt, good, at, x, y = bin1[a], passes2[b], first, a, b
                else:
                    bin_pt, good, at, x, y = bin2[b], passes1[a], second, b, a
                mass = base[i] * r1[a] * r2[b]
                bin_mass = int((mass - limits.mass_low) * limits.per_mass)
                if bin_pt < 0 or not good or mass < limits.mass_low or bin_mass >= limits.n_mass:
                    continue
                category = offset[i] + bin_pt * rings * rings + at
                step = int((mass - gen[i] - low) * limits.per_residual)
                template[category, bin_mass, x, y] += w
                residual[category, min(max(step, 0), n_residual - 1), x, y] += w
                if not unit:
                    squares[category, bin_mass] += w * w


class Scan:
    """Templates of all categories at every node, that grow.

    While they grow the nodes are the last axes: those of one event lie side by side in memory.
    """

    def __init__(self, n_categories: int, cuts: Cuts, unit: float) -> None:
        n, edges = len(NODES), cuts.mass_edges
        bins = len(edges) - 1
        self._template = np.zeros((n_categories, bins, n, n))
        self._squares = np.zeros((n_categories, bins))
        self._residual = np.zeros((n_categories, len(RESIDUAL_EDGES) - 1, n, n))
        per_residual = 1.0 / (unit * (RESIDUAL_EDGES[1] - RESIDUAL_EDGES[0]))
        self._limits = _Limits(
            cuts.leading_pt, cuts.subleading_pt, cuts.pt_edges, cuts.ring_edges,
            float(edges[0]), bins / float(edges[-1] - edges[0]), bins, per_residual, unit,
        )  # fmt: skip

    def add(self, muons: Generated, base: Array, weight: Array, offset: IntArray) -> None:
        """Add generated muons to the templates, at every node of the grid.

        Parameters
        ----------
        muons : Generated
            Fast where those of one category stand together.
        base : array, shape (n,)
            Mass of the muons with their generated pt and the measured angles, in GeV.
        weight : array, shape (n,)
        offset : int array, shape (n,)
            Added to the category (the half of the sample times the number of categories).
        """
        unit = bool(np.all(weight == 1.0))
        before = self._template.sum((2, 3)) if unit else None
        _scan(
            muons.pt_first, muons.pt_second, muons.eta_first, muons.eta_second, base, muons.mass,
            muons.relative_first, muons.relative_second, weight, unit, offset, NODES,
            self._limits, self._template, self._squares, self._residual,
        )  # fmt: skip
        if before is not None:
            self._squares += self._template.sum((2, 3)) - before

    def sums(self) -> dict[str, Array]:
        """Return ``template, squares, residual``; nodes before bins, squares over all nodes."""
        return {
            "template": np.ascontiguousarray(self._template.transpose(0, 2, 3, 1)),
            "squares": self._squares,
            "residual": np.ascontiguousarray(self._residual.transpose(0, 2, 3, 1)),
        }
