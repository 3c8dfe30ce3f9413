"""Closure: factors of one half, tested on the events of the other.

In bins of the predicted *calibrated* resolution (not the categories of the derivation), and in
each category. The fitted sigma of a bin is compared with the median prediction in it. The
templates are made again for these bins, so that they carry their selection too. Both directions
are kept apart: averaged, the differences of the two halves would cancel.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numba
import numpy as np
import pandas as pd

from calib.arrays import AnyArray, Array, IntArray
from calib.closing import coverage, worst_pull
from calib.config import Sample
from calib.embedding import Generated
from calib.histograms import Fill, Sums
from calib.kinematics import predicted_mass_resolution
from calib.pairs import Pairs
from calib.random import half
from calib.results import Check, Closure, Curve, Pass, Reduction, Status

from .collect import (
    PREDICTED_EDGES,
    Selected,
    categories,
    category_of,
    cuts,
    embedded_copies,
    relative_resolution,
    simulated_muons,
    unit_of,
)
from .fits import CategoryFit, Fitter, Observed
from .peaks import prepare
from .scan import NODES, RESIDUAL_EDGES, Cuts, bin_of, place
from .settings import Settings

NAME = "closure"


def walk_of(reduction: Reduction) -> Pass:
    """Return the pass over the events that the closure needs."""
    names = ("half_factor", "half_factor_err", "half_log_rings", "half_stretch", "closure_model")
    return Pass(NAME, {name: reduction.state[name] for name in names})


def _factors(walk: Pass) -> Array:
    """Return the factor to use for events of each half: that of the other half."""
    return np.asarray(walk.values["half_factor"])[::-1]


def observed(pairs: Pairs, settings: Settings, walk: Pass) -> dict[str, Fill | AnyArray]:
    """Return mass and calibrated prediction by half, closure bin and category."""
    edges = np.asarray(settings.closure.edges)
    n, n_bins = len(categories(settings)), len(edges) - 1
    part = half(pairs.run, pairs.luminosityBlock, pairs.event)
    category = category_of(pairs, settings)
    mass = pairs.mass
    calibrated = np.where(
        category >= 0, _factors(walk)[part, category], np.nan
    ) * predicted_mass_resolution(
        mass,
        relative_resolution(pairs.leading, settings),
        relative_resolution(pairs.subleading, settings),
    )
    with np.errstate(invalid="ignore"):
        found = np.searchsorted(edges, calibrated, side="right") - 1
        inside = (calibrated >= edges[0]) & (calibrated < edges[-1])
    bins = np.where(inside, part * n_bins + found, -1)
    flat = np.where(np.isfinite(calibrated) & (category >= 0), part * n + category, -1)
    weight = pairs.weight
    number = np.linspace(-0.5, n - 0.5, n + 1)
    return {
        "resolution": Fill(bins, 2 * n_bins, mass, settings.mass_edges, weight),
        "resolution_expected": Fill(bins, 2 * n_bins, calibrated, PREDICTED_EDGES, weight),
        "composition": Fill(bins, 2 * n_bins, category.astype(np.float64), number, weight),
        "category": Fill(flat, 2 * n, mass, settings.mass_edges, weight),
        "category_expected": Fill(flat, 2 * n, calibrated, PREDICTED_EDGES, weight),
    }


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
    predicted,
    weight,
    part,
    source,
    nodes,
    unit,
    ring_factor,
    stretch,
    factor,
    closure_edges,
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
    rings = len(ring_edges) - 1
    n_bins = len(closure_edges) - 1
    rows = n_bins + factor.shape[1]
    for i in range(len(pt1)):
        ring1, ring2 = bin_of(abs(eta1[i]), ring_edges), bin_of(abs(eta2[i]), ring_edges)
        if ring1 < 0 or ring2 < 0 or source[i] < 0:
            continue
        h = part[i]
        common = stretch[h, source[i]]
        for a in range(len(nodes)):
            u1 = max(1.0 + nodes[a] * common * ring_factor[h, ring1] * relative1[i], 1e-3)
            u2 = max(1.0 + nodes[a] * common * ring_factor[h, ring2] * relative2[i], 1e-3)
            mass = base[i] / (u1 * u2) ** 0.5
            bin_mass = int((mass - mass_low) / mass_step)
            if mass < mass_low or bin_mass >= n_mass:
                continue
            category = place(
                pt1[i] / u1, pt2[i] / u2, ring1, ring2, rings, pt_edges, leading_pt, subleading_pt
            )
            if category < 0 or not factor[h, category] > 0:
                continue
            step = ((mass - gen[i]) / unit - residual_low) / residual_step
            bin_residual = min(max(int(step), 0), n_residual - 1)
            found = bin_of(factor[h, category] * predicted[i] * mass, closure_edges)
            for row in (found, n_bins + category):
                if row < 0:
                    continue
                at = h * rows + row
                template[at, a, bin_mass] += weight[i]
                squares[at, bin_mass] += weight[i] * weight[i]
                residual[at, a, bin_residual] += weight[i]


def templates(
    pairs: Pairs,
    settings: Settings,
    selected: Selected,
    sample: Sample,
    seed: int,
    walk: Pass,
) -> dict[str, AnyArray]:
    """Return templates of the closure bins and categories, by half, on a grid of one factor."""
    n_rows = 2 * (len(settings.closure.edges) - 1 + len(categories(settings)))
    sums = {
        "template": np.zeros((n_rows, len(NODES), len(settings.mass_edges) - 1)),
        "squares": np.zeros((n_rows, len(settings.mass_edges) - 1)),
        "residual": np.zeros((n_rows, len(NODES), len(RESIDUAL_EDGES) - 1)),
    }
    unit = unit_of(sample.resonance)
    limits = cuts(settings, selected)
    if str(walk.values["closure_model"]) == "embedded":
        source, copies = embedded_copies(pairs, settings, sample.resonance, seed, walk)
        part = half(source.run, source.luminosityBlock, source.event)
        for made in copies:
            _add(sums, source, made, made.mass, part, settings, limits, unit, walk)
    else:
        source, made, base = simulated_muons(pairs, settings)
        for number in (0, 1):
            both = np.full(len(source), number, dtype=np.int64)
            _add(sums, source, made, base, both, settings, limits, unit, walk)
    return {f"closure/{name}": values for name, values in sums.items()}


def _add(
    sums: dict[str, Array],
    source: Pairs,
    made: Generated,
    base: Array,
    part: IntArray,
    settings: Settings,
    limits: Cuts,
    unit: float,
    walk: Pass,
) -> None:
    edges = limits.mass_edges
    predicted = 0.5 * np.hypot(
        relative_resolution(source.leading, settings),
        relative_resolution(source.subleading, settings),
    )
    _scan(
        made.pt_first,
        made.pt_second,
        made.eta_first,
        made.eta_second,
        base,
        made.mass,
        made.relative_first,
        made.relative_second,
        predicted,
        source.weight,
        part,
        category_of(source, settings),
        NODES,
        unit,
        np.exp(np.asarray(walk.values["half_log_rings"])),
        np.asarray(walk.values["half_stretch"]),
        _factors(walk),
        np.asarray(settings.closure.edges),
        limits.leading_pt,
        limits.subleading_pt,
        limits.pt_edges,
        limits.ring_edges,
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


def evaluate(
    target: Sums,
    made: Sums | None,
    reduction: Reduction,
    settings: Settings,
    resonance: str,
) -> Closure:
    """Return the table of pulls, and the number that the verdict uses."""
    names = categories(settings).names
    edges = settings.closure.edges
    bins = [f"{low:g}-{high:g}" for low, high in zip(edges[:-1], edges[1:], strict=True)]
    rows: list[dict[str, Any]] = []
    curves: list[Curve] = []
    model = str(reduction.state["closure_model"])
    n_rows = len(bins) + len(names)
    data = _observed(target, len(bins), len(names))
    grid = None
    if made is not None and "closure/template" in made:
        grid = prepare(
            _on_diagonal(made), [(0, 0)] * (2 * n_rows), settings.mass_edges, unit_of(resonance)
        )
    fitter = Fitter(data, grid, model, settings, resonance)
    used = np.asarray(reduction.state["half_factor"])[::-1]
    used_error = np.asarray(reduction.state["half_factor_err"])[::-1]
    edited = np.asarray(reduction.state["half_factor_edited"])[::-1] / used
    for part in (0, 1):
        for row in range(n_rows):
            kind = "resolution" if row < len(bins) else "category"
            name = bins[row] if kind == "resolution" else names[row - len(bins)]
            at = part * n_rows + row
            found = fitter.category(f"{name}, half {part}", [at], np.zeros(1), "closure")
            if kind == "resolution":
                share = np.maximum(target["composition/sumw"][part * len(bins) + row], 0.0)
            else:
                share = np.eye(len(names))[row - len(bins)]
            relative = _factor_error(share, used[part], used_error[part])
            # within a category the factor is one number: an edit needs no events
            scale = 1.0 if kind == "resolution" else float(edited[part][row - len(bins)])
            rows.append(_row(name, kind, part, found, relative, scale, settings))
            if found.curve is not None and kind == "resolution":
                curves.append(found.curve)
    table = pd.DataFrame(rows)
    return Closure(table, tuple(_checks(table, settings)), tuple(curves))


def _factor_error(share: Array, factor: Array, error: Array) -> float:
    """Return the relative error of the factors that a bin's events were calibrated with."""
    known = (share > 0) & np.isfinite(factor) & np.isfinite(error)
    if not known.any():
        return 0.0
    part = share[known] / share[known].sum()
    return float(np.sqrt(np.sum((part * error[known] / factor[known]) ** 2)))


