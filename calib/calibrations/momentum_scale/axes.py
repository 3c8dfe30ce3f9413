"""The mass against eta, phi and pt of one muon: a look along axes that are not the categories'."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from calib.arrays import AnyArray, Array, IntArray
from calib.pairs import Pairs

from .collect import Copy, has_unit_weights, kinematics
from .grid import Grid
from .place import Histogram, PairKinematics, Placed, bins_of, place
from .settings import Settings

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
    """Return the edges of each variable."""
    eta = np.asarray(settings.eta)
    every = -(-settings.n_eta // MOST_ETA)
    return {"eta": np.append(eta[:-1:every], eta[-1]), "phi": PHI, "pt": PT[resonance]}


def rows(settings: Settings, resonance: str) -> list[Row]:
    """Return what each row of the sums is, in order."""
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
    """Return mass histograms along the axes, before and after the corrections."""
    n, muons = len(rows(settings, grid.resonance)), kinematics(pairs)
    sums: dict[str, AnyArray] = {}
    for name, applied in (("before", steps[:0]), ("after", steps)):
        placed = place(muons, grid, applied)
        histogram = Histogram.empty(n, grid.mass_edges, has_unit_weights(pairs.weight))
        for row in _rows_of(placed, muons, settings, grid.resonance):
            histogram.fill(row, placed.mass, pairs.weight)
        sums |= histogram.sums(f"axes/{name}")
    return sums


def reference(
    copies: Iterator[Copy], grid: Grid, settings: Settings, prefix: str, unit: bool
) -> dict[str, AnyArray]:
    """Return mass histograms of smeared copies along the axes, and their templates."""
    n = len(rows(settings, grid.resonance))
    histogram = Histogram.empty(n, grid.mass_edges, unit)
    template = Histogram.empty(n, grid.gen_edges, unit)
    nothing = np.zeros((0, 3, settings.n_eta))
    for muons, gen, weight in copies:
        placed = place(muons, grid, nothing)
        bins = bins_of(gen, grid.gen_edges)
        for row in _rows_of(placed, muons, settings, grid.resonance):
            histogram.fill(row, placed.mass, weight)
            template.fill_known(row, bins, gen, weight)
    return {**histogram.sums(f"{prefix}/mass"), **template.sums(f"{prefix}/template")}
