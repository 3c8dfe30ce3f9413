"""Templates of the mass in each category on a grid of resolution factors.

One walk over generated muons with their residuals gives, for each pair of factors (of the
leading and of the other muon), the mass histogram and the histogram of m - m_gen of every
category: cuts and categories are applied to the muons as smeared, so that the templates carry
the selection. The same random numbers serve all nodes, so the templates are smooth in the
factors and can be interpolated.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from calib.physics.embedding import Generated
from calib.types import Array, IntArray

NODES = np.geomspace(0.5, 2.0, 6)
"""Factors of the grid; a fit that leaves their range is at its limit.

One more than the polynomial in between has coefficients. With five the worst of 83 pulls of a
closure of 600 000 events was 4.7, with six 2.2, with seven 2.1.
"""

MIDDLE = 3
"""Node at which line shapes are varied and the noise of the templates is counted."""

COARSE = 60
"""About the number of mass bins of the rows of muons; the templates' covariance has half."""

RESIDUAL_EDGES = np.linspace(-8.0, 8.0, 321)
"""Bins of (m - m_gen) in units of the mass over 91.188: GeV for a Z."""
RESIDUAL_LOW = float(RESIDUAL_EDGES[0])


@dataclass(frozen=True)
class Cuts:
    """Cuts and categories of the pairs, as numbers. Edges are [low, high).

    ``muon_edges`` are the fine ones of |eta|, in which each muon has a factor of its own.
    """

    leading_pt: float
    subleading_pt: float
    pt_edges: Array
    ring_edges: Array
    mass_edges: Array
    muon_edges: Array

    @property
    def n_muon_rows(self) -> int:
        """Number of rows by leading pt and the two fine |eta| bins, whichever leads."""
        n = len(self.muon_edges) - 1
        return (len(self.pt_edges) - 1) * n * (n + 1) // 2


