"""Muons to categories and masses: the inner loops of the event loop, compiled.

All decisions are made in double precision, and of the event alone: they do not depend on how the
events are cut into chunks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numba
import numpy as np

from calib.arrays import Array, IntArray, UIntArray
from calib.constants import MUON_MASS
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


@numba.njit(cache=True, nogil=True)
def _place(  # type: ignore[no-untyped-def]
    pt_p, eta_p, phi_p, pt_m, eta_m, phi_m, eta, steps, ratio, angle, number, lead, sub,
    category, mass, out_p, out_m,
):  # fmt: skip
    n_eta, n_ratio, n_angle = len(eta) - 1, len(ratio) - 1, len(angle) - 1
    per_eta = n_eta / (eta[n_eta] - eta[0])
    m2 = MUON_MASS * MUON_MASS
    for i in range(len(pt_p)):
        category[i] = -1
        p, m = _bin(eta_p[i], eta, per_eta), _bin(eta_m[i], eta, per_eta)
        if p < 0 or m < 0:
            continue
        kp, km = 1.0 / pt_p[i], 1.0 / pt_m[i]
        for s in range(len(steps)):
            kp = (1.0 + steps[s, 0, p] - steps[s, 1, p] * kp) * kp + steps[s, 2, p]
            km = (1.0 + steps[s, 0, m] - steps[s, 1, m] * km) * km - steps[s, 2, m]
        if not (kp > 0.0 and km > 0.0):
            continue
        a, b = 1.0 / kp, 1.0 / km
        out_p[i], out_m[i] = a, b
        if not (max(a, b) >= lead and min(a, b) >= sub):
            continue
        half = math.sin(0.5 * (phi_p[i] - phi_m[i]))
        turn = half * half
        r = a / b
        j = n_ratio - 1
        while j >= 0 and r < ratio[j]:
            j -= 1
        c = 1.0 - 2.0 * turn
        k = n_angle - 1
        while k >= 0 and c < angle[k]:
            k -= 1
        if j < 0 or r >= ratio[n_ratio] or k < 0:
            continue
        category[i] = number[((p * n_eta + m) * n_ratio + j) * n_angle + k]
        # as `calib.kinematics.mass`, with one exponential a muon
        x, y = math.exp(eta_p[i]), math.exp(eta_m[i])
        p1, p2 = 0.5 * a * (x + 1.0 / x), 0.5 * b * (y + 1.0 / y)
        e1, e2 = math.sqrt(p1 * p1 + m2), math.sqrt(p2 * p2 + m2)
        rest = (p1 * p1 + p2 * p2 + m2) / (e1 * e2 + p1 * p2)
        opening = (x - y) * (x - y) / (4.0 * x * y) + turn
        mass[i] = math.sqrt(2.0 * m2 * (1.0 + rest) + 4.0 * a * b * opening)


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

    def fill(self, row: IntArray, value: Array, weight: Array) -> Array:
        """Add entries; return which ones lie in a row and a bin."""
        inside = np.zeros(len(row), dtype=np.bool_)
        per_width = (len(self.edges) - 1) / (self.edges[-1] - self.edges[0])
        _scatter(
            row, value, self.edges, per_width, weight, self.unit, self.counts, self.sumw,
            self.sumw2, inside,
        )  # fmt: skip
        return inside

    def sums(self, name: str) -> dict[str, Array]:
        """Return the arrays that add, by name."""
        if self.unit:
            return {f"{name}/counts": self.counts}
        return {f"{name}/sumw": self.sumw, f"{name}/sumw2": self.sumw2}
