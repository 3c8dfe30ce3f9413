"""Muons to categories and masses: the inner loops of the event loop, compiled.

All decisions are made in double precision, and of the event alone: they do not depend on how the
events are cut into chunks.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from calib.events.binning import bin_of
from calib.events.pairs import Pairs
from calib.events.random import normal_pair
from calib.physics.kinematics import mass_of
from calib.types import AnyArray, Array, IntArray, UIntArray

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


BLOCK = 512
"""Pairs that are worked on at a time, a step for all of them after the other: what a step writes
is still in the nearest cache for the next, and steps without branches do many at once."""


class _Cells(NamedTuple):
    """A grid and corrections as the compiled loops see them."""

    eta: Array
    ratio: Array
    angle: Array
    number: IntArray
    leading_pt: float
    subleading_pt: float
    steps: Array


def _cells(grid: Grid, steps: Array) -> _Cells:
    axes = grid.full.axes
    return _Cells(
        np.asarray(axes[0].edges),
        np.exp(np.asarray(axes[2].edges)),
        np.asarray(axes[3].edges),
        grid.number,
        grid.leading_pt,
        grid.subleading_pt,
        np.ascontiguousarray(steps, dtype=np.float64),
    )


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _correct(pt_p, eta_p, pt_m, eta_m, cells, bins, out_p, out_m):  # type: ignore[no-untyped-def]
    """Write the pair of eta bins (-1: none) and both pt after the corrections."""
    eta, steps = cells.eta, cells.steps
    n_eta = len(eta) - 1
    per_eta = n_eta / (eta[n_eta] - eta[0])
    for i in range(len(bins)):
        p, m = bin_of(eta_p[i], eta, per_eta), bin_of(eta_m[i], eta, per_eta)
        bins[i] = p * n_eta + m if p >= 0 and m >= 0 else -1
        out_p[i], out_m[i] = pt_p[i], pt_m[i]
    if len(steps) == 0:
        return
    for i in range(len(bins)):
        if bins[i] < 0:
            continue
        p, m = bins[i] // n_eta, bins[i] % n_eta
        kp, km = 1.0 / pt_p[i], 1.0 / pt_m[i]
        for s in range(len(steps)):
            kp = (1.0 + steps[s, 0, p] - steps[s, 1, p] * kp) * kp + steps[s, 2, p]
            km = (1.0 + steps[s, 0, m] - steps[s, 1, m] * km) * km - steps[s, 2, m]
        if kp > 0.0 and km > 0.0:
            out_p[i], out_m[i] = 1.0 / kp, 1.0 / km
        else:
            bins[i] = -1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _measure(pt_p, eta_p, phi_p, pt_m, eta_m, phi_m, mass, cosine):  # type: ignore[no-untyped-def]
    """Write the mass and cos(delta phi)."""
    for i in range(len(mass)):
        mass[i], turn = mass_of(pt_p[i], eta_p[i], phi_p[i], pt_m[i], eta_m[i], phi_m[i])
        cosine[i] = 1.0 - 2.0 * turn


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _categorise(pt_p, pt_m, cosine, cells, category):  # type: ignore[no-untyped-def]
    """Turn the pair of eta bins into the category, -1 where a cut or an axis leaves a pair out."""
    ratio, angle, number = cells.ratio, cells.angle, cells.number
    n_ratio, n_angle = len(ratio) - 1, len(angle) - 1
    for i in range(len(category)):
        a, b, c = pt_p[i], pt_m[i], cosine[i]
        r = a / b
        # the number of edges that are not above, without a branch for each
        j, k = -1, -1
        for x in ratio:
            j += r >= x
        for x in angle:
            k += c >= x
        inside = (
            (category[i] >= 0)
            & (max(a, b) >= cells.leading_pt)
            & (min(a, b) >= cells.subleading_pt)
            & (j >= 0)
            & (j < n_ratio)
            & (k >= 0)
        )
        at = (category[i] * n_ratio + j) * n_angle + min(k, n_angle - 1)
        category[i] = number[at] if inside else -1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _place(  # type: ignore[no-untyped-def]
    pt_p, eta_p, phi_p, pt_m, eta_m, phi_m, cells, category, mass, out_p, out_m
):
    """Write category (-1: none), mass and both pt after the corrections."""
    cosine = np.empty(BLOCK)
    for low in range(0, len(category), BLOCK):
        high = min(low + BLOCK, len(category))
        angle = cosine[: high - low]
        _correct(
            pt_p[low:high],
            eta_p[low:high],
            pt_m[low:high],
            eta_m[low:high],
            cells,
            category[low:high],
            out_p[low:high],
            out_m[low:high],
        )
        _measure(
            out_p[low:high],
            eta_p[low:high],
            phi_p[low:high],
            out_m[low:high],
            eta_m[low:high],
            phi_m[low:high],
            mass[low:high],
            angle,
        )
        _categorise(out_p[low:high], out_m[low:high], angle, cells, category[low:high])


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _by_charge(a, b, charge, plus, minus):  # type: ignore[no-untyped-def]
    for i in range(len(a)):
        plus[i] = a[i] if charge[i] > 0 else b[i]
        minus[i] = b[i] if charge[i] > 0 else a[i]


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _rows(category, mass, keys, edges, n, row, at):  # type: ignore[no-untyped-def]
    """Write half and category, and the mass bin, -1 where there is none; return how many have."""
    per_mass = (len(edges) - 1) / (edges[len(edges) - 1] - edges[0])
    used = 0
    for i in range(len(row)):
        at[i] = bin_of(mass[i], edges, per_mass) if category[i] >= 0 else -1
        row[i] = category[i] + n * np.int64(keys[i] & np.uint64(1))
        used += at[i] >= 0
    return used


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _add(row, at, a, b, weight, unit, counts, sumw, sumw2, means):  # type: ignore[no-untyped-def]
    for i in range(len(row)):
        if at[i] < 0:
            continue
        r, w, x, y = row[i], weight[i], a[i], b[i]
        if unit:
            counts[r, at[i]] += 1
        else:
            sumw[r, at[i]] += w
            sumw2[r, at[i]] += w * w
        means[r, 0] += w / x
        means[r, 1] += w / y
        means[r, 2] += w * x
        means[r, 3] += w * y
        means[r, 4] += w * x * x
        means[r, 5] += w * y * y


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _count(pt1, pt2, least, edges, counts):  # type: ignore[no-untyped-def]
    """Count the softer pt over the least one; the first and the last count are outside.

    ``edges`` begin with minus and end with plus infinity. About half of the pairs are outside, in
    no order, which a branch would have to guess.
    """
    n = len(edges) - 3
    per_width = n / (edges[n + 1] - edges[1])
    for i in range(len(pt1)):
        x = min(pt1[i], pt2[i]) / least
        b = int(min(max((x - edges[1]) * per_width, -1.0), float(n)) + 1.0)
        # a guess for even bins, which the edges correct
        b += x >= edges[b + 1]
        b -= x < edges[b]
        counts[b] += 1


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _observe(  # type: ignore[no-untyped-def]
    pt1,
    eta1,
    phi1,
    charge1,
    pt2,
    eta2,
    phi2,
    weight,
    keys,
    unit,
    cells,
    edges,
    n,
    counts,
    sumw,
    sumw2,
    means,
    margin_edges,
    margin,
):
    plus, minus, moved = np.empty((3, BLOCK)), np.empty((3, BLOCK)), np.empty((2, BLOCK))
    mass, category = np.empty(BLOCK), np.empty(BLOCK, dtype=np.int64)
    row, bins = np.empty(BLOCK, dtype=np.int64), np.empty(BLOCK, dtype=np.int64)
    used = 0
    for low in range(0, len(pt1), BLOCK):
        high = min(low + BLOCK, len(pt1))
        k = high - low
        _count(pt1[low:high], pt2[low:high], cells.subleading_pt, margin_edges, margin)
        charge = charge1[low:high]
        _by_charge(pt1[low:high], pt2[low:high], charge, plus[0, :k], minus[0, :k])
        _by_charge(eta1[low:high], eta2[low:high], charge, plus[1, :k], minus[1, :k])
        _by_charge(phi1[low:high], phi2[low:high], charge, plus[2, :k], minus[2, :k])
        _place(
            plus[0, :k],
            plus[1, :k],
            plus[2, :k],
            minus[0, :k],
            minus[1, :k],
            minus[2, :k],
            cells,
            category[:k],
            mass[:k],
            moved[0, :k],
            moved[1, :k],
        )
        used += _rows(category[:k], mass[:k], keys[low:high], edges, n, row[:k], bins[:k])
        _add(
            row[:k],
            bins[:k],
            moved[0, :k],
            moved[1, :k],
            weight[low:high],
            unit,
            counts,
            sumw,
            sumw2,
            means,
        )
    return used


def observe(
    pairs: Pairs, keys: UIntArray, grid: Grid, steps: Array, histogram: Histogram, margin: Array
) -> tuple[Array, IntArray, int]:
    """Fill the masses of the pairs by half and category, in one walk over the events.

    Parameters
    ----------
    pairs : Pairs
        GeV.
    keys : uint array, shape (pairs,)
        Of the events; the last bit is the half.
    grid : Grid
        n categories.
    steps : array, shape (s, 3, n_eta)
        Corrections A, e (GeV), M (1/GeV), one after the other.
    histogram : Histogram
        Of 2 n rows; filled.
    margin : array
        Edges of the softer pt over its cut.

    Returns
    -------
    means : array, shape (2 n, 6)
        Sums of k, pt, pt^2 (plus, minus) of the entries of each half and category.
    margin : int array
        Pairs in bins of the softer pt over its cut, before corrections.
    used : int
    """
    n = len(grid)
    means = np.zeros((2 * n, 8))  # a row is as long as a line of the cache
    counts = np.zeros(len(margin) + 1, dtype=np.int64)
    padded = np.concatenate([[-np.inf], margin, [np.inf]])
    first, second = pairs.leading, pairs.subleading
    used = _observe(
        first.pt,
        first.eta,
        first.phi,
        first.charge,
        second.pt,
        second.eta,
        second.phi,
        pairs.weight,
        keys,
        histogram.unit,
        _cells(grid, steps),
        histogram.edges,
        n,
        histogram.counts,
        histogram.sumw,
        histogram.sumw2,
        means,
        padded,
        counts,
    )
    return means[:, :6], counts[1:-1], int(used)


def place(pairs: PairKinematics, grid: Grid, steps: Array) -> Placed:
    """Return category and mass of each pair after some corrections.

    Parameters
    ----------
    pairs : PairKinematics
        GeV.
    grid : Grid
        Categories and cuts.
    steps : array, shape (s, 3, n_eta)
        A, e, M of corrections applied one after the other: k becomes (1 + A - e k) k + q M.

    Returns
    -------
    Placed
        Of each pair, in GeV.
    """
    n = len(pairs)
    category = np.empty(n, dtype=np.int64)
    mass, pt_plus, pt_minus = np.zeros(n), np.zeros(n), np.zeros(n)
    _place(
        pairs.pt_plus,
        pairs.eta_plus,
        pairs.phi_plus,
        pairs.pt_minus,
        pairs.eta_minus,
        pairs.phi_minus,
        _cells(grid, steps),
        category,
        mass,
        pt_plus,
        pt_minus,
    )
    return Placed(category, mass, pt_plus, pt_minus)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _normals(keys, counter, first, second):  # type: ignore[no-untyped-def]
    for i in range(len(keys)):
        first[i], second[i] = normal_pair(keys[i], counter)


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _smear(pt_p, eta_p, pt_m, eta_m, eta, a2, c2, least, keys, counter, out_p, out_m):  # type: ignore[no-untyped-def]
    n_eta = len(eta) - 1
    per_eta = n_eta / (eta[n_eta] - eta[0])
    first, second = np.empty(BLOCK), np.empty(BLOCK)
    for low in range(0, len(pt_p), BLOCK):
        high = min(low + BLOCK, len(pt_p))
        _normals(keys[low:high], counter, first[: high - low], second[: high - low])
        for i in range(low, high):
            p, m = bin_of(eta_p[i], eta, per_eta), bin_of(eta_m[i], eta, per_eta)
            out_p[i], out_m[i] = pt_p[i], pt_m[i]
            if p < 0 or m < 0:
                continue
            w1 = math.sqrt(max(a2[p] + c2[p] * pt_p[i] * pt_p[i], least))
            w2 = math.sqrt(max(a2[m] + c2[m] * pt_m[i] * pt_m[i], least))
            out_p[i] = pt_p[i] / max(1.0 + w1 * first[i - low], 1e-3)
            out_m[i] = pt_m[i] / max(1.0 + w2 * second[i - low], 1e-3)


LEAST_VARIANCE = 1e-6
"""Of sigma_k/k, squared: a reference is never sharper than 0.1 %."""


def smeared(
    pairs: PairKinematics, grid: Grid, a2: Array, c2: Array, keys: UIntArray, counter: int
) -> PairKinematics:
    """Return the pairs with both k smeared: Gaussian in k, (sigma_k/k)^2 = a2 + c2 pt^2.

    Parameters
    ----------
    pairs : PairKinematics
        n of them, GeV.
    grid : Grid
        With the eta bins.
    a2, c2 : array, shape (n_eta,)
        Resolution, without unit and in 1/GeV^2.
    keys : uint array, shape (n,)
        Of the events.
    counter : int
        Number of the first random number that is used.

    Returns
    -------
    PairKinematics
        With another pt, in GeV.
    """
    n = len(pairs)
    pt_plus, pt_minus = np.empty(n), np.empty(n)
    _smear(
        pairs.pt_plus,
        pairs.eta_plus,
        pairs.pt_minus,
        pairs.eta_minus,
        np.asarray(grid.full.axes[0].edges),
        a2,
        c2,
        LEAST_VARIANCE,
        keys,
        counter,
        pt_plus,
        pt_minus,
    )
    return PairKinematics(
        pt_plus, pairs.eta_plus, pairs.phi_plus, pt_minus, pairs.eta_minus, pairs.phi_minus
    )


@numba.njit(cache=True, nogil=True)
def _scatter(row, value, edges, weight, unit, counts, sumw, sumw2):  # type: ignore[no-untyped-def]
    per_width = (len(edges) - 1) / (edges[len(edges) - 1] - edges[0])
    for i in range(len(row)):
        if row[i] < 0:
            continue
        b = bin_of(value[i], edges, per_width)
        if b < 0:
            continue
        if unit:
            counts[row[i], b] += 1
        else:
            sumw[row[i], b] += weight[i]
            sumw2[row[i], b] += weight[i] * weight[i]


@numba.njit(cache=True, nogil=True)
def _scatter_known(row, bins, value, weight, unit, counts, sumw, sumw2, total, moment):  # type: ignore[no-untyped-def]
    for i in range(len(row)):
        b = bins[i]
        if row[i] < 0 or b < 0:
            continue
        w = weight[i]
        if unit:
            counts[row[i], b] += 1
        else:
            sumw[row[i], b] += w
            sumw2[row[i], b] += w * w
        total[b] += w
        moment[b] += w * value[i]


def bins_of(values: Array, edges: Array) -> IntArray:
    """Return the bin of each value between uneven edges.

    Parameters
    ----------
    values : array, shape (n,)
        In the unit of the edges.
    edges : array, shape (bins + 1,)
        Ascending.

    Returns
    -------
    int array, shape (n,)
        -1 outside, and for NaN.
    """
    found = np.searchsorted(edges, values, side="right") - 1
    found[(found == len(edges) - 1) | (values != values)] = -1
    return found


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
        """Return a histogram without entries.

        Parameters
        ----------
        rows : int
            Number of rows.
        edges : array, shape (bins + 1,)
            Ascending, about even.
        unit : bool
            Whether all weights are 1.

        Returns
        -------
        Histogram
            Zeros.
        """
        shape, none = (rows, len(edges) - 1), (0, 0)
        return cls(
            edges,
            np.zeros(shape if unit else none, dtype=np.int32),  # of one chunk
            np.zeros(none if unit else shape),
            np.zeros(none if unit else shape),
            unit,
        )

    def fill(self, row: IntArray, value: Array, weight: Array) -> None:
        """Add entries, those that lie in a row (-1: none) and a bin; bins are about even.

        Parameters
        ----------
        row : int array, shape (n,)
            -1: in no row.
        value : array, shape (n,)
            In the unit of the edges.
        weight : array, shape (n,)
            Of the entries.
        """
        _scatter(row, value, self.edges, weight, self.unit, self.counts, self.sumw, self.sumw2)

    def fill_known(
        self, row: IntArray, bins: IntArray, value: Array, weight: Array
    ) -> tuple[Array, Array]:
        """Add entries whose bins are known (`bins_of`); return their sums over all rows.

        Parameters
        ----------
        row : int array, shape (n,)
            -1: in no row.
        bins : int array, shape (n,)
            Of `bins_of`.
        value : array, shape (n,)
            In the unit of the edges.
        weight : array, shape (n,)
            Of the entries.

        Returns
        -------
        array, shape (bins,)
            Sums of the weights.
        array, shape (bins,)
            Sums of weight times value.
        """
        total, moment = np.zeros((2, len(self.edges) - 1))
        _scatter_known(
            row, bins, value, weight, self.unit, self.counts, self.sumw, self.sumw2, total, moment
        )
        return total, moment

    def sums(self, name: str) -> dict[str, AnyArray]:
        """Return the arrays that add, by name."""
        if self.unit:
            return {f"{name}/counts": self.counts}
        return {f"{name}/sumw": self.sumw, f"{name}/sumw2": self.sumw2}
