"""Fit of the mass in one category, or several merged: sigma, prediction, factor."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pandas as pd

from calib.arrays import AnyArray, Array, IntArray
from calib.constants import RESONANCES
from calib.fit import Attempt, Binned, FitResult, climb, from_starts
from calib.fit_all import fit_categories
from calib.gates import Candidate
from calib.models.breit_wigner import BreitWignerPeak
from calib.models.kernel import KernelPeak
from calib.models.template import TemplatePeak
from calib.opinion import second_opinion
from calib.results import Curve, Status

from .collect import PREDICTED_EDGES
from .generated import Shapes
from .peaks import Templates
from .settings import Settings

TEMPLATE_STARTS: Sequence[Sequence[float]] = (
    (1.0, 1.0, 0.03, 0.5),
    (0.8, 1.0, 0.03, 0.5),
    (1.25, 0.998, 0.10, 1.0),
    (1.0, 1.002, 0.20, 2.0),
)


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

    def effective(self, members: Sequence[int]) -> float:
        """Return the effective number of entries of some categories."""
        total = float(self.counts[list(members)].sum())
        squares = float(self.variance[list(members)].sum())
        return total**2 / squares if squares > 0 else 0.0


def observed(sums: Mapping[str, AnyArray], rows: Sequence[slice]) -> Observed:
    """Return the sum over some blocks of rows (halves) of what `collect.observed` filled."""

    def total(name: str) -> Array:
        return np.asarray(sum(sums[name][block] for block in rows), dtype=np.float64)

    weight = total("mass/sumw").sum(axis=1)
    share = np.stack(
        [total(f"mass/mean_variance_{muon}") for muon in ("leading", "subleading")], axis=1
    )
    return Observed(
        total("mass/sumw"),
        total("mass/sumw2"),
        total("predicted/sumw"),
        total("predicted/sumw2"),
        np.asarray(sum(sums["mass/counts"][block].sum(axis=1) for block in rows)),
        # rounded: the last bits depend on how the events were cut into chunks
        np.round(share / np.where(weight != 0, weight, 1.0)[:, None], 12),
    )


@dataclass(frozen=True)
class CategoryFit:
    """What the fit of one category (or of several merged) gave. GeV; NaN where there is none."""

    name: str
    model: str
    n_events: int
    effective: float
    sigma: float
    sigma_error: float
    median: float
    median_error: float
    mass: float
    mass_error: float
    result: FitResult | None
    curve: Curve | None
    status: Status

    @property
    def factor(self) -> float:
        """sigma over the median of the predicted resolution."""
        return self.sigma / self.median if self.median > 0 else float("nan")

    @property
    def factor_error(self) -> float:
        """Uncertainty of the factor: fit, template and median."""
        if not (self.sigma > 0 and self.median > 0):
            return float("nan")
        return self.factor * float(
            np.hypot(self.sigma_error / self.sigma, self.median_error / self.median)
        )

    def candidate(self) -> Candidate:
        """Return it as the gates want to see it."""
        r = self.result
        return Candidate(
            self.name,
            self.effective,
            self.factor,
            self.factor_error,
            r.chi2 if r else float("nan"),
            r.ndf if r else 0,
            self.status,
            bool(r and set(r.at_limit) - {"background", "slope", "n_low", "n_high"}),
        )


def median(histogram: Array, variance: Array, edges: Array) -> tuple[float, float]:
    """Return the median of a histogram and its uncertainty, in the units of its edges."""
    content = np.maximum(histogram, 0.0)
    if content.sum() <= 0:
        return float("nan"), float("nan")
    cumulative = np.concatenate([[0.0], np.cumsum(content)]) / content.sum()
    low, middle, high = np.interp([0.4, 0.5, 0.6], cumulative, edges)
    effective = histogram.sum() ** 2 / max(float(variance.sum()), 1e-300)
    return float(middle), float((high - low) / 0.2 * 0.5 / np.sqrt(effective))


class Fitter:
    """Fits of one set of events, with one model of the mass."""

    def __init__(
        self,
        data: Observed,
        templates: Templates | None,
        model: str,
        settings: Settings,
        resonance: str,
        shapes: Shapes | None = None,
    ) -> None:
        self.data, self.templates, self.model = data, templates, model
        self.shapes = shapes
        self.settings, self.resonance = settings, resonance
        edges = settings.mass_edges
        self.low = int(round((settings.fit.range[0] - edges[0]) / settings.step))
        self.high = self.low + settings.fit.bins
        self.edges = edges[self.low : self.high + 1]
        self.pole = RESONANCES[resonance].masses[0]

    def category(
        self, name: str, members: Sequence[int], log_rings: Array, group: str = "categories"
    ) -> CategoryFit:
        """Return the fit of some categories together (of one, usually)."""
        rows = list(members)
        binned = Binned(
            self.edges,
            self.data.counts[rows, self.low : self.high].sum(0),
            self.data.variance[rows, self.low : self.high].sum(0),
        )
        middle = median(
            self.data.predicted[rows].sum(0),
            self.data.predicted_variance[rows].sum(0),
            PREDICTED_EDGES,
        )
        n = int(self.data.entries[rows].sum())
        nothing = CategoryFit(
            name,
            self.model,
            n,
            self.data.effective(rows),
            *(float("nan"),) * 2,
            *middle,
            *(float("nan"),) * 2,
            None,
            None,
            Status.TOO_FEW_EVENTS,
        )
        if binned.effective < min(50, self.settings.gates.min_events):
            return nothing
        if self.model == "breit_wigner":
            return self._breit_wigner(nothing, binned, group)
        if self.model == "kernel":
            return self._kernel(nothing, binned, rows, group)
        found = self.templates and self.templates.model(rows, log_rings, self.low, self.high)
        if not found:
            return replace(nothing, status=Status.NO_TEMPLATE)
        peak, width = found
        result = self._climb(binned, peak)
        sigma = width.at(result["factor"])
        return CategoryFit(
            name,
            self.model,
            n,
            nothing.effective,
            sigma,
            abs(width.slope(result["factor"])) * result.error("factor"),
            *middle,
            result["mu"] * self.pole,
            result.error("mu") * self.pole,
            result,
            self._curve(name, binned, peak, result, sigma, group),
            result.status,
        )

    def _climb(self, binned: Binned, peak: TemplatePeak) -> FitResult:
        """Fit by a ladder: first start, no background, further starts, mass fixed."""
        no_background = self.settings.fit.background == "none"
        fixed: tuple[str, ...] = ("background", "slope") if no_background else ()
        starts = [(s[0], s[1], 0.0, 0.0) if no_background else s for s in TEMPLATE_STARTS]
        nuisance = ("background", "slope")

        def doubtful(r: FitResult) -> bool:
            return r.status is not Status.OK or bool(set(r.at_limit) - set(nuisance))

        attempts = [
            Attempt("first", starts[0], fixed),
            Attempt(
                "no background",
                lambda r: (r["factor"], r["mu"], 0.0, 0.0),
                nuisance,
                when=lambda r: "background" in r.at_limit and r["background"] < 0.1,
                always=True,
            ),
            *from_starts(starts[1:], fixed=fixed, step="further starts", when=doubtful),
            Attempt("mass and background fixed", (1.0, 1.0, 0.0, 0.0), ("mu", *nuisance)),
        ]
        return climb(binned, peak, attempts)

    def second_opinion(self, names: Sequence[str], seed: int) -> pd.DataFrame:
        """Return the kernel fits of all categories against independent ones by iminuit.

        One row per category that was fitted again: ``category, minuit_delta_mu,
        minuit_delta_sigma`` (in errors), ``minuit_agrees``.
        """
        assert self.shapes is not None
        arrays = [self.shapes.of([c]) for c in range(len(names))]
        template, spread, mass = (np.stack(x) for x in zip(*arrays, strict=True))
        counts = self.data.counts[:, self.low : self.high]
        options: dict[str, Any] = {
            "variance": self.data.variance[:, self.low : self.high],
            "template_variance": spread,
            "background": self.settings.fit.background,
        }
        found = fit_categories(counts, self.edges, template, mass, engine="numpy", **options)
        again = second_opinion(found, counts, self.edges, template, mass, seed=seed, **options)
        return pd.DataFrame(
            {
                "category": [names[c] for c in again["category"]],
                "minuit_delta_mu": again["delta_mu"],
                "minuit_delta_sigma": again["delta_sigma"],
                "minuit_agrees": again["agrees"].astype(bool),
            }
        )

    def _kernel(
        self, nothing: CategoryFit, binned: Binned, rows: Sequence[int], group: str
    ) -> CategoryFit:
        assert self.shapes is not None
        template, variance, mass = self.shapes.of(rows)
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
            return replace(nothing, status=status)
        names = ("mu", "sigma", "background", "slope")
        values = np.array([getattr(found, name)[0] for name in names])
        peak = KernelPeak(binned.edges, template, mass)
        expected = peak(*values) * binned.counts.sum()
        result = FitResult(
            names, values, found.covariance[0], float(found.nll[0]), float(found.chi2[0]),
            int(found.ndf[0]), float(found.edm[0]), status, str(found.step[0]), expected,
            tuple(name for name, at in zip(names, found.at_limit[0], strict=False) if at),
        )  # fmt: skip
        sigma = values[1] * self.pole
        return replace(
            nothing,
            sigma=sigma,
            sigma_error=float(found.sigma_err[0]) * self.pole,
            mass=values[0] * self.pole,
            mass_error=float(found.mu_err[0]) * self.pole,
            result=result,
            curve=self._curve(nothing.name, binned, peak, result, sigma, group),
            status=status,
        )

    def shape(self, name: str, content: Array) -> CategoryFit:
        """Return the Breit-Wigner fit of a given content of the bins, without fluctuations."""
        nothing = CategoryFit(
            name,
            self.model,
            round(content.sum()),
            float(content.sum()),
            *(float("nan"),) * 6,
            None,
            None,
            Status.FIT_FAILED,
        )
        return self._breit_wigner(nothing, Binned(self.edges, content, content), self.model)

    def _breit_wigner(self, nothing: CategoryFit, binned: Binned, group: str) -> CategoryFit:
        width = RESONANCES[self.resonance].width
        peak = BreitWignerPeak(self.edges, self.pole, width)
        start = (0.0, 1.2, 2.0, 3.0, 2.0, 3.0, 0.03, 0.5)
        simpler = Attempt("exponents fixed", start, ("n_low", "n_high"))
        result = climb(binned, peak, [*from_starts(peak.starts), simpler])
        sigma = result["sigma"]
        return CategoryFit(
            nothing.name,
            self.model,
            nothing.n_events,
            nothing.effective,
            sigma,
            result.error("sigma"),
            nothing.median,
            nothing.median_error,
            self.pole + result["mean"],
            result.error("mean"),
            result,
            self._curve(nothing.name, binned, peak, result, sigma, group),
            result.status,
        )

    def _curve(
        self,
        name: str,
        binned: Binned,
        peak: TemplatePeak | BreitWignerPeak | KernelPeak,
        result: FitResult,
        sigma: float,
        group: str,
    ) -> Curve:
        total = binned.counts.sum()
        background = result["background"] * peak.background(result["slope"])
        text = (
            f"sigma {sigma:.3f} GeV, background {100 * result['background']:.1f} %,"
            f" step: {result.step}"
        )
        return Curve(
            name,
            binned.edges,
            binned.counts,
            binned.variance,
            result.expected,
            total * background,
            group,
            "GeV",
            text,
        )


def ring_factors(fitter: Fitter, rings: Sequence[tuple[int, int]], n_rings: int) -> Array:
    """Return the logarithm of one factor per ring, shared by all categories.

    The categories of each pair of rings are fitted together over all pt; each fit gives a
    common change r of its two factors, ln r = w_first d(ln F_first) + w_second d(ln F_second)
    with the muons' shares w of the variance. The rings' factors are moved by weighted least
    squares until all changes are gone. A weak prior (30 %) ties the rings to each other, so
    that a ring without data follows the others.
    """
    log_rings = np.zeros(n_rings)
    pairs = sorted(set(rings))
    groups = [[c for c, pair in enumerate(rings) if pair == p] for p in pairs]
    for _ in range(8):
        normal = 1e-6 * np.eye(n_rings)
        right = np.zeros(n_rings)
        for (x, y), members in zip(pairs, groups, strict=True):
            found = fitter.category("", members, log_rings)
            r = found.result
            if r is None or r.status is not Status.OK:
                continue
            # a fit at the end of the grid says no more than in which direction to go
            error = r.error("factor") if r.error("factor") > 0 else 0.5
            counts = fitter.data.counts[members].sum(1)
            share = np.average(
                fitter.data.variance_share[members], axis=0, weights=np.maximum(counts, 1e-9)
            ) * np.exp(2 * log_rings[[x, y]])
            share = share / share.sum()
            row = np.zeros(n_rings)
            row[x] += share[0]
            row[y] += share[1]
            weight = (r["factor"] / error) ** 2
            normal += weight * np.outer(row, row)
            right += weight * row * np.log(r["factor"])
        prior = (np.eye(n_rings) - 1.0 / n_rings) / 0.3**2
        change = np.linalg.solve(normal + prior, right - prior @ log_rings)
        log_rings = np.clip(log_rings + np.clip(change, -0.4, 0.4), -0.6, 0.6)
        if np.abs(change).max() < 2e-3:
            break
    return np.asarray(log_rings)