def _row(
    name: str,
    kind: str,
    part: int,
    found: CategoryFit,
    relative: float,
    scale: float,
    settings: Settings,
) -> dict[str, Any]:
    expected, fitted = found.median * scale, found.sigma
    status = found.status
    if found.n_events < settings.closure.min_events:
        status = Status.TOO_FEW_EVENTS
    elif status is Status.OK and found.candidate().at_limit:
        status = Status.AT_LIMIT
    tested = status in (Status.OK, Status.AT_LIMIT)
    error = float("nan")
    if tested:
        error = float(
            np.sqrt(
                found.sigma_error**2
                + found.median_error**2
                + (expected * relative) ** 2
                + (expected * settings.closure.tolerance) ** 2
            )
        )
    return {
        "bin": name,
        "expected": expected,
        "fitted": fitted if tested else float("nan"),
        "error": error,
        "pull": (fitted - expected) / error if tested else float("nan"),
        "status": status.value,
        "kind": kind,
        "half": part,
        "n_events": found.n_events,
        "chi2": found.result.chi2 if found.result else float("nan"),
        "ndf": found.result.ndf if found.result else 0,
    }


def _checks(table: pd.DataFrame, settings: Settings) -> list[Check]:
    worst = worst_pull(table, settings.closure.probability)
    bins = (table["kind"] == "resolution").to_numpy()
    tested = np.isfinite(table["pull"].to_numpy(dtype=float))
    if not tested.any():
        return [worst]
    text = (
        f"share of the events in the {int((bins & tested).sum())} bins of resolution, of"
        f" {int(bins.sum())} in both halves, with at least {settings.closure.min_events}"
    )
    return [coverage(table, bins, settings.closure.coverage, text), worst]


def _observed(sums: Mapping[str, AnyArray], n_bins: int, n_categories: int) -> Observed:
    """Return resolution bins and categories of each half, one below the other."""

    def stacked(kind: str, what: str) -> Array:
        parts = []
        for part in (0, 1):
            for name, n in (("resolution", n_bins), ("category", n_categories)):
                parts.append(sums[f"{name}{kind}/{what}"][part * n : (part + 1) * n])
        return np.concatenate(parts).astype(np.float64)

    counts = stacked("", "sumw")
    return Observed(
        counts,
        stacked("", "sumw2"),
        stacked("_expected", "sumw"),
        stacked("_expected", "sumw2"),
        stacked("", "counts").sum(axis=1).astype(np.int64),
        np.full((len(counts), 2), 0.5),
    )


def _on_diagonal(sums: Sums) -> dict[str, AnyArray]:
    """Return the templates of one factor as those of two equal ones."""
    n = np.arange(len(NODES))
    grid: dict[str, AnyArray] = {"squares": sums["closure/squares"]}
    for name in ("template", "residual"):
        values = sums[f"closure/{name}"]
        full = np.zeros((len(values), len(n), len(n), values.shape[-1]))
        full[:, n, n] = values
        grid[name] = full
    return grid
