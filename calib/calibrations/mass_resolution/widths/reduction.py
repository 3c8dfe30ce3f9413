"""From the sums to 36 factors."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from calib.calibrations.base import Edits
from calib.calibrations.mass_resolution.edits import EDITABLE, edited_settings
from calib.calibrations.mass_resolution.settings import Settings
from calib.calibrations.mass_resolution.sums.closure_rows import periods_of
from calib.calibrations.mass_resolution.sums.collect import unit_of
from calib.calibrations.mass_resolution.sums.generated_mass import AXIS, Shapes, shapes
from calib.edits import require_known
from calib.events.categories import Categories
from calib.events.histograms import Sums
from calib.fitting.minuit import Binned
from calib.later import pandas as pd
from calib.physics.constants import RESONANCES
from calib.results import Curve, Reduction
from calib.types import AnyArray, Array, BoolArray

from . import tables
from .curves import Curves, curves
from .fits import Fitter, Observed, observed, parabolas
from .line_check import LineFit, line_fit, simulated_radiation
from .muons import muon_factors
from .peaks import PeakShapes, Templates, prepare
from .population import CurvesAt, FitSet, Members, fit_set, judged

WITH_TEMPLATES = ("embedded", "simulation")
FLAT = 0.98
"""Least leading pt over half of the mass above which a background is not carved."""


@dataclass(frozen=True)
class ReductionInput:
    """What the reduction starts from: the sums of the target and the templates by model."""

    sums: Sums
    simulation: Sums | None
    sample: str
    resonance: str
    categories: Categories
    settings: Settings
    seed: int = 1

    @property
    def pole(self) -> float:
        """Mass of the resonance, in GeV."""
        return RESONANCES[self.resonance].masses[0]

    @property
    def n_rings(self) -> int:
        """Number of |eta| rings."""
        return len(self.settings.abs_eta) - 1

    def rows(self, parts: Sequence[int]) -> list[slice]:
        """Return the rows of some halves."""
        n = len(self.categories)
        return [slice(p * n, (p + 1) * n) for p in parts]

    def observed(self, parts: Sequence[int]) -> Observed:
        """Return what was counted in some halves."""
        return observed(self.sums, self.rows(parts))

    def templates(self, model: str, parts: Sequence[int]) -> Templates:
        """Return the templates of a model for some halves.

        Parameters
        ----------
        model : {"embedded", "simulation"}
            What they are made from.
        parts : sequence of int
            Halves.

        Returns
        -------
        Templates
            Of all categories.
        """
        source, rows = self.sums, self.rows(parts)
        if model == "simulation":
            assert self.simulation is not None
            source, rows = self.simulation, [slice(0, len(self.categories))]
        prefix = f"{model}/"
        wanted = ("template", "residual", "pairs", "varied")
        raw: dict[str, AnyArray] = {
            name[len(prefix) :]: np.asarray(sum(values[block] for block in rows))
            for name, values in source.items()
            if name.startswith(tuple(prefix + w for w in wanted))
        }
        rings = [(b[1], b[2]) for b in map(self.categories.bins, range(len(self.categories)))]
        return prepare(raw, rings, self.settings.mass_edges, unit_of(self.resonance))

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
        """Return what fits the events of some halves with a model without templates.

        Parameters
        ----------
        model : {"kernel", "breit_wigner"}
            Of the mass.
        parts : sequence of int
            Halves.
        settings : Settings, optional
            Of the fit, if other than those of the run.

        Returns
        -------
        Fitter
            Of all categories.
        """
        known = self.shapes(parts) if model == "kernel" else None
        data, settings = self.observed(parts), settings or self.settings
        return Fitter(data, model, settings, self.resonance, known)

    def members(self, parts: Sequence[int]) -> Members:
        """Return what is known of the categories beside the mass."""
        data = self.observed(parts)
        rings = tuple((b[1], b[2]) for b in map(self.categories.bins, range(len(self.categories))))
        middle, error = np.array(data.medians).T
        low = [self.settings.leading_pt[self.categories.bins(c)[0]] for c in range(len(rings))]
        return Members(
            self.categories.names,
            rings,
            data.effective,
            data.variance_share,
            data.log_pt,
            middle,
            error,
            np.array(low) >= FLAT * 0.5 * self.pole,
        )

    def curves_at(
        self,
        model: str,
        parts: Sequence[int],
        settings: Settings | None = None,
        chosen: Sequence[int] | None = None,
    ) -> CurvesAt:
        """Return what gives the likelihoods at some logarithms of rings' factors.

        Parameters
        ----------
        model : str
            Of the mass.
        parts : sequence of int
            Halves.
        settings : Settings, optional
            Of the fit, if other than those of the run.
        chosen : sequence of int, optional
            Categories; all by default.

        Returns
        -------
        CurvesAt
            Of the chosen categories.
        """
        settings = settings or self.settings
        at = list(range(len(self.categories)) if chosen is None else chosen)
        data = self.observed(parts).take(at)
        if model in WITH_TEMPLATES:
            return WithTemplates(data, self.templates(model, parts), settings, at)
        fitter = self.fitter(model, parts, settings)
        fits = [fitter.category(c) for c in at]
        return WithoutTemplates(parabolas(fits, data, data.rows(settings), self.pole))

    def fit_set(self, model: str, parts: Sequence[int]) -> FitSet:
        """Return the factors from some halves of the events with a model.

        Parameters
        ----------
        model : str
            Of the mass.
        parts : sequence of int
            Halves.

        Returns
        -------
        FitSet
            Of all categories.
        """
        return fit_set(
            model,
            self.curves_at(model, parts),
            self.members(parts),
            self.n_rings,
            self.settings.gates,
            share=len(parts) / 2,
            moving=model in WITH_TEMPLATES,
        )


@dataclass(frozen=True)
class WithTemplates:
    """Likelihoods of some categories from templates."""

    data: Observed
    templates: Templates
    settings: Settings
    at: Sequence[int]

    def curves(self, log_rings: Array) -> Curves:
        """Return the curves at the rings' factors.

        Parameters
        ----------
        log_rings : array, shape (rings,)
            Logarithms of the factors.

        Returns
        -------
        Curves
            One likelihood a category.
        """
        return curves(self.data.rows(self.settings), self._shapes(log_rings))

    def line(self, log_rings: Array, found: Curves, used: BoolArray) -> LineFit:
        """Return the line shape of the data.

        Parameters
        ----------
        log_rings : array, shape (rings,)
            Logarithms of the factors.
        found : Curves
            At these.
        used : bool array, shape (rows,)
            Rows that have a say.

        Returns
        -------
        LineFit
            From the whole window.
        """
        wide, narrow = self.data.wide_rows(self.settings), self.data.rows(self.settings)
        return line_fit(wide, narrow, self._shapes(log_rings), found, used)

    def _shapes(self, log_rings: Array) -> PeakShapes:
        return self.templates.shapes([[c] for c in self.at], log_rings)


@dataclass(frozen=True)
class WithoutTemplates:
    """Likelihoods from fits that know no rings."""

    found: Curves

    def curves(self, log_rings: Array) -> Curves:
        """Return the same curves for any factors of the rings.

        Parameters
        ----------
        log_rings : array, shape (rings,)
            Not looked at.

        Returns
        -------
        Curves
            One likelihood a category.
        """
        return self.found

    def line(self, log_rings: Array, found: Curves, used: BoolArray) -> LineFit:
        """Return a line shape without variations.

        Parameters
        ----------
        log_rings, found, used
            As of `WithTemplates.line`; not looked at.

        Returns
        -------
        LineFit
            Without variations.
        """
        return LineFit.unknown(())


def reduce(start: ReductionInput, model: str, compare: Sequence[str], edits: Edits) -> Reduction:
    """Return fits, factors, checks and pictures; what the closure needs is in ``state``.

    What categories have in common, and the gates of all others, are those without edits: an edit
    changes its own category and nothing else.

    Parameters
    ----------
    start : ReductionInput
        The sums.
    model : str
        Of the mass, whose factors are published.
    compare : sequence of str
        Further models, to stand beside it.
    edits : mapping
        Settings of single categories.

    Returns
    -------
    Reduction
        Table ``factors``, one row a category.

    Raises
    ------
    InputError
        If an edit names a category or a key that does not exist.
    """
    categories, settings = start.categories, start.settings
    require_known(edits, categories.names, EDITABLE)
    own = {name: edited_settings(settings, name, changes) for name, changes in edits.items()}
    plain = start.fit_set(model, (0, 1))
    main = _edited(start, plain, (0, 1), own)
    halves = [start.fit_set(model, (part,)) for part in (0, 1)]
    edited = [_edited(start, h, (part,), own) for part, h in enumerate(halves)]
    others = {
        other: start.fit_set(other, (0, 1))
        for other in compare
        if other != model and start.has(other)
    }
    pictures = _pictures(main, "categories")
    for other in others.values():
        pictures += _pictures(other, other.model)
    entries = start.observed((0, 1)).entries
    found = {
        "factors": tables.factors(main, entries, edits),
        "rings": tables.rings(main, settings),
        "models": tables.models(main, others),
        "line_shape": tables.line_shape(main),
    }
    if model in WITH_TEMPLATES and "breit_wigner" in others:
        found["breit_wigner_bias"] = breit_wigner_bias(start, plain)
    closure_model = start.made_from() if model == "kernel" else model
    muons = _muon_state(start, plain, closure_model)
    fits, checks = (
        tables.fits(start.sample, main, entries, start.pole),
        tables.checks(main, entries, settings),
    )
    if model == "simulation" and start.simulation is not None:
        radiated = simulated_radiation(start.simulation, AXIS * unit_of(start.resonance))
        checks += [tables.radiation_check(*radiated)] if radiated else []
    if model == "kernel":
        opinion = start.fitter(model, (0, 1)).second_opinion(categories.names, start.seed)
        fits = fits.merge(opinion, on="category", how="left")
        checks.append(tables.agreement(opinion))
    return Reduction(
        fits,
        found,
        {"covariance": tables.covariance(main)},
        tuple(pictures),
        tuple(checks),
        # the kernel model has no selection of its own in the bins of the closure
        _state(main, halves, edited, closure_model)
        | muons
        | {"periods": periods_of(np.asarray(start.sums["runs"]), settings.closure.periods)},
    )


def _muon_state(start: ReductionInput, main: FitSet, model: str) -> dict[str, AnyArray]:
    """Return the factors of muons, of all events and of each half, as the state keeps them."""
    if model not in WITH_TEMPLATES or not np.isfinite(main.factor).any():
        return {}
    made = start.sums if model == "embedded" else start.simulation
    assert made is not None
    known = (start.settings, main.curves.noise, main.common_line())
    found = [muon_factors(start.sums, made, model, parts, *known) for parts in ((0, 1), (0,), (1,))]
    whole, halves = found[0], found[1:]
    if whole is None or None in halves:
        return {}
    return {
        "muons": whole.values,
        "muons_covariance": whole.covariance,
        "ring_of": whole.ring_of,
        "half_muons": np.array([h.values for h in halves if h]),
        "half_muons_covariance": np.array([h.covariance for h in halves if h]),
    }


def _pictures(found: FitSet, group: str) -> list[Curve]:
    texts = (
        f"sigma {sigma:.3f} GeV, background {100 * background:.1f} %"
        for sigma, background in zip(
            found.own_factor * found.members.median, found.curves.nuisances[1], strict=True
        )
    )
    return [
        replace(drawn, name=name, group=group, text=text)
        for drawn, name, text in zip(found.curves.drawn, found.members.names, texts, strict=True)
        if np.any(drawn.model > 0)
    ]


def _edited(
    start: ReductionInput, found: FitSet, parts: Sequence[int], own: Mapping[str, Settings]
) -> FitSet:
    """Return the same with some categories fitted again, each with settings of its own."""
    for name, settings in own.items():
        c = start.categories.names.index(name)
        again = start.curves_at(found.model, parts, settings, [c]).curves(found.common.log_rings)
        again = again.shifted(found.common.line.shift(again.shifts))
        members = found.members.take([c])
        one = judged(found.model, members, found.common, again, settings.gates, len(parts) / 2)
        found = found.with_row(c, one)
    return found


def breit_wigner_bias(start: ReductionInput, main: FitSet) -> pd.DataFrame:
    """Return what the Breit-Wigner model finds on the template itself, whose width is known.

    Parameters
    ----------
    start : ReductionInput
        The sums.
    main : FitSet
        With pictures whose shapes are templates.

    Returns
    -------
    DataFrame
        ``category, sigma_template, sigma_breit_wigner`` (GeV), ``bias_percent, chi2, ndf``.
    """
    fitter = start.fitter("breit_wigner", (0, 1))
    rows = []
    for c, name in enumerate(main.members.names):
        drawn, sigma = main.curves.drawn[c], float(main.curves.width(main.curves.best)[c])
        if not np.isfinite(sigma):
            continue
        shape = np.maximum(drawn.model - drawn.background, 0.0)
        fitted = fitter.breit_wigner(Binned(drawn.edges, shape, shape))
        rows.append(
            {
                "category": name,
                "sigma_template": sigma,
                "sigma_breit_wigner": fitted.sigma,
                "bias_percent": 100 * (fitted.sigma / sigma - 1),
                "chi2": fitted.result.chi2 if fitted.result else float("nan"),
                "ndf": fitted.result.ndf if fitted.result else 0,
            }
        )
    columns = ["category", "sigma_template", "sigma_breit_wigner", "bias_percent", "chi2", "ndf"]
    return pd.DataFrame(rows, columns=columns)


def _state(
    main: FitSet, halves: Sequence[FitSet], edited: Sequence[FitSet], closure_model: str
) -> dict[str, AnyArray]:
    """Return what the closure, the payload and the pages need."""
    return {
        "factor": main.factor,
        "factor_err": main.factor_error,
        "status": np.array([s.code for s in main.status]),
        "log_rings": main.common.log_rings,
        "half_factor": np.array([h.factor for h in halves]),
        "half_covariance": np.array([h.covariance for h in halves]),
        "half_factor_edited": np.array([h.factor for h in edited]),
        "half_line": np.array([h.common.line.values for h in halves]),
        "half_log_rings": np.array([h.common.log_rings for h in halves]),
        "half_stretch": np.array([np.exp(h.x.mean) for h in halves]),
        "model": np.array(main.model),
        "closure_model": np.array(closure_model),
    }
