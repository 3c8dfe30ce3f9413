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
from typing import Any, ClassVar

import numpy as np
import pandas as pd
from pydantic import BaseModel

from calib.calibrations.base import Calibration as Base
from calib.calibrations.base import Edits, Needs
from calib.edits import require_known
from calib.errors import InputError
from calib.events.histograms import Fill, Layout, Sums, add
from calib.events.pairs import Pairs
from calib.physics.constants import RESONANCES
from calib.quality.closure import coverage, worst_pull
from calib.quality.publication_gate import Effects
from calib.results import MAIN, Check, Closure, Curve, Pass, Reduction, Section
from calib.schema import Sample
from calib.types import AnyArray, BoolArray

from . import payload
from . import settings as settings_module
from .closure import closure_rows
from .entries import OBSERVABLES, normalised, observed
from .payload import NAME, document, keys, read_back, resolution
from .reduction import KINDS, reduce_block, reduction_of
from .sections import sections


class Calibration(Base):
    """See the module."""

    name: ClassVar[str] = "impact_parameter"
    Settings: ClassVar[type[BaseModel]] = settings_module.Settings
    payload_names: ClassVar[tuple[str, ...]] = (NAME, "impact_parameter_sigma_z0")
    reduction_only: ClassVar[tuple[str, ...]] = (
        "gates",
        "closure.min_events",
        "closure.coverage",
        "closure.tolerance",
        "closure.probability",
    )
    settings: settings_module.Settings

    def needs(self, sample: Sample) -> Needs:
        """Return d0 and z0; their errors, where the input has them, are compared with."""
        why = dict.fromkeys(OBSERVABLES.values(), "take files that have d0 and z0, in cm")
        return Needs(muon=tuple(OBSERVABLES.values()), optional=("dxyErr", "dzErr"), why=why)

    def selection(self, sample: Sample) -> Mapping[str, Any]:
        """Return the resonance's window, and any muon in the bins."""
        leading, other = (20.0, 15.0) if sample.resonance in ("z", "h") else (3.0, 3.0)
        return {
            "leading_pt": leading,
            "subleading_pt": other,
            "mass_window": RESONANCES[sample.resonance].window,
            "abs_eta": float(max(abs(self.settings.eta[0]), abs(self.settings.eta[-1]))),
        }

    def _kind(self, sample: Sample) -> str:
        return "data" if sample in self.targets else "simulation"

    def rejects(self, pairs: Pairs, sample: Sample) -> Mapping[str, BoolArray]:
        """Return pairs with a d0 or z0 that is no number."""
        columns = [
            m.extra[c] for m in (pairs.leading, pairs.subleading) for c in OBSERVABLES.values()
        ]
        return {"bad_impact_parameter": ~np.all(np.isfinite(columns), axis=0)}

    def collect(self, pairs: Pairs, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        """Return d0 and z0 by category; in the closure pass, in units of their resolution."""
        if walk.name == MAIN.name:
            return {name: observed(pairs, name, self.settings) for name in OBSERVABLES}
        found: dict[str, Fill | AnyArray] = {}
        for name in OBSERVABLES:
            lines = np.asarray(walk.values[f"{name}{KINDS[self._kind(sample)]}_halves"])
            found |= normalised(pairs, name, self.settings, lines)
        return found

    def layout(self, sample: Sample) -> Mapping[str, Layout]:
        """Return the halves of the events by category."""
        return {
            name: Layout(
                {"half": ("0", "1"), "category": tuple(self.settings.names(name))},
                self.settings.edges,
                name,
                "um",
            )
            for name in OBSERVABLES
        }

    def _by_kind(self, sums: Mapping[str, Sums]) -> dict[str, Sums]:
        kinds = dict.fromkeys(self._kind(s) for s in (*self.targets, *self.samples))
        return {k: add(sums[s.name] for s in self.samples if self._kind(s) == k) for k in kinds}

    def reduce(self, sums: Mapping[str, Sums], edits: Edits, walk: Pass = MAIN) -> Reduction:
        """Fit the core of every category, and the line through the variances of every bin."""
        names = {c for name in OBSERVABLES for c in self.settings.names(name)}
        require_known(edits, names, ("use", "reach"))
        for category, changes in edits.items():
            reach = changes.get("reach", 1.0)
            if isinstance(reach, bool) or not isinstance(reach, (int, float)) or not reach > 0:
                raise InputError(
                    f"category {category}: key 'reach': found {reach!r}, expected um,"
                    " half of the range of the fit"
                )
        blocks = [
            reduce_block(kind, name, own, self.settings, edits)
            for kind, own in self._by_kind(sums).items()
            for name in OBSERVABLES
        ]
        return reduction_of(blocks, self.settings)

    def closure_pass(self, reduction: Reduction) -> Pass:
        """Return the pass in which each half is measured in units of the other's resolution."""
        return Pass(
            "closure", {f"{k}_halves": reduction.state[f"{k}_halves"] for k in keys(reduction)}
        )

    def closure(self, sums: Mapping[str, Sums], reduction: Reduction) -> Closure:
        """Return widths that should be 1, by bin of eta, pt and phi."""
        rows: list[dict[str, Any]] = []
        curves: list[Curve] = []
        for kind, own in self._by_kind(sums).items():
            for name in OBSERVABLES:
                r, c = closure_rows(name, f"{name}{KINDS[kind]}", own, reduction, self.settings)
                rows, curves = rows + r, curves + c
        table, limits = pd.DataFrame(rows), self.settings.closure
        text = f"share of the events in bins with at least {limits.min_events}"
        share = coverage(table, np.ones(len(table), dtype=bool), limits.coverage, text)
        return Closure(table, (share, worst_pull(table, limits.probability)), tuple(curves))

    def publish(self, reduction: Reduction) -> Mapping[str, Any]:
        """Return the payload."""
        return document(reduction, self.settings)

    def check_payload(self, document: Mapping[str, Any], reduction: Reduction) -> Sequence[Check]:
        """Read the payload back."""
        return [read_back(document, reduction, self.settings, self.seed)]

    def sections(
        self,
        reduction: Reduction,
        closure: Closure | None,
        earlier: Mapping[str, Any] | None = None,
    ) -> Sequence[Section]:
        """Return a and b, the widths, and what moved."""
        return sections(reduction, earlier)

    @classmethod
    def apply(cls, document: Mapping[str, Any], pairs: Pairs) -> Mapping[str, AnyArray]:
        """Return sigma of d0 and z0 of both muons in um, with its error and status."""
        found: dict[str, AnyArray] = {}
        kinds = ("simulation", "data") if pairs.gen_mass is not None else ("data",)
        for name in OBSERVABLES:
            for i, muons in ((1, pairs.leading), (2, pairs.subleading)):
                made = (resolution(document, f"{name}{KINDS[k]}", muons) for k in kinds)
                own = next((x for x in made if x is not None), None)
                if own is not None:
                    column = f"mu{i}_{name}_sigma"
                    found |= {
                        column: own[0],
                        f"{column}_err": own[1],
                        f"mu{i}_{name}_status": own[2].astype(np.int32),
                    }
        return found

    @classmethod
    def effects(
        cls,
        tables: Mapping[str, pd.DataFrame],
        arrays: Mapping[str, Mapping[str, AnyArray]],
        like: Mapping[str, pd.DataFrame] | None = None,
    ) -> Effects:
        """Return ln a and ln b of each bin."""
        found = arrays["covariance"]
        values = np.asarray(found["values"], dtype=np.float64)
        relative = np.asarray(found["covariance"]) / np.outer(values, values)
        own = np.repeat((tables["parameters"]["own_status"] == "ok").to_numpy(), 2)
        names = tuple(str(name) for name in found["names"])
        return Effects(names, np.log(values), relative, own & np.isfinite(values))

    @classmethod
    def values(cls, document: Mapping[str, Any]) -> pd.DataFrame:
        """Return a and b of each bin in a payload."""
        return payload.values(document)
