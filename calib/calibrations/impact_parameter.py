"""Resolution of the impact parameters d0 and z0, per bin of eta (and phi).

    sigma^2(p_tilde) = a^2 + b^2 / p_tilde^2
    p_tilde = p beta sin(theta)^(3/2) of d0, p beta sin(theta)^(5/2) of z0

a is the resolution of the detector (um), b multiple scattering (um GeV). When to use: prompt
muons, of momenta far enough apart that both terms are seen (J/psi and Upsilon; Z alone fixes a
better than b). Not for muons from secondary vertices: more than a few per cent are no tail any
longer. ``single`` contains the resolution of the vertex or beam spot that d0 and z0 refer to, in
a; ``difference`` takes both muons of a pair in one bin, and what they have in common drops out.

d0 and z0 are in cm in the events (``Muon_dxy, dz`` of NanoAOD; ``mu1_d0, mu1_z0, mu2_...`` of
stage1), and in um everywhere here.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from functools import partial
from itertools import product
from typing import Any, Literal

import numpy as np
from pydantic import Field

from calib import plugin
from calib.events.categories import Axis, Categories
from calib.events.eta_phi import eta_phi
from calib.events.pairs import Muons, Pairs
from calib.fitting import residual_widths as rw
from calib.later import pandas as pd
from calib.physics.constants import MUON_MASS, RESONANCES
from calib.physics.kinematics import p_tilde
from calib.plugin import Edits, Fill, Needs, Reduction, Sample, Sums
from calib.quality.fallbacks import BinGates, checks, with_fallbacks
from calib.quality.width_closure import WidthClosure, normalised, width_closure
from calib.schema import Edges, EdgesAboveZero, PositiveWindow
from calib.types import AnyArray, Array

OBSERVABLES = {"d0": "dxy", "z0": "dz"}
"""Each with its name in NanoAOD."""
COLUMNS = tuple(OBSERVABLES.values())

KINDS = {"data": "", "simulation": "_simulation"}
"""What the corrections of each are named with, after the observable."""

LOW = (0.25, 0.32, 0.42, 0.55, 0.7, 0.9, 1.2, 1.5, 2.0, 2.6, 3.4, 4.4, 5.7, 7.4, 9.6, 12.5)
P_TILDE = (*LOW, 16.0, 21.0, 27.0, 35.0, 46.0, 60.0, 100.0)
ETA = tuple(round(0.4 * i, 1) for i in range(-6, 7))

CM = 1e4  # in um


class LineGates(BinGates):
    """What a category, and a bin of eta and phi, must pass before its values are published."""

    a_range: PositiveWindow = Field(default=(0.5, 1000.0), description="um")
    b_range: PositiveWindow = Field(default=(1.0, 2000.0), description="um GeV")


class ImpactSettings(plugin.Strict):
    """Settings of impact_parameter."""

    observable: Literal["single", "difference"] = Field(
        default="single", description="difference: of two muons in one category, over sqrt(2)"
    )
    eta: Edges = Field(ETA, max_length=201, description="edges of the bins that have an a and a b")
    phi: Edges = Field((-3.1416, 3.1416), max_length=101, description="edges, likewise")
    p_tilde: EdgesAboveZero = Field(
        P_TILDE, min_length=3, max_length=201, description="GeV, edges of the categories"
    )
    window: float = Field(default=5000.0, gt=0, description="um, largest |d0| and |z0|")
    bins: int = Field(default=160, ge=40, le=2000, description="finer toward zero")
    gates: LineGates = LineGates()
    closure: WidthClosure = WidthClosure()

    @property
    def places(self) -> Categories:
        """The bins that have an a and a b."""
        return eta_phi(self.eta, self.phi)

    @property
    def how(self) -> rw.Fitting:
        """How the categories are fitted."""
        return rw.Fitting.widening(20.0, self.window, self.bins, len(self.p_tilde) - 1, self.gates)

    def names(self, observable: str) -> list[str]:
        """Return the categories of an observable: ``d0_e3_p7``, the bins counted from 0."""
        bins = product(self.places.names, range(len(self.p_tilde) - 1))
        return [f"{observable}_{place}_p{p}" for place, p in bins]


def _term(name: str, power: int) -> plugin.Term:
    square = "(pt*cosh(eta))^2"
    text = f"({square}+{MUON_MASS**2!r})/({square})^2*cosh(eta)^{power}"
    return plugin.Term(text, lambda pt, eta, **_: p_tilde(pt, eta, name) ** -2.0)


WHERE = {"eta": "Pseudorapidity of the muon", "phi": "Its azimuth"}
SIGMA, LINES = "impact_parameter_sigma_{key}", "impact_parameter_{key}"


class Calibration(plugin.ClosesInHalves[Pairs], plugin.AddsColumns[Pairs], plugin.Calibration):
    """See the module."""

    name, Settings, positive, looks_again = "impact_parameter", ImpactSettings, True, True
    title = "Resolution of the impact parameters"
    text = (
        "The width of the Gaussian core in bins of p_tilde, and the line through its square:"
        " sigma^2 = a^2 + b^2 / p_tilde^2. Tails have a Gaussian of their own and do not pull the"
        " core. a is the resolution of the detector (with that of the vertex, where single muons"
        " are taken), b multiple scattering. Bins counted from 0, e in eta, f in phi, p in p_tilde."
    )
    payload = {
        SIGMA: plugin.Formula(
            "sqrt(a^2 + b^2 * u)",
            "Resolution of {observable} of prompt muons",
            output="sigma",
            unit="um",
            inputs=WHERE | {"pt": "Its pt (GeV); p_tilde follows from pt and eta"},
            ranges={"pt": (2.0, 100.0)},
            terms={"u": {"d0": _term("d0", 3), "z0": _term("z0", 5)}},
            variations=("error",),
        ),
        LINES: plugin.Table(
            "a (um), b (um GeV), their errors and covariance; sigma^2 = a^2 + b^2 / p_tilde^2",
            inputs=WHERE,
        ),
    }
    editable = rw.EDITABLE
    payload_names = (SIGMA.format(key="d0"), SIGMA.format(key="z0"))
    reduction_only = (
        "gates",
        *(f"closure.{key}" for key in ("min_events", "coverage", "tolerance", "probability")),
    )
    settings: ImpactSettings

    def needs(self, sample: Sample) -> Needs:
        """Return d0 and z0; their errors, where the input has them, are compared with."""
        why = dict.fromkeys(COLUMNS, "take files that have d0 and z0, in cm")
        return Needs(muon=COLUMNS, optional=("dxyErr", "dzErr"), why=why)

    def selection(self, sample: Sample) -> Mapping[str, Any]:
        """Return the resonance's window, and any muon in the bins."""
        leading, other = (20.0, 15.0) if sample.resonance in ("z", "h") else (3.0, 3.0)
        return {
            "leading_pt": leading,
            "subleading_pt": other,
            "mass_window": RESONANCES[sample.resonance].window,
            "abs_eta": float(max(abs(self.settings.eta[0]), abs(self.settings.eta[-1]))),
        }

    def rejects(self, events: Pairs, sample: Sample) -> Mapping[str, AnyArray]:
        """Return pairs with a d0 or z0 that is no number."""
        values = [m.extra[c] for m in (events.leading, events.subleading) for c in COLUMNS]
        return {"bad_impact_parameter": ~np.all(np.isfinite(values), axis=0)}

    def entries(self, pairs: Pairs, name: str) -> rw.Residuals:
        """Return d0 or z0 in um, of each muon, or of each pair of muons in one category."""
        one, other = (self._of_muons(m, name, pairs) for m in (pairs.leading, pairs.subleading))
        if self.settings.observable == "single":
            return one.joined(other)
        # what an offset of the vertex adds to d0 has the sign of the muon's direction
        opposite = (name == "d0") & (np.cos(one.phi - other.phi) < 0)
        same = (one.place == other.place) & (one.point == other.point)
        return replace(
            one,
            value=(one.value - np.where(opposite, -1.0, 1.0) * other.value) / np.sqrt(2.0),
            error=np.hypot(one.error, other.error) / np.sqrt(2.0),
            u=0.5 * (one.u + other.u),
            place=np.where(same, one.place, -1),
        )

    def _of_muons(self, muons: Muons, name: str, pairs: Pairs) -> rw.Residuals:
        column, scale = OBSERVABLES[name], p_tilde(muons.pt, muons.eta, name)
        error = muons.extra.get(f"{column}Err", np.full(len(muons.pt), np.nan))
        return rw.Residuals(
            value=CM * np.asarray(muons.extra[column], dtype=np.float64),
            error=CM * np.asarray(error, dtype=np.float64),
            u=scale**-2.0,
            place=self.settings.places.index(muons.eta, muons.phi),
            point=Axis("p_tilde", self.settings.p_tilde).index(scale),
            pt=muons.pt,
            phi=muons.phi,
            weight=pairs.weight,
        )

    def observe(self, events: Pairs, sample: Sample) -> Mapping[str, Fill]:
        """Return d0 and z0 by category."""
        n, how = len(self.settings.places), self.settings.how
        return {name: self.entries(events, name).fill(n, how) for name in OBSERVABLES}

    def normalise(
        self, events: Pairs, sample: Sample, other: Mapping[str, Array]
    ) -> Mapping[str, Fill]:
        """Return d0 and z0 over their resolution, in bins of the place, of pt and of phi."""
        found: dict[str, Fill] = {}
        suffix = KINDS[plugin.kind_of(sample, self.samples)]
        for name in OBSERVABLES:
            entries, lines = self.entries(events, name), other[f"{name}{suffix}"]
            found |= normalised(name, entries, lines, self.settings.closure)
        return found

    def layout(self, sample: Sample) -> Mapping[str, plugin.Layout]:
        """Return the halves of the events by category."""
        halves, edges = ("0", "1"), self.settings.how.edges
        rows = {n: {"half": halves, "category": tuple(self.settings.names(n))} for n in OBSERVABLES}
        return {name: plugin.Layout(own, edges, name, "um") for name, own in rows.items()}

    def fit(
        self, sums: Mapping[str, Sums], edits: Edits, whole: Reduction | None = None
    ) -> Reduction:
        """Fit the core of every category, and the line through the variances of every bin."""
        s, tables, curves = self.settings, [], []
        parameters: dict[str, plugin.Parameters] = {}
        state: dict[str, AnyArray] = {}
        rw.require_edits(edits, {c for name in OBSERVABLES for c in s.names(name)})
        for (kind, own), name in product(sums.items(), OBSERVABLES):
            key, observed = f"{name}{KINDS[kind]}", rw.Histograms.of(own, name)
            start = rw.widths(observed, s.names(name), s.how).start
            found = rw.widths(observed, s.names(name), s.how, start, _of(edits, kind, name))
            state |= {f"{key}:lines": start.lines, f"{key}:usual": start.usual}
            parameters[key] = with_fallbacks(
                s.places,
                found.estimates(),
                {"a": s.gates.a_range, "b": s.gates.b_range},
                s.gates,
                merged=partial(observed.estimates, how=s.how),
                units=("um", "um GeV"),
                labels={"sample": kind, "observable": name},
            )
            tables.append(found.table.assign(sample=kind))
            several = f"{kind}/" * (len(sums) > 1)
            curves += [fit.curve(several + c, name, "um") for c, fit in found.fitted()]
        # no muon can reach many of them
        fits = pd.concat(tables).query("n_events > 0").reset_index(drop=True)
        first = ["sample", "category", "n_events"]
        return Reduction(
            fits[[*first, *fits.columns.difference(first, sort=False)]],
            curves=tuple(curves),
            checks=checks(fits, parameters, s.gates, "an a and a b"),
            state=state,
            parameters=parameters,
        )

    def of_half(
        self, sums: Mapping[str, Sums], edits: Edits, whole: Reduction
    ) -> Mapping[str, AnyArray]:
        """Return the lines of a half, a^2 and b^2, with their covariance."""
        found: dict[str, AnyArray] = {}
        for (kind, own), name in product(sums.items(), OBSERVABLES):
            key, names = f"{name}{KINDS[kind]}", self.settings.names(name)
            start = rw.Start(whole.state[f"{key}:lines"], whole.state[f"{key}:usual"])
            how, observed = self.settings.how.half(), rw.Histograms.of(own, name)
            made = rw.widths(observed, names, how, start, _of(edits, kind, name))
            found[key], found[f"{key}_covariance"] = made.values
        return found

    def closure(self, sums: Mapping[str, Sums], reduction: Reduction) -> plugin.Closure:
        """Return widths that should be 1, by bin of eta, pt and phi."""
        kinds, s = product(self.by_kind(sums).items(), OBSERVABLES), self.settings
        blocks = {f"{name}{KINDS[kind]}": (name, own) for (kind, own), name in kinds}
        return width_closure(blocks, reduction.state, s.places.names, s.closure)

    def sections(
        self,
        reduction: Reduction,
        closure: plugin.Closure | None,
        earlier: Mapping[str, Any] | None = None,
    ) -> Sequence[plugin.Section]:
        """Return a and b, the widths against p_tilde, and what moved."""
        from calib.plots import trends

        first, *others = super().sections(reduction, closure, earlier)
        kind = next(iter(reduction.parameters.values())).labels["sample"]
        fits, figures = reduction.fits[reduction.fits["sample"] == kind], dict(first.figures)
        for name in OBSERVABLES:
            x, y = f"$\\tilde{{p}}$ of {name} [GeV]", f"$\\sigma$ of {name} [um]"
            own = reduction.parameters[f"{name}{KINDS[kind]}"]
            figures[f"widths_{name}"] = trends.widths(fits, own, name, x=x, y=y)
        return [replace(first, figures=figures), *others]

    @classmethod
    def apply(cls, document: Mapping[str, Any], events: Pairs) -> Mapping[str, AnyArray]:
        """Return sigma of d0 and z0 of both muons in um, with its error and status."""
        found: dict[str, AnyArray] = {}
        kinds = ("simulation", "data") if events.gen_mass is not None else ("data",)
        for name in OBSERVABLES:
            keys = [f"{name}{KINDS[kind]}" for kind in kinds]
            made = plugin.of_muons(document, SIGMA, LINES, keys, events)
            for mu, (sigma, error, status) in made.items():
                found |= {f"{mu}_{name}_sigma": sigma, f"{mu}_{name}_sigma_err": error}
                found[f"{mu}_{name}_status"] = status.astype(np.int32)
        return found


def _of(edits: Edits, kind: str, name: str) -> Edits:
    """Return the edits of an observable: they are of the data."""
    return {c: e for c, e in edits.items() if c.startswith(f"{name}_") and kind == "data"}
