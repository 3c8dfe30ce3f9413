"""The contract of a calibration: what a plug-in provides, and who calls it when.

A calibration is one file or folder in ``calib/calibrations/`` with a class named
``Calibration`` (a subclass of the one here). The order of the calls is

    needs, selection            before any event is read
    rejects, collect            on the workers, once per chunk and pass; the sums add
    reduce                      once, on the total
    publish, sections           payload and report, by default made from its `Parameters`
    quality, values, effects    a person or a program that looks at a payload

What only some can (iterate, close, correct, export) is in `calib.calibrations.capabilities`.
No method knows about files, Dask or the command line.
"""

from __future__ import annotations

import warnings
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar, Generic

from pydantic import BaseModel

from calib.calibrations.capabilities import REQUIRED, Edits, corrects
from calib.errors import CalibError, InputError
from calib.events.histograms import Fill, Layout, Sums
from calib.events.pairs import Pairs
from calib.events.records import EventsT, Records
from calib.later import pandas as pd
from calib.payload import parameters
from calib.payload.parameters import Payload
from calib.payload.values import numbers
from calib.physics.constants import RESONANCES
from calib.quality.error_budget import ErrorBudget, budget_of
from calib.quality.publication_gate import Effects, effects_of
from calib.results import MAIN, Check, Closure, Pass, Reduction, Section, with_shifts
from calib.schema import Sample, Selection, Strict
from calib.types import AnyArray, BoolArray

__all__ = ["Calibration", "Edits", "Needs", "TableCalibration"]


@dataclass(frozen=True)
class Needs:
    """Columns that a calibration reads, by their names in NanoAOD without ``Muon_``.

    ``pt, eta, phi, charge`` are always read. ``muon`` must be there; ``optional`` are read
    where the input has them. ``why`` completes the sentence of the refusal where one is missing
    ("... or set settings.predicted_resolution"). ``columns`` are those of a table, which all must
    be there (see `calib.events.records`).
    """

    muon: tuple[str, ...] = ()
    optional: tuple[str, ...] = ()
    why: Mapping[str, str] | None = None
    columns: tuple[str, ...] = ()


