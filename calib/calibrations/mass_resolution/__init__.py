"""Dimuon mass resolution: one factor per category between fitted and predicted resolution.

When to use: the events carry a predicted resolution (ptErr, or a parametrisation), and its
absolute scale is to be measured on a resonance. The default model carries the selection of each
category (``embedded`` without simulation, ``simulation`` with it); ``breit_wigner`` is the
field's recipe, for comparison.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any, ClassVar

import numpy as np
from pydantic import BaseModel

from calib.calibrations.base import Calibration as Base
from calib.calibrations.base import Edits, Needs
from calib.calibrations.capabilities import Closes, CorrectsPairs, HasTruth
from calib.errors import InputError
from calib.events.categories import Categories
from calib.events.histograms import Fill, Layout, Sums, add
from calib.events.pairs import Pairs
from calib.later import pandas as pd
from calib.physics.constants import RESONANCES
from calib.quality.error_budget import ErrorBudget
from calib.quality.publication_gate import Effects
from calib.results import MAIN, Check, Closure, Pass, Reduction, Section, with_shifts
from calib.schema import Sample
from calib.types import AnyArray, BoolArray

from . import applying
from . import closure as closing
from . import payload as payloads
from . import settings as settings_module
from .report.sections import sections
from .sums import closure_rows as closing_rows
from .sums import collect as collecting
from .truth import truth
from .widths.reduction import ReductionInput, reduce


class Calibration(Base, Closes, CorrectsPairs, HasTruth):
    """See the module."""

    name: ClassVar[str] = "mass_resolution"
    begins_with: ClassVar[tuple[str, ...]] = ("z", "h")
    Settings: ClassVar[type[BaseModel]] = settings_module.Settings
    payload_names: ClassVar[tuple[str, ...]] = payloads.NAMES
    resonances: ClassVar[tuple[str, ...]] = ("z", "h")
    reduction_only: ClassVar[tuple[str, ...]] = (
        "line_shape",
        "gates",
        "fit.background",
        "closure.min_events",
        "closure.max_error",
        "closure.coverage",
        "closure.tolerance",
        "closure.probability",
        "muons.pt",
        "apply",
    )
    settings: settings_module.Settings

    def check(self) -> None:
        """Refuse other resonances than Z or H, several at once, and templates that nobody has."""
        super().check()
        if len({s.resonance for s in self.samples}) > 1:
            raise InputError(
                "key 'samples': mass_resolution takes one resonance at a time; split the samples"
            )
        if "simulation" in self._models() and not self._simulated():
            raise InputError(
                "key 'settings.line_shape' or 'settings.compare': 'simulation' needs a sample"
                " with 'simulation: true' beside the data; add one, or choose 'embedded'"
            )
        mass = RESONANCES[self.samples[0].resonance].masses[0]
        if not self.settings.fit.range[0] < mass < self.settings.fit.range[1]:
            raise InputError(
                f"key 'settings.fit.range': found {list(self.settings.fit.range)}, but the samples"
                f" are of {self.samples[0].resonance!r} at {mass:g} GeV; `calib init --resonance"
                f" {self.samples[0].resonance}` writes the ranges for it"
            )
        if self.settings.apply == "muon" and self.model() == "breit_wigner":
            raise InputError(
                "key 'settings.apply': factors of muons need templates, which 'line_shape:"
                " breit_wigner' has not; choose 'category', or another line_shape"
            )

    @classmethod
    def settings_for(cls, resonance: str) -> Mapping[str, Any]:
        """Return ranges around the mass of the Higgs boson; the defaults are those of the Z."""
        if resonance != "h":
            return {}
        return {
            "window": (115.0, 135.0),
            "source_window": (122.0, 128.4),
            "fit": {"range": (117.0, 133.0), "bins": 128},
        }

    # samples and models ----------------------------------------------------------------------
    def _simulated(self) -> tuple[Sample, ...]:
        return tuple(s for s in self.samples if s not in self.targets)

    def model(self) -> str:
        """Return the model of the mass that the factors are made with."""
        if self.settings.line_shape != "auto":
            return self.settings.line_shape
        return "simulation" if self._simulated() else "embedded"

    def _models(self) -> set[str]:
        return {self.model(), *self.settings.compare}

    def _selected(self) -> collecting.MadeCuts:
        chosen, default = self.user_selection, collecting.MadeCuts()
        return collecting.MadeCuts(
            default.leading_pt if chosen.leading_pt is None else chosen.leading_pt,
            default.subleading_pt if chosen.subleading_pt is None else chosen.subleading_pt,
        )

    @property
    def categories(self) -> Categories:
        """The categories of the factors."""
        return collecting.categories(self.settings)

    # before any event ------------------------------------------------------------------------
    def needs(self, sample: Sample) -> Needs:
        """Return ptErr, unless the prediction comes from the settings."""
        if self.settings.predicted_resolution is not None:
            return Needs()
        return Needs(
            muon=("ptErr",),
            why={
                "ptErr": "set settings.predicted_resolution (a and c per range of |eta|) to"
                " calibrate without it"
            },
        )

    def selection(self, sample: Sample) -> Mapping[str, Any]:
        """Return the default cuts: those of the categories, well inside usual triggers."""
        default = collecting.MadeCuts()
        return {
            "leading_pt": default.leading_pt,
            "subleading_pt": default.subleading_pt,
            "abs_eta": self.settings.abs_eta[-1],
            "mass_window": self.settings.window,
        }

    def sized(self, walk: Pass, n_events: Mapping[str, int]) -> Pass:
        """Return a pass with the number of embedded copies.

        Parameters
        ----------
        walk : Pass
        n_events : mapping of str to int

        Returns
        -------
        Pass
            With ``copies``, where that is automatic.
        """
        targets = self.targets
        # the rows of stage1 are pairs; how many there are in other files is not known
        if self.settings.copies != "auto" or any(s.format != "stage1" for s in targets):
            return walk
        copies = collecting.copies_for(sum(n_events[s.name] for s in targets))
        return replace(walk, values={**walk.values, "copies": np.asarray(copies)})

    def collect_settings(self) -> Mapping[str, Any]:
        """Return the settings that matter to the sums; of the models, those that embed."""
        embedding = self._models() & {"embedded", "kernel"}
        return {**super().collect_settings(), "compare": sorted(embedding)}

    # event loop ------------------------------------------------------------------------------
    def rejects(self, pairs: Pairs, sample: Sample) -> Mapping[str, BoolArray]:
        """Return pairs outside the categories or without a predicted resolution.

        Parameters
        ----------
        pairs : Pairs, length n
        sample : Sample

        Returns
        -------
        mapping of str to bool array, shape (n,)
            ``outside_categories``, ``no_predicted_resolution``.
        """
        return collecting.rejects(pairs, self.settings)

    def collect(self, pairs: Pairs, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        """Return mass and prediction of a target's pairs, and templates.

        Parameters
        ----------
        pairs : Pairs
        sample : Sample
        walk : Pass

        Returns
        -------
        mapping of str to Fill or array
            By what it is for: ``mass``, ``predicted``, ``embedded/...``, ``simulation/...``.
        """
        is_target = sample in self.targets
        if walk.name == closing.NAME:
            return self._collect_closure(pairs, sample, walk)
        if not is_target:
            known = (self.settings, self._selected(), sample.resonance)
            templates = collecting.simulated(pairs, *known, self.seed)
            if "kernel" in self._models():
                templates |= collecting.kernel_simulated(pairs, *known)
            return templates
        found = collecting.observed(pairs, self.settings)
        made = (self.settings, self._selected(), sample.resonance, self.seed, walk)
        if "embedded" in self._models():
            found |= collecting.embedded(pairs, *made)
        if "kernel" in self._models() and not self._simulated():
            found |= collecting.kernel_embedded(pairs, *made)
        return found

    def _collect_closure(
        self, pairs: Pairs, sample: Sample, walk: Pass
    ) -> Mapping[str, Fill | AnyArray]:
        """Return the rows of the closure of a target's pairs, and their templates."""
        is_target = sample in self.targets
        wanted = "embedded" if is_target else "simulation"
        makes = str(walk.values["closure_model"]) == wanted
        made = (self.settings, self._selected(), sample.resonance, self.seed, walk)
        found: dict[str, Fill | AnyArray] = {}
        for muons in (False, True) if "half_muons" in walk.values else (False,):
            if is_target:
                found |= closing_rows.observed(pairs, self.settings, walk, muons)
            if makes:
                found |= closing_rows.templates(pairs, *made, muons)
        return found

    def layout(self, sample: Sample) -> Mapping[str, Layout]:
        """Return what the histograms of a target are: halves of the events by category."""
        if sample not in self.targets:
            return {}
        rows = {"half": ("0", "1"), "category": self.categories.names}
        edges = collecting.PREDICTED_EDGES
        return {
            "mass": Layout(rows, self.settings.mass_edges),
            "predicted": Layout(rows, edges, "predicted mass resolution"),
        }

    # reduction -------------------------------------------------------------------------------
    def _total(self, sums: Mapping[str, Sums], samples: Sequence[Sample]) -> Sums | None:
        parts = [sums[s.name] for s in samples if s.name in sums]
        return add(parts) if parts else None

    def reduce(self, sums: Mapping[str, Sums], edits: Edits, walk: Pass = MAIN) -> Reduction:
        """Fit every category, judge it, and let it lean on the others.

        Parameters
        ----------
        sums : mapping of the name of a sample to its sums
        edits : mapping
            Settings of single categories.
        walk : Pass

        Returns
        -------
        Reduction
            Table ``factors``, one row a category.
        """
        target = self._total(sums, self.targets)
        assert target is not None
        start = ReductionInput(
            target,
            self._total(sums, self._simulated()),
            "+".join(s.name for s in self.targets),
            self.targets[0].resonance,
            self.categories,
            self.settings,
            self.seed,
        )
        return reduce(start, self.model(), self.settings.compare, edits)

    def closure_pass(self, reduction: Reduction) -> Pass:
        """Return the pass in which each half is calibrated with the other's factors."""
        return closing.walk_of(reduction)

    def closure(self, sums: Mapping[str, Sums], reduction: Reduction) -> Closure:
        """Compare fitted with predicted resolution, half by half.

        Parameters
        ----------
        sums : mapping of the name of a sample to its sums
            Of the pass ``closure``.
        reduction : Reduction

        Returns
        -------
        Closure
            One row for each bin, kind and half.
        """
        target = self._total(sums, self.targets)
        assert target is not None
        made = {"embedded": target, "simulation": self._total(sums, self._simulated())}.get(
            str(reduction.state["closure_model"])
        )
        return closing.evaluate(target, made, reduction, self.settings, self.targets[0].resonance)

    # out -------------------------------------------------------------------------------------
    def publish(self, reduction: Reduction) -> Mapping[str, Any]:
        """Return the payload."""
        return payloads.document(reduction, self.settings, self.targets[0].simulation)

    def check_payload(self, document: Mapping[str, Any], reduction: Reduction) -> Sequence[Check]:
        """Return whether the payload gives the factors, at 10 000 points.

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
        return payloads.check(document, reduction, self.settings, self.seed)

    def sections(
        self,
        reduction: Reduction,
        closure: Closure | None,
        earlier: Mapping[str, Any] | None = None,
    ) -> Sequence[Section]:
        """Return the factors as a map and a table, the closure, and the models side by side.

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
        return sections(reduction, closure, earlier, self.settings, self.categories)

    @classmethod
    def apply(cls, document: Mapping[str, Any], events: Pairs) -> Mapping[str, AnyArray]:
        """Return the calibrated mass resolution of each pair, in GeV, and what it is made of.

        The payload says whether it multiplies the prediction by the factor of the pair's
        category, or ptErr of each muon by its own (then those of both muons are given too).

        Parameters
        ----------
        document : mapping
            The payload.
        events : Pairs, length n
            With ptErr, GeV.

        Returns
        -------
        mapping of str to array, shape (n,)
            See `applying.columns`.
        """
        return applying.columns(document, events)

    @classmethod
    def apply_pairs(cls, document: Mapping[str, Any], pairs: Pairs) -> Pairs:
        """Return pairs with ptErr as calibrated, so that the prediction is: see `apply`.

        ptErr of both muons times the pair's factor, or of each muon times its own.

        Parameters
        ----------
        document : mapping
            The payload.
        pairs : Pairs
            Selected ones.

        Returns
        -------
        Pairs
            With another pt_err, in GeV.
        """
        return applying.with_errors(document, pairs)

    @classmethod
    def effects(
        cls,
        tables: Mapping[str, pd.DataFrame],
        arrays: Mapping[str, Mapping[str, AnyArray]],
        like: Mapping[str, pd.DataFrame] | None = None,
    ) -> Effects:
        """Return ln(factor) of each category, with its statistical covariance.

        Parameters
        ----------
        tables, arrays : mappings
            Those of the reduction: ``factors`` and ``covariance``.
        like : mapping, optional
            Not used.

        Returns
        -------
        Effects
            One of each category, without unit.
        """
        from .effects import effects

        return effects(tables, arrays)

    @classmethod
    def error_budget(
        cls, tables: Mapping[str, pd.DataFrame], arrays: Mapping[str, Mapping[str, AnyArray]]
    ) -> ErrorBudget:
        """Return what the errors of the factors are made of: own events, the rings, variations.

        Parameters
        ----------
        tables, arrays : mappings
            Those of the reduction: ``factors``, ``rings`` and ``covariance``.

        Returns
        -------
        ErrorBudget
            One of each category, without unit.
        """
        from .effects import error_budget

        return error_budget(tables)

    def with_systematics(self, reduction: Reduction, shifts: Mapping[str, AnyArray]) -> Reduction:
        """Return a result whose factors have systematic variations in their errors.

        Those of muons are not varied.

        Parameters
        ----------
        reduction : Reduction
            The result.
        shifts : mapping of name to array, shape (36,)
            Change of each factor.

        Returns
        -------
        Reduction
            With ``syst_NAME`` in ``factors``, in ``covariance`` and so in the payload.
        """
        found = with_shifts(reduction, shifts)
        squares = [np.square(shift) for shift in shifts.values()]
        error = np.sqrt(np.sum([np.square(reduction.state["factor_err"]), *squares], axis=0))
        named = {f"syst_{name}": shift for name, shift in shifts.items()}
        factors = found.tables["factors"].assign(factor_err=error, **named)
        return replace(
            found,
            tables={**found.tables, "factors": factors},
            state={**found.state, "factor_err": error},
        )

    def growing(self) -> Mapping[str, Any]:
        """Return a number of copies that does not depend on how many events there are."""
        return {"copies": collecting.MOST_COPIES} if self.settings.copies == "auto" else {}

    @classmethod
    def truth(cls, pairs: Pairs) -> Mapping[str, Any] | None:
        """Return the true factor of each category of simulated pairs, and its error."""
        return truth(pairs, settings_module.Settings(), collecting.MadeCuts())

    @classmethod
    def values(cls, document: Mapping[str, Any]) -> pd.DataFrame:
        """Return the factors in a payload, of categories and of muons, named by their bins."""
        return payloads.values(document)
