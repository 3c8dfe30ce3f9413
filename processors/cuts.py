"""The user's own cuts and event filters: which muons and events of a chunk pass them.

A muon that fails a cut is as if it were not there. An event is left out under the first cut that
leaves it fewer than two muons, or that it fails itself. Cuts see what is in the file, before any
payload.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

import numpy as np

from calib.errors import InputError
from calib.events.cuts import OF_MUONS, Cut
from calib.types import AnyArray, BoolArray, IntArray
from processors.readers.columns import N_MUONS, muon_columns
from processors.readers.events import Columns, EventColumns

PASSED = -1
"""In place of the number of a cut."""


def pass_cuts(branches: EventColumns, cuts: Sequence[Cut]) -> tuple[EventColumns, IntArray]:
    """Return the columns with the muons that pass all cuts, and the cut that each event fails.

    Parameters
    ----------
    branches : EventColumns
        Of n events of NanoAOD.
    cuts : sequence of Cut
        In their order.

    Returns
    -------
    EventColumns
        Of all events, with fewer muons.
    int array, shape (n,)
        Number of the first cut that speaks against an event, `PASSED` where none does.
    """
    failed = np.full(branches.length, PASSED)
    branches.load(name for cut in cuts for name in cut.branches)
    good: BoolArray | None = None
    offsets: IntArray = np.zeros(1, dtype=np.int64)
    for number, cut in enumerate(cuts):
        own = [name for name in cut.branches if name.startswith(OF_MUONS)]
        values: dict[str, AnyArray] = {}
        for name in own:
            begins, values[name] = branches.jagged(name)
            if good is None:
                offsets, good = begins, np.ones(len(values[name]), dtype=np.bool_)
            _require_same(branches, name, begins, offsets)
        for name in cut.branches.keys() - set(own):
            values[name] = branches.flat(name)
            if own:
                values[name] = np.repeat(values[name], np.diff(offsets))
        passed = cut.passed(values)
        if own and good is not None:
            good &= passed
            passed = np.diff(_ends(good)[offsets]) >= 2
        failed[(failed == PASSED) & ~passed] = number
    if good is None or good.all():
        return branches, failed
    return _PassingMuons(branches, offsets, good), failed


def first_failed(columns: Columns, cuts: Sequence[Cut]) -> IntArray:
    """Return the cut that each row of two muons fails, of a flat table.

    Parameters
    ----------
    columns : Columns
        Of n rows; ``Muon_x`` stands for ``mu1_x`` and ``mu2_x``.
    cuts : sequence of Cut
        In their order; both muons have to pass.

    Returns
    -------
    int array, shape (n,)
        Number of the first cut that speaks against a row, `PASSED` where none does.
    """
    failed = np.full(columns.length, PASSED)
    for number, cut in enumerate(cuts):
        for i in (0, 1) if cut.is_of_muons else (0,):
            values = {name: columns.flat(_in_rows(name)[i]) for name in cut.branches}
            failed[(failed == PASSED) & ~cut.passed(values)] = number
    return failed


def _in_rows(name: str) -> tuple[str, str]:
    if not name.startswith(OF_MUONS):
        return name, name
    first, second = muon_columns("stage1", name.removeprefix(OF_MUONS))
    return first, second


def _ends(good: BoolArray) -> IntArray:
    """Return how many are good before each place, and in all."""
    found = np.zeros(len(good) + 1, dtype=np.int64)
    np.cumsum(good, out=found[1:])
    return found


def _require_same(branches: EventColumns, name: str, begins: AnyArray, offsets: AnyArray) -> None:
    if not np.array_equal(begins, offsets):
        raise InputError(
            f"{branches.where}: {name} has other numbers of muons per event than the other"
            f" columns; {branches.advice}"
        )


class _PassingMuons:
    """Columns of events without the muons that fail a cut."""

    def __init__(self, branches: EventColumns, offsets: IntArray, good: BoolArray) -> None:
        self._branches, self._offsets, self._good = branches, offsets, good
        self._left = _ends(good)[offsets]
        self.names, self.length = branches.names, branches.length
        self.where, self.advice = branches.where, branches.advice

    @property
    def at(self) -> IntArray:
        return self._branches.at

    @property
    def bytes(self) -> int:
        return self._branches.bytes

    def flat(self, name: str) -> AnyArray:
        return np.diff(self._left) if name == N_MUONS else self._branches.flat(name)

    def jagged(self, name: str) -> tuple[AnyArray, AnyArray]:
        begins, content = self._branches.jagged(name)
        if not name.startswith(OF_MUONS):
            return begins, content
        _require_same(self._branches, name, begins, self._offsets)
        return self._left, content[self._good]

    def take(self, kept: BoolArray | IntArray) -> EventColumns:
        fewer = self._branches.take(kept)
        if fewer is self._branches:
            return self
        count = np.diff(self._offsets)[kept]
        begins = np.concatenate([[0], np.cumsum(count)])
        shift = np.repeat(self._offsets[:-1][kept] - begins[:-1], count)
        return _PassingMuons(fewer, begins, self._good[np.arange(begins[-1]) + shift])

    def load(self, names: Iterable[str]) -> None:
        self._branches.load(names)
