"""From the sums to 36 factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calib.arrays import AnyArray, Array
from calib.calibrations.base import Edits
from calib.categories import Categories
from calib.edits import require_known
from calib.gates import Limits
from calib.histograms import Sums
from calib.results import Reduction

from . import tables
from .collect import unit_of
from .edits import EDITABLE, edited_settings
from .fallbacks import (
    FitSet,
    Published,
    fit_set,
    judge_one,
    limits_of,
    neighbours_of,
    parents_of,
    publish_one,
    rings_of,
)
from .fits import Fitter, observed
from .generated import Shapes, shapes
from .peaks import Templates, prepare
from .settings import Settings


@dataclass(frozen=True)
class Input:
    """What the reduction starts from: the sums of the target and the templates by model."""

    sums: Sums
    simulation: Sums | None
    sample: str
    resonance: str
    categories: Categories
    settings: Settings
    seed: int = 1

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

    def made_from(self) -> str:
        """Return what templates are made from: the simulation where there is one."""
        return "embedded" if self.simulation is None else "simulation"

    def has(self, model: str) -> bool:
        """Return whether the sums are there that a model needs."""
        source = self.sums if self.simulation is None else self.simulation
        return {
            "embedded": "embedded/template" in self.sums,
            "simulation": self.simulation is not None,
            "kernel": "kernel/counts" in source,
        }.get(model, True)

    def shapes(self, parts: Sequence[int]) -> Shapes:
        """Return the generated mass of each category, for some halves."""
        if self.simulation is not None:
            return shapes(self.simulation, [slice(0, len(self.categories))])
        return shapes(self.sums, self.rows(parts))

    def fitter(self, model: str, parts: Sequence[int], settings: Settings | None = None) -> Fitter:
        """Return what fits the events of some halves with a model."""
        return Fitter(
            observed(self.sums, self.rows(parts)),
            self.templates(model, parts),
            model,
            settings or self.settings,
            self.resonance,
            self.shapes(parts) if model == "kernel" else None,
        )


def reduce(start: Input, model: str, compare: Sequence[str], edits: Edits) -> Reduction:
    """Return fits, factors, checks and pictures; what the closure needs is in ``state``.

    The rings' factors, the merged categories and the gates of all others are those without
    edits: an edit changes its own category and nothing else.
    """
    categories, settings = start.categories, start.settings
    require_known(edits, categories.names, EDITABLE)
    own = {name: edited_settings(settings, name, changes) for name, changes in edits.items()}
    limits = limits_of(settings)
    main, published = _with_edits(start, model, (0, 1), limits, own)
    halves = [_with_edits(start, model, (part,), limits_of(settings, 0.5), own) for part in (0, 1)]
    others = {
        other: fit_set(start.fitter(other, (0, 1)), categories, settings, limits)
        for other in compare
        if other != model and start.has(other)
    }
    curves = [p.fit.curve for p in published if p.fit.curve is not None]
    curves += [f.curve for f in main.parents.values() if f.curve is not None]
    curves += [
        replace(f.curve, group=other.model)
        for other in others.values()
        for f in other.categories
        if f.curve is not None
    ]
    found = {
        "factors": tables.factors(published, edits),
        "merged": tables.merged(main.parents.values(), limits),
        "models": tables.models(published, model, others),
    }
    if model in ("embedded", "simulation") and "breit_wigner" in others:
        found["breit_wigner_bias"] = tables.breit_wigner_bias(
            start.fitter(model, (0, 1)), start.fitter("breit_wigner", (0, 1)), main
        )
    fits, checks = tables.fits(start.sample, published), tables.checks(published, settings)
    if model == "kernel":
        opinion = start.fitter(model, (0, 1)).second_opinion(categories.names, start.seed)
        fits = fits.merge(opinion, on="category", how="left")
        checks.append(tables.agreement(opinion))
    return Reduction(
        fits,
        found,
        {"covariance": tables.covariance(published)},
        tuple(curves),
        tuple(checks),
        # the kernel model has no selection of its own in the bins of the closure
        _state(published, main, halves, start.made_from() if model == "kernel" else model),
    )


def _with_edits(
    start: Input,
    model: str,
    parts: Sequence[int],
    limits: Limits,
    own: Mapping[str, Settings],
) -> tuple[FitSet, list[Published]]:
    """Return the fits of some halves without edits, and what is published with them."""
    categories = start.categories
    main = fit_set(start.fitter(model, parts), categories, start.settings, limits)
    published = list(main.published)
    for name, settings in own.items():
        c = categories.names.index(name)
        found = start.fitter(model, parts, settings).category(name, [c], main.log_rings)
        neighbours = [main.categories[d].candidate() for d in neighbours_of(categories)[c]]
        status, reason = judge_one(found.candidate(), neighbours, limits)
        published[c] = publish_one(
            found, status, reason, parents_of(categories)[c], main.parents, limits
        )
    return main, published


def _state(
    published: Sequence[Published],
    main: FitSet,
    halves: Sequence[tuple[FitSet, Sequence[Published]]],
    closure_model: str,
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
        "half_factor": np.array([[p.factor for p in h.published] for h, _ in halves]),
        "half_factor_err": np.array([[p.factor_error for p in h.published] for h, _ in halves]),
        "half_factor_edited": np.array([[p.factor for p in now] for _, now in halves]),
        "half_log_rings": np.array([h.log_rings for h, _ in halves]),
        "half_stretch": np.array([stretch(h) for h, _ in halves]),
        "model": np.array(main.model),
        "closure_model": np.array(closure_model),
    }
