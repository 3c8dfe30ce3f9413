"""The selection of NanoAOD in levels, cheapest columns first.

The columns of a level are read only for the events that the earlier ones have left, so a basket
without such an event is never read. Every event ends under the same reason as if all columns had
been read at once: an event with a single good muon is decided by its kinematics, since a bad
value of that muon counts before the missing second one.
"""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import numba
import numpy as np

from calib.calibrations.base import Needs
from calib.errors import InputError
from calib.events.cuts import CUT, FILTER
from calib.events.pairs import Muons, Pairs
from calib.schema import Sample
from calib.types import AnyArray, Array, BoolArray, IntArray, UIntArray
from processors import pairing
from processors.certified import is_certified, is_other_run
from processors.corrections import Corrections, corrected_events, corrects_muons, reads_of
from processors.cuts import pass_cuts
from processors.readers import columns as names
from processors.readers.events import (
    EventColumns,
    Events,
    Selected,
    candidates_of,
    has_fired,
    identity_of,
    is_vetoed,
    weight_of,
    wide,
)
from processors.readers.nanoaod import matched
from processors.selection import (
    FEWER_THAN_TWO_MUONS,
    IDENTIFICATION,
    ISOLATION,
    NOT_CERTIFIED,
    OTHER_RUN,
    REASONS,
    SELECTED,
    TRIGGER,
    VETO,
    ResolvedSelection,
    counted,
    reasons_of,
)

LEVELS = ("trigger", "cuts", "identification", "kinematics", "mass", "calibration")
"""In the order in which they are decided; the last one holds the reasons of the calibration."""

COLUMNS = "pairs"
"""Not a level of the selection: the columns that are read for selected pairs alone."""

AT = "at"
"""A column of positions that goes along with the muons through the choice of the pair."""

_LEVEL = {
    **dict.fromkeys(
        ("other_run", "not_certified", "trigger", "veto", "fewer_than_two_muons"), "trigger"
    ),
    **dict.fromkeys(("identification", "isolation"), "identification"),
    "mass_window": "mass",
}


def level_of(reason: str) -> str:
    """Return the level at which an event is left out under a reason."""
    if reason.startswith((CUT, FILTER)):
        return "cuts"
    return _LEVEL.get(reason, "kinematics" if reason in REASONS else "calibration")


def select_nanoaod(
    branches: EventColumns,
    where: Mapping[str, Any],
    sample: Sample,
    needs: Needs,
    selection: ResolvedSelection,
    along: tuple[str, ...] = (),
    corrections: Corrections = (),
) -> Selected:
    """Return the selected pairs of a chunk of NanoAOD.

    Parameters
    ----------
    branches : EventColumns
        Of the chunk.
    where : mapping
        What the chunk is.
    sample : Sample
        What it is of.
    needs : Needs
        Columns that the calibration asks for.
    selection : ResolvedSelection
        Cuts.
    along : tuple of str
        Columns that go with the muons (``extra``) and decide nothing, even ptErr.
    corrections : sequence of Correction
        Those of muons are applied before the kinematics decide.

    Returns
    -------
    Selected
        Pairs, and the account of the others.

    Raises
    ------
    InputError
        If the columns of the muons do not fit together.
    """
    costs: dict[str, dict[str, float]] = {}
    rejected: dict[str, int] = {}
    read = branches.length
    with _costs(costs, "trigger", branches):
        muons = _MuonColumns(branches, selection)
        muons = muons.left(_by_event(muons, selection), rejected)
    if selection.cuts:
        with _costs(costs, "cuts", branches):
            muons = _by_cuts(muons, rejected)
    if muons.has_identification:
        with _costs(costs, "identification", branches):
            muons = muons.left(_by_identification(muons), rejected)
    with _costs(costs, "kinematics", branches):
        measured = _events(muons, sample, needs, reads_of(corrections, sample.simulation))
        if corrects_muons(corrections):
            identity = _identity(muons.branches, where)
            measured = corrected_events(measured, corrections, sample.simulation, identity)
        pairs, refused = pairing.select(
            measured, replace(selection, runs=None, certified=None, triggers=(), veto=(), cuts=())
        )
    with _costs(costs, COLUMNS, branches):
        pairs = _completed(pairs, muons, sample, needs, along, where)
    return Selected(pairs, read, _in_order(selection, rejected, refused), costs)


