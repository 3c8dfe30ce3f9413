"""Momentum scale and resolution of the muon per eta bin, from J/psi, Upsilon and Z.

When to use: the pt of muons is to be corrected for the magnetic field (A), energy loss (e) and
misalignment (M), and simulated muons smeared to the resolution (a, c) of the data. The mass of
each category is measured against a reference of generated muons that went through the same cuts
and categories; with a simulation these are its own, without one they are made from the data.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel

from calib.calibrations.base import Calibration as Base
from calib.calibrations.base import Edits, Needs
from calib.calibrations.capabilities import Closes, CorrectsMuons, Exports, Iterates
from calib.edits import left_out, require_known
from calib.errors import InputError
from calib.events.histograms import Fill, Layout, Sums, add
from calib.events.pairs import Muons, Pairs
from calib.later import pandas as pd
from calib.quality.publication_gate import Effects
from calib.results import MAIN, Check, Closure, Exported, Pass, Reduction, Section
from calib.schema import Sample
from calib.types import AnyArray, BoolArray

from . import settings as settings_module
from .closing import axes
from .constants.peaks import Source
from .sums import collect as collecting
from .sums import residuals
from .sums.grid import LOOSE, WIDE, grid
from .sums.passes import CLOSURE, pass_number, values_of


class Calibration(Base, Iterates, Closes, CorrectsMuons, Exports):
    """See the module."""

    name: ClassVar[str] = "momentum_scale"
    begins_with: ClassVar[tuple[str, ...]] = ("jpsi", "upsilon")
    Settings: ClassVar[type[BaseModel]] = settings_module.Settings
    payload_names: ClassVar[tuple[str, ...]] = ("momentum_scale",)
    resonances: ClassVar[tuple[str, ...]] = ("jpsi", "upsilon", "z")
    reduction_only: ClassVar[tuple[str, ...]] = ("gates", "method", "max_passes", "convergence")
    layouts: ClassVar[tuple[str, ...]] = ("additive_multiplicative", "muon_scalesmearing")
    layouts_of_sums: ClassVar[tuple[str, ...]] = ("muon_scalesmearing",)
    settings: settings_module.Settings

    def check(self) -> None:
        """Refuse unknown resonances, none to calibrate with, and cuts on uncorrected pt."""
        super().check()
        used = [r for r in self._resonances() if r not in self.settings.held_out]
        if not used:
            raise InputError(
                "key 'settings.held_out': no resonance is left to calibrate with; add samples of"
                " another one, or take one out of the list"
            )
        for key, value in (
            ("leading_pt", self.user_selection.leading_pt),
            ("subleading_pt", self.user_selection.subleading_pt),
        ):
            for r in self._resonances():
                most = LOOSE * getattr(self.settings.of(r), key)
                if value is not None and value > most + 1e-9:
                    raise InputError(
                        f"key 'selection.{key}': found {value:g}, but the cut is made on the"
                        f" corrected pt and events are read from {most:g} GeV; set"
                        f" settings.{r}.{key} instead"
                    )

    # samples -----------------------------------------------------------------------------------
    def _resonances(self) -> list[str]:
        """Return the resonances of the samples to be calibrated, in a fixed order."""
        return [r for r in self.resonances if any(s.resonance == r for s in self.targets)]

    def _simulated(self, resonance: str) -> tuple[Sample, ...]:
        return tuple(s for s in self.samples if s.simulation and s.resonance == resonance)

    def _has_second(self) -> bool:
        """Return whether the simulation is calibrated beside the data."""
        used = [r for r in self._resonances() if r not in self.settings.held_out]
        beside = self.targets[0].simulation is False
        return beside and self.settings.calibrate_simulation and any(map(self._simulated, used))

    # before any event --------------------------------------------------------------------------
    def needs(self, sample: Sample) -> Needs:
        """Return no columns beyond the kinematics, but of simulated muons what layouts ask for."""
        return Needs(optional=(residuals.LAYERS,)) if sample.simulation else Needs()

    def selection(self, sample: Sample) -> Mapping[str, Any]:
        """Return cuts that are looser than the calibration's own, which are on corrected pt."""
        own = self.settings.of(sample.resonance)
        low, high = own.window
        return {
            "leading_pt": LOOSE * own.leading_pt,
            "subleading_pt": LOOSE * own.subleading_pt,
            "abs_eta": float(max(abs(self.settings.eta[0]), abs(self.settings.eta[-1]))),
            "mass_window": (low * (1 - WIDE), high * (1 + WIDE)),
        }

    # event loop --------------------------------------------------------------------------------
    def rejects(self, pairs: Pairs, sample: Sample) -> Mapping[str, BoolArray]:
        """Return pairs of the same charge, which have no plus and minus."""
        return {"same_charge": pairs.leading.charge == pairs.subleading.charge}

    def collect(self, pairs: Pairs, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        """Return the masses of a target's pairs, and the reference."""
        g, closing_now = grid(self.settings, sample.resonance), walk.name == CLOSURE
        if sample.resonance in self.settings.held_out and not closing_now:
            return {}
        found: dict[str, AnyArray] = {}
        unit = collecting.has_unit_weights(pairs.weight)
        target = sample in self.targets
        if target:
            steps = collecting.steps_of(walk.values, "data", self.settings.n_eta)
            found |= collecting.observed(pairs, g, steps)
            if closing_now:
                found |= axes.observed(pairs, g, steps, self.settings)
        if sample.simulation and walk.name == MAIN.name:
            found |= residuals.observed(pairs, unit)
        if self._makes_reference(sample):
            found |= collecting.reference(
                self._copies(pairs, sample, "data", walk), g, "reference", unit
            )
            if closing_now:
                found |= axes.reference(
                    self._copies(pairs, sample, "data", walk),
                    g,
                    self.settings,
                    "axes/reference",
                    unit,
                )
        if self._has_second() and sample.simulation and not closing_now:
            steps = collecting.steps_of(walk.values, "simulation", self.settings.n_eta)
            found |= collecting.observed(pairs, g, steps)
            found |= collecting.reference(
                self._copies(pairs, sample, "simulation", walk), g, "own_reference", unit
            )
        return found

    def _makes_reference(self, sample: Sample) -> bool:
        return sample.simulation or not self._simulated(sample.resonance)

    def _copies(
        self, pairs: Pairs, sample: Sample, kind: str, walk: Pass
    ) -> Iterator[collecting.Copy]:
        g = grid(self.settings, sample.resonance)
        a2, c2 = collecting.resolution_of(walk.values, kind, self.settings)
        if sample.simulation:
            return collecting.simulated_copies(
                pairs, g, a2, c2, sample.name, self.seed, self.settings.copies
            )
        steps = collecting.steps_of(walk.values, "data", self.settings.n_eta)
        return collecting.embedded_copies(pairs, g, a2, c2, steps, self.settings, self.seed)

    def layout(self, sample: Sample) -> Mapping[str, Layout]:
        """Return what the histograms are: halves of the data by category, and the reference."""
        g = grid(self.settings, sample.resonance)
        names, halves = tuple(g.names()), {"half": ("0", "1")}
        found = {"mass": Layout({**halves, "category": names}, g.mass_edges)}
        for made in ("reference", "own_reference"):
            found[f"{made}/mass"] = Layout({"category": names}, g.mass_edges)
            found[f"{made}/template"] = Layout({"category": names}, g.gen_edges, "generated mass")
        return found

    # reduction ---------------------------------------------------------------------------------
    def _sources(self, sums: Mapping[str, Sums], kind: str) -> list[Source]:
        """Return the categories of each resonance that takes part."""
        found = []
        for r in self._resonances():
            if r in self.settings.held_out:
                continue
            g, simulated = grid(self.settings, r), self._simulated(r)
            alone = self.targets[0].simulation
            if kind == "data":
                own = [s for s in self.targets if s.resonance == r]
                made, prefix = simulated or own, "reference"
                # its own events: the statistics of the template are not those of another sample
                copies = 0 if alone else (self.settings.copies if simulated else 1)
            elif simulated:
                own, made, prefix, copies = list(simulated), simulated, "own_reference", 0
            else:
                continue
            found.append(
                Source(
                    "+".join(s.name for s in own),
                    g,
                    add(sums[s.name] for s in own),
                    add(sums[s.name] for s in made),
                    prefix,
                    copies,
                    "simulation" if simulated else "embedded",
                    "none" if own[0].simulation else self.settings.of(r).background,
                )
            )
        return found

    def reduce(self, sums: Mapping[str, Sums], edits: Edits, walk: Pass = MAIN) -> Reduction:
        """Fit every category against the reference, and extract the parameters both ways."""
        from .constants.reduction import reduce_kind
        from .constants.result import result

        sources = self._sources(sums, "data")
        names = frozenset(n for s in sources for n in s.grid.names())
        require_known(edits, names, ("use",))
        drop = left_out(edits)
        kinds = [reduce_kind("data", sources, self.settings, walk, drop=drop)]
        if self._has_second():
            kinds.append(
                reduce_kind("simulation", self._sources(sums, "simulation"), self.settings, walk)
            )
        return result(kinds, walk, self.settings, self.seed)

    def next_pass(self, reduction: Reduction, walk: Pass) -> Pass | None:
        """Return the pass with the corrections found so far, or None when nothing moves."""
        passes = pass_number(walk)
        if bool(reduction.state["converged"]) or passes >= self.settings.max_passes:
            return None
        values = values_of(reduction.state)
        values["history"] = np.asarray(reduction.state["history"])
        return Pass(str(passes + 1), values)

    # closure -----------------------------------------------------------------------------------
    def closure_pass(self, reduction: Reduction) -> Pass:
        """Return the pass over the corrected events."""
        from .closing.closure import walk_of

        return walk_of(reduction)

    def closure(self, sums: Mapping[str, Sums], reduction: Reduction) -> Closure:
        """Run again on the corrected events, half against half, and along other axes."""
        from .closing.closure import evaluate

        looks = {}
        for r in self._resonances():
            own = [s for s in self.targets if s.resonance == r]
            made = self._simulated(r) or own
            looks[r] = (
                "+".join(s.name for s in own),
                add(sums[s.name] for s in own),
                add(sums[s.name] for s in made),
            )
        return evaluate(self._sources(sums, "data"), looks, self.settings, reduction)

    # out ---------------------------------------------------------------------------------------
    def publish(self, reduction: Reduction) -> Mapping[str, Any]:
        """Return the payload."""
        from .payloads.payload import document

        return document(reduction)

    def check_payload(self, document: Mapping[str, Any], reduction: Reduction) -> Sequence[Check]:
        """Read the payload back, and compare it with the composed corrections."""
        from .payloads.readback import check

        return check(document, reduction, self.seed)

    def sections(
        self,
        reduction: Reduction,
        closure: Closure | None,
        earlier: Mapping[str, Any] | None = None,
    ) -> Sequence[Section]:
        """Return parameters, residuals, closure and iteration."""
        from .report.sections import sections

        return sections(reduction, closure, earlier)

    @classmethod
    def apply(cls, document: Mapping[str, Any], events: Pairs) -> Mapping[str, AnyArray]:
        """Return corrected pt (and ptErr) of both muons; simulated ones are smeared as well."""
        from .payloads.apply import apply

        return apply(document, events)

    @classmethod
    def apply_muons(
        cls,
        document: Mapping[str, Any],
        muons: Muons,
        run: AnyArray,
        luminosityBlock: AnyArray,
        event: AnyArray,
        simulated: bool,
    ) -> Muons:
        """Return muons corrected each for itself; simulated ones are smeared as well."""
        from .payloads.apply import apply_muons

        return apply_muons(document, muons, run, luminosityBlock, event, simulated)

    @classmethod
    def quality(cls, document: Mapping[str, Any], pairs: Pairs) -> Mapping[str, AnyArray]:
        """Return resolution and status of both muons and of the mass."""
        from .payloads.apply import quality

        return quality(document, pairs)

    @classmethod
    def values(cls, document: Mapping[str, Any]) -> pd.DataFrame:
        """Return A, e, M, a2, c2 of each eta bin in a payload."""
        from .payloads.reading import values

        return values(document)

    @classmethod
    def effects(
        cls,
        tables: Mapping[str, pd.DataFrame],
        arrays: Mapping[str, Mapping[str, AnyArray]],
        like: Mapping[str, pd.DataFrame] | None = None,
    ) -> Effects:
        """Return the relative change of k in each eta bin, by charge."""
        from .effects import effects

        return effects(tables, arrays, like)

    @classmethod
    def export(
        cls,
        document: Mapping[str, Any],
        layout: str,
        at: float | None = None,
        sums: Mapping[str, Sums] | None = None,
    ) -> Exported:
        """Return m and a of others, or all of muon_scalesmearing, and what they leave out."""
        from .payloads.export import export

        return export(document, layout, at, sums)
