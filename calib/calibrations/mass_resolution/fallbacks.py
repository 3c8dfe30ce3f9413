"""All categories of one set of events: fits, gates, and what a category falls back on."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from calib.arrays import Array
from calib.categories import Categories
from calib.gates import Candidate, Limits, judge, neighbour_status, own_status
from calib.results import Status

from .fits import CategoryFit, Fitter, ring_factors
from .settings import Settings


@dataclass(frozen=True)
class Published:
    """The value of one category that goes out, and why."""

    fit: CategoryFit
    own: Status
    status: Status
    factor: float
    factor_error: float
    held_at: str
    reason: str


@dataclass(frozen=True)
class FitSet:
    """All fits of one set of events with one model."""

    model: str
    log_rings: Array
    categories: tuple[CategoryFit, ...]
    parents: Mapping[str, CategoryFit]
    published: tuple[Published, ...]


def rings_of(categories: Categories) -> list[tuple[int, int]]:
    """Return the rings of the leading and the other muon of each category."""
    return [(b[1], b[2]) for b in (categories.bins(c) for c in range(len(categories)))]


def parents_of(categories: Categories) -> list[tuple[str, str]]:
    """Return the names of the merged categories that each falls back on, nearest first."""
    letters = categories.axes[1].labels
    return [(f"all_{letters[x]}{letters[y]}", "all") for x, y in rings_of(categories)]


def neighbours_of(categories: Categories) -> list[list[int]]:
    """Return the categories with the same two rings, in either order, at any pt."""
    rings = rings_of(categories)
    return [
        [d for d, other in enumerate(rings) if d != c and sorted(other) == sorted(pair)]
        for c, pair in enumerate(rings)
    ]


def fit_set(fitter: Fitter, categories: Categories, settings: Settings, limits: Limits) -> FitSet:
    """Return fits, gates and published values of all categories."""
    rings = rings_of(categories)
    n_rings = len(settings.abs_eta) - 1
    log_rings = np.zeros(n_rings)
    if fitter.model in ("embedded", "simulation"):
        log_rings = ring_factors(fitter, rings, n_rings)
    fits = [fitter.category(name, [c], log_rings) for c, name in enumerate(categories.names)]
    members: dict[str, list[int]] = {}
    for c, names in enumerate(parents_of(categories)):
        for name in names:
            members.setdefault(name, []).append(c)
    parents = {
        name: fitter.category(name, rows, log_rings, "merged") for name, rows in members.items()
    }
    verdicts = judge([f.candidate() for f in fits], neighbours_of(categories), limits)
    published = tuple(
        publish_one(f, own, reason, names, parents, limits)
        for f, (own, reason), names in zip(fits, verdicts, parents_of(categories), strict=True)
    )
    return FitSet(fitter.model, log_rings, tuple(fits), parents, published)


def publish_one(
    fit: CategoryFit,
    own: Status,
    reason: str,
    parents: Sequence[str],
    merged: Mapping[str, CategoryFit],
    limits: Limits,
) -> Published:
    """Return a category's own value where it passed, else that of its nearest good parent."""
    if own is Status.OK:
        return Published(fit, own, own, fit.factor, fit.factor_error, "", "")
    for name in parents:
        parent = merged[name]
        if own_status(parent.candidate(), limits)[0] is Status.OK:
            status = Status.MERGED if own is Status.TOO_FEW_EVENTS else Status.HELD
            return Published(fit, own, status, parent.factor, parent.factor_error, name, reason)
    return Published(fit, own, own, float("nan"), float("nan"), "", reason)


def limits_of(settings: Settings, share: float = 1.0) -> Limits:
    """Return the gates' thresholds; ``share`` of the events for a part of the sample."""
    gates = settings.gates
    return Limits(
        gates.min_events * share,
        gates.relative_error / share**0.5,
        gates.chi2_probability,
        gates.neighbours,
        gates.neighbour_spread,
        gates.factor_range,
    )


def judge_one(
    candidate: Candidate, neighbours: Sequence[Candidate], limits: Limits
) -> tuple[Status, str]:
    status, reason = own_status(candidate, limits)
    if status is not Status.OK:
        return status, reason
    good = [n for n in neighbours if own_status(n, limits)[0] is Status.OK]
    return neighbour_status(candidate, good, limits)
