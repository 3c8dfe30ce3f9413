"""Rows of the closure: which bins of which kinds the events and the made pairs fall in.

Each kind is one way to divide the events; an event has one row in each. The categories of the
derivation are one kind, the calibrated resolution is another, and the rest are axes that are not
those of the categories: fine |eta| of both muons, fine leading pt, phi, the period of the run.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import NamedTuple

import numba
import numpy as np

from calib.calibrations.mass_resolution.settings import Settings
from calib.calibrations.mass_resolution.widths.muons import MuonFactors
from calib.events.histograms import Fill
from calib.events.pairs import Pairs
from calib.events.random import half
from calib.physics.embedding import Generated
from calib.results import Pass
from calib.types import AnyArray, Array, IntArray

from .collect import (
    N_RUN_BINS,
    PREDICTED_EDGES,
    RUN_STEP,
    MadeCuts,
    categories,
    category_of,
    cuts,
    embedded_copies,
    relative_resolution,
    simulated_muons,
    unit_of,
    variations_of,
    varied,
)
from .template_grid import (
    MIDDLE,
    NODES,
    RESIDUAL_EDGES,
    bin_of,
    coarse_bins,
    count_pairs,
    group_of,
    place,
)

NAME = "closure"

BLOCK = 100_000
"""Pairs that are embedded at a time; the places of all their copies are kept until they are
counted."""

MOVING = ("resolution", "category", "leading_pt")
"""Kinds whose row depends on the smeared muons; the others are known before."""
FIXED = ("abs_eta", "phi", "period")
MUON_KINDS = ("resolution", "leading_pt", "abs_eta")
"""Kinds that the factors of muons are tested in."""


@dataclass(frozen=True)
class Kinds:
    """The kinds of rows, one after the other in one array."""

    labels: Mapping[str, tuple[str, ...]]

    def __len__(self) -> int:
        return sum(len(names) for names in self.labels.values())

    def first(self, kind: str) -> int:
        """Return the number of the first row of a kind; -1 where there is no such kind."""
        if kind not in self.labels:
            return -1
        names = list(self.labels)
        return sum(len(self.labels[k]) for k in names[: names.index(kind)])


def kinds_of(settings: Settings, periods: Array, muons: bool) -> Kinds:
    """Return the kinds of rows that the factors of categories, or of muons, are tested in.

    Parameters
    ----------
    settings : Settings
        Edges of the closure.
    periods : array, shape (periods + 1,)
        Runs, [first, end).
    muons : bool
        Whether it is the factors of muons that are tested: then some kinds are left out.

    Returns
    -------
    Kinds
        Labels of the rows of each kind.
    """

    def between(edges: AnyArray) -> tuple[str, ...]:
        return tuple(f"{a:g}-{b:g}" for a, b in zip(edges[:-1], edges[1:], strict=True))

    eta = between(np.asarray(settings.closure.abs_eta))
    pairs = tuple(f"{a} {b}" for i, a in enumerate(eta) for b in eta[i:])
    found = {
        "resolution": between(np.asarray(settings.closure.edges)),
        "category": categories(settings).names,
        "leading_pt": between(np.asarray(settings.closure.leading_pt)),
        "abs_eta": pairs,
        "phi": between(np.round(phi_edges(settings), 2)),
        "period": tuple(f"{a}-{b - 1}" for a, b in zip(periods[:-1], periods[1:], strict=True)),
    }
    return Kinds({k: v for k, v in found.items() if not muons or k in MUON_KINDS})


def phi_edges(settings: Settings) -> Array:
    """Return the edges of the bins of phi of the leading muon."""
    return np.linspace(-np.pi, np.pi, settings.closure.phi_bins + 1)


def periods_of(runs: IntArray, n: int) -> IntArray:
    """Return the edges of up to n periods of runs with about as many events, [first, end).

    Parameters
    ----------
    runs : int array
        Events by run, in bins of ``RUN_STEP``.
    n : int
        How many at most.

    Returns
    -------
    int array, shape (periods + 1,)
        Runs.
    """
    total = np.cumsum(runs)
    if total[-1] == 0:
        return np.array([0, N_RUN_BINS * RUN_STEP], dtype=np.int64)
    inner = np.searchsorted(total, total[-1] * np.arange(1, n) / n) + 1
    filled = np.flatnonzero(runs)
    edges = np.unique(np.concatenate([[filled[0]], inner, [filled[-1] + 1]]))
    return np.asarray(edges * RUN_STEP, dtype=np.int64)


def fixed_rows(pairs: Pairs, settings: Settings, periods: Array, kinds: Kinds) -> IntArray:
    """Return the rows of the kinds that do not depend on pt.

    Parameters
    ----------
    pairs : Pairs, length n
        GeV.
    settings : Settings
        Edges of the closure.
    periods : array, shape (periods + 1,)
        Runs, [first, end).
    kinds : Kinds
        Where the rows of each kind begin.

    Returns
    -------
    int array, shape (len(FIXED), n)
        Row, -1 outside.
    """
    edges = np.asarray(settings.closure.abs_eta)
    found = np.full((len(FIXED), len(pairs)), -1, dtype=np.int64)
    low, high = (
        f(np.abs(pairs.leading.eta), np.abs(pairs.subleading.eta)) for f in (np.minimum, np.maximum)
    )
    i, j = (np.searchsorted(edges, x, side="right") - 1 for x in (low, high))
    n = len(edges) - 1
    inside = (low >= edges[0]) & (high < edges[-1])
    found[0] = np.where(inside, i * n - i * (i - 1) // 2 + j - i, -1)
    phi = np.searchsorted(phi_edges(settings), pairs.leading.phi, side="right") - 1
    found[1] = np.clip(phi, 0, settings.closure.phi_bins - 1)
    found[2] = np.searchsorted(periods, pairs.run.astype(np.int64), side="right") - 1
    found[2] = np.clip(found[2], 0, len(periods) - 2)
    for k, kind in enumerate(FIXED):
        first = kinds.first(kind)
        found[k] = np.where((found[k] < 0) | (first < 0), -1, first + found[k])
    return found


@dataclass(frozen=True)
class Applied:
    """The result of one half, as it is applied to the events of the other.

    Parameters
    ----------
    factor : array, shape (2, categories)
        Of each category, for the events of each half.
    stretch : array, shape (2, categories)
        Common factor of both muons relative to their rings', by category of the source.
    rings : array, shape (2, rings)
        Factor of the muons of each ring.
    muons : tuple of MuonFactors or None
        For the events of each half; instead of all those above.
    """

    factor: Array
    stretch: Array
    rings: Array
    muons: tuple[MuonFactors, MuonFactors] | None = None


def applied(walk: Pass, settings: Settings, muons: bool) -> Applied:
    """Return what is applied to each half: the result of the other.

    Parameters
    ----------
    walk : Pass
        The pass ``closure``, with what the halves gave.
    settings : Settings
        Fine edges of |eta|.
    muons : bool
        Whether the factors of muons are applied, or those of categories.

    Returns
    -------
    Applied
        By half of the events.
    """
    values = walk.values
    found = (np.asarray(values[f"half_{k}"])[::-1] for k in ("factor", "stretch", "log_rings"))
    factor, stretch, log_rings = found
    if not muons:
        return Applied(factor, stretch, np.exp(log_rings))
    edges = np.asarray(settings.muons.abs_eta)
    ring_of = np.asarray(values["ring_of"], dtype=np.int64)
    both = [
        MuonFactors(edges, ring_of, v, c, 0.0, 1)
        for v, c in zip(values["half_muons"], values["half_muons_covariance"], strict=True)
    ]
    return Applied(factor, stretch, np.exp(log_rings), (both[1], both[0]))


def muon_widths(
    pairs: Pairs, part: IntArray, use: Applied, settings: Settings
) -> tuple[Array, Array]:
    """Return the relative resolution of both muons times their own factors.

    Parameters
    ----------
    pairs : Pairs, length n
        GeV.
    part : int array, shape (n,)
        Half of each pair.
    use : Applied
        With factors of muons.
    settings : Settings
        Where the predicted resolution is from.

    Returns
    -------
    two arrays, shape (n,)
        Of the leading and the other muon, relative.
    """
    assert use.muons is not None
    out = []
    for muon in (pairs.leading, pairs.subleading):
        both = np.stack([f.at(muon.pt, muon.eta) for f in use.muons])
        out.append(relative_resolution(muon, settings) * both[part, np.arange(len(part))])
    return out[0], out[1]


def observed(
    pairs: Pairs, settings: Settings, walk: Pass, muons: bool
) -> dict[str, Fill | AnyArray]:
    """Return mass and calibrated prediction of the pairs, by half and row.

    Parameters
    ----------
    pairs : Pairs
        GeV.
    settings : Settings
        Bins.
    walk : Pass
        The pass ``closure``.
    muons : bool
        Whether the factors of muons are tested, or those of categories.

    Returns
    -------
    dict of str to Fill or array
        Masses and predictions in GeV.
    """
    periods = np.asarray(walk.values["periods"])
    kinds, use = kinds_of(settings, periods, muons), applied(walk, settings, muons)
    part = half(pairs.run, pairs.luminosityBlock, pairs.event)
    category, mass = category_of(pairs, settings), pairs.mass
    if muons:
        first, second = muon_widths(pairs, part, use, settings)
        calibrated = 0.5 * mass * np.hypot(first, second)
    else:
        first, second = (
            relative_resolution(m, settings) for m in (pairs.leading, pairs.subleading)
        )
        calibrated = 0.5 * mass * np.hypot(first, second) * use.factor[part, category]
    calibrated = np.where(category >= 0, calibrated, np.nan)
    pt = np.asarray(settings.closure.leading_pt)
    rows = {
        "resolution": _bin(calibrated, np.asarray(settings.closure.edges)),
        "category": category,
        "leading_pt": _bin(pairs.leading.pt, pt),
    }
    rows = {
        k: np.where(v < 0, -1, kinds.first(k) + v) for k, v in rows.items() if k in kinds.labels
    }
    fixed = fixed_rows(pairs, settings, periods, kinds)
    rows |= {k: fixed[i] for i, k in enumerate(FIXED) if k in kinds.labels}
    n_categories = len(categories(settings))
    number = np.linspace(-0.5, n_categories - 0.5, n_categories + 1)
    shares = muon_shares(pairs, first, second, use) if muons else {}
    found: dict[str, Fill | AnyArray] = {}
    for kind, row in rows.items():
        n, first_row = len(kinds.labels[kind]), kinds.first(kind)
        flat = np.where((row < 0) | ~np.isfinite(calibrated), -1, part * n + row - first_row)
        name = f"{prefix_of(muons)}{kind}"
        found[name] = Fill(flat, 2 * n, mass, settings.mass_edges, pairs.weight, shares)
        found[f"{name}_expected"] = Fill(flat, 2 * n, calibrated, PREDICTED_EDGES, pairs.weight)
        if not muons:
            at = category.astype(np.float64)
            found[f"{name}_composition"] = Fill(flat, 2 * n, at, number, pairs.weight)
    return found


def muon_shares(pairs: Pairs, first: Array, second: Array, use: Applied) -> dict[str, Array]:
    """Return how the prediction of each pair hangs on the values of the muons' factors.

    ``share_K`` is d ln(prediction) / d value K, from the muons' shares of the variance.

    Parameters
    ----------
    pairs : Pairs, length n
        GeV.
    first, second : array, shape (n,)
        Relative resolution of the leading and the other muon.
    use : Applied
        With factors of muons.

    Returns
    -------
    dict of str to array, shape (n,)
        ``share_0`` ...
    """
    assert use.muons is not None
    total = first**2 + second**2
    gradient = sum(
        (width**2 / total)[:, None] * use.muons[0].gradient(muon.pt, muon.eta)
        for muon, width in ((pairs.leading, first), (pairs.subleading, second))
    )
    return {f"share_{k}": column for k, column in enumerate(np.asarray(gradient).T)}


def prefix_of(muons: bool) -> str:
    """Return what the names of the sums begin with."""
    return "muons_" if muons else "rows_"


def _bin(values: Array, edges: Array) -> IntArray:
    with np.errstate(invalid="ignore"):
        found = np.searchsorted(edges, values, side="right") - 1
        return np.where((values >= edges[0]) & (values < edges[-1]), found, -1)


class _Bins(NamedTuple):
    """Cuts, axes and rows as the compiled loop sees them."""

    leading_pt: float
    subleading_pt: float
    pt_edges: Array
    ring_edges: Array
    resolution: Array
    fine_pt: Array
    first: IntArray
    n_rows: int
    mass_low: float
    per_mass: float
    n_mass: int
    per_residual: float
    residual_low: float
    wide: int


@numba.njit(cache=True, nogil=True, error_model="numpy")
def _scan(  # type: ignore[no-untyped-def]
    pt1,
    pt2,
    ring1,
    ring2,
    base,
    gen,
    width1,
    width2,
    prediction,
    weight,
    part,
    factor,
    fixed,
    nodes,
    bins,
    totals,
    places,
):
    """Fill the rows of made pairs at every node; widths and predictions are calibrated ones.

    The prediction of a pair is relative to its mass, and times the factor of its category.
    """
    template, residual = totals
    rings, n_residual = len(bins.ring_edges) - 1, residual.shape[2]
    n_fixed, rows = fixed.shape[0], np.empty(3 + fixed.shape[0], dtype=np.int64)
    coarse = (bins.n_mass + bins.wide - 1) // bins.wide
    for i in range(len(pt1)):
        for k in range(len(rows)):
            places[k, i] = -1
        if ring1[i] < 0 or ring2[i] < 0:
            continue
        for a in range(len(nodes)):
            u1 = max(1.0 + nodes[a] * width1[i], 1e-3)
            u2 = max(1.0 + nodes[a] * width2[i], 1e-3)
            mass = base[i] / (u1 * u2) ** 0.5
            bin_mass = int((mass - bins.mass_low) * bins.per_mass)
            if mass < bins.mass_low or bin_mass >= bins.n_mass:
                continue
            p1, p2 = pt1[i] / u1, pt2[i] / u2
            category = place(
                p1,
                p2,
                ring1[i],
                ring2[i],
                rings,
                bins.pt_edges,
                bins.leading_pt,
                bins.subleading_pt,
            )
            if category < 0 or not factor[part[i], category] > 0:
                continue
            expected = factor[part[i], category] * prediction[i] * mass
            rows[0] = bin_of(expected, bins.resolution)
            rows[1] = category
            rows[2] = bin_of(max(p1, p2), bins.fine_pt)
            for k in range(3):
                if rows[k] >= 0:
                    rows[k] = rows[k] + bins.first[k] if bins.first[k] >= 0 else -1
            for k in range(n_fixed):
                rows[3 + k] = fixed[k, i]
            step = int((mass - gen[i] - bins.residual_low) * bins.per_residual)
            step = min(max(step, 0), n_residual - 1)
            for k in range(len(rows)):
                if rows[k] < 0:
                    continue
                at = part[i] * bins.n_rows + rows[k]
                template[at, a, bin_mass] += weight[i]
                residual[at, a, step] += weight[i]
                if a == MIDDLE:
                    places[k, i] = at * coarse + bin_mass // bins.wide


def templates(
    pairs: Pairs,
    settings: Settings,
    selected: MadeCuts,
    resonance: str,
    seed: int,
    walk: Pass,
    muons: bool,
) -> dict[str, AnyArray]:
    """Return templates of the rows, by half, on a grid of one factor relative to the expected.

    Parameters
    ----------
    pairs : Pairs
        Sources: under the peak, or simulated.
    settings : Settings
        Bins.
    selected : MadeCuts
        Cuts that made muons must pass.
    resonance : str
        ``z`` or ``h``.
    seed : int
        Of the random numbers of the copies.
    walk : Pass
        The pass ``closure``.
    muons : bool
        Whether the factors of muons are tested, or those of categories.

    Returns
    -------
    dict of str to array
        Sums of weights.
    """
    periods = np.asarray(walk.values["periods"])
    kinds, use = kinds_of(settings, periods, muons), applied(walk, settings, muons)
    bins = _bins(settings, selected, kinds, unit_of(resonance))
    n, wide = 2 * len(kinds), coarse_bins(bins.n_mass, 2)
    totals = (
        np.zeros((n, len(NODES), bins.n_mass)),
        np.zeros((n, len(NODES), len(RESIDUAL_EDGES) - 1)),
    )
    counted = np.zeros((n, wide, wide))
    lines = np.asarray(walk.values["half_line"])[::-1]
    if not lines.shape[1]:  # a model without variations found none
        lines = np.zeros((2, len(variations_of(resonance, settings))))
    for block in np.array_split(np.arange(len(pairs)), max(1, len(pairs) // BLOCK)):
        for source, part, made in _made(pairs.take(block), settings, resonance, seed, walk):
            fixed = fixed_rows(source, settings, periods, kinds)
            width1, width2, prediction = _stretches(source, part, use, settings)
            places = []
            for m, base in made:
                weight = source.weight * line_weights(m, resonance, settings, lines[part])
                rings = [_bin(np.abs(eta), bins.ring_edges) for eta in (m.eta_first, m.eta_second)]
                places.append(np.empty((len(MOVING) + len(FIXED), len(source)), dtype=np.int32))
                _scan(
                    m.pt_first,
                    m.pt_second,
                    rings[0],
                    rings[1],
                    base,
                    m.mass,
                    m.relative_first * width1,
                    m.relative_second * width2,
                    prediction,
                    weight,
                    part,
                    np.ones_like(use.factor) if muons else use.factor,
                    fixed,
                    NODES,
                    bins,
                    totals,
                    places[-1],
                )
            for k in range(len(MOVING) + len(FIXED)):
                count_pairs(np.stack([p[k] for p in places]), source.weight, wide, counted)
    names = ("template", "residual", "pairs")
    prefix = f"closure_{prefix_of(muons)}"
    return {f"{prefix}{k}": v for k, v in zip(names, (*totals, counted), strict=True)}


def _made(
    pairs: Pairs, settings: Settings, resonance: str, seed: int, walk: Pass
) -> Iterator[tuple[Pairs, IntArray, Iterable[tuple[Generated, Array]]]]:
    """Give source pairs, their half, and the copies that are made of them.

    A simulated pair serves both halves.
    """
    if str(walk.values["closure_model"]) == "embedded":
        source, copies = embedded_copies(pairs, settings, resonance, seed, walk)
        part = half(source.run, source.luminosityBlock, source.event)
        yield source, part, ((m, m.mass) for m in copies)
    else:
        source, muons, base = simulated_muons(pairs, settings)
        for number in (0, 1):
            yield source, np.full(len(source), number, dtype=np.int64), [(muons, base)]


def line_weights(made: Generated, resonance: str, settings: Settings, values: Array) -> Array:
    """Return the weights of made pairs that give them the line shape of the data.

    Parameters
    ----------
    made : Generated
        n pairs.
    resonance : str
        ``z`` or ``h``.
    settings : Settings
        Whether muons radiate.
    values : array, shape (n, variations)
        How much of each variation the data have, for the half of each pair.

    Returns
    -------
    array, shape (n,)
        About 1, not below 0.
    """
    names = variations_of(resonance, settings)
    if not names:
        return np.ones(len(made))
    change = np.einsum("vn,nv->n", varied(made, resonance, names) - 1.0, values)
    # far in a tail the first order may go below nothing
    return np.asarray(np.maximum(1.0 + change, 0.0))


def _stretches(
    source: Pairs, part: IntArray, use: Applied, settings: Settings
) -> tuple[Array, Array, Array]:
    """Return factors on the residuals of both muons, and the prediction relative to the mass."""
    first, second = (relative_resolution(m, settings) for m in (source.leading, source.subleading))
    if use.muons is not None:
        own, other = muon_widths(source, part, use, settings)
        return own / first, other / second, 0.5 * np.hypot(own, other)
    category = category_of(source, settings)
    common = np.where(category >= 0, use.stretch[part, category], 0.0)
    edges = np.asarray(settings.abs_eta)
    out = []
    for muon in (source.leading, source.subleading):
        ring = _bin(np.abs(muon.eta), edges)
        out.append(common * np.where(ring >= 0, use.rings[part, ring], 0.0))
    return out[0], out[1], 0.5 * np.hypot(first, second)


def _bins(settings: Settings, selected: MadeCuts, kinds: Kinds, unit: float) -> _Bins:
    limits = cuts(settings, selected)
    edges = limits.mass_edges
    n = len(edges) - 1
    return _Bins(
        limits.leading_pt,
        limits.subleading_pt,
        limits.pt_edges,
        limits.ring_edges,
        np.asarray(settings.closure.edges),
        np.asarray(settings.closure.leading_pt),
        np.array([kinds.first(k) for k in MOVING], dtype=np.int64),
        len(kinds),
        float(edges[0]),
        n / float(edges[-1] - edges[0]),
        n,
        1.0 / (unit * float(RESIDUAL_EDGES[1] - RESIDUAL_EDGES[0])),
        float(RESIDUAL_EDGES[0]) * unit,
        2 * group_of(n),
    )
