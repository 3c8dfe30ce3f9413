"""The mass against eta, phi and pt of one muon: a look along axes that are not the categories'."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from calib.calibrations.momentum_scale.settings import Settings
from calib.calibrations.momentum_scale.sums.collect import Copy, has_unit_weights, kinematics
from calib.calibrations.momentum_scale.sums.grid import Grid
from calib.calibrations.momentum_scale.sums.inner_loops import (
    Histogram,
    PairKinematics,
    Placed,
    bins_of,
    place,
)
from calib.events.pairs import Pairs
from calib.events.random import half
from calib.types import AnyArray, Array, IntArray

CHARGES = ("plus", "minus")
PHI = np.linspace(-np.pi, np.pi, 13)
PT = {
    "jpsi": np.array([4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 13.0, 20.0, 200.0]),
    "upsilon": np.array([4.0, 5.0, 6.0, 7.0, 8.0, 10.0, 13.0, 20.0, 200.0]),
    "z": np.array([20.0, 30.0, 35.0, 40.0, 43.0, 46.0, 50.0, 60.0, 300.0]),
}
MOST_ETA = 24


@dataclass(frozen=True)
class Row:
    """One bin of one variable of the muon of one charge."""

    variable: str
    charge: str
    low: float
    high: float


def edges_of(settings: Settings, resonance: str) -> dict[str, Array]:
    """Return the edges of each variable.

    Parameters
    ----------
    settings : Settings
        Edges of the eta bins.
    resonance : str
        ``jpsi``, ``upsilon`` or ``z``.

    Returns
    -------
    dict of str to array
        ``eta``, ``phi`` (rad), ``pt`` (GeV).
    """
    eta = np.asarray(settings.eta)
    every = -(-settings.n_eta // MOST_ETA)
    return {"eta": np.append(eta[:-1:every], eta[-1]), "phi": PHI, "pt": PT[resonance]}


def rows(settings: Settings, resonance: str) -> list[Row]:
    """Return what each row of the sums is, in order.

    Parameters
    ----------
    settings : Settings
        Edges of the eta bins.
    resonance : str
        ``jpsi``, ``upsilon`` or ``z``.

    Returns
    -------
    list of Row
        Variable by variable, charge by charge.
    """
    return [
        Row(name, charge, float(low), float(high))
        for name, edges in edges_of(settings, resonance).items()
        for charge in CHARGES
        for low, high in zip(edges[:-1], edges[1:], strict=True)
    ]


def _rows_of(
    placed: Placed, muons: PairKinematics, settings: Settings, resonance: str
) -> Iterator[IntArray]:
    """Yield the row of each pair for each variable and charge, -1 where it has none."""
    columns = {
        "eta": (muons.eta_plus, muons.eta_minus),
        "phi": (muons.phi_plus, muons.phi_minus),
        "pt": (placed.pt_plus, placed.pt_minus),
    }
    first = 0
    for name, edges in edges_of(settings, resonance).items():
        for values in columns[name]:
            at = np.searchsorted(edges, values, side="right") - 1
            inside = (placed.category >= 0) & (at >= 0) & (at < len(edges) - 1)
            yield np.where(inside, first + at, -1)
            first += len(edges) - 1


def observed(pairs: Pairs, grid: Grid, steps: Array, settings: Settings) -> dict[str, AnyArray]:
    """Return mass histograms along the axes, before and after the corrections.

    Those after are kept by half of the events as well (``axes/half``: rows of the first half,
    then of the second), with what a change of A, e, M in each eta bin does to ln(mass):
    ``axes/moves``, shape (2 rows, 3, n_eta), sums over the entries of -d ln(mass) / d(A, e, M).

    Parameters
    ----------
    pairs : Pairs
        GeV.
    grid : Grid
        Of the resonance.
    steps : array, shape (s, 3, n_eta)
        Corrections A, e (GeV), M (1/GeV), one after the other.
    settings : Settings
        Edges of the eta bins.

    Returns
    -------
    dict of str to array
        Sums, named ``axes/...``.
    """
    n, muons = len(rows(settings, grid.resonance)), kinematics(pairs)
    unit = has_unit_weights(pairs.weight)
    sums: dict[str, AnyArray] = {}
    for name, applied in (("before", steps[:0]), ("after", steps)):
        placed = place(muons, grid, applied)
        histogram = Histogram.empty(n, grid.mass_edges, unit)
        for row in _rows_of(placed, muons, settings, grid.resonance):
            histogram.fill(row, placed.mass, pairs.weight)
        sums |= histogram.sums(f"axes/{name}")
    second = half(pairs.run, pairs.luminosityBlock, pairs.event) * n
    halves = Histogram.empty(2 * n, grid.mass_edges, unit)
    low, high = grid.mass_edges[[0, -1]]
    inside = (placed.mass >= low) & (placed.mass < high)
    moves = np.zeros((2 * n, 3, settings.n_eta))
    for row in _rows_of(placed, muons, settings, grid.resonance):
        own = np.where(row >= 0, row + second, -1)
        halves.fill(own, placed.mass, pairs.weight)
        at = np.flatnonzero((own >= 0) & inside)
        _add_moves(moves, own[at], muons, placed, at, pairs.weight[at], settings)
    return sums | halves.sums("axes/half") | {"axes/moves": moves}


def _add_moves(
    moves: Array,
    row: IntArray,
    muons: PairKinematics,
    placed: Placed,
    at: IntArray,
    weight: Array,
    settings: Settings,
) -> None:
    """Add what A, e, M of both muons do: ln(mass) falls by half of ln(k_corr / k) of each."""
    edges, n_eta = np.asarray(settings.eta), settings.n_eta
    for eta, pt, q in (
        (muons.eta_plus, placed.pt_plus, 1.0),
        (muons.eta_minus, placed.pt_minus, -1.0),
    ):
        place_in = row * n_eta + np.searchsorted(edges, eta[at], side="right") - 1
        for kind, slope in enumerate((np.ones(len(at)), -1 / pt[at], q * pt[at])):
            found = np.bincount(place_in, 0.5 * weight * slope, minlength=len(moves) * n_eta)
            moves[:, kind] += found.reshape(len(moves), n_eta)


def reference(
    copies: Iterator[Copy], grid: Grid, settings: Settings, prefix: str, unit: bool
) -> dict[str, AnyArray]:
    """Return mass histograms of smeared copies along the axes, and their templates.

    Copies of a simulated event have one generated mass: ``shared`` holds by how much the sum over
    the sources of (sum over their copies of w)^2 exceeds the sum of w^2, in bins of the template.
    All copies of a source are taken to be in the row of its first one: eta and phi are not
    smeared, and few change their bin of pt.

    Parameters
    ----------
    copies : iterator of (PairKinematics, generated mass, weight)
        Smeared, GeV.
    grid : Grid
        Of the resonance.
    settings : Settings
        Edges of the eta bins.
    prefix : str
        Beginning of the names of the sums.
    unit : bool
        Whether all weights are 1.

    Returns
    -------
    dict of str to array
        Sums.
    """
    n = len(rows(settings, grid.resonance))
    histogram = Histogram.empty(n, grid.mass_edges, unit)
    template = Histogram.empty(n, grid.gen_edges, unit)
    nothing = np.zeros((0, 3, settings.n_eta))
    known, sources = None, _Sources(n, grid)
    for muons, gen, weight in copies:
        placed = place(muons, grid, nothing)
        bins = bins_of(gen, grid.gen_edges)
        found = list(_rows_of(placed, muons, settings, grid.resonance))
        for row in found:
            histogram.fill(row, placed.mass, weight)
            template.fill_known(row, bins, gen, weight)
        if gen is not known:  # the copies of a simulated chunk have the same array of masses
            sources.finish()
            known = gen
        sources.add(found, bins, gen, weight)
    sources.finish()
    return {
        **histogram.sums(f"{prefix}/mass"),
        **template.sums(f"{prefix}/template"),
        f"{prefix}/shared": sources.shared,
    }


class _Sources:
    """Counts the copies of each source, and adds up what they share."""

    def __init__(self, n: int, grid: Grid) -> None:
        self.shared = np.zeros((n, grid.n_gen))
        self._grid = grid
        self._first: list[IntArray] = []
        self._number = np.zeros(0, dtype=np.int64)
        self._of: tuple[IntArray, Array, Array] | None = None

    def add(self, found: list[IntArray], bins: IntArray, gen: Array, weight: Array) -> None:
        """Add one copy of all sources."""
        if self._of is None:
            self._first = [row.copy() for row in found]
            self._number = np.zeros(len(bins), dtype=np.int64)
            self._of = bins, gen, weight
        for first, row in zip(self._first, found, strict=True):
            np.copyto(first, row, where=first < 0)
        self._number += found[0] >= 0  # with eta inside, what has one row has all

    def finish(self) -> None:
        """Add what the copies of the sources so far share."""
        if self._of is None:
            return
        bins, gen, weight = self._of
        more = weight**2 * (self._number * (self._number - 1))
        total = Histogram.empty(len(self.shared), self._grid.gen_edges, False)
        for row in self._first:
            total.fill_known(row, bins, gen, more)
        self.shared += total.sumw
        self._of = None