def group_of(n_mass: int) -> int:
    """Return how many mass bins are taken together where coarse ones do."""
    return max(1, n_mass // COARSE)


def coarse_bins(n_mass: int, times: int = 1) -> int:
    """Return the number of coarse mass bins, or of those that hold ``times`` of them.

    Parameters
    ----------
    n_mass : int
        Number of fine bins.
    times : int
        Coarse bins that are joined.

    Returns
    -------
    int
        Their number.
    """
    return -(-n_mass // (times * group_of(n_mass)))


@numba.njit(cache=True, inline="always")
def bin_of(value, edges):  # type: ignore[no-untyped-def]
    """Return the bin of a value on a short axis, -1 outside.

    Parameters
    ----------
    value : float
        In the unit of the edges.
    edges : array, shape (bins + 1,)
        Few, ascending.

    Returns
    -------
    int
        -1 outside.
    """
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
    """Return the category of two muons, -1 where they fail a cut.

    Parameters
    ----------
    pt1, pt2 : float
        In GeV.
    ring1, ring2 : int
        Rings of |eta| of the two muons.
    rings : int
        Number of rings.
    pt_edges : array
        Of the leading pt, in GeV.
    leading_pt, subleading_pt : float
        Least pt, in GeV.

    Returns
    -------
    int
        -1: no category.
    """
    if pt1 >= pt2:
        high, low, lead, sub = pt1, pt2, ring1, ring2
    else:
        high, low, lead, sub = pt2, pt1, ring2, ring1
    bin_pt = bin_of(high, pt_edges)
    if low < subleading_pt or high < leading_pt or bin_pt < 0:
        return -1
    return (bin_pt * rings + lead) * rings + sub


@numba.njit(cache=True, inline="always")
def pair_of(i, j, n):  # type: ignore[no-untyped-def]
    """Return the number of an unordered pair of bins: (0, 0), (0, 1) ... (0, n-1), (1, 1) ...

    Parameters
    ----------
    i, j : int
        Bins, in any order.
    n : int
        Number of bins.

    Returns
    -------
    int
        Counted from 0.
    """
    low, high = min(i, j), max(i, j)
    return low * n - low * (low - 1) // 2 + high - low


class _Limits(NamedTuple):
    """Cuts and axes as the compiled loop sees them."""

    leading_pt: float
    subleading_pt: float
    pt_edges: Array
    ring_edges: Array
    muon_edges: Array
    mass_low: float
    per_mass: float
    n_mass: int
    residual_low: float
    per_residual: float
    n_residual: int
    group: int


class _Totals(NamedTuple):
    """What grows, flat, bins last.

    Axes: (category, first node, other node, bin), (row of muons, node, coarse bin), (variation,
    category, bin).

    Template and residual have one row of bins more, into which pairs go that are rejected.
    """

    template: Array
    residual: Array
    muons: Array
    varied: Array


BLOCK = 256
"""Made pairs that are worked on at a time, at one pair of nodes after the other: the bins that they
fill lie side by side. Columns are at known distances in one array of numbers and one of integers,
so that the compiler does many pairs at once (as in `calib.physics.embedding`). Pairs with muons in
different rings come first: the others are needed only where both muons have the same node."""

# both muons, the first ones before the second ones: pt, residual, what the mass is made of
PT, RELATIVE, SCALE, SMEARED, ROOT = (2 * BLOCK * column for column in range(5))
# pairs; those of the first muon at node a, and of the other at b
GEN, WEIGHT, PT_A, PT_B, ROOT_A, ROOT_B = (BLOCK * column for column in range(10, 16))
# integers: bin of pt of a muon that leads, first node of the category at the lowest pt if the first
# or the second muon leads, row of muons there, and where the pair was
PT_BIN = 0
LEADS_A, LEADS_B, ROW, INDEX, BIN_A, BIN_B, RING_A, RING_B, FINE_A, FINE_B = (
    BLOCK * column for column in range(2, 12)
)
# where a pair is counted: bin of the mass, of template and of residual, bin of pt or -1
MASS_BIN, TEMPLATE, RESIDUAL, LEADING_BIN = (BLOCK * column for column in range(12, 16))


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _eta_bins(eta1, eta2, edges, first, second, k):  # type: ignore[no-untyped-def]
    """Write the bins of |eta| of both muons, -1 outside."""
    for at, eta in ((first, eta1), (second, eta2)):
        k[at : at + len(eta)] = -1
        bins = k[at : at + len(eta)]
        for edge in edges:
            for j in range(len(eta)):
                bins[j] += np.int32(abs(eta[j]) >= edge)
        for j in range(len(eta)):
            bins[j] = bins[j] if bins[j] < len(edges) - 1 else -1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _gather(low, high, made, half, limits, nodes, w, k):  # type: ignore[no-untyped-def]
    """Fill a block; return its pairs in different rings, and all that are in one."""
    pt1, pt2, eta1, eta2, base, gen, relative1, relative2, weight = made
    rings, fine = len(limits.ring_edges) - 1, len(limits.muon_edges) - 1
    n_pt, squared = len(limits.pt_edges) - 1, len(nodes) ** 2
    _eta_bins(eta1[low:high], eta2[low:high], limits.ring_edges, RING_A, RING_B, k)
    _eta_bins(eta1[low:high], eta2[low:high], limits.muon_edges, FINE_A, FINE_B, k)
    mixed = 0
    for same in (False, True):
        total = 0 if not same else mixed
        for j in range(high - low):
            a, b = k[RING_A + j], k[RING_B + j]
            if a >= 0 and b >= 0 and (a == b) == same:
                k[INDEX + total] = j
                total += 1
        if not same:
            mixed = total
    for at in range(total):
        j = k[INDEX + at]
        i = low + j
        w[PT + at], w[PT + BLOCK + at] = pt1[i], pt2[i]
        w[RELATIVE + at], w[RELATIVE + BLOCK + at] = relative1[i], relative2[i]
        w[SCALE + at], w[GEN + at], w[WEIGHT + at] = base[i], gen[i], weight[i]
        first, a, b = half[i] * n_pt * rings * rings, k[RING_A + j], k[RING_B + j]
        k[LEADS_A + at] = (first + a * rings + b) * squared
        k[LEADS_B + at] = (first + b * rings + a) * squared
        a, b = k[FINE_A + j], k[FINE_B + j]
        row = half[i] * n_pt * (fine * (fine + 1) // 2) + pair_of(a, b, fine)
        k[ROW + at] = row if a >= 0 and b >= 0 else -1
    return mixed, total


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _smear(node, limits, w, k):  # type: ignore[no-untyped-def]
    """Write what all muons of a block are at a node: pt, factor of the mass, bin of pt."""
    for j in range(2 * BLOCK):
        u = max(1.0 + node * w[RELATIVE + j], 1e-3)
        w[SMEARED + j] = w[PT + j] / u
        w[ROOT + j] = w[SCALE + j] * (1.0 / math.sqrt(u))
        k[PT_BIN + j] = -1
    for edge in limits.pt_edges:
        for j in range(2 * BLOCK):
            k[PT_BIN + j] += np.int32(w[SMEARED + j] >= edge)
    for j in range(2 * BLOCK):
        good = (k[PT_BIN + j] < len(limits.pt_edges) - 1) & (w[SMEARED + j] >= limits.leading_pt)
        k[PT_BIN + j] = k[PT_BIN + j] if good else -1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _find(m, node, turned, per_pt_bin, unused, limits, w, k):  # type: ignore[no-untyped-def]
    """Write where pairs are counted at a pair of nodes; ``turned`` if the second muon leads."""
    n_mass, n_residual = np.int32(limits.n_mass), np.int32(limits.n_residual)
    last_mass, last_residual = limits.n_mass - 1.0, limits.n_residual - 1.0
    for j in range(m):
        # all is read before anything is chosen: else the compiler takes one pair at a time
        pt_a, pt_b, bin_a, bin_b = w[PT_A + j], w[PT_B + j], k[BIN_A + j], k[BIN_B + j]
        row_a, row_b = k[LEADS_A + j] + node, k[LEADS_B + j] + turned
        leads = pt_a >= pt_b
        pt_bin = bin_a if leads else bin_b
        least = pt_b if leads else pt_a
        row = row_a if leads else row_b
        mass = w[ROOT_A + j] * w[ROOT_B + j]
        t = (mass - limits.mass_low) * limits.per_mass
        r = (mass - w[GEN + j] - limits.residual_low) * limits.per_residual
        good = (
            (pt_bin >= 0)
            & (least >= limits.subleading_pt)
            & (mass >= limits.mass_low)
            & (t < limits.n_mass)
        )
        t = t if t > 0.0 else 0.0
        mass_bin = np.int32(t if t < last_mass else last_mass)
        r = r if r > 0.0 else 0.0
        step = np.int32(r if r < last_residual else last_residual)
        inside = row + pt_bin * per_pt_bin
        row = inside if good else unused
        k[MASS_BIN + j] = mass_bin
        k[TEMPLATE + j] = row * n_mass + mass_bin
        k[RESIDUAL + j] = row * n_residual + step
        k[LEADING_BIN + j] = pt_bin if good else -1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _scan(made, factors, half, nodes, limits, totals, places):  # type: ignore[no-untyped-def]
    n, fine, rings = len(nodes), len(limits.muon_edges) - 1, len(limits.ring_edges) - 1
    fine_pairs, n_mass = fine * (fine + 1) // 2, limits.n_mass
    n_coarse = (n_mass + limits.group - 1) // limits.group
    wide = 2 * limits.group
    n_wide = (n_mass + wide - 1) // wide
    unused, per_pt_bin = len(totals.template) // n_mass - 1, rings * rings * n * n
    per_variation = unused // (n * n) * n_mass
    w, k = np.ones(16 * BLOCK), np.zeros(16 * BLOCK, dtype=np.int32)
    pts, roots = np.empty((n, 2 * BLOCK)), np.empty((n, 2 * BLOCK))
    bins = np.empty((n, 2 * BLOCK), dtype=np.int32)
    places[:] = -1
    for low in range(0, len(places), BLOCK):
        high = min(low + BLOCK, len(places))
        mixed, total = _gather(low, high, made, half, limits, nodes, w, k)
        for a in range(n):
            _smear(nodes[a], limits, w, k)
            pts[a], roots[a] = w[SMEARED : SMEARED + 2 * BLOCK], w[ROOT : ROOT + 2 * BLOCK]
            bins[a] = k[PT_BIN : PT_BIN + 2 * BLOCK]
        for a in range(n):
            w[PT_A : PT_A + BLOCK], w[ROOT_A : ROOT_A + BLOCK] = pts[a, :BLOCK], roots[a, :BLOCK]
            k[BIN_A : BIN_A + BLOCK] = bins[a, :BLOCK]
            for b in range(n):
                m = total if a == b else mixed
                w[PT_B : PT_B + BLOCK] = pts[b, BLOCK:]
                w[ROOT_B : ROOT_B + BLOCK] = roots[b, BLOCK:]
                k[BIN_B : BIN_B + BLOCK] = bins[b, BLOCK:]
                _find(m, a * n + b, b * n + a, per_pt_bin, unused, limits, w, k)
                for j in range(m):
                    totals.template[k[TEMPLATE + j]] += w[WEIGHT + j]
                    totals.residual[k[RESIDUAL + j]] += w[WEIGHT + j]
                if a != b:
                    continue
                for j in range(m):
                    if k[LEADING_BIN + j] >= 0 and k[ROW + j] >= 0:
                        row = (k[ROW + j] + k[LEADING_BIN + j] * fine_pairs) * n + a
                        at = row * n_coarse + k[MASS_BIN + j] // limits.group
                        totals.muons[at] += w[WEIGHT + j]
                if a != MIDDLE:
                    continue
                for j in range(m):
                    if k[LEADING_BIN + j] < 0:
                        continue
                    i, category = low + k[INDEX + j], k[TEMPLATE + j] // n_mass // (n * n)
                    places[i] = category * n_wide + k[MASS_BIN + j] // wide
                    for v in range(len(factors)):
                        at = v * per_variation + category * n_mass + k[MASS_BIN + j]
                        totals.varied[at] += w[WEIGHT + j] * factors[v, i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def count_pairs(places, weight, coarse, out):  # type: ignore[no-untyped-def]
    """Add sum over sources of (sum over their copies)^2, bin by bin and across bins.

    Parameters
    ----------
    places : int array, shape (copies, n)
        category * coarse + bin of each copy, negative: none.
    weight : array, shape (n,)
        Of the sources.
    coarse : int
        Number of coarse bins.
    out : array, shape (categories, coarse, coarse)
        Added to.
    """
    copies = len(places)
    found, number = np.empty(copies, dtype=np.int64), np.empty(copies)
    category, bins = np.empty(copies, dtype=np.int64), np.empty(copies, dtype=np.int64)
    for i in range(places.shape[1]):
        square, known = weight[i] * weight[i], 0
        for a in range(copies):
            place = places[a, i]
            if place < 0:
                continue
            b = 0
            while b < known and found[b] != place:
                b += 1
            if b < known:
                number[b] += 1.0
                continue
            found[b], number[b], category[b] = place, 1.0, place // coarse
            bins[b] = place - category[b] * coarse
            known += 1
        for a in range(known):
            for b in range(known):
                if category[b] == category[a]:
                    out[category[a], bins[a], bins[b]] += square * (number[a] * number[b])


class Scan:
    """Templates of all categories at every node, that grow.

    Parameters
    ----------
    halves : int
        1, or 2 where the halves of the sample are kept apart.
    cuts : Cuts
    unit : float
        Of the residuals, in GeV.
    variations : tuple of str
        Names of the variations of the line shape.
    """

    def __init__(
        self, halves: int, cuts: Cuts, unit: float, variations: tuple[str, ...] = ()
    ) -> None:
        n, edges = len(NODES), cuts.mass_edges
        bins, self._coarse = len(edges) - 1, coarse_bins(len(edges) - 1, 2)
        n_categories = halves * (len(cuts.pt_edges) - 1) * (len(cuts.ring_edges) - 1) ** 2
        n_residual = len(RESIDUAL_EDGES) - 1
        self._n_categories, self._variations = n_categories, variations
        self._totals = _Totals(
            np.zeros((n_categories * n * n + 1) * bins),
            np.zeros((n_categories * n * n + 1) * n_residual),
            np.zeros(halves * cuts.n_muon_rows * n * coarse_bins(bins)),
            np.zeros(len(variations) * n_categories * bins),
        )
        self._pairs = np.zeros((n_categories, self._coarse, self._coarse))
        self._limits = _Limits(
            cuts.leading_pt,
            cuts.subleading_pt,
            cuts.pt_edges,
            cuts.ring_edges,
            cuts.muon_edges,
            float(edges[0]),
            bins / float(edges[-1] - edges[0]),
            bins,
            RESIDUAL_LOW * unit,
            1.0 / (unit * float(RESIDUAL_EDGES[1] - RESIDUAL_EDGES[0])),
            n_residual,
            group_of(bins),
        )

    def add(
        self,
        copies: Iterable[tuple[Generated, Array]],
        weight: Array,
        half: IntArray,
        vary: Callable[[Generated], Array] | None = None,
    ) -> None:
        """Add the copies of some source events to the templates, at every node of the grid.

        Parameters
        ----------
        copies : iterable of (Generated, array)
            The generated muons of each copy, fast where those of one category stand together,
            and the mass of the muons with their generated pt and the measured angles, (n,), in
            GeV. All copies of one source event are correlated.
        weight : array, shape (n,)
        half : int array, shape (n,)
            Half of the sample that a source event belongs to.
        vary : callable, optional
            Gives the weights of each variation of the line shape, shape (variations, n).
        """
        none, places = np.empty((0, len(weight))), []
        for muons, base in copies:
            places.append(np.empty(len(weight), dtype=np.int32))
            factors = none if vary is None else vary(muons)
            made = (
                muons.pt_first,
                muons.pt_second,
                muons.eta_first,
                muons.eta_second,
                base,
                muons.mass,
                muons.relative_first,
                muons.relative_second,
                weight,
            )
            _scan(made, factors, half, NODES, self._limits, self._totals, places[-1])
        if places:
            count_pairs(np.stack(places), weight, self._coarse, self._pairs)

    def sums(self) -> dict[str, Array]:
        """Return ``template, residual, muons`` (nodes before bins), ``pairs`` and the variations.

        ``pairs`` (categories, coarse bins, coarse bins) is the sum over source events of their
        copies in one bin times those in another.
        """
        totals, limits, n = self._totals, self._limits, len(NODES)
        by_node = (self._n_categories, n, n)
        varied = totals.varied.reshape(-1, self._n_categories, limits.n_mass)
        found = {
            "template": totals.template[: -limits.n_mass].reshape(*by_node, limits.n_mass),
            "residual": totals.residual[: -limits.n_residual].reshape(*by_node, limits.n_residual),
            "muons": totals.muons.reshape(-1, n, coarse_bins(limits.n_mass)),
            "pairs": self._pairs,
        }
        return found | {
            f"varied_{name}": values for name, values in zip(self._variations, varied, strict=True)
        }
