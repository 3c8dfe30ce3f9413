"""A payload of the mass resolution on the Higgs boson: predicted beside fitted, in simulation.

Not a calibration to be published. The payload under test is applied to the muons before (key
``payloads``), so that their ptErr is calibrated; simulated events are put into bins of the
calibrated resolution that is predicted for them, and a double-sided Crystal Ball is fitted to

- ``response``: the mass over that of the generated muons after FSR, times the nominal mass. The
  width of its core is to be what is predicted: this is what the verdict is about.
- ``mass``: the mass itself, as analyses fit it. Its natural width of 4 MeV is neglected; soft
  photons make its core some per cent wider than the resolution.

The prediction is taken relative to the mass and at the nominal one: in GeV it would follow the
measured mass, and a bin would cut into its own peak. Where ptErr of single muons fluctuates, bins
at both ends are wider than predicted by regression to the mean; the tolerance covers that.

What analyses use of the prediction is its distribution; it is given for the signal region and the
sidebands, of each sample apart.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel, Field

from calib.calibrations.base import Calibration, Needs
from calib.calibrations.capabilities import Closes, Edits
from calib.distributions import chi2_sf
from calib.edits import require_none
from calib.errors import InputError
from calib.events.histograms import Fill, Sums, add
from calib.events.pairs import Pairs
from calib.fitting.minuit import Binned, FitResult, fit
from calib.fitting.models.crystalball import CrystalBallPeak
from calib.later import pandas as pd
from calib.payload import nodes
from calib.physics.constants import RESONANCES
from calib.physics.kinematics import predicted_mass_resolution
from calib.results import MAIN, Check, Closure, Curve, Pass, Reduction, Section, Status
from calib.schema import Edges, Positive, Probability, Sample, Strict
from calib.types import AnyArray, Array

MASS = RESONANCES["h"].masses[0]
FINE = np.round(np.arange(0.0, 10.0001, 0.02), 10)
"""GeV, predicted resolution at the nominal mass; the median is read off."""
REGIONS = ("signal", "sideband")
QUANTILES = (0.16, 0.5, 0.84)
KINDS = ("response", "mass")


class ValidationSettings(Strict):
    """Settings of a validation."""

    resolution: Edges = Field(
        default=(0.6, 1.0, 1.2, 1.4, 1.6, 1.8, 2.0, 2.25, 2.5, 3.0, 4.0),
        description="GeV at 125.2 GeV, edges of the calibrated resolution that is predicted",
    )
    window: tuple[float, float] = Field(default=(110.0, 150.0), description="GeV, kept")
    signal: tuple[float, float] = Field(
        default=(115.0, 135.0), description="GeV, fitted; the rest of the window is sideband"
    )
    bins: int = Field(default=100, ge=20, le=2000, description="of the mass that is fitted")
    tolerance: Positive = Field(
        default=0.05, description="of fitted over predicted, beside its error in each bin"
    )
    probability: Probability = Field(default=1e-3, description="least, of all bins together")
    min_events: int = Field(default=1000, ge=50, description="effective ones of a bin")
    coverage: float = Field(
        default=0.9, ge=0, le=1, description="least share of the events in bins that are tested"
    )


class Validation(Calibration, Closes):
    """See the module."""

    name: ClassVar[str] = "validation"
    Settings: ClassVar[type[BaseModel]] = ValidationSettings
    payload_names: ClassVar[tuple[str, ...]] = ("validation_fitted_over_predicted",)
    resonances: ClassVar[tuple[str, ...]] = ("h",)
    reduction_only: ClassVar[tuple[str, ...]] = (
        "tolerance",
        "probability",
        "min_events",
        "coverage",
    )
    settings: ValidationSettings

    def check(self) -> None:
        """Refuse samples without simulation: only there the peak can be fitted."""
        super().check()
        if not any(s.simulation for s in self.samples):
            raise InputError(
                "key 'samples': a validation fits the peak of simulated Higgs bosons, but no"
                " sample is a simulation; add one with 'simulation: true'"
            )
        own = self.settings
        if not own.window[0] <= own.signal[0] < own.signal[1] <= own.window[1]:
            raise InputError(
                f"key 'settings.signal': found {list(own.signal)}, expected a range within"
                f" settings.window, {list(own.window)}"
            )

    def needs(self, sample: Sample) -> Needs:
        """Return what the prediction is made of."""
        return Needs(muon=("ptErr",))

    def selection(self, sample: Sample) -> Mapping[str, Any]:
        """Return the cuts of the analysis."""
        return {
            "leading_pt": 26.0,
            "subleading_pt": 20.0,
            "abs_eta": 2.4,
            "mass_window": self.settings.window,
        }

    # event loop ----------------------------------------------------------------------------------
    def collect(self, pairs: Pairs, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        """Return predictions in both regions, and the masses of simulated pairs in bins of them.

        Parameters
        ----------
        pairs : Pairs
            With calibrated ptErr.
        sample : Sample
        walk : Pass

        Returns
        -------
        dict of str to Fill
            ``predicted`` and, of simulation, ``response``, ``mass`` and ``within`` (predictions in
            each bin).

        Raises
        ------
        InputError
            If simulated pairs have no generated mass.
        """
        own, muons = self.settings, (pairs.leading, pairs.subleading)
        relative = [np.asarray(m.pt_err) / m.pt for m in muons]
        predicted = predicted_mass_resolution(np.full(len(pairs), MASS), *relative)
        inside = (pairs.mass >= own.signal[0]) & (pairs.mass < own.signal[1])
        found: dict[str, Fill | AnyArray] = {
            "predicted": Fill(np.where(inside, 0, 1), 2, predicted, FINE, pairs.weight)
        }
        if sample.simulation:
            n = len(own.resolution) - 1
            at = np.searchsorted(own.resolution, predicted, side="right") - 1
            at = np.where(inside & (at < n), at, -1)
            if pairs.gen_mass is None:
                raise InputError(
                    f"sample {sample.name}: simulation without generated muons or their mass, which"
                    " a validation needs; add them"
                )
            response = MASS * pairs.mass / pairs.gen_mass
            for kind, value in zip(KINDS, (response, pairs.mass), strict=True):
                found[kind] = Fill(at, n, value, self._edges, pairs.weight)
            found["within"] = Fill(at, n, predicted, FINE, pairs.weight)
        return found

    @property
    def _edges(self) -> Array:
        return np.linspace(*self.settings.signal, self.settings.bins + 1)

    # reduction ---------------------------------------------------------------------------------
    def reduce(self, sums: Mapping[str, Sums], edits: Edits, walk: Pass = MAIN) -> Reduction:
        """Fit each bin of the prediction.

        Parameters
        ----------
        sums : mapping of the name of a sample to its sums
        edits : mapping
            Nothing can be set.
        walk : Pass

        Returns
        -------
        Reduction
            Tables ``resolution`` and ``regions``, in GeV at the nominal mass.

        Raises
        ------
        InputError
            If there are edits.
        """
        require_none(edits, "a validation")
        simulated = [s.name for s in self.samples if s.simulation]
        table, fits, curves = self._fitted(add(sums[name] for name in simulated))
        regions = _regions(sums)
        return Reduction(
            fits.assign(sample="+".join(simulated)),
            {"resolution": table, "regions": regions},
            curves=tuple(curves),
            checks=tuple(self._judged(table)),
        )

    def _fitted(self, sums: Sums) -> tuple[pd.DataFrame, pd.DataFrame, list[Curve]]:
        own, edges = self.settings, self._edges
        model, rows, fits, curves = CrystalBallPeak(edges, MASS), [], [], []
        ends = list(zip(own.resolution[:-1], own.resolution[1:], strict=True))
        for kind in KINDS:
            for i, (low, high) in enumerate(ends):
                name = f"{low:g}-{high:g}"
                binned = Binned(edges, sums[f"{kind}/sumw"][i], sums[f"{kind}/sumw2"][i])
                (predicted,) = quantiles(sums["within/sumw"][i], (0.5,))
                row = {"kind": kind, "bin": name, "low": low, "high": high}
                row |= {"n_events": float(binned.counts.sum()), "predicted": predicted}
                status, found = Status.TOO_FEW_EVENTS, None
                if binned.effective >= own.min_events:
                    found = fit(binned, model, model.starts(predicted))
                    status = found.status
                    curves.append(_curve(kind, name, binned, found))
                rows.append(row | _numbers(found, predicted) | {"status": status.value})
                fits.append({"category": f"{kind} {name}", "n_events": row["n_events"]})
                fits[-1] |= _parameters(model, found) | {"status": status.value}
        return pd.DataFrame(rows), pd.DataFrame(fits), curves

    def _judged(self, table: pd.DataFrame) -> list[Check]:
        own, table = self.settings, table[table["kind"] == KINDS[0]]
        good = table[table["status"] == Status.OK.value]
        share = float(good["n_events"].sum() / max(float(table["n_events"].sum()), 1.0))
        found = [
            Check.at_least(
                "events_tested",
                share,
                own.coverage,
                f"share of the simulated events in the {len(good)} of {len(table)} bins of the"
                " predicted resolution that could be fitted",
                title="Events in bins that could be fitted",
                advice="take more simulated events, or coarser settings.resolution",
            )
        ]
        if good.empty:
            return found
        value = good["ratio"].to_numpy() - 1
        error = np.hypot(good["ratio_err"].to_numpy(), own.tolerance)
        probability = float(chi2_sf(float(((value / error) ** 2).sum()), len(good)))
        worst = int(np.argmax(np.abs(value / error)))
        of_worst = good.iloc[worst]
        found.append(
            Check.at_least(
                "resolution_in_bins",
                probability,
                own.probability,
                f"p-value of fitted over predicted resolution in {len(good)} bins; the worst:"
                f" {of_worst['ratio']:.3f} ± {of_worst['ratio_err']:.3f} at"
                f" {of_worst['bin']} GeV",
                title="Resolution in bins",
                advice=f"at {of_worst['bin']} GeV the predicted resolution is too"
                f" {'small' if value[worst] > 0 else 'large'}: calibrate finer categories, or state"
                " the difference as a systematic uncertainty",
            )
        )
        weight = good["ratio_err"].to_numpy() ** -2.0
        mean, err = float(np.average(value, weights=weight)), float(weight.sum() ** -0.5)
        limit = own.tolerance + 3 * err
        found.append(
            Check.at_most(
                "resolution_on_average",
                abs(mean),
                limit,
                f"fitted over predicted resolution of all bins, minus 1: {mean:+.4f} ± {err:.4f}",
                title="Resolution on average",
                advice="a difference common to all bins: a payload of data on simulation, or of"
                " another campaign",
            )
        )
        return found

    def closure(self, sums: Mapping[str, Sums], reduction: Reduction) -> Closure:
        """Return fitted beside predicted, bin by bin.

        Parameters
        ----------
        sums : mapping of the name of a sample to its sums
            Not looked at.
        reduction : Reduction
            With the table ``resolution``.

        Returns
        -------
        Closure
            GeV.
        """
        t = reduction.tables["resolution"]
        t = t[t["kind"] == KINDS[0]]
        return Closure.of(list(t["bin"]), t["predicted"], t["fitted"], t["error"])

    # out -----------------------------------------------------------------------------------------
    def publish(self, reduction: Reduction) -> Mapping[str, Any]:
        """Return fitted over predicted, which corrects nothing."""
        table = reduction.tables["resolution"]
        good = table[table["status"] == Status.OK.value]
        values = {f"{r.kind} {r.bin}": float(r.ratio) for r in good.itertuples()}
        words = "Fitted over predicted resolution of simulated Higgs bosons"
        return nodes.of_measured(self.payload_names[0], words, values, "ratio", "A validation")

    def sections(
        self,
        reduction: Reduction,
        closure: Closure | None,
        earlier: Mapping[str, Any] | None = None,
    ) -> Sequence[Section]:
        """Return fitted against predicted, and the predictions in both regions.

        Parameters
        ----------
        reduction : Reduction
        closure : Closure or None
        earlier : mapping, optional
            Not looked at.

        Returns
        -------
        sequence of Section
            One.
        """
        from calib.plots.residuals import beside_prediction

        table, regions = reduction.tables["resolution"], reduction.tables["regions"]
        text = (
            "The core of a double-sided Crystal Ball in bins of the resolution that is predicted"
            f" for each event after calibration (relative, at {MASS:g} GeV): of the response, the"
            " mass over that of the generated muons after FSR, which the verdict is about; and of"
            " the mass itself, as analyses fit it, which soft photons make some per cent wider."
            " The other table has quantiles of the prediction in the signal region and the"
            " sidebands."
        )
        figures = {"resolution": beside_prediction(table, self.settings.tolerance)}
        tables = {"resolution": table, "regions": regions}
        return (Section("Predicted and fitted resolution", text, tables, figures),)


def quantiles(counts: Array, which: Sequence[float]) -> list[float]:
    """Return quantiles of a histogram over `FINE`, linear within a bin; NaN where it is empty.

    Parameters
    ----------
    counts : array, shape (bins,)
    which : sequence of float
        Between 0 and 1.

    Returns
    -------
    list of float
        In GeV.
    """
    cumulative = np.concatenate([[0.0], np.cumsum(np.maximum(counts, 0.0))])
    if not cumulative[-1] > 0:
        return [float("nan")] * len(which)
    return [float(np.interp(q * cumulative[-1], cumulative, FINE)) for q in which]


def _regions(sums: Mapping[str, Sums]) -> pd.DataFrame:
    rows = []
    for name, own in sums.items():
        for region, counts in zip(REGIONS, own["predicted/sumw"], strict=True):
            low, median, high = quantiles(counts, QUANTILES)
            rows.append(
                {
                    "sample": name,
                    "region": region,
                    "n_events": float(counts.sum()),
                    "median": median,
                    "quantile_16": low,
                    "quantile_84": high,
                }
            )
    return pd.DataFrame(rows)


def _numbers(found: FitResult | None, predicted: float) -> dict[str, float]:
    """Return width and ratio of a fit, NaN where it is not valid."""
    if found is None or found.status is not Status.OK:
        return dict.fromkeys(("fitted", "error", "ratio", "ratio_err", "mean"), float("nan"))
    sigma, error = found["sigma"], found.error("sigma")
    return {
        "fitted": sigma,
        "error": error,
        "ratio": sigma / predicted,
        "ratio_err": error / predicted,
        "mean": MASS + found["mean"],
    }


def _parameters(model: CrystalBallPeak, found: FitResult | None) -> dict[str, float]:
    out: dict[str, float] = {}
    for name in model.names:
        out[name] = float("nan") if found is None else found[name]
        out[f"{name}_err"] = float("nan") if found is None else found.error(name)
    nothing = float("nan")
    return out | {
        "chi2": nothing if found is None else found.chi2,
        "ndf": 0 if found is None else found.ndf,
    }


def _curve(kind: str, name: str, binned: Binned, found: FitResult) -> Curve:
    nothing = np.zeros_like(binned.counts)
    parts = (binned.edges, binned.counts, binned.variance, found.expected, nothing)
    return Curve(f"{kind} {name}", *parts)
