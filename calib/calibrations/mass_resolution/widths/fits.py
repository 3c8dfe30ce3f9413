"""What was counted in the categories, and fits with models that know nothing of the templates.

The templates' likelihoods are those of `curves`. The kernel model and the Breit-Wigner give one
fit for each category, which stands as a parabola in the logarithm of the factor.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

import numpy as np

from calib.calibrations.mass_resolution.settings import Settings
from calib.calibrations.mass_resolution.sums.collect import PREDICTED_EDGES
from calib.calibrations.mass_resolution.sums.generated_mass import Shapes
from calib.fitting.cross_check import second_opinion
from calib.fitting.many import fit_categories
from calib.fitting.minuit import Attempt, Binned, FitResult, climb, from_starts
from calib.fitting.models import exponential
from calib.fitting.models.breit_wigner import BreitWignerPeak
from calib.fitting.models.kernel import KernelPeak
from calib.fitting.profile import Window
from calib.later import pandas as pd
from calib.physics.constants import RESONANCES
from calib.results import Curve, Status
from calib.types import AnyArray, Array, IntArray

from .curves import FINE, CountedRows, Curves


@dataclass(frozen=True)
class Observed:
    """What was counted in each category; arrays of shape (categories, bins)."""

    counts: Array
    variance: Array
    predicted: Array
    predicted_variance: Array
    entries: IntArray
    """Number of events in each category, whatever their weights, (categories,)."""
    variance_share: Array
    """Mean relative variance of the leading and the other muon, (categories, 2)."""
    log_pt: Array
    """Mean ln(leading pt / 45 GeV), (categories,)."""

    def take(self, at: Sequence[int]) -> Observed:
        """Return some of the categories."""
        rows = list(at)
        return Observed(*(getattr(self, field.name)[rows] for field in fields(self)))

    @property
    def effective(self) -> Array:
        """Effective number of entries of each category, (categories,)."""
        squares = self.variance.sum(axis=1)
        total = self.counts.sum(axis=1)
        return np.where(squares > 0, total**2 / np.where(squares > 0, squares, 1.0), 0.0)

    @property
    def medians(self) -> list[tuple[float, float]]:
        """Median of the prediction and its uncertainty, of each category, in GeV."""
        return [
            median(own, variance, PREDICTED_EDGES)
            for own, variance in zip(self.predicted, self.predicted_variance, strict=True)
        ]

    def rows(self, settings: Settings) -> CountedRows:
        """Return the counts in the range of the fit."""
        edges = settings.mass_edges
        first = int(round((settings.fit.range[0] - edges[0]) / settings.step))
        last = first + settings.fit.bins
        window = Window(
            edges[first : last + 1],
            float(edges[0]),
            settings.step,
            settings.fit.background != "none",
        )
        counts, variance = self.counts[:, first:last], self.variance[:, first:last]
        return CountedRows(counts, variance, window, first, last)

    def wide_rows(self, settings: Settings) -> CountedRows:
        """Return the counts in the whole window."""
        edges, n = settings.mass_edges, self.counts.shape[1]
        window = Window(edges, float(edges[0]), settings.step, settings.fit.background != "none")
        return CountedRows(self.counts, self.variance, window, 0, n)


def observed(sums: Mapping[str, AnyArray], rows: Sequence[slice]) -> Observed:
    """Return the sum over some blocks of rows (halves) of what `collect.observed` filled.

    Parameters
    ----------
    sums : mapping of str to array
        Of the target.
    rows : sequence of slice
        Blocks (halves) that are added.

    Returns
    -------
    Observed
        Of all categories.
    """

    def total(name: str) -> Array:
        return np.asarray(sum(sums[name][block] for block in rows), dtype=np.float64)

    weight = total("mass/sumw").sum(axis=1)
    weight = np.where(weight != 0, weight, 1.0)

    def mean(name: str) -> Array:
        # rounded: the last bits depend on how the events were cut into chunks
        return np.asarray(np.round(total(f"mass/mean_{name}") / weight, 12))

    return Observed(
        total("mass/sumw"),
        total("mass/sumw2"),
        total("predicted/sumw"),
        total("predicted/sumw2"),
        np.asarray(sum(sums["mass/counts"][block].sum(axis=1) for block in rows)),
        np.stack([mean("variance_leading"), mean("variance_subleading")], axis=1),
        mean("log_pt"),
    )


def median(histogram: Array, variance: Array, edges: Array) -> tuple[float, float]:
    """Return the median of a histogram and its uncertainty, in the unit of its edges.

    Parameters
    ----------
    histogram, variance : array, shape (bins,)
        Contents and their variances.
    edges : array, shape (bins + 1,)
        In any unit.

    Returns
    -------
    float
        Median; NaN without entries.
    float
        Its uncertainty.
    """
    content = np.maximum(histogram, 0.0)
    if content.sum() <= 0:
        return float("nan"), float("nan")
    cumulative = np.concatenate([[0.0], np.cumsum(content)]) / content.sum()
    low, middle, high = np.interp([0.4, 0.5, 0.6], cumulative, edges)
    effective = histogram.sum() ** 2 / max(float(variance.sum()), 1e-300)
    return float(middle), float((high - low) / 0.2 * 0.5 / np.sqrt(effective))


@dataclass(frozen=True)
class PeakFit:
    """What the fit of one category gave: width and mass in GeV, NaN where there is none."""

    sigma: float
    sigma_error: float
    mass: float
    mass_error: float
    result: FitResult | None
    status: Status


NOTHING = PeakFit(*(float("nan"),) * 4, None, Status.TOO_FEW_EVENTS)
LEAST = 50.0
"""Effective events below which nothing is fitted."""


class Fitter:
    """Fits of one set of events with the kernel or the Breit-Wigner model."""

    def __init__(
        self,
        data: Observed,
        model: str,
        settings: Settings,
        resonance: str,
        shapes: Shapes | None = None,
    ) -> None:
        self.data, self.model, self.settings = data, model, settings
        self.shapes, self.resonance = shapes, resonance
        self.rows = data.rows(settings)
        self.pole = RESONANCES[resonance].masses[0]

    def categories(self) -> list[PeakFit]:
        """Return the fit of each category."""
        return [self.category(c) for c in range(len(self.rows.counts))]

    def category(self, c: int) -> PeakFit:
        """Return the fit of one category."""
        edges = self.rows.window.edges
        binned = Binned(edges, self.rows.counts[c], self.rows.variance[c])
        if binned.effective < LEAST:
            return NOTHING
        return self._kernel(binned, c) if self.model == "kernel" else self.breit_wigner(binned)

    def breit_wigner(self, binned: Binned) -> PeakFit:
        """Return the fit of a Breit-Wigner with a Crystal Ball to a content of the bins."""
        peak = BreitWignerPeak(binned.edges, self.pole, RESONANCES[self.resonance].width)
        start = (0.0, 1.2, 2.0, 3.0, 2.0, 3.0, 0.03, 0.5)
        simpler = Attempt("exponents fixed", start, ("n_low", "n_high"))
        result = climb(binned, peak, [*from_starts(peak.starts), simpler])
        at_limit = set(result.at_limit) - {"background", "slope", "n_low", "n_high"}
        status = Status.AT_LIMIT if at_limit and result.status is Status.OK else result.status
        mass = self.pole + result["mean"]
        return PeakFit(
            result["sigma"], result.error("sigma"), mass, result.error("mean"), result, status
        )

    def _kernel(self, binned: Binned, c: int) -> PeakFit:
        assert self.shapes is not None
        template, variance, mass = self.shapes.of([c])
        found = fit_categories(
            binned.counts[None],
            binned.edges,
            template[None],
            mass[None],
            variance=binned.variance[None],
            template_variance=variance[None],
            background=self.settings.fit.background,
            engine="numpy",
        )
        status = Status(str(found.status[0]))
        if not np.isfinite(found.sigma[0]):
            return replace(NOTHING, status=status)
        names = ("mu", "sigma", "background", "slope")
        values = np.array([getattr(found, name)[0] for name in names])
        expected = KernelPeak(binned.edges, template, mass)(*values) * binned.counts.sum()
        result = FitResult(
            names,
            values,
            found.covariance[0],
            float(found.nll[0]),
            float(found.chi2[0]),
            int(found.ndf[0]),
            float(found.edm[0]),
            status,
            str(found.step[0]),
            expected,
            tuple(name for name, at in zip(names, found.at_limit[0], strict=False) if at),
        )
        return PeakFit(
            values[1] * self.pole,
            float(found.sigma_err[0]) * self.pole,
            values[0] * self.pole,
            float(found.mu_err[0]) * self.pole,
            result,
            status,
        )

    def second_opinion(self, names: Sequence[str], seed: int) -> pd.DataFrame:
        """Return the kernel fits of all categories against independent ones by iminuit.

        One row per category that was fitted again.

        Parameters
        ----------
        names : sequence of str
            Of the categories.
        seed : int
            Of the sample of categories.

        Returns
        -------
        DataFrame
            ``category, minuit_delta_mu, minuit_delta_sigma`` (in errors), ``minuit_agrees``.
        """
        assert self.shapes is not None
        arrays = [self.shapes.of([c]) for c in range(len(names))]
        template, spread, mass = (np.stack(x) for x in zip(*arrays, strict=True))
        edges = self.rows.window.edges
        options: dict[str, Any] = {
            "variance": self.rows.variance,
            "template_variance": spread,
            "background": self.settings.fit.background,
        }
        found = fit_categories(self.rows.counts, edges, template, mass, engine="numpy", **options)
        again = second_opinion(found, self.rows.counts, edges, template, mass, seed=seed, **options)
        return pd.DataFrame(
            {
                "category": [names[c] for c in again["category"]],
                "minuit_delta_mu": again["delta_mu"],
                "minuit_delta_sigma": again["delta_sigma"],
                "minuit_agrees": again["agrees"].astype(bool),
            }
        )


def parabolas(fits: Sequence[PeakFit], data: Observed, rows: CountedRows, pole: float) -> Curves:
    """Return fits as likelihoods: parabolas in the logarithm of the factor, x = 0 at factor 1.

    Parameters
    ----------
    fits : sequence of PeakFit
        One of each category.
    data : Observed
        The same categories.
    rows : CountedRows
        What was fitted.
    pole : float
        Mass of the resonance, in GeV.

    Returns
    -------
    Curves
        One parabola a category.
    """
    n = len(fits)
    x = np.tile(np.linspace(np.log(0.05), np.log(20.0), FINE), (n, 1))
    middle = np.array([m for m, _ in data.medians])
    sigma, error = (np.array([getattr(f, k) for f in fits]) for k in ("sigma", "sigma_error"))
    good = np.array([f.status is Status.OK for f in fits]) & (sigma > 0) & (error > 0)
    with np.errstate(invalid="ignore", divide="ignore"):
        best = np.log(sigma / middle)  # good or not
        expected_error = np.where(good, error / sigma, np.nan)
    distance = (x - best[:, None]) / np.where(good, expected_error, np.inf)[:, None]
    nll = np.nan_to_num(0.5 * distance**2)
    results = [f.result for f in fits]
    nuisances, errors = np.full((3, n), np.nan), np.full((3, n), np.nan)
    for c, (fit, result) in enumerate(zip(fits, results, strict=True)):
        if result is None:
            continue
        nuisances[0, c], errors[0, c] = fit.mass / pole, fit.mass_error / pole
        for k, name in ((1, "background"), (2, "slope")):
            nuisances[k, c], errors[k, c] = result[name], result.error(name)
    nan = float("nan")
    return Curves(
        x,
        nll,
        best,
        expected_error,
        middle[:, None] * np.exp(x),
        nuisances,
        errors,
        np.array([r.nll if r else nan for r in results]),
        tuple(_drawn(rows, c, r) for c, r in enumerate(results)),
        np.array([r.chi2 if r else nan for r in results]),
        np.array([r.ndf if r else 0 for r in results], dtype=np.int64),
        good,
        np.array([f.status is Status.AT_LIMIT for f in fits]),
        {},
    )


def _drawn(rows: CountedRows, c: int, result: FitResult | None) -> Curve:
    """Return the picture of a fit."""
    edges = rows.window.edges
    expected = np.zeros(len(edges) - 1) if result is None else result.expected
    flat = np.zeros(len(edges) - 1)
    if result is not None:
        low, high = edges[0], edges[-1]
        flat = np.diff(exponential.cdf(edges, result["slope"], low, high))
        flat = flat * result["background"] * rows.counts[c].sum()
    return Curve("", edges, rows.counts[c], rows.variance[c], expected, flat)
