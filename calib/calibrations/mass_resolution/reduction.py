"""From the sums to 36 factors: fits, gates, fall-backs, tables."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd

from calib.arrays import AnyArray, Array
from calib.calibrations.base import Edits
from calib.categories import Categories
from calib.config import validated
from calib.errors import InputError
from calib.gates import Candidate, Limits, judge, neighbour_status, own_status, probability
from calib.histograms import Sums
from calib.results import Check, Curve, Reduction, Status

from .collect import unit_of
from .fits import CategoryFit, Fitter, observed, ring_factors
from .peaks import Templates, prepare
from .settings import Settings

EDITABLE = ("fit.range", "fit.bins", "fit.background")
"""Settings that a single category may have of its own."""


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
    if fitter.model != "breit_wigner":
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
        gates.chi2_probability,
        gates.neighbours,
        gates.neighbour_spread,
        gates.factor_range,
    )


@dataclass(frozen=True)
class Input:
    """What the reduction starts from: the sums of the target and the templates by model."""

    sums: Sums
    simulation: Sums | None
    sample: str
    resonance: str
    categories: Categories
    settings: Settings

    def rows(self, parts: Sequence[int]) -> list[slice]:
        """Return the rows of some halves."""
        n = len(self.categories)
        return [slice(p * n, (p + 1) * n) for p in parts]

    def templates(self, model: str, parts: Sequence[int]) -> Templates | None:
        """Return the templates of a model for some halves, None where it has none."""
        n = len(self.categories)
        if model == "embedded" and "embedded/template" in self.sums:
            source, rows = self.sums, self.rows(parts)
        elif model == "simulation" and self.simulation is not None:
            source, rows = self.simulation, [slice(0, n)]
        else:
            return None
        raw: dict[str, AnyArray] = {
            name: np.asarray(sum(source[f"{model}/{name}"][block] for block in rows))
            for name in ("template", "squares", "residual")
        }
        return prepare(
            raw, rings_of(self.categories), self.settings.mass_edges, unit_of(self.resonance)
        )

    def fitter(self, model: str, parts: Sequence[int], settings: Settings | None = None) -> Fitter:
        """Return what fits the events of some halves with a model."""
        return Fitter(
            observed(self.sums, self.rows(parts)),
            self.templates(model, parts),
            model,
            settings or self.settings,
            self.resonance,
        )


def edited_settings(settings: Settings, category: str, edits: Mapping[str, Any]) -> Settings:
    """Return the settings with the edits of one category.

    Raises
    ------
    InputError
        If a key cannot be set for one category, or its value does not fit.
    """
    values = settings.model_dump()
    for key, value in edits.items():
        if key not in EDITABLE:
            raise InputError(
                f"category {category}: key {key!r} cannot be set for one category;"
                f" these can: {', '.join(EDITABLE)}"
            )
        section, name = key.split(".")
        values[section][name] = value
    return _with_bins(values, settings.step, edits, f"category {category}: settings")


def _with_bins(
    values: dict[str, Any], step: float, edits: Mapping[str, Any], where: str
) -> Settings:
    """Return settings whose fit bins are those that were collected."""
    fit = values["fit"]
    try:
        low, high = (float(x) for x in fit["range"])
    except (TypeError, ValueError):
        raise InputError(
            f"{where}: key 'fit.range': found {fit['range']!r}, expected [low, high] in GeV"
        ) from None
    bins = (high - low) / step
    if "fit.bins" in edits and edits["fit.bins"] != round(bins):
        raise InputError(
            f"{where}: key 'fit.bins': the events were collected in bins of {step:.6g} GeV,"
            f" {round(bins)} in this range; collect again for others"
        )
    if abs(bins - round(bins)) > 1e-6 or round(bins) < 10:
        raise InputError(
            f"{where}: key 'fit.range': [{low:g}, {high:g}] is not a whole number (10 or more)"
            f" of the bins of {step:.6g} GeV that were collected; move an edge"
        )
    values["fit"] = {**fit, "range": (low, high), "bins": round(bins)}
    found: Settings = validated(Settings, values, where)
    return found


def reduce(start: Input, model: str, compare: Sequence[str], edits: Edits) -> Reduction:
    """Return fits, factors, checks and pictures; what the closure needs is in ``state``."""
    categories, settings = start.categories, start.settings
    limits = limits_of(settings)
    for name in edits:
        if name not in categories.names:
            raise InputError(
                f"category {name!r} does not exist; the names are {categories.names[0]}"
                f" ... {categories.names[-1]}"
            )
    main = fit_set(start.fitter(model, (0, 1)), categories, settings, limits)
    published = list(main.published)
    for name, changes in edits.items():
        c = categories.names.index(name)
        own = edited_settings(settings, name, changes)
        found = start.fitter(model, (0, 1), own).category(name, [c], main.log_rings)
        neighbours = [main.categories[d].candidate() for d in neighbours_of(categories)[c]]
        status, reason = _judge_one(found.candidate(), neighbours, limits)
        published[c] = publish_one(
            found, status, reason, parents_of(categories)[c], main.parents, limits
        )
    halves = [
        fit_set(start.fitter(model, (part,)), categories, settings, limits_of(settings, 0.5))
        for part in (0, 1)
    ]
    others = {
        other: fit_set(start.fitter(other, (0, 1)), categories, settings, limits)
        for other in compare
        if other != model and (other == "breit_wigner" or start.templates(other, (0, 1)))
    }
    curves = [p.fit.curve for p in published if p.fit.curve is not None]
    curves += [f.curve for f in main.parents.values() if f.curve is not None]
    curves += [
        Curve(**{**vars(f.curve), "group": other.model})
        for other in others.values()
        for f in other.categories
        if f.curve is not None
    ]
    tables = {
        "factors": factors_table(published, edits),
        "merged": merged_table(main.parents.values(), limits),
        "models": models_table(published, model, others),
    }
    if model != "breit_wigner" and "breit_wigner" in others:
        tables["breit_wigner_bias"] = breit_wigner_bias(start, main)
    return Reduction(
        fits_table(start.sample, published),
        tables,
        {},
        tuple(curves),
        tuple(checks(published, settings, start.resonance)),
        _state(published, main, halves, edits),
    )


def _judge_one(
    candidate: Candidate, neighbours: Sequence[Candidate], limits: Limits
) -> tuple[Status, str]:
    status, reason = own_status(candidate, limits)
    if status is not Status.OK:
        return status, reason
    good = [n for n in neighbours if own_status(n, limits)[0] is Status.OK]
    return neighbour_status(candidate, good, limits)


def _state(
    published: Sequence[Published], main: FitSet, halves: Sequence[FitSet], edits: Edits
) -> dict[str, AnyArray]:
    def stretch(fits: FitSet) -> Array:
        return np.array(
            [
                f.result["factor"] if f.result and "factor" in f.result.names else 1.0
                for f in fits.categories
            ]
        )

    return {
        "factor": np.array([p.factor for p in published]),
        "factor_err": np.array([p.factor_error for p in published]),
        "status": np.array([p.status.code for p in published]),
        "log_rings": main.log_rings,
        "half_factor": np.array([[p.factor for p in h.published] for h in halves]),
        "half_factor_err": np.array([[p.factor_error for p in h.published] for h in halves]),
        "half_log_rings": np.array([h.log_rings for h in halves]),
        "half_stretch": np.array([stretch(h) for h in halves]),
        "model": np.array(main.model),
    }


def fits_table(sample: str, published: Sequence[Published]) -> pd.DataFrame:
    """Return one row per category with everything that its fit says."""
    rows = []
    for p in published:
        r = p.fit.result
        row: dict[str, Any] = {
            "sample": sample,
            "category": p.fit.name,
            "n_events": p.fit.n_events,
            "sigma": p.fit.sigma,
            "sigma_err": p.fit.sigma_error,
            "mass": p.fit.mass,
            "mass_err": p.fit.mass_error,
        }
        for name in ("background", "slope"):
            row[name] = r[name] if r else float("nan")
            row[f"{name}_err"] = r.error(name) if r else float("nan")
        row |= {
            "nll": r.nll if r else float("nan"),
            "edm": r.edm if r else float("nan"),
            "chi2": r.chi2 if r else float("nan"),
            "ndf": r.ndf if r else 0,
            "chi2_probability": probability(r.chi2, r.ndf) if r else float("nan"),
            "status": p.own.value,
            "model": p.fit.model,
            "step": r.step if r else "",
            "reason": p.reason,
        }
        rows.append(row)
    return pd.DataFrame(rows)


def factors_table(published: Sequence[Published], edits: Edits) -> pd.DataFrame:
    """Return factors.csv: the columns of the contract, then why each value is what it is."""
    return pd.DataFrame(
        [
            {
                "category": p.fit.name,
                "n_events": p.fit.n_events,
                "sigma_fit": p.fit.sigma,
                "sigma_fit_err": p.fit.sigma_error,
                "median_predicted": p.fit.median,
                "factor": p.factor,
                "factor_err": p.factor_error,
                "chi2": p.fit.result.chi2 if p.fit.result else float("nan"),
                "ndf": p.fit.result.ndf if p.fit.result else 0,
                "status": p.status.value,
                "own_status": p.own.value,
                "own_factor": p.fit.factor,
                "own_factor_err": p.fit.factor_error,
                "held_at": p.held_at,
                "model": p.fit.model,
                "edited": "; ".join(f"{k}={v}" for k, v in edits.get(p.fit.name, {}).items()),
            }
            for p in published
        ]
    )


def merged_table(parents: Sequence[CategoryFit] | Any, limits: Limits) -> pd.DataFrame:
    """Return the merged categories that others may fall back on."""
    return pd.DataFrame(
        [
            {
                "category": f.name,
                "n_events": f.n_events,
                "sigma_fit": f.sigma,
                "sigma_fit_err": f.sigma_error,
                "median_predicted": f.median,
                "factor": f.factor,
                "factor_err": f.factor_error,
                "mass": f.mass,
                "mass_err": f.mass_error,
                "chi2": f.result.chi2 if f.result else float("nan"),
                "ndf": f.result.ndf if f.result else 0,
                "status": own_status(f.candidate(), limits)[0].value,
            }
            for f in parents
        ]
    )


def models_table(
    published: Sequence[Published], model: str, others: Mapping[str, FitSet]
) -> pd.DataFrame:
    """Return the factors of each model side by side."""
    columns: dict[str, Any] = {"category": [p.fit.name for p in published]}
    columns[model] = [p.fit.factor for p in published]
    columns[f"{model}_err"] = [p.fit.factor_error for p in published]
    for name, fits in others.items():
        columns[name] = [f.factor for f in fits.categories]
        columns[f"{name}_err"] = [f.factor_error for f in fits.categories]
    return pd.DataFrame(columns)


def breit_wigner_bias(start: Input, main: FitSet) -> pd.DataFrame:
    """Return what the Breit-Wigner model finds on the template itself, whose width is known."""
    fitter = start.fitter(main.model, (0, 1))
    assert fitter.templates is not None
    reference = start.fitter("breit_wigner", (0, 1))
    rows = []
    for c, own in enumerate(main.categories):
        if own.result is None:
            continue
        found = fitter.templates.model([c], main.log_rings, fitter.low, fitter.high)
        if found is None:
            continue
        shape = found[0].signal(own.result["factor"], 1.0) * own.n_events
        fitted = reference.shape(own.name, np.maximum(shape, 0.0))
        rows.append(
            {
                "category": own.name,
                "sigma_template": own.sigma,
                "sigma_breit_wigner": fitted.sigma,
                "bias_percent": 100 * (fitted.sigma / own.sigma - 1),
                "chi2": fitted.result.chi2 if fitted.result else float("nan"),
                "ndf": fitted.result.ndf if fitted.result else 0,
            }
        )
    return pd.DataFrame(
        rows,
        columns=[
            "category",
            "sigma_template",
            "sigma_breit_wigner",
            "bias_percent",
            "chi2",
            "ndf",
        ],
    )


def checks(published: Sequence[Published], settings: Settings, resonance: str) -> list[Check]:
    """Return the reduction's part of the verdict."""
    n = np.array([p.fit.n_events for p in published])
    usable = np.array([p.status.usable for p in published])
    held = np.array([p.status is Status.HELD for p in published])
    own = [p for p in published if p.own is Status.OK]
    total = max(float(n.sum()), 1.0)
    found = [
        Check(
            "categories_usable",
            float(usable.mean()),
            1.0,
            bool(usable.all()),
            f"{int(usable.sum())} of {len(published)} categories have a value that may be used",
        ),
        Check(
            "events_in_held_categories",
            float(n[held].sum() / total),
            settings.gates.max_held,
            bool(n[held].sum() / total <= settings.gates.max_held),
            f"{int(held.sum())} categories failed a gate and are held at a parent's value",
        ),
    ]
    values = [p.factor for p in published if np.isfinite(p.factor)]
    low, high = settings.gates.factor_range
    worst = max(values, key=lambda v: abs(np.log(v)), default=float("nan"))
    found.append(
        Check(
            "extreme_factor",
            float(worst),
            high,
            bool(values and low <= worst <= high),
            f"the factor furthest from 1, within [{low:g}, {high:g}]",
        )
    )
    if own:
        results = [c.fit.result for c in own if c.fit.result]
        p = np.array([probability(r.chi2, r.ndf) for r in results])
        least = 1 - (1 - float(p.min())) ** len(p)
        found.append(
            Check(
                "worst_chi2_probability",
                least,
                1e-4,
                least > 1e-4,
                f"probability of the worst of {len(p)} fits, given their number",
            )
        )
    return found