@contextmanager
def _costs(
    costs: dict[str, dict[str, float]], level: str, branches: EventColumns
) -> Iterator[None]:
    start, before = time.perf_counter(), branches.bytes
    yield
    costs[level] = {"bytes": float(branches.bytes - before), "seconds": time.perf_counter() - start}


def _in_order(selection: ResolvedSelection, *parts: Mapping[str, int]) -> dict[str, int]:
    found: dict[str, int] = {}
    for part in parts:
        for reason, n in part.items():
            found[reason] = found.get(reason, 0) + n
    return {reason: found[reason] for reason in reasons_of(selection) if found.get(reason)}


class _MuonColumns:
    """The muons of the events that are left: their number, and columns as they are asked for."""

    def __init__(
        self, branches: EventColumns, selection: ResolvedSelection, count: IntArray | None = None
    ) -> None:
        self.branches, self.selection = branches, selection
        self.count = self._number() if count is None else count
        self.first = np.cumsum(self.count) - self.count

    @property
    def cheap(self) -> list[str]:
        """Names of the columns that say whether a muon is good."""
        level = self.selection.identification
        found = [] if level is None else [names.identification_column(level)]
        return found if self.selection.isolation is None else [*found, names.ISOLATION]

    @property
    def has_identification(self) -> bool:
        """Whether anything but the kinematics is asked of a muon."""
        return bool(self.cheap)

    def _number(self) -> IntArray:
        if names.N_MUONS in self.branches.names:
            found = self.branches.flat(names.N_MUONS)
            if found.dtype.kind in "iu":
                return found.astype(np.int64)
        # an RNTuple has no counter, given muons none to be relied on: the next column's offsets
        return np.diff(self.branches.jagged(f"Muon_{[*self.cheap, 'charge'][0]}")[0])

    def __call__(self, name: str) -> AnyArray:
        """Return a column of the muons, flat."""
        offsets, content = self.branches.jagged(f"Muon_{name}")
        if not np.array_equal(np.diff(offsets), self.count):
            raise InputError(
                f"{self.branches.where}: Muon_{name} has other numbers of muons per event than the"
                f" other columns; {self.branches.advice}"
            )
        return wide(content)

    def take(self, kept: BoolArray | IntArray) -> _MuonColumns:
        """Return the muons of fewer events."""
        branches = self.branches.take(kept)
        if branches is self.branches:
            return self
        return _MuonColumns(branches, self.selection, self.count[kept])

    def left(self, reason: IntArray, rejected: dict[str, int]) -> _MuonColumns:
        """Return the muons of the events without a reason, and count those with one."""
        for name, n in counted(reason, reasons_of(self.selection)).items():
            rejected[name] = rejected.get(name, 0) + n
        return self.take(reason == SELECTED)


# the levels ------------------------------------------------------------------------------------
def _by_event(muons: _MuonColumns, selection: ResolvedSelection) -> IntArray:
    """Return the reasons that need no muon but their number."""
    branches = muons.branches
    reason = np.where(muons.count < 2, FEWER_THAN_TWO_MUONS, SELECTED)
    vetoed, fired = is_vetoed(branches, selection), has_fired(branches, selection)
    if vetoed is not None:
        reason[vetoed] = VETO
    if fired is not None:
        reason[~fired] = TRIGGER
    if selection.certified is not None:
        run, section = branches.flat("run"), branches.flat("luminosityBlock")
        reason[~is_certified(run, section, selection.certified)] = NOT_CERTIFIED
    if selection.runs is not None:
        reason[is_other_run(branches.flat("run"), selection.runs)] = OTHER_RUN
    return reason


def _by_cuts(muons: _MuonColumns, rejected: dict[str, int]) -> _MuonColumns:
    """Return the muons that pass the user's own cuts, of the events that have two of them."""
    branches, failed = pass_cuts(muons.branches, muons.selection.cuts)
    count = muons.count if branches is muons.branches else branches.flat(names.N_MUONS)
    passing = _MuonColumns(branches, muons.selection, count)
    return passing.left(np.where(failed >= 0, len(REASONS) + failed, SELECTED), rejected)


