"""Muons to categories and masses: the inner loops of the event loop, compiled.

All decisions are made in double precision, and of the event alone: they do not depend on how the
events are cut into chunks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np

from calib.arrays import AnyArray, Array, BoolArray, IntArray, UIntArray
from calib.constants import MUON_MASS
from calib.pairs import Pairs
from calib.random import normal_pair

from .grid import Grid


@dataclass(frozen=True)
class PairKinematics:
    """The two muons of each pair, by charge; arrays of shape (n,), GeV."""

    pt_plus: Array
    eta_plus: Array
    phi_plus: Array
    pt_minus: Array
    eta_minus: Array
    phi_minus: Array

    def __len__(self) -> int:
        return len(self.pt_plus)


@dataclass(frozen=True)
class Placed:
    """Where each pair belongs: category (-1: none), mass in GeV, and both pt in GeV."""

    category: IntArray
    mass: Array
    pt_plus: Array
    pt_minus: Array


@numba.njit(cache=True, nogil=True, inline="always")
def _bin(x, edges, per_width):  # type: ignore[no-untyped-def]
    """Return the bin of x, -1 outside; a guess for even bins, which the edges correct."""
    n = len(edges) - 1
    if not (x >= edges[0] and x < edges[n]):
        return -1
    b = min(int((x - edges[0]) * per_width), n - 1)
    while x < edges[b]:
        b -= 1
    while x >= edges[b + 1]:
        b += 1
    return b


@numba.njit(cache=True, nogil=True, inline="always")
def _locate(  # type: ignore[no-untyped-def]
    pt_p, eta_p, phi_p, pt_m, eta_m, phi_m, eta, per_eta, steps, ratio, angle, number, lead, sub
):
    """Return category (-1: none), mass and both pt of one pair after the corrections."""
    n_eta, n_ratio, n_angle = len(eta) - 1, len(ratio) - 1, len(angle) - 1
    p, m = _bin(eta_p, eta, per_eta), _bin(eta_m, eta, per_eta)
    if p < 0 or m < 0:
        return -1, 0.0, pt_p, pt_m
    a, b = pt_p, pt_m
    if len(steps) > 0:
        kp, km = 1.0 / pt_p, 1.0 / pt_m
        for s in range(len(steps)):
            kp = (1.0 + steps[s, 0, p] - steps[s, 1, p] * kp) * kp + steps[s, 2, p]
            km = (1.0 + steps[s, 0, m] - steps[s, 1, m] * km) * km - steps[s, 2, m]
        if not (kp > 0.0 and km > 0.0):
            return -1, 0.0, pt_p, pt_m
        a, b = 1.0 / kp, 1.0 / km
    if not (max(a, b) >= lead and min(a, b) >= sub):
        return -1, 0.0, a, b
    half = math.sin(0.5 * (phi_p - phi_m))
    turn = half * half
    r, c = a / b, 1.0 - 2.0 * turn
    j, k = n_ratio - 1, n_angle - 1
    while j >= 0 and r < ratio[j]:
        j -= 1
    while k >= 0 and c < angle[k]:
        k -= 1
    if j < 0 or r >= ratio[n_ratio] or k < 0:
        return -1, 0.0, a, b
    category = number[((p * n_eta + m) * n_ratio + j) * n_angle + k]
    # as `calib.kinematics.mass`, with one exponential a muon
    m2 = MUON_MASS * MUON_MASS
    x, y = math.exp(eta_p), math.exp(eta_m)
    p1, p2 = 0.5 * a * (x + 1.0 / x), 0.5 * b * (y + 1.0 / y)
    e1, e2 = math.sqrt(p1 * p1 + m2), math.sqrt(p2 * p2 + m2)
    rest = (p1 * p1 + p2 * p2 + m2) / (e1 * e2 + p1 * p2)
    opening = (x - y) * (x - y) / (4.0 * x * y) + turn
    return category, math.sqrt(2.0 * m2 * (1.0 + rest) + 4.0 * a * b * opening), a, b


@numba.njit(cache=True, nogil=True)
def _place(  # type: ignore[no-untyped-def]
    pt_p, eta_p, phi_p, pt_m, eta_m, phi_m, eta, steps, ratio, angle, number, lead, sub,
    category, mass, out_p, out_m,
):  # fmt: skip
    per_eta = (len(eta) - 1) / (eta[len(eta) - 1] - eta[0])
    for i in range(len(pt_p)):
        category[i], mass[i], out_p[i], out_m[i] = _locate(
            pt_p[i], eta_p[i], phi_p[i], pt_m[i], eta_m[i], phi_m[i],
            eta, per_eta, steps, ratio, angle, number, lead, sub,
        )  # fmt: skip


@numba.njit(cache=True, nogil=True)
def _observe(  # type: ignore[no-untyped-def]
    pt1, eta1, phi1, charge1, pt2, eta2, phi2, weight, keys, unit, eta, steps, ratio, angle,
    number, lead, sub, edges, n, counts, sumw, sumw2, means, margin_edges, margin,
):  # fmt: skip
    per_eta = (len(eta) - 1) / (eta[len(eta) - 1] - eta[0])
    per_mass = (len(edges) - 1) / (edges[len(edges) - 1] - edges[0])
    per_margin = (len(margin_edges) - 1) / (margin_edges[len(margin_edges) - 1] - margin_edges[0])
    used = 0
    for i in range(len(pt1)):
        at = _bin(min(pt1[i], pt2[i]) / sub, margin_edges, per_margin)
        if at >= 0:
            margin[at] += 1
        if charge1[i] > 0:
            category, mass, a, b = _locate(
                pt1[i], eta1[i], phi1[i], pt2[i], eta2[i], phi2[i],
                eta, per_eta, steps, ratio, angle, number, lead, sub,
            )  # fmt: skip
        else:
            category, mass, a, b = _locate(
                pt2[i], eta2[i], phi2[i], pt1[i], eta1[i], phi1[i],
                eta, per_eta, steps, ratio, angle, number, lead, sub,
            )  # fmt: skip
        if category < 0:
            continue
        at = _bin(mass, edges, per_mass)
        if at < 0:
            continue
        used += 1
        row = category + n * np.int64(keys[i] & np.uint64(1))
        w = weight[i]
        if unit:
            counts[row, at] += 1
        else:
            sumw[row, at] += w
            sumw2[row, at] += w * w
        means[row, 0] += w / a
        means[row, 1] += w / b
        means[row, 2] += w * a
        means[row, 3] += w * b
        means[row, 4] += w * a * a
        means[row, 5] += w * b * b
    return used


def observe(
    pairs: Pairs, keys: UIntArray, grid: Grid, steps: Array, histogram: Histogram, margin: Array
) -> tuple[Array, IntArray, int]:
    """Fill the masses of the pairs by half and category, in one walk over the events.

    Returns
    -------
    means : array, shape (2 n, 6)
        Sums of k, pt, pt^2 (plus, minus) of the entries of each half and category.
    margin : int array
        Pairs in bins of the softer pt over its cut, before corrections.
    used : int
    """
    n, axes = len(grid), grid.full.axes
    means = np.zeros((2 * n, 6))
    counts = np.zeros(len(margin) - 1, dtype=np.int64)
    first, second = pairs.leading, pairs.subleading
    used = _observe(
        first.pt, first.eta, first.phi, first.charge, second.pt, second.eta, second.phi,
        pairs.weight, keys, histogram.unit, np.asarray(axes[0].edges),
        np.ascontiguousarray(steps, dtype=np.float64), np.exp(np.asarray(axes[2].edges)),
        np.asarray(axes[3].edges), grid.number, grid.leading_pt, grid.subleading_pt,
        histogram.edges, n, histogram.counts, histogram.sumw, histogram.sumw2, means,
        margin, counts,
    )  # fmt: skip
    return means, counts, int(used)


def place(pairs: PairKinematics, grid: Grid, steps: Array) -> Placed:
    """Return category and mass of each pair after some corrections.

    Parameters
    ----------
    pairs : PairKinematics
    grid : Grid
    steps : array, shape (s, 3, n_eta)
        A, e, M of corrections applied one after the other: k becomes (1 + A - e k) k + q M.
    """
    n = len(pairs)
    category = np.empty(n, dtype=np.int64)
    mass, pt_plus, pt_minus = np.zeros(n), np.zeros(n), np.zeros(n)
    axes = grid.full.axes
    _place(
        pairs.pt_plus, pairs.eta_plus, pairs.phi_plus,
        pairs.pt_minus, pairs.eta_minus, pairs.phi_minus,
        np.asarray(axes[0].edges), np.ascontiguousarray(steps, dtype=np.float64),
        np.exp(np.asarray(axes[2].edges)), np.asarray(axes[3].edges), grid.number,
        grid.leading_pt, grid.subleading_pt, category, mass, pt_plus, pt_minus,
    )  # fmt: skip
    return Placed(category, mass, pt_plus, pt_minus)


@numba.njit(cache=True, nogil=True)
def _smear(pt_p, eta_p, pt_m, eta_m, eta, a2, c2, least, keys, counter, out_p, out_m):  # type: ignore[no-untyped-def]
    n_eta = len(eta) - 1
    per_eta = n_eta / (eta[n_eta] - eta[0])
    for i in range(len(pt_p)):
        p, m = _bin(eta_p[i], eta, per_eta), _bin(eta_m[i], eta, per_eta)
        out_p[i], out_m[i] = pt_p[i], pt_m[i]
        if p < 0 or m < 0:
            continue
        z1, z2 = normal_pair(keys[i], counter)
        w1 = math.sqrt(max(a2[p] + c2[p] * pt_p[i] * pt_p[i], least))
        w2 = math.sqrt(max(a2[m] + c2[m] * pt_m[i] * pt_m[i], least))
        out_p[i] = pt_p[i] / max(1.0 + w1 * z1, 1e-3)
        out_m[i] = pt_m[i] / max(1.0 + w2 * z2, 1e-3)


LEAST_VARIANCE = 1e-6
"""Of sigma_k/k, squared: a reference is never sharper than 0.1 %."""


def smeared(
    pairs: PairKinematics, grid: Grid, a2: Array, c2: Array, keys: UIntArray, counter: int
) -> PairKinematics:
    """Return the pairs with both k smeared: Gaussian in k, (sigma_k/k)^2 = a2 + c2 pt^2."""
    n = len(pairs)
    pt_plus, pt_minus = np.empty(n), np.empty(n)
    _smear(
        pairs.pt_plus, pairs.eta_plus, pairs.pt_minus, pairs.eta_minus,
        np.asarray(grid.full.axes[0].edges), a2, c2, LEAST_VARIANCE, keys, counter,
        pt_plus, pt_minus,
    )  # fmt: skip
    return PairKinematics(
        pt_plus, pairs.eta_plus, pairs.phi_plus, pt_minus, pairs.eta_minus, pairs.phi_minus
    )


@numba.njit(cache=True, nogil=True)
def _scatter(row, value, edges, per_width, weight, unit, counts, sumw, sumw2, inside):  # type: ignore[no-untyped-def]
    for i in range(len(row)):
        inside[i] = False
        if row[i] < 0:
            continue
        b = _bin(value[i], edges, per_width)
        if b < 0:
            continue
        inside[i] = True
        if unit:
            counts[row[i], b] += 1
        else:
            sumw[row[i], b] += weight[i]
            sumw2[row[i], b] += weight[i] * weight[i]


@dataclass(frozen=True)
class Histogram:
    """Sums per row and bin: entries of weight 1, and sums of w and w^2 of the others.

    Events of weight 1 are counted in integers, so that most samples need one array, not three.
    """

    edges: Array
    counts: IntArray
    sumw: Array
    sumw2: Array
    unit: bool

    @classmethod
    def empty(cls, rows: int, edges: Array, unit: bool) -> Histogram:
        """Return one without entries."""
        shape, none = (rows, len(edges) - 1), (0, 0)
        return cls(
            edges,
            np.zeros(shape if unit else none, dtype=np.int64),
            np.zeros(none if unit else shape),
            np.zeros(none if unit else shape),
            unit,
        )

    def fill(self, row: IntArray, value: Array, weight: Array) -> BoolArray:
        """Add entries; return which ones lie in a row and a bin."""
        inside = np.zeros(len(row), dtype=np.bool_)
        per_width = (len(self.edges) - 1) / (self.edges[-1] - self.edges[0])
        _scatter(
            row, value, self.edges, per_width, weight, self.unit, self.counts, self.sumw,
            self.sumw2, inside,
        )  # fmt: skip
        return inside

    def sums(self, name: str) -> dict[str, AnyArray]:
        """Return the arrays that add, by name."""
        if self.unit:
            return {f"{name}/counts": self.counts}
        return {f"{name}/sumw": self.sumw, f"{name}/sumw2": self.sumw2}