class Calibration(ABC, Generic[EventsT]):
    """One calibration with its settings, for the samples of one run.

    Of pairs of muons, or of what else the type says (`TableCalibration`). What it can beyond this
    is said by further classes that it is derived from (`calib.calibrations.capabilities`).
    """

    name: ClassVar[str]
    Settings: ClassVar[type[BaseModel]] = Strict
    payload: ClassVar[Payload] = {}
    """The corrections in its payload, made from the parameters of its reduction."""
    payload_names: ClassVar[tuple[str, ...]]
    """Names of the corrections in its payload; the first one identifies it. By default those of
    ``payload`` without a key."""
    title: ClassVar[str] = ""
    """Heading of its section of the report, and what its payload is of."""
    text: ClassVar[str] = ""
    """What is said below that heading."""
    positive: ClassVar[bool] = False
    """Whether all parameters are above zero: then their shifts are those of their logarithms."""
    resonances: ClassVar[tuple[str, ...]] = tuple(RESONANCES)
    """Resonances that it is measured on."""
    formats: ClassVar[tuple[str, ...]] = ("nanoaod", "stage1")
    """Formats of the samples that it reads."""
    begins_with: ClassVar[tuple[str, ...]] = ()
    """Resonances on which it is the calibration to begin with, where none is named."""
    reduction_only: ClassVar[tuple[str, ...]] = ()
    """Settings, dotted, that neither `collect` nor `rejects` look at: to change one touches no
    events."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        for method, capability in REQUIRED.items():
            # the order of bases is looked at: issubclass would remember that it is none
            if method in cls.__dict__ and capability not in cls.__mro__:
                warnings.warn(
                    f"class {cls.__name__} has a method {method!r} and is taken for one that"
                    f" {capability.__name__}; derive it from calib.plugin.{capability.__name__} as"
                    " well, a later version will not look for the method",
                    DeprecationWarning,
                    stacklevel=3,
                )
                cls.__bases__ = (*cls.__bases__, capability)
        plain = tuple(name for name in cls.payload if "{key}" not in name)
        if "payload" in cls.__dict__ and "payload_names" not in cls.__dict__ and plain:
            cls.payload_names = plain

    def __init__(
        self,
        settings: BaseModel,
        samples: Sequence[Sample],
        seed: int,
        user_selection: Selection | None = None,
    ) -> None:
        self.settings = settings
        self.samples = tuple(samples)
        self.seed = seed
        self.user_selection = user_selection or Selection()
        self.check()

    def check(self) -> None:
        """Refuse samples and settings that do not fit together.

        Raises
        ------
        InputError
            If a sample is of a resonance that it is not measured on; more in those that have more
            to refuse.
        """
        for sample in self.samples:
            if sample.format not in self.formats:
                raise InputError(
                    f"sample {sample.name}: key 'format': found {sample.format!r}, but {self.name}"
                    f" reads {' or '.join(self.formats)}; take another sample"
                )
            if sample.resonance not in self.resonances:
                raise InputError(
                    f"sample {sample.name}: key 'resonance': found {sample.resonance!r}, but"
                    f" {self.name} is measured on {', '.join(self.resonances)}; take another sample"
                )

    @property
    def targets(self) -> tuple[Sample, ...]:
        """The samples to be calibrated: the data, or the simulation where it is alone."""
        data = tuple(s for s in self.samples if not s.simulation)
        return data or self.samples

    @classmethod
    def settings_for(cls, resonance: str) -> Mapping[str, Any]:
        """Return settings to begin with on a resonance, where the defaults are of another one."""
        return {}

    # before any event ------------------------------------------------------------------------
    def needs(self, sample: Sample) -> Needs:
        """Return the columns to read beyond the kinematics of muons; by default none."""
        return Needs()

    def selection(self, sample: Sample) -> Mapping[str, Any]:
        """Return its defaults for the keys of `Selection` that the user left open."""
        return {}

    @classmethod
    def toys(cls, sample: Sample, n: int, seed: int) -> Mapping[str, AnyArray] | None:
        """Return columns of toys on which `calib plugins` tries it.

        Parameters
        ----------
        sample : Sample
            A toy sample: its resonance, format, and whether it is simulated.
        n : int
            Number of rows that are wanted.
        seed : int
            Of the random numbers.

        Returns
        -------
        mapping of name to array, shape (n,), or None
            Columns of a table; None: pairs of `calib toys` are taken.
        """
        return None

    def sized(self, walk: Pass, n_events: Mapping[str, int]) -> Pass:
        """Return a pass with what in it depends on the number of events.

        Parameters
        ----------
        walk : Pass
            The next walk over the events.
        n_events : mapping of str to int
            Events in the files of each sample, before any cut.

        Returns
        -------
        Pass
            By default the same.
        """
        return walk

    def collect_settings(self) -> Mapping[str, Any]:
        """Return the settings that the sums depend on; the sums of a run serve any others."""
        found: dict[str, Any] = self.settings.model_dump(mode="json")
        for key in self.reduction_only:
            *parents, last = key.split(".")
            place: Any = found
            for parent in parents:
                place = place[parent]
            del place[last]
        return found

    # event loop, on the workers --------------------------------------------------------------
    def rejects(self, events: EventsT, sample: Sample) -> Mapping[str, BoolArray]:
        """Return masks of events it cannot use, by reason (``outside_categories``).

        Parameters
        ----------
        events : Pairs or Records, length n
            Those of one chunk that passed the selection.
        sample : Sample
            What they are of.

        Returns
        -------
        mapping of str to bool array, shape (n,)
            By reason, True for what is left out. An event counts under the first reason that
            applies.
        """
        return {}

    @abstractmethod
    def collect(self, events: EventsT, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        """Return columns to be filled, or sums ready to be added, by name.

        Parameters
        ----------
        events : Pairs or Records, length n
            Those of one chunk that neither the selection nor `rejects` left out.
        sample : Sample
            What they are of.
        walk : Pass
            Which walk over the events this is, and the numbers that it needs.

        Returns
        -------
        mapping of name to Fill or array
            A Fill is histogrammed per category; an array is a sum already, of a shape that does not
            depend on the chunk. Chunks are added.
        """

    def layout(self, sample: Sample) -> Mapping[str, Layout]:
        """Return what the histograms among the sums of a sample are, for people, by name."""
        return {}

    # reduction, once ---------------------------------------------------------------------------
    @abstractmethod
    def reduce(self, sums: Mapping[str, Sums], edits: Edits, walk: Pass = MAIN) -> Reduction:
        """Fit and extract from the sums of each sample that a pass has collected.

        Parameters
        ----------
        sums : mapping of the name of a sample to its sums
            Totals over all chunks: arrays by name, ``NAME/sumw`` and the like of a Fill ``NAME``.
        edits : mapping
            ``{category: {key: value}}``, set by hand; empty without.
        walk : Pass
            That of the sums.

        Returns
        -------
        Reduction
            Table of fits, parameters, checks, and the state that later steps need.

        Raises
        ------
        InputError
            If an edit names a category or a key that does not exist.
        """

    def with_systematics(self, reduction: Reduction, shifts: Mapping[str, AnyArray]) -> Reduction:
        """Return a result whose errors contain systematic variations that a user has named.

        Parameters
        ----------
        reduction : Reduction
            With ``covariance``.
        shifts : mapping of name to array, shape (n,)
            Change of each parameter for one standard deviation of each variation, in the order
            and the units of ``covariance``.

        Returns
        -------
        Reduction
            By default with them in ``covariance`` (``syst_NAME``, and ``statistical`` without),
            and in that of its parameters, of which payload and tables are made.
        """
        return with_shifts(reduction, shifts)

    # out ---------------------------------------------------------------------------------------
    def publish(self, reduction: Reduction) -> Mapping[str, Any]:
        """Return the payload: a correctionlib schema 2 document, by default as ``payload`` says.

        Raises
        ------
        CalibError
            If it says nothing, or the reduction has no parameters.
        """
        if not self.payload or not reduction.parameters:
            raise CalibError(
                f"calibration {self.name!r}, publish: found no 'payload' of the class and no"
                " 'parameters' of the reduction to make one of; give both, or a `publish`"
            )
        words = f"{self.title or self.name} (dimucal, {self.name})"
        return parameters.document(self.payload, reduction.parameters, words)

    def check_payload(self, document: Mapping[str, Any], reduction: Reduction) -> Sequence[Check]:
        """Return whether the written payload gives the parameters of the result.

        Parameters
        ----------
        document : mapping
            The payload, as read from the file that was written.
        reduction : Reduction
            What it was made from.

        Returns
        -------
        sequence of Check
            Its part of the verdict; by default `payload_read_back`.
        """
        if not self.payload or not reduction.parameters:
            return ()
        return (parameters.read_back(document, self.payload, reduction.parameters, self.seed),)

    def sections(
        self,
        reduction: Reduction,
        closure: Closure | None,
        earlier: Mapping[str, Any] | None = None,
    ) -> Sequence[Section]:
        """Return its sections of the report.

        By default the parameters as tables and figures, and what moved.

        Parameters
        ----------
        reduction : Reduction
            The result.
        closure : Closure or None
            None: there is no closure test, or it was not made.
        earlier : mapping, optional
            An earlier payload to compare with.

        Returns
        -------
        sequence of Section
            In the order of the report.
        """
        if not reduction.parameters:
            return ()
        from calib.plots.parameters import moved, overview

        first = overview(reduction.parameters, self.title or self.name, self.text)
        if earlier is None:
            return (first,)
        return (first, moved(reduction.parameters, self.payload, earlier))

    @classmethod
    def quality(cls, document: Mapping[str, Any], pairs: Pairs) -> Mapping[str, AnyArray]:
        """Return what a payload says of each pair beyond `apply`: its resolution, its status.

        Parameters
        ----------
        document : mapping
            The payload.
        pairs : Pairs, length n
            As measured: the payload is not applied yet. GeV.

        Returns
        -------
        mapping of name to array, shape (n,)
            Columns that are added to the events; by default none.
        """
        return {}

    @classmethod
    def values(cls, document: Mapping[str, Any]) -> pd.DataFrame:
        """Return the values in a payload, one row each: ``name, kind, value, error, status``.

        The status is in words; values of one kind (``factor``, ``A``) can be drawn together. Two
        payloads are compared value by value, by these names.
        """
        found = parameters.values(document, cls.payload)
        return numbers(document, cls.payload_names[0]) if found is None else found

    @classmethod
    def effects(
        cls,
        tables: Mapping[str, pd.DataFrame],
        arrays: Mapping[str, Mapping[str, AnyArray]],
        like: Mapping[str, pd.DataFrame] | None = None,
    ) -> Effects:
        """Return what the constants of a run do (`calib.quality.publication_gate`).

        By default its parameters, from ``covariance``: their logarithms where they are
        ``positive``; as they are where its payload corrects something, which is relative already;
        else their shifts are to be taken as shares of their values.

        Parameters
        ----------
        tables, arrays : mappings
            Those of the `Reduction`, or read back from the files of a run.
        like : mapping, optional
            Tables of a run that it is compared with.

        Returns
        -------
        Effects
            n quantities with covariance.

        Raises
        ------
        InputError
            If there is no ``covariance``.
        """
        covariance = _covariance_of(cls.name, arrays, "whether it moves")
        found = effects_of(covariance, tables, positive=cls.positive)
        return replace(found, relative=cls.positive or corrects(cls) != "nothing")

    @classmethod
    def error_budget(
        cls, tables: Mapping[str, pd.DataFrame], arrays: Mapping[str, Mapping[str, AnyArray]]
    ) -> ErrorBudget:
        """Return what the errors of a result are made of, and so what more events would bring.

        Parameters
        ----------
        tables, arrays : mappings
            Those of the `Reduction`, or read back from the files of a run.

        Returns
        -------
        ErrorBudget
            By default all that is statistical falls with the luminosity.

        Raises
        ------
        InputError
            If there is no ``covariance``.
        """
        return budget_of(_covariance_of(cls.name, arrays, "what its errors are made of"))

    def growing(self) -> Mapping[str, Any]:
        """Return settings, dotted, with which its sums stay valid while files are added."""
        return {}


def _covariance_of(
    name: str, arrays: Mapping[str, Mapping[str, AnyArray]], what: str
) -> Mapping[str, AnyArray]:
    if "covariance" not in arrays:
        raise InputError(
            f"calibration {name}: it gives no 'covariance' in the arrays of its reduction, so"
            f" nobody knows {what}; add it, or a method of its own"
        )
    return arrays["covariance"]


class TableCalibration(Calibration[Records]):
    """One calibration of records: `Calibration`, with records in place of pairs.

    ``columns`` names the columns, or ``needs``: ``Needs(columns=("time", "side"))``; those of
    ``optional`` are read where the file has them. A column ``weight`` is the weight of a row.
    """

    formats: ClassVar[tuple[str, ...]] = ("table",)
    resonances: ClassVar[tuple[str, ...]] = ("none",)
    columns: ClassVar[tuple[str, ...]] = ()
    """The columns that must be there, unless `needs` says more."""

    def needs(self, sample: Sample) -> Needs:
        """Return the columns to read."""
        return Needs(columns=self.columns)
