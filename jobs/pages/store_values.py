"""The values of a revision as its tables have them: `Shelf` reads each of them once.

Which tables and columns there are is the calibration's own affair: a column with another of the
same name and ``_err`` behind it is a quantity, and each row is a bin.
"""

from __future__ import annotations

import csv
import io
import math
from collections import OrderedDict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from threading import Lock

import numpy as np

from calib.errors import CalibError
from calib.types import Array
from jobs.store import Revision, Store

MOST = 20_000
"""Tables that are remembered: their files never change."""

NO_VALUES = frozenset({"closure.csv", "fits.csv"})
FIRST = frozenset({"parameters.csv", "factors.csv"})
"""What a calibration is for, by the names that all of them use."""

ERR = "_err"


@dataclass(frozen=True)
class Values:
    """One table: ``of[quantity]`` are values and errors, shape (bins, 2); status may be empty."""

    name: str
    bins: tuple[str, ...]
    of: Mapping[str, Array]
    status: tuple[str, ...]


class Shelf:
    """The values of the revisions of a store."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._known: OrderedDict[tuple[str, str], Values] = OrderedDict()
        self._lock = Lock()

    def tables(self, revision: Revision) -> tuple[str, ...]:
        """Return the names of the tables of a revision that have values."""
        listed = self._store.files(revision)
        names = sorted(n for n in listed if n.endswith(".csv") and n not in NO_VALUES)
        names.sort(key=lambda n: n not in FIRST)
        return tuple(n for n in names if self.values(revision, n).of)

    def values(self, revision: Revision, name: str) -> Values:
        """Return a table of a revision.

        Parameters
        ----------
        revision : Revision
            Of the store.
        name : str
            File of the table, a CSV.

        Returns
        -------
        Values
            By quantity.

        Raises
        ------
        CalibError
            If it is not there, or damaged.
        """
        key = (str(revision.files), name)
        with self._lock:
            if key in self._known:
                self._known.move_to_end(key)
                return self._known[key]
        found = parsed(name, self._store.file(revision, name))
        with self._lock:
            self._known[key] = found
            if len(self._known) > MOST:
                self._known.popitem(last=False)
        return found

    def or_none(self, revision: Revision, name: str) -> Values | None:
        """Return a table of a revision, where it has one that can be read.

        Parameters
        ----------
        revision : Revision
            Of the store.
        name : str
            File of the table, a CSV.

        Returns
        -------
        Values or None
            None: it cannot be read.
        """
        try:
            return self.values(revision, name)
        except CalibError:
            return None


def parsed(name: str, data: bytes) -> Values:
    """Return the values in a CSV file with a header.

    Parameters
    ----------
    name : str
        Of the file; its quantity comes first.
    data : bytes
        CSV.

    Returns
    -------
    Values
        By quantity.
    """
    rows = list(csv.reader(io.StringIO(data.decode("utf-8", errors="replace"))))
    head, body = (rows[0], [r for r in rows[1:] if len(r) == len(rows[0])]) if rows else ([], [])
    columns = dict(zip(head, zip(*body, strict=True), strict=True)) if body else {}
    quantities = [c for c in head if c + ERR in columns and not c.startswith("own_")]
    # what the table is named for comes first
    quantities.sort(key=lambda c: c != name.removesuffix(".csv").removesuffix("s"))
    return Values(
        name,
        _bins(columns, len(body)),
        {c: np.column_stack([_floats(columns[c]), _floats(columns[c + ERR])]) for c in quantities},
        columns.get("status", ()),
    )


def _bins(columns: Mapping[str, Sequence[str]], n: int) -> tuple[str, ...]:
    """Return the names of the rows: their edges, or their first cells where those are words."""
    axes = [c.removesuffix("_low") for c in columns if c.endswith("_low")]
    axes = [axis for axis in axes if f"{axis}_high" in columns]
    if axes:
        named = [
            [
                f"{a} {x} to {y}"
                for x, y in zip(columns[f"{a}_low"], columns[f"{a}_high"], strict=True)
            ]
            for a in axes
        ]
        return tuple(", ".join(words) for words in zip(*named, strict=True))
    first = next(iter(columns.values()), ())
    if not np.isfinite(_floats(first)).any():
        return tuple(first)
    return tuple(str(i) for i in range(n))


def _floats(cells: Sequence[str]) -> Array:
    try:
        return np.array(cells, dtype=np.float64)
    except ValueError:
        return np.array([_float(cell) for cell in cells])


def _float(text: str) -> float:
    try:
        return float(text)
    except ValueError:
        return math.nan
