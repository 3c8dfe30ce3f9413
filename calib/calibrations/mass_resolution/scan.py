"""Templates of the mass in each category on a grid of resolution factors.

One walk over generated muons with their residuals gives, for each pair of factors (of the
leading and of the other muon), the mass histogram and the histogram of m - m_gen of every
category: cuts and categories are applied to the muons as smeared, so that the templates carry
the selection. The same random numbers serve all nodes, so the templates are smooth in the
factors and can be interpolated.
"""

from __future__ import annotations

from dataclasses import dataclass

import numba
import numpy as np

from calib.arrays import Array, IntArray
from calib.embedding import Generated

NODES = np.geomspace(0.5, 2.0, 7)
"""Factors of the grid; a fit that leaves their range is at its limit."""

RESIDUAL_EDGES = np.linspace(-8.0, 8.0, 321)
"""Bins of (m - m_gen) in units of the mass over 91.188: GeV for a Z."""


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


@numba.njit(cache=True, nogil=True)
def _scan(  # type: ignore[no-untyped-def]
    pt1,
    pt2,
    eta1,
    eta2,
    base,
    gen,
    relative1,
    relative2,
    weight,
    offset,
    nodes,
    unit,
    leading_pt,
    subleading_pt,
    pt_edges,
    ring_edges,
    mass_low,
    mass_step,
    n_mass,
    residual_low,
    residual_step,
    n_residual,
    template,
    squares,
    residual,
):
    n = len(nodes)
    rings = len(ring_edges) - 1
    p1, p2, r1, r2 = np.empty(n), np.empty(n), np.empty(n), np.empty(n)
    for i in range(len(pt1)):
        ring1, ring2 = bin_of(abs(eta1[i]), ring_edges), bin_of(abs(eta2[i]), ring_edges)
        if ring1 < 0 or ring2 < 0:
            continue
        for a in range(n):
            u1, u2 = 1.0 + nodes[a] * relative1[i], 1.0 + nodes[a] * relative2[i]
            u1, u2 = max(u1, 1e-3), max(u2, 1e-3)
            p1[a], p2[a], r1[a], r2[a] = pt1[i] / u1, pt2[i] / u2, u1**-0.5, u2**-0.5
        for a in range(n):
            for b in range(n):
                # muons of one ring share their factor
                if ring1 == ring2 and a != b:
                    continue
                mass = base[i] * r1[a] * r2[b]
                bin_mass = int((mass - mass_low) / mass_step)
                if mass < mass_low or bin_mass >= n_mass:
                    continue
                found = place(
                    p1[a], p2[b], ring1, ring2, rings, pt_edges, leading_pt, subleading_pt
                )
                if found < 0:
                    continue
                category = offset[i] + found
                x, y = (a, b) if p1[a] >= p2[b] else (b, a)
                template[category, x, y, bin_mass] += weight[i]
                squares[category, bin_mass] += weight[i] * weight[i]
                step = ((mass - gen[i]) / unit - residual_low) / residual_step
                bin_residual = min(max(int(step), 0), n_residual - 1)
                residual[category, x, y, bin_residual] += weight[i]


def empty(n_categories: int, mass_edges: Array) -> dict[str, Array]:
    """Return templates without entries: ``template, squares, residual``."""
    n, bins = len(NODES), len(mass_edges) - 1
    return {
        "template": np.zeros((n_categories, n, n, bins)),
        "squares": np.zeros((n_categories, bins)),
        "residual": np.zeros((n_categories, n, n, len(RESIDUAL_EDGES) - 1)),
    }


def scan(
    sums: dict[str, Array],
    muons: Generated,
    base: Array,
    weight: Array,
    offset: IntArray,
    cuts: Cuts,
    unit: float,
) -> None:
    """Add generated muons to the templates, at every node of the grid.

    Parameters
    ----------
    sums : dict
        From `empty`; changed in place. ``squares`` are summed over all nodes.
    muons : Generated
    base : array, shape (n,)
        Mass of the muons with their generated pt and the measured angles, in GeV.
    weight : array, shape (n,)
    offset : int array, shape (n,)
        Added to the category (the half of the sample times the number of categories).
    cuts : Cuts
    unit : float
        Scale of the residual: the resonance's mass over the Z mass.
    """
    edges = cuts.mass_edges
    _scan(
        muons.pt_first,
        muons.pt_second,
        muons.eta_first,
        muons.eta_second,
        base,
        muons.mass,
        muons.relative_first,
        muons.relative_second,
        weight,
        offset,
        NODES,
        unit,
        cuts.leading_pt,
        cuts.subleading_pt,
        cuts.pt_edges,
        cuts.ring_edges,
        edges[0],
        (edges[-1] - edges[0]) / (len(edges) - 1),
        len(edges) - 1,
        RESIDUAL_EDGES[0],
        RESIDUAL_EDGES[1] - RESIDUAL_EDGES[0],
        len(RESIDUAL_EDGES) - 1,
        sums["template"],
        sums["squares"],
        sums["residual"],
    )
