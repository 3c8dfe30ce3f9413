"""The contract of a calibration: what a plug-in provides, and who calls it when.

A calibration is one file or folder in ``calib/calibrations/`` with a class named
``Calibration`` (a subclass of the one here). The order of the calls is

    needs, selection            before any event is read
    rejects, collect            on the workers, once per chunk and pass; the sums add
    reduce                      once, on the total
    next_pass                   after reduce: another pass over the events, or None
    closure_pass, closure       events that took no part, against the result
    publish, sections           payload and report
    apply, apply_muons          events of an analysis, with the payload alone
    apply_muons, apply_pairs    events of a later calibration, which reads the payload
    effects                     what its constants do, to see whether they move
    export                      the payload in the layout of others
    layout, quality, values     a person who looks at sums and payloads

No method knows about files, Dask or the command line.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import numpy as np
import pandas as pd
from pydantic import BaseModel

from calib.errors import InputError
from calib.events.histograms import Fill, Layout, Sums
from calib.events.pairs import Muons, Pairs
from calib.payload.values import numbers
from calib.physics.constants import RESONANCES
from calib.quality.publication_gate import Effects
from calib.results import MAIN, Check, Closure, Exported, Pass, Reduction, Section
from calib.schema import Sample, Selection, Strict
from calib.types import AnyArray, BoolArray

Edits = Mapping[str, Mapping[str, Any]]
"""Settings of single categories, ``{category: {"fit.range": [82, 98]}}``."""


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


class Calibration(ABC):
    """One calibration with its settings, for the samples of one run."""

    name: ClassVar[str]
    Settings: ClassVar[type[BaseModel]] = Strict
    payload_names: ClassVar[tuple[str, ...]]
    """Names of the corrections in its payload; the first one identifies it."""
    resonances: ClassVar[tuple[str, ...]] = tuple(RESONANCES)
    """Resonances that it is measured on."""
    formats: ClassVar[tuple[str, ...]] = ("nanoaod", "stage1")
    """Formats of the samples that it reads."""
    begins_with: ClassVar[tuple[str, ...]] = ()
    """Resonances on which it is the calibration to begin with, where none is named."""
    layouts: ClassVar[tuple[str, ...]] = ()
    """Layouts of others that `export` knows."""
    reduction_only: ClassVar[tuple[str, ...]] = ()
    """Settings, dotted, that neither `collect` nor `rejects` look at: to change one touches no
    events."""

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

    # before any event ------------------------------------------------------------------------
    @abstractmethod
    def needs(self, sample: Sample) -> Needs:
        """Return the columns to read."""

    @abstractmethod
    def selection(self, sample: Sample) -> Mapping[str, Any]:
        """Return its defaults for the keys of `Selection` that the user left open."""

    @classmethod
    def toys(cls, sample: Sample, n: int, seed: int) -> Mapping[str, AnyArray] | None:
        """Return columns of toys on which `calib plugins` tries it; None: pairs of `calib toys`."""
        return None

    @classmethod
    def truth(cls, pairs: Pairs) -> Mapping[str, Any] | None:
        """Return what it should find in simulated pairs with generated muons, or None.

        ``{"table": "factors", "key": "category", "value": "factor", "truth": {name: value}}``:
        the table of the reduction, its columns, and the true value of each row; beside it
        ``truth_err``, by the same names, where the events know it with an error. `calib toys`
        writes it into truth.json under ``calibrations.NAME``; `calib demo` compares.
        """
        return None

    def sized(self, walk: Pass, n_events: Mapping[str, int]) -> Pass:
        """Return a pass with what in it depends on the number of events of each sample's files."""
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
    def rejects(self, pairs: Pairs, sample: Sample) -> Mapping[str, BoolArray]:
        """Return masks of pairs it cannot use, by reason (``outside_categories``)."""
        return {}

    @abstractmethod
    def collect(self, pairs: Pairs, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        """Return columns to be filled, or sums ready to be added, by name."""

    def layout(self, sample: Sample) -> Mapping[str, Layout]:
        """Return what the histograms among the sums of a sample are, for people, by name."""
        return {}

    # reduction, once ---------------------------------------------------------------------------
    @abstractmethod
    def reduce(self, sums: Mapping[str, Sums], edits: Edits, walk: Pass = MAIN) -> Reduction:
        """Fit and extract from the sums of each sample that a pass has collected.

        Raises
        ------
        InputError
            If an edit names a category or a key that does not exist.
        """

    def next_pass(self, reduction: Reduction, walk: Pass) -> Pass | None:
        """Return the next pass over the events of an iteration, or None when it is done."""
        return None

    def closure_pass(self, reduction: Reduction) -> Pass | None:
        """Return the pass over the events that the closure test needs, or None."""
        return None

    def closure(self, sums: Mapping[str, Sums], reduction: Reduction) -> Closure:
        """Test the result on events that took no part in it."""
        raise NotImplementedError

    # out ---------------------------------------------------------------------------------------
    @abstractmethod
    def publish(self, reduction: Reduction) -> Mapping[str, Any]:
        """Return the payload: a correctionlib schema 2 document."""

    def check_payload(self, document: Mapping[str, Any], reduction: Reduction) -> Sequence[Check]:
        """Read the written payload back and compare it with the result."""
        return ()

    def sections(
        self,
        reduction: Reduction,
        closure: Closure | None,
        earlier: Mapping[str, Any] | None = None,
    ) -> Sequence[Section]:
        """Return its sections of the report; ``earlier`` is an earlier payload to compare with."""
        return ()

    @classmethod
    def apply(cls, document: Mapping[str, Any], pairs: Pairs) -> Mapping[str, AnyArray]:
        """Return new columns of each pair, by name, from a payload alone.

        ``mu1_pt, mu2_pt`` (leading, sub-leading) replace the muons' pt, ``mu1_ptErr, mu2_ptErr``
        its error (without them it is rescaled with pt); any other name is added. Pairs with a
        ``gen_mass`` are simulated.
        """
        raise NotImplementedError

    @classmethod
    def apply_muons(
        cls,
        document: Mapping[str, Any],
        muons: Muons,
        run: AnyArray,
        luminosityBlock: AnyArray,
        event: AnyArray,
        simulated: bool,
    ) -> Muons | None:
        """Return muons with corrected pt and pt_err, each for itself, from a payload alone.

        None, the default, where a correction is one of pairs: then `apply` has them.
        """
        return None

    @classmethod
    def apply_pairs(cls, document: Mapping[str, Any], pairs: Pairs) -> Pairs | None:
        """Return selected pairs with what is corrected of a pair as a whole (ptErr).

        pt stays: the pair was chosen by it. None, the default: nothing that a later calibration
        reads. Pairs without ptErr are given back as they are.
        """
        return None

    @classmethod
    def corrects(cls) -> Literal["muons", "pairs", "nothing"]:
        """Return what a later calibration finds corrected by its payload."""
        for name in ("muons", "pairs"):
            own, default = (getattr(c, f"apply_{name}").__func__ for c in (cls, Calibration))
            if own is not default:
                return name
        return "nothing"

    @classmethod
    def quality(cls, document: Mapping[str, Any], pairs: Pairs) -> Mapping[str, AnyArray]:
        """Return what a payload says of each pair beyond `apply`: its resolution, its status."""
        return {}

    @classmethod
    def values(cls, document: Mapping[str, Any]) -> pd.DataFrame:
        """Return the values in a payload, one row each: ``name, kind, value, error, status``.

        The status is in words; values of one kind (``factor``, ``A``) can be drawn together. Two
        payloads are compared value by value, by these names.
        """
        return numbers(document, cls.payload_names[0])

    @classmethod
    def effects(
        cls,
        tables: Mapping[str, pd.DataFrame],
        arrays: Mapping[str, Mapping[str, AnyArray]],
        like: Mapping[str, pd.DataFrame] | None = None,
    ) -> Effects:
        """Return what the constants of a run do (`calib.quality.publication_gate`).

        By default its parameters as they are, from ``covariance``: relative changes already where
        its payload corrects something, else their moves are taken as shares of their values.

        Parameters
        ----------
        tables, arrays : mappings
            Those of the `Reduction`, or read back from the files of a run.
        like : mapping, optional
            Tables of a run that it is compared with.

        Raises
        ------
        InputError
            If there is no ``covariance``.
        """
        if "covariance" not in arrays:
            raise InputError(
                f"calibration {cls.name}: it gives no 'covariance' in the arrays of its reduction,"
                " so nobody knows whether it moves; add it, or an `effects` of its own"
            )
        found = arrays["covariance"]
        values = np.asarray(found["values"], dtype=np.float64)
        covariance = np.asarray(found["covariance"], dtype=np.float64)
        names = tuple(str(name) for name in found["names"])
        return Effects(names, values, covariance, np.isfinite(values))

    def growing(self) -> Mapping[str, Any]:
        """Return settings, dotted, with which its sums stay valid while files are added."""
        return {}

    @classmethod
    def export(cls, document: Mapping[str, Any], layout: str, at: float | None = None) -> Exported:
        """Return a payload in the layout of others; ``at`` is the pt in GeV where both agree.

        Raises
        ------
        InputError
            If there is no such layout.
        """
        raise InputError(
            f"option --layout: found {layout!r}, but {cls.name} has no other layouts; use"
            " payload.json as it is"
        )
