"""Generated mass of the events of each category, for the kernel model.

The muons are smeared with the predicted resolution before they are cut and put into categories;
what is histogrammed is their generated mass, on an axis wider and finer than the window, with the
sum of the masses beside it: a bin's centre is not its mean.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numba
import numpy as np

from calib.physics.embedding import Generated
from calib.types import AnyArray, Array, IntArray

from .template_grid import Cuts, bin_of, place

AXIS = np.linspace(60.0, 140.0, 801)
"""Bins of the generated mass in units of the mass over 91.188: GeV for a Z."""


@numba.njit(cache=True, nogil=True)
def _fill(  # type: ignore[no-untyped-def]
    pt1,
    pt2,
    eta1,
    eta2,
    gen,
    relative1,
    relative2,
    weight,
    offset,
    leading_pt,
    subleading_pt,
    pt_edges,
    ring_edges,
    low,
    step,
    counts,
    squares,
    masses,
):
    rings = len(ring_edges) - 1
    for i in range(len(pt1)):
        ring1, ring2 = bin_of(abs(eta1[i]), ring_edges), bin_of(abs(eta2[i]), ring_edges)
        at = int((gen[i] - low) / step)
        if ring1 < 0 or ring2 < 0 or gen[i] < low or at >= counts.shape[1]:
            continue
        u1, u2 = max(1.0 + relative1[i], 1e-3), max(1.0 + relative2[i], 1e-3)
        found = place(
            pt1[i] / u1, pt2[i] / u2, ring1, ring2, rings, pt_edges, leading_pt, subleading_pt
        )
        if found >= 0:
            counts[offset[i] + found, at] += weight[i]
            squares[offset[i] + found, at] += weight[i] * weight[i]
            masses[offset[i] + found, at] += weight[i] * gen[i]


def empty(n_categories: int) -> dict[str, Array]:
    """Return shapes without entries: ``counts, squares, masses``."""
    n = len(AXIS) - 1
    return {name: np.zeros((n_categories, n)) for name in ("counts", "squares", "masses")}


def fill(
    sums: dict[str, Array],
    muons: Generated,
    weight: Array,
    offset: IntArray,
    cuts: Cuts,
    unit: float,
) -> None:
    """Add generated muons to the shapes.

    Parameters
    ----------
    sums : dict of str to array
        Of `empty`; added to.
    muons : Generated
        n pairs, GeV.
    weight : array, shape (n,)
        Of the pairs.
    offset : int array, shape (n,)
        First category of the half of each pair.
    cuts : Cuts
        Applied to the muons as smeared.
    unit : float
        Of the mass axis, in GeV.
    """
    _fill(
        muons.pt_first,
        muons.pt_second,
        muons.eta_first,
        muons.eta_second,
        muons.mass,
        muons.relative_first,
        muons.relative_second,
        weight,
        offset,
        cuts.leading_pt,
        cuts.subleading_pt,
        cuts.pt_edges,
        cuts.ring_edges,
        AXIS[0] * unit,
        (AXIS[1] - AXIS[0]) * unit,
        sums["counts"],
        sums["squares"],
        sums["masses"],
    )


@numba.njit(cache=True, nogil=True)
def _spectra(  # type: ignore[no-untyped-def]
    pt1,
    pt2,
    eta1,
    eta2,
    gen,
    relative1,
    relative2,
    weights,
    leading_pt,
    subleading_pt,
    pt_edges,
    ring_edges,
    low,
    step,
    out,
):
    rings = len(ring_edges) - 1
    for i in range(len(pt1)):
        ring1, ring2 = bin_of(abs(eta1[i]), ring_edges), bin_of(abs(eta2[i]), ring_edges)
        at = int((gen[i] - low) / step)
        if ring1 < 0 or ring2 < 0 or gen[i] < low or at >= out.shape[2]:
            continue
        p1, p2 = pt1[i] / max(1.0 + relative1[i], 1e-3), pt2[i] / max(1.0 + relative2[i], 1e-3)
        if place(p1, p2, ring1, ring2, rings, pt_edges, leading_pt, subleading_pt) < 0:
            continue
        for k in range(len(weights)):
            out[0, k, at] += weights[k, i]
            out[1, k, at] += weights[k, i] * weights[k, i]


def spectra(muons: Generated, weights: Array, cuts: Cuts, unit: float) -> Array:
    """Return the generated mass of all pairs that pass the cuts, in bins of ``AXIS``.

    Parameters
    ----------
    muons : Generated
    weights : array, shape (k, n)
        Several weights of each pair.
    cuts : Cuts
    unit : float
        The mass of the resonance over 91.188 GeV.

    Returns
    -------
    array, shape (2, k, bins)
        Sums of the weights, and of their squares.
    """
    out = np.zeros((2, len(weights), len(AXIS) - 1))
    _spectra(
        muons.pt_first,
        muons.pt_second,
        muons.eta_first,
        muons.eta_second,
        muons.mass,
        muons.relative_first,
        muons.relative_second,
        weights,
        cuts.leading_pt,
        cuts.subleading_pt,
        cuts.pt_edges,
        cuts.ring_edges,
        AXIS[0] * unit,
        (AXIS[1] - AXIS[0]) * unit,
        out,
    )
    return out


@dataclass(frozen=True)
class Shapes:
    """Generated mass of all categories; arrays of shape (categories, bins), masses in GeV."""

    counts: Array
    squares: Array
    masses: Array

    def of(self, members: Sequence[int]) -> tuple[Array, Array, Array]:
        """Return template, its variance and the mean masses of some categories together."""
        rows = list(members)
        counts, squares, masses = (x[rows].sum(0) for x in (self.counts, self.squares, self.masses))
        filled = counts > 0
        mean = np.where(filled, masses / np.where(filled, counts, 1.0), 1.0)
        return np.where(filled, counts, 0.0), np.where(filled, squares, 0.0), mean


def shapes(sums: Mapping[str, AnyArray], rows: Sequence[slice]) -> Shapes:
    """Return the shapes of some blocks of rows (halves).

    Parameters
    ----------
    sums : mapping of str to array
        With ``kernel/...``.
    rows : sequence of slice
        Blocks that are added.

    Returns
    -------
    Shapes
        Of all categories.
    """
    return Shapes(
        *(
            np.asarray(sum(sums[f"kernel/{name}"][block] for block in rows))
            for name in ("counts", "squares", "masses")
        )
    )
