"""Columns of events that somebody holds: coffea's NanoEvents of any schema, or an awkward array.

What is read is what was given: muons that were changed, events that were masked, arrays that come
from no file. Names are those of the branches, whether the muons are columns (``Muon_pt``, coffea's
`BaseSchema`) or records (``Muon.pt``, `NanoAODSchema`). Virtual arrays are read when a column of
them is first asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from coffea.nanoevents.methods.base import NanoEvents

from calib.errors import InputError
from calib.types import AnyArray, BoolArray, IntArray
from processors.readers.baskets import Column, column_of
from processors.readers.columns import N_MUONS
from processors.readers.stage1 import open_parquet

MUON = "Muon"


def metadata_of(events: Any) -> Mapping[str, Any]:
    """Return what events say of themselves (coffea's ``metadata``), nothing where they do not.

    Parameters
    ----------
    events : awkward array of records

    Raises
    ------
    InputError
        If this is no array of events in memory.
    """
    if not isinstance(events, ak.Array):
        raise InputError(
            f"events of type {type(events).__module__}.{type(events).__name__}, expected NanoEvents"
            " or an awkward array, one record an event; compute them first where they are lazy"
        )
    return events.layout.purelist_parameter("metadata") or {}


class GivenColumns:
    """Columns of the events themselves.

    Parameters
    ----------
    events : NanoEvents or awkward array, one record an event
        A masked event (None) counts as not given. A masked muon is not there; a missing number
        of a muon that is there is not a number.
    where : str, optional
        What the events are, for the sentences of errors.

    Raises
    ------
    InputError
        If this is no array of events in memory.
    """

    advice = "filter the muons as records, or all their columns alike"
    bytes = 0
    """Bytes are read by whoever made the arrays."""

    def __init__(self, events: Any, where: str = "") -> None:
        self._metadata = metadata_of(events)
        self.where = where or str(self._metadata.get("filename") or "the events")
        if not events.fields:
            raise InputError(f"{self.where}: no columns in them; give records with names")
        # layouts: records with names are not asked whether they are complete, a mass of GenPart say
        layout = ak.to_layout(events)
        self._n_given = len(events)
        self._position = np.arange(len(events))
        if has_none(layout):
            self._position = np.flatnonzero(~ak.to_numpy(ak.is_none(layout)))
            layout = ak.drop_none(layout[self._position], axis=0, highlevel=False)
        self._events, self._rows = layout, None
        self._of = _names(layout)
        self.names = frozenset(self._of)
        self._loaded: dict[str, ak.Array] = {}

    _rows: IntArray | None

    @property
    def length(self) -> int:
        """Number of events."""
        return len(self._events) if self._rows is None else len(self._rows)

    @property
    def at(self) -> IntArray:
        """Entries of the events in their file, or positions where there is no file.

        Raises
        ------
        InputError
            If only some entries of the file were given, and nobody knows which.
        """
        start = int(self._metadata.get("entrystart", 0))
        stop = int(self._metadata.get("entrystop", start + self._n_given))
        if stop - start != self._n_given:
            raise InputError(
                f"{self.where}: {self._n_given} events of {stop - start} entries, without a column"
                " 'event' that says which; give them one, or all entries (None where masked)"
            )
        found = start + self._position
        return found if self._rows is None else found[self._rows]

    def load(self, names: Iterable[str]) -> None:
        """Do nothing: a column is there, or read by coffea when it is first asked for."""

    def flat(self, name: str) -> AnyArray:
        """Return a column of one number an event."""
        offsets, content = self._column(name)
        if offsets is not None:
            raise InputError(
                f"{self.where}: column {name!r} has lists, expected one number an event; give"
                " numbers"
            )
        return content

    def jagged(self, name: str) -> Column:
        """Return (offsets, content), offsets from 0."""
        offsets, content = self._column(name)
        if offsets is None:
            raise InputError(
                f"{self.where}: column {name!r} has one number an event, expected a list; give"
                " lists, of one number where there is one"
            )
        return offsets, content

    def take(self, kept: BoolArray | IntArray) -> GivenColumns:
        """Return fewer of the events; what was read of them is not read again.

        Parameters
        ----------
        kept : bool array, shape (length,), or int array
            Mask or positions.

        Returns
        -------
        GivenColumns
            Of these events.
        """
        if kept.dtype == np.bool_:
            kept = np.flatnonzero(kept)
        fewer = GivenColumns.__new__(GivenColumns)
        fewer.__dict__ = {
            **self.__dict__,
            "_rows": kept if self._rows is None else self._rows[kept],
        }
        return fewer

    def _column(self, name: str) -> Column:
        if name not in self._loaded:
            self._loaded[name] = self._plain(name)
        array = self._loaded[name]
        return column_of(array if self._rows is None else array[self._rows])

    def _plain(self, name: str) -> ak.Array:
        """Return a column of all events as numbers or lists of numbers, nothing missing."""
        head, tail = self._place(name)
        array = ak.materialize(ak.Array(self._layout(head, tail)))
        if has_none(array.layout):
            array = self._without_none(name, array)
        layout = ak.to_layout(ak.to_packed(array))
        depth, inner = layout.purelist_depth, layout
        while inner.is_list and inner.parameter("__array__") is None:  # a string is no list
            inner = inner.content
        if depth > 2 or not inner.is_numpy or inner.dtype.kind not in "biuf":
            raise InputError(
                f"{self.where}: column {name!r} is of type {array.type.content}, expected numbers"
                " or lists of numbers; convert it"
            )
        return ak.Array(layout)

    def _place(self, name: str) -> tuple[str, str]:
        place, *others = self._of[name]
        if others:
            raise InputError(
                f"{self.where}: {name!r} is there twice, as a column and in a record; drop one,"
                " nobody knows which is meant"
            )
        return place

    def _layout(self, head: str, tail: str = "") -> ak.contents.Content:
        return self._events[head][tail] if tail else self._events[head]

    def _is_none(self) -> ak.Array:
        """Return whether each muon is masked as a record, as lists of the events."""
        layout = self._layout(MUON)
        if layout.is_option:  # of the whole list
            layout = ak.fill_none(layout, [], axis=0, highlevel=False)
            layout = ak.drop_none(layout, axis=0, highlevel=False)
        return ak.is_none(layout, axis=1)

    def _without_none(self, name: str, array: ak.Array) -> ak.Array:
        head, tail = self._place(name)
        if array.ndim > 1:
            array = ak.drop_none(ak.fill_none(array, [], axis=0), axis=0)
            if head == MUON and tail and has_none(self._layout(head)):
                array = array[~self._is_none()]
        missing = int(ak.sum(ak.is_none(array, axis=-1), axis=None))
        if missing:
            if not str(ak.type(ak.flatten(array, axis=None)).content).startswith("float"):
                raise InputError(
                    f"{self.where}: column {name!r} has {missing} missing values (None), expected a"
                    " number in each place; fill or drop them"
                )
            array = ak.fill_none(array, np.float64(np.nan), axis=-1)
        return ak.drop_none(array, axis=-1)


def require_no_lost_nulls(events: Any, wanted: Iterable[str]) -> None:
    """Raise InputError where coffea's parquet reader has read empty cells (nulls) as numbers.

    It makes any number of a null in a column of whole numbers. The footer of the file knows.

    Parameters
    ----------
    events : awkward array
        Those that are not NanoEvents of a parquet file pass.
    wanted : names of columns
    """
    path = str(metadata_of(events).get("filename", ""))
    if not isinstance(events, NanoEvents) or not path.endswith((".parquet", ".parq", ".pq")):
        return
    with open_parquet(path) as file:
        for name in set(wanted) & set(file.schema_arrow.names):
            if pa.types.is_floating(file.schema_arrow.field(name).type):
                continue
            nulls = _nulls(file.metadata, name)
            if nulls:
                raise InputError(
                    f"{path}: column {name!r} has {nulls} empty cells (nulls), which coffea reads"
                    " as numbers; fill or drop those rows"
                )


def has_none(layout: ak.contents.Content) -> bool:
    """Return whether anything down to the numbers or records may be missing."""
    while layout.is_list or layout.is_indexed or layout.is_option:
        if layout.is_option:
            return True
        layout = layout.content
    return False


def _nulls(footer: pq.FileMetaData, name: str) -> int:
    """Return the number of nulls of a column, as far as the file says it."""
    place = footer.schema.names.index(name)
    groups = (footer.row_group(i).column(place) for i in range(footer.num_row_groups))
    found = [group.statistics for group in groups]
    return sum(s.null_count for s in found if s is not None and s.has_null_count)


def _names(events: ak.contents.Content) -> dict[str, list[tuple[str, str]]]:
    """Return where the columns are, by their names as branches: (field, field in it).

    The number of muons is left out: it is that of the muons that are given.
    """
    found: dict[str, list[tuple[str, str]]] = {}
    for field in events.fields:
        inner = events[field].fields
        for name in inner:
            found.setdefault(f"{field}_{name}", []).append((field, name))
        if not inner and field != N_MUONS:
            found.setdefault(field, []).append((field, ""))
    return found
