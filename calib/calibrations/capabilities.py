"""What a calibration can beyond the contract: small classes to derive it from as well.

A class says what it can by what it is derived from, and the framework asks by `isinstance`:

    Iterates        walks over the events again until nothing moves
    Closes          has a closure test of its own
    ClosesInHalves  has one of half against half, which is made here
    AddsColumns     gives new columns of events from its payload (`calib apply`)
    CorrectsMuons   corrects muons, each for itself, which later calibrations read
    CorrectsPairs   corrects what belongs to a pair (ptErr), likewise
    Exports         writes its payload in the layout of others
    HasTruth        knows what it should find in simulated events
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, ClassVar, Generic, Literal

import numpy as np

from calib.errors import InputError
from calib.events.histograms import Fill, Sums, add
from calib.events.pairs import Muons, Pairs
from calib.events.random import half
from calib.events.records import EventsT
from calib.later import pandas as pd
from calib.payload.nodes import evaluate_at
from calib.quality.closure import coverage, worst_pull
from calib.results import MAIN, Closure, Exported, Pass, Reduction, Status
from calib.schema import Sample
from calib.types import AnyArray, Array, IntArray

Edits = Mapping[str, Mapping[str, Any]]
"""Settings of single categories, ``{category: {"fit.range": [82, 98]}}``."""


CLOSURE = "closure"
"""Name of the pass that a closure test needs."""


class Iterates:
    """A calibration that walks over the events until nothing moves."""

    settings: Any

    passes_on: ClassVar[tuple[str, ...]] = ()
    """Names in the state of a reduction that the following passes need, the closure too."""

    def next_pass(self, reduction: Reduction, walk: Pass) -> Pass | None:
        """Return the next pass over the events after a reduction, or None when it is done.

        By default it is done when the reduction's state says ``converged``, or after
        ``settings.max_passes`` beyond the first.

        Parameters
        ----------
        reduction : Reduction
        walk : Pass
            That of its sums.
        """
        done = 0 if walk.name == MAIN.name else int(walk.name)
        if bool(reduction.state["converged"]) or done >= self.settings.max_passes:
            return None
        return Pass(str(done + 1), {name: reduction.state[name] for name in self.passes_on})


class Closes(ABC):
    """A calibration with a closure test of its own."""

    passes_on: ClassVar[tuple[str, ...]] = ()
    """Names in the state of a reduction that the pass of the closure needs."""

    def closure_pass(self, reduction: Reduction) -> Pass | None:
        """Return the pass over the events that the test needs; None: the sums at hand will do.

        By default one with what `passes_on` names, if anything.
        """
        values = {name: reduction.state[name] for name in self.passes_on}
        return Pass(CLOSURE, values) if values else None

    @abstractmethod
    def closure(self, sums: Mapping[str, Sums], reduction: Reduction) -> Closure:
        """Test the result on events that took no part in it.

        Parameters
        ----------
        sums : mapping of the name of a sample to its sums
            Of `closure_pass`, or of the last pass where that is None.
        reduction : Reduction
        """


class ClosesInHalves(Closes, Generic[EventsT]):
    """A calibration whose result from one half of the events is tested on the other half.

    To be named before `Calibration`: it has the `collect`, `reduce` and `closure` of the contract.
    What is written for it knows of no halves: `observe` in place of `collect`, `fit` in place of
    `reduce`. By default the parameters of one half are compared with those of the other. Where
    the events themselves have to be looked at with the result of the other half (`looks_again`),
    there are `normalise` and a `closure` of its own.
    """

    name: ClassVar[str]
    samples: tuple[Sample, ...]

    editable: ClassVar[tuple[str, ...]] = ()
    """Keys that can be set for a single category by hand."""
    looks_again: ClassVar[bool] = False
    """Whether the closure walks over the events, each half with what the other has given."""
    closure_coverage: ClassVar[float] = 0.5
    """Least share of the events in bins that both halves have a value for."""
    closure_probability: ClassVar[float] = 1e-3
    """Least probability of the worst pull, given their number."""

    @abstractmethod
    def observe(self, events: EventsT, sample: Sample) -> Mapping[str, Fill]:
        """Return columns to be filled, by name: one entry an event, or blocks of one an event each.

        Two blocks are the leading muons of all pairs, then the others.

        Parameters
        ----------
        events : Pairs or Records
        sample : Sample
        """

    @abstractmethod
    def fit(
        self, sums: Mapping[str, Sums], edits: Edits, whole: Reduction | None = None
    ) -> Reduction:
        """Fit sums of events, all of them or a half.

        Parameters
        ----------
        sums : mapping of ``data`` and ``simulation`` to sums
            That of the targets first; each is of all samples of its kind.
        edits : mapping
        whole : Reduction, optional
            That of all events, where the sums are those of a half.
        """

    def of_half(
        self, sums: Mapping[str, Sums], edits: Edits, whole: Reduction
    ) -> Mapping[str, AnyArray]:
        """Return what a half gives and the closure needs: arrays, by name.

        `normalise` gets those that go by the keys of the parameters, the closure all of them. By
        default values and errors of the parameters of `fit`, shape (n, k), NaN without.

        Parameters
        ----------
        sums, edits
            As in `fit`; the sums are those of the half.
        whole : Reduction
            That of all events.
        """
        found: dict[str, AnyArray] = {}
        for key, own in self.fit(sums, edits, whole).parameters.items():
            known = own.own[:, None]
            found[f"{key}:values"] = np.where(known, own.values, np.nan)
            found[f"{key}:errors"] = np.where(known, own.errors, np.nan)
        return found

    def normalise(
        self, events: EventsT, sample: Sample, other: Mapping[str, Array]
    ) -> Mapping[str, Fill]:
        """Return columns of events of one half, looked at with what `of_half` gave of the other.

        Parameters
        ----------
        events : Pairs or Records
        sample : Sample
        other : mapping of the key of the parameters to array
        """
        raise NotImplementedError

    # the contract ----------------------------------------------------------------------------
    def collect(self, events: EventsT, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        """Return the columns of both halves, those of half 0 in the first categories."""
        part = half(events.run, events.luminosityBlock, events.event)
        if walk.name != CLOSURE:
            found = self.observe(events, sample)
            return {name: _by_half(name, own, part) for name, own in found.items()}
        given = _halves_in(walk.values)
        one, other = (
            self.normalise(
                events.take(np.flatnonzero(part == h)),
                sample,
                {n: np.asarray(x)[1 - h] for n, x in given.items()},
            )
            for h in (0, 1)
        )
        return {name: _stacked(own, other[name]) for name, own in one.items()}

    def reduce(self, sums: Mapping[str, Sums], edits: Edits, walk: Pass = MAIN) -> Reduction:
        """Fit all events, then each half, with and without the edits.

        Raises
        ------
        InputError
            If there is an edit, and nothing is `editable`.
        """
        if edits and not self.editable:
            raise InputError(
                f"category {next(iter(edits))!r}: nothing of a category of {type(self).name} can be"
                " set by hand; change its settings"
            )
        total = self.by_kind(sums)
        halves = [{k: half_of(own, h) for k, own in total.items()} for h in (0, 1)]
        both = {k: add([halves[0][k], halves[1][k]]) for k in total}
        whole = self.fit(both, edits)
        state = dict(whole.state)
        plain = [self.of_half(own, {}, whole) for own in halves]
        edited = [self.of_half(own, edits, whole) for own in halves] if edits else plain
        for name in plain[0]:
            state[f"{name}{HALVES}"] = np.array([x[name] for x in plain])
            state[f"{name}{EDITED}"] = np.array([x[name] for x in edited])
        return replace(whole, state=state)

    def closure_pass(self, reduction: Reduction) -> Pass | None:
        """Return the pass with what the halves have given for each key, shape (2, ...); or None."""
        if not self.looks_again:
            return None
        names = [f"{key}{HALVES}" for key in reduction.parameters]
        return Pass(CLOSURE, {name: reduction.state[name] for name in names})

    def by_kind(self, sums: Mapping[str, Sums]) -> dict[str, Sums]:
        """Return the sums of all samples of a kind, ``data`` and ``simulation``, targets first."""
        kinds = dict.fromkeys(kind_of(s, self.samples) for s in self.samples)
        first = sorted(kinds, key=lambda k: k != "data")
        return {
            k: add(sums[s.name] for s in self.samples if kind_of(s, self.samples) == k)
            for k in first
        }

    def closure(self, sums: Mapping[str, Sums], reduction: Reduction) -> Closure:
        """Compare the parameters of both halves, bin by bin."""
        rows = []
        for key, own in reduction.parameters.items():
            values = np.asarray(reduction.state[f"{key}:values{EDITED}"])
            errors = np.asarray(reduction.state[f"{key}:errors{EDITED}"])
            for j, name in enumerate(own.names):
                error = np.hypot(errors[0, :, j], errors[1, :, j])
                start = f"{key} " if key else ""
                of_bin = pd.DataFrame(
                    {
                        "bin": [f"{start}{place} {name}" for place in own.bins],
                        "expected": values[0, :, j],
                        "fitted": values[1, :, j],
                        "error": error,
                        "pull": (values[1, :, j] - values[0, :, j]) / error,
                        "status": [Status.OK if e > 0 else Status.TOO_FEW_EVENTS for e in error],
                        "n_events": 1 if own.n_events is None else own.n_events,
                        "kind": name,
                        "half": 1,
                    }
                )
                rows.append(of_bin)
        table = pd.concat(rows, ignore_index=True)
        everything = np.ones(len(table), dtype=np.bool_)
        text = "share of the events in bins with values of both halves"
        share = coverage(table, everything, self.closure_coverage, text)
        return Closure(table, (share, worst_pull(table, self.closure_probability)))


HALVES, EDITED = "_halves", "_edited"


def _halves_in(values: Mapping[str, AnyArray]) -> dict[str, AnyArray]:
    return {n.removesuffix(HALVES): x for n, x in values.items() if n.endswith(HALVES)}


def kind_of(sample: Sample, samples: tuple[Sample, ...]) -> Literal["data", "simulation"]:
    """Return what a sample is among others: simulation beside data, else a target, ``data``."""
    has_data = any(not s.simulation for s in samples)
    return "simulation" if sample.simulation and has_data else "data"


def half_of(sums: Sums, h: int) -> Sums:
    """Return the sums of half 0 or 1, of sums that `ClosesInHalves.collect` has made."""
    return {name: np.split(np.asarray(x), 2)[h] for name, x in sums.items()}


def _by_half(name: str, found: Fill, part: IntArray) -> Fill:
    """Return columns with the categories of half 1 after those of half 0.

    Raises
    ------
    ValueError
        If there are not as many entries of each event.
    """
    blocks, rest = divmod(len(found.value), max(len(part), 1))
    if rest or len(found.category) != len(found.value):
        raise ValueError(
            f"{name}: {len(found.value)} entries of {len(part)} events, expected one an event, or"
            " blocks of one an event each"
        )
    of_entry = np.tile(part, blocks) * found.n_categories
    category = np.where(found.category < 0, -1, found.category + of_entry)
    return replace(found, category=category, n_categories=2 * found.n_categories)


def _stacked(one: Fill, other: Fill) -> Fill:
    """Return the columns of both halves as one, the categories of half 1 after those of half 0."""
    category = np.where(other.category < 0, -1, other.category + one.n_categories)
    return Fill(
        np.concatenate([one.category, category]),
        2 * one.n_categories,
        np.concatenate([one.value, other.value]),
        one.edges,
        np.concatenate([one.weight, other.weight]),
        {n: np.concatenate([x, other.means[n]]) for n, x in one.means.items()},
    )


# what a payload does -----------------------------------------------------------------------------
class AddsColumns(ABC, Generic[EventsT]):
    """A calibration whose payload gives new columns of events."""

    @classmethod
    @abstractmethod
    def apply(cls, document: Mapping[str, Any], events: EventsT) -> Mapping[str, AnyArray]:
        """Return new columns of each pair, or row of a table, by name, from a payload alone.

        ``mu1_pt, mu2_pt`` (leading, sub-leading) replace the muons' pt, ``mu1_ptErr, mu2_ptErr``
        its error (without them it is rescaled with pt); any other name is added. Pairs with a
        ``gen_mass`` are simulated.

        Parameters
        ----------
        document : mapping
            The payload.
        events : Pairs or Records, length n

        Returns
        -------
        mapping of name to array, shape (n,)
        """


class CorrectsMuons(AddsColumns[Pairs]):
    """A calibration whose payload corrects muons, each for itself."""

    pt_factor: ClassVar[str] = ""
    """The correction in its payload that pt and its error are multiplied with; its inputs are
    among ``pt, eta, abs_eta, phi, charge``."""
    reads: ClassVar[tuple[str, ...]] = ()
    """Further columns of simulated muons (``extra``), by their names in NanoAOD without Muon_."""
    reads_of_event: ClassVar[tuple[str, ...]] = ()
    """What simulated events must have of run, luminosityBlock, event, for the random numbers."""

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
        """Return muons with corrected pt and pt_err, each for itself, from a payload alone.

        By default both times the `pt_factor`.

        Parameters
        ----------
        document : mapping
            The payload.
        muons : Muons
        run, luminosityBlock, event : array, shape (n,)
            Of each muon.
        simulated : bool
        """
        factor = evaluate_at(
            document,
            cls.pt_factor,
            {
                "pt": muons.pt,
                "eta": muons.eta,
                "abs_eta": np.abs(muons.eta),
                "phi": muons.phi,
                "charge": muons.charge,
            },
        )
        if factor is None:
            return muons
        factor = np.where(np.isfinite(factor), factor, 1.0)
        error = None if muons.pt_err is None else muons.pt_err * factor
        return replace(muons, pt=muons.pt * factor, pt_err=error)

    @classmethod
    def apply(cls, document: Mapping[str, Any], events: Pairs) -> Mapping[str, AnyArray]:
        """Return pt, and ptErr where the events have it, of both muons as corrected."""
        found: dict[str, AnyArray] = {}
        identity = (events.run, events.luminosityBlock, events.event)
        for i, muons in ((1, events.leading), (2, events.subleading)):
            made = cls.apply_muons(document, muons, *identity, events.gen_mass is not None)
            found[f"mu{i}_pt"] = made.pt
            if made.pt_err is not None:
                found[f"mu{i}_ptErr"] = made.pt_err
        return found


class CorrectsPairs(AddsColumns[Pairs]):
    """A calibration whose payload corrects what belongs to a pair as a whole (ptErr)."""

    @classmethod
    @abstractmethod
    def apply_pairs(cls, document: Mapping[str, Any], pairs: Pairs) -> Pairs:
        """Return selected pairs with corrected ptErr, from a payload alone.

        pt stays: the pair was chosen by it. Pairs without ptErr are given back as they are.

        Parameters
        ----------
        document : mapping
            The payload.
        pairs : Pairs
        """


class Exports(ABC):
    """A calibration whose payload can be written in layouts of others."""

    layouts: ClassVar[tuple[str, ...]]
    """The layouts that `export` knows, the usual one first."""
    layouts_of_sums: ClassVar[tuple[str, ...]] = ()
    """Those for which `export` takes ``sums`` as well: those of the first pass, by sample."""

    @classmethod
    @abstractmethod
    def export(cls, document: Mapping[str, Any], layout: str, at: float | None = None) -> Exported:
        """Return a payload in a layout of others.

        Parameters
        ----------
        document : mapping
            The payload.
        layout : str
            One of `layouts`.
        at : float, optional
            pt in GeV where both agree.

        Raises
        ------
        InputError
            If there is no such layout.
        """


class HasTruth(ABC):
    """A calibration that knows what it should find in simulated events."""

    @classmethod
    @abstractmethod
    def truth(cls, pairs: Pairs) -> Mapping[str, Any] | None:
        """Return what it should find in simulated pairs with generated muons, None: nothing.

        ``{"table": "factors", "key": "category", "value": "factor", "truth": {name: value}}``:
        the table of the reduction, its columns, and the true value of each row; beside it
        ``truth_err``, by the same names, where the events know it with an error. `calib toys`
        writes it into truth.json under ``calibrations.NAME``; `calib demo` compares.
        """


# asking ------------------------------------------------------------------------------------------
REQUIRED = {
    "next_pass": Iterates,
    "closure": Closes,
    "closure_pass": Closes,
    "apply": AddsColumns,
    "apply_muons": CorrectsMuons,
    "apply_pairs": CorrectsPairs,
    "export": Exports,
    "truth": HasTruth,
}
"""Which class a calibration with such a method has to be derived from: no other is asked."""


def following_pass(calibration: Any, reduction: Reduction, walk: Pass) -> Pass | None:
    """Return the next pass of a calibration that iterates, else None."""
    return calibration.next_pass(reduction, walk) if isinstance(calibration, Iterates) else None


def corrects(kind: type[Any]) -> Literal["muons", "pairs", "nothing"]:
    """Return what a later calibration finds corrected by the payload of a calibration."""
    if issubclass(kind, CorrectsMuons):
        return "muons"
    return "pairs" if issubclass(kind, CorrectsPairs) else "nothing"