def _by_identification(muons: _MuonColumns) -> IntArray:
    """Return the reasons of the events that have no good muon at all."""
    selection = muons.selection
    muons.branches.load([f"Muon_{name}" for name in muons.cheap])
    good = np.ones(int(muons.count.sum()), dtype=np.bool_)
    if selection.identification is not None:
        good &= muons(names.identification_column(selection.identification)) != 0
    identified = _per_event(good, muons)
    if selection.isolation is not None:
        good &= muons(names.ISOLATION) <= selection.isolation
    none = np.where(identified < 2, IDENTIFICATION, ISOLATION)
    return np.where(_per_event(good, muons) == 0, none, SELECTED)


def _per_event(mask: BoolArray, muons: _MuonColumns) -> IntArray:
    """Return how many muons of each event are marked."""
    found = np.zeros(len(muons.count), dtype=np.int64)
    _add_up(mask, muons.first, muons.count, found)
    return found


@numba.njit(cache=True, nogil=True)
def _add_up(mask, first, count, found):  # type: ignore[no-untyped-def]
    for i in range(len(count)):
        for j in range(first[i], first[i] + count[i]):
            found[i] += mask[j]


def _events(
    muons: _MuonColumns, sample: Sample, needs: Needs, reads: tuple[str, ...] = ()
) -> Events:
    """Return what decides about the pair; ``event`` and a column are the positions here.

    ``reads`` are further columns that a payload needs before.
    """
    branches, n = muons.branches, muons.branches.length
    wanted = Needs(
        muon=(*(("ptErr",) if "ptErr" in needs.muon else ()), *reads),
        optional=("ptErr",) if "ptErr" in needs.optional else (),
    )
    weight = names.GEN_WEIGHT["nanoaod"] if sample.simulation else ""
    chosen = names.columns_of_pt(muons.selection, wanted)
    present = [
        f"Muon_{name}" for name in (*names.KINEMATICS, *wanted.muon, *wanted.optional, *chosen)
    ]
    branches.load(name for name in (*present, weight) if name in branches.names)
    found, extra = candidates_of(
        muons, muons.first, muons.count, 1, branches.names, "nanoaod", wanted, muons.selection
    )
    nothing = np.zeros(n, dtype=np.uint64)
    return Events(
        muons=found,
        weight=weight_of(branches, weight),
        run=nothing,
        luminosityBlock=nothing,
        event=np.arange(n, dtype=np.uint64),
        fired=None,
        extra={**extra, AT: np.arange(len(found.pt))},
    )


def _identity(branches: EventColumns, where: Mapping[str, Any]) -> dict[str, UIntArray]:
    """Return run, luminosityBlock and event of the events that are left."""
    branches.load(name for name in names.IDENTITY if name in branches.names)
    return identity_of(branches, where)


def _completed(
    pairs: Pairs,
    muons: _MuonColumns,
    sample: Sample,
    needs: Needs,
    along: tuple[str, ...],
    where: Mapping[str, Any],
) -> Pairs:
    """Return the pairs with what was not needed to select them."""
    kept = pairs.event.astype(np.int64)
    rest = muons.take(kept)
    branches, have = rest.branches, rest.branches.names
    asked = [name for name in (*needs.muon, *needs.optional) if name not in names.KNOWN]
    further = [name for name in dict.fromkeys((*asked, *along)) if f"Muon_{name}" in have]
    wanted = [*names.IDENTITY, *(f"Muon_{name}" for name in further)]
    if sample.simulation:
        wanted += [*names.GEN_PARTICLES, f"Muon_{names.GEN_PARTNER}"]
    branches.load(name for name in wanted if name in have)
    gen: Mapping[str, Array] = {}
    if sample.simulation:
        gen = matched(branches, rest(names.GEN_PARTNER), rest.count)
    extra = {name: rest(name) for name in further}

    def complete(muon: Muons) -> Muons:
        at = rest.first + muon.extra[AT] - muons.first[kept]
        return replace(
            muon,
            extra={name: column[at] for name, column in extra.items()},
            **{name: column[at] for name, column in gen.items()},
        )

    leading, subleading = complete(pairs.leading), complete(pairs.subleading)
    identity = _identity(branches, where)
    return replace(
        pairs,
        leading=leading,
        subleading=subleading,
        run=identity["run"],
        luminosityBlock=identity["luminosityBlock"],
        event=identity["event"],
        gen_mass=pairing.generated_mass(leading, subleading) if gen else None,
    )
