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
        """Return pairs of the same charge, which have no plus and minus.

        Parameters
        ----------
        pairs : Pairs, length n
        sample : Sample

        Returns
        -------
        mapping of str to bool array, shape (n,)
            ``same_charge``.
        """
        return {"same_charge": pairs.leading.charge == pairs.subleading.charge}

    def collect(self, pairs: Pairs, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        """Return the masses of a target's pairs, and the reference.

        Parameters
        ----------
        pairs : Pairs
        sample : Sample
        walk : Pass
            With the corrections and the resolution found so far.

        Returns
        -------
        dict of str to array
            Sums.
        """
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
        """Fit every category against the reference, and extract the parameters both ways.

        Parameters
        ----------
        sums : mapping of the name of a sample to its sums
        edits : mapping
            ``use`` of a category.
        walk : Pass

        Returns
        -------
        Reduction
            Table ``parameters``, one row an eta bin: A, e (GeV), M (1/GeV), a, c (1/GeV).
        """
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
        """Return the pass with the corrections found so far.

        Parameters
        ----------
        reduction : Reduction
            With ``converged`` in its state.
        walk : Pass
            That of its sums.

        Returns
        -------
        Pass or None
            None: nothing moves, or there were enough passes.
        """
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
        """Run again on the corrected events, half against half, and along other axes.

        Parameters
        ----------
        sums : mapping of the name of a sample to its sums
            Of the pass ``closure``.
        reduction : Reduction

        Returns
        -------
        Closure
            Parameters of the halves, and bins of the axes.
        """
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
        """Return whether the payload gives the parameters, and those the composed corrections.

        Parameters
        ----------
        document : mapping
            As read from the file.
        reduction : Reduction

        Returns
        -------
        sequence of Check
            ``payload_read_back`` first.
        """
        from .payloads.readback import check

        return check(document, reduction, self.seed)

    def sections(
        self,
        reduction: Reduction,
        closure: Closure | None,
        earlier: Mapping[str, Any] | None = None,
    ) -> Sequence[Section]:
        """Return parameters, residuals, closure and iteration.

        Parameters
        ----------
        reduction : Reduction
        closure : Closure or None
        earlier : mapping, optional
            An earlier payload.

        Returns
        -------
        sequence of Section
            In the order of the report.
        """
        from .report.sections import sections

        return sections(reduction, closure, earlier)

    @classmethod
    def apply(cls, document: Mapping[str, Any], events: Pairs) -> Mapping[str, AnyArray]:
        """Return corrected pt (and ptErr) of both muons; simulated ones are smeared as well.

        Parameters
        ----------
        document : mapping
            The payload.
        events : Pairs, length n
            GeV.

        Returns
        -------
        mapping of str to array, shape (n,)
            ``mu1_pt, mu2_pt, mu1_ptErr, mu2_ptErr``, in GeV.
        """
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
        """Return muons corrected each for itself; simulated ones are smeared as well.

        Parameters
        ----------
        document : mapping
            The payload.
        muons : Muons, length n
            GeV.
        run, luminosityBlock, event : int array, shape (n,)
            Of each muon.
        simulated : bool
            Whether the scale is that of the simulation, and the muons are smeared.

        Returns
        -------
        Muons
            With another pt and pt_err, in GeV.
        """
        from .payloads.apply import apply_muons

        return apply_muons(document, muons, run, luminosityBlock, event, simulated)

    @classmethod
    def quality(cls, document: Mapping[str, Any], pairs: Pairs) -> Mapping[str, AnyArray]:
        """Return resolution and status of both muons and of the mass.

        Parameters
        ----------
        document : mapping
            The payload.
        pairs : Pairs, length n
            As measured, GeV.

        Returns
        -------
        mapping of str to array, shape (n,)
            ``mu1_resolution``, ``mu1_status``, ``dimuon_mass_resolution`` (GeV) and the like.
        """
        from .payloads.apply import quality

        return quality(document, pairs)

    @classmethod
    def values(cls, document: Mapping[str, Any]) -> pd.DataFrame:
        """Return A, e, M, a2, c2 of each eta bin in a payload."""
        from .payloads.reading import values

        return values(document)

    def with_systematics(self, reduction: Reduction, shifts: Mapping[str, AnyArray]) -> Reduction:
        """Return a result whose parameters have systematic variations in their errors.

        Parameters
        ----------
        reduction : Reduction
            The result.
        shifts : mapping of name to array, shape (n,)
            Change of each parameter, in the order of ``covariance``.

        Returns
        -------
        Reduction
            With ``syst_NAME`` in ``parameters``, in ``covariance`` and in the payload.
        """
        from .constants.tables import with_shifts

        return with_shifts(reduction, shifts)

    @classmethod
    def effects(
        cls,
        tables: Mapping[str, pd.DataFrame],
        arrays: Mapping[str, Mapping[str, AnyArray]],
        like: Mapping[str, pd.DataFrame] | None = None,
    ) -> Effects:
        """Return the relative change of k in each eta bin, by charge.

        Parameters
        ----------
        tables, arrays : mappings
            Those of the reduction.
        like : mapping, optional
            Tables of a run whose mean k is taken.

        Returns
        -------
        Effects
            Two of each eta bin, without unit.
        """
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
        """Return m and a of others, or all of muon_scalesmearing, and what they leave out.

        Parameters
        ----------
        document : mapping
            The payload.
        layout : str
            One of ``layouts``.
        at : float, optional
            pt in GeV at which e is absorbed.
        sums : mapping of the name of a sample to its sums, optional
            Of the first pass, for ``muon_scalesmearing``.

        Returns
        -------
        Exported
            The document, and what it does not say.

        Raises
        ------
        InputError
            If there is no such layout, or the pt is not positive.
        """
        from .payloads.export import export

        return export(document, layout, at, sums)
