"""Columns of a chunk of NanoAOD (TTree or RNTuple), read only where events are left.

The unit of reading is the basket of a branch (TTree) or the cluster (RNTuple): one without an
event that is still wanted is neither read nor decompressed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import awkward as ak
import numpy as np
import uproot

from calib.arrays import AnyArray, BoolArray, IntArray
from calib.errors import InputError

TREE = "Events"
TIMEOUT_S = 60
GAP = 2000
"""Events between two wanted baskets that are read along: cheaper than another call."""

Runs = tuple[tuple[int, int], ...]
Column = tuple[IntArray | None, AnyArray]
"""Offsets (None: one number an event) and content."""


class Baskets:
    """Some events of one file, and their columns as far as they were asked for.

    Parameters
    ----------
    tree : uproot TTree or RNTuple
    start, stop : int
        Entries of the chunk.
    at : int array, shape (length,)
        The entries of it that are left, ascending.
    """

    def __init__(
        self,
        tree: Any,
        start: int,
        stop: int,
        at: IntArray,
        names: frozenset[str],
        loaded: Mapping[str, Column],
    ) -> None:
        self._tree, self._start, self._stop = tree, start, stop
        self.at, self.length, self.names = at, len(at), names
        self._loaded = dict(loaded)

    @property
    def bytes(self) -> int:
        """Bytes that were asked of the file until now."""
        return int(self._tree.file.source.num_requested_bytes)

    def flat(self, name: str) -> AnyArray:
        """Return a column of one number an event."""
        self.load([name])
        return self._loaded[name][1]

    def jagged(self, name: str) -> tuple[IntArray, AnyArray]:
        """Return (offsets, content), offsets from 0."""
        self.load([name])
        offsets, content = self._loaded[name]
        assert offsets is not None
        return offsets, content

    def take(self, kept: BoolArray | IntArray) -> Baskets:
        """Return fewer of the events, with what was read of them."""
        if kept.dtype == np.bool_:
            kept = np.flatnonzero(kept)
        if len(kept) == self.length:
            return self
        fewer = {name: _taken(column, kept) for name, column in self._loaded.items()}
        return Baskets(self._tree, self._start, self._stop, self.at[kept], self.names, fewer)

    def load(self, names: Iterable[str]) -> None:
        """Read columns that are not read yet, those of the same baskets together."""
        groups: dict[Runs, list[str]] = {}
        for name in dict.fromkeys(names):
            if name not in self._loaded:
                groups.setdefault(self._runs(name), []).append(name)
        for runs, group in groups.items():
            self._loaded |= self._read(group, runs)

    def _runs(self, name: str) -> Runs:
        """Return the stretches of entries whose baskets hold an event that is left."""
        edges = _edges(self._tree, name, self._start, self._stop)
        found = np.searchsorted(self.at, edges)
        live = np.flatnonzero(np.diff(found) > 0)
        runs: list[tuple[int, int]] = []
        for low, high in zip(edges[live].tolist(), edges[live + 1].tolist(), strict=True):
            if runs and low - runs[-1][1] <= GAP:
                runs[-1] = (runs[-1][0], high)
            else:
                runs.append((low, high))
        return tuple(runs)

    def _read(self, names: Sequence[str], runs: Runs) -> dict[str, Column]:
        parts: dict[str, list[Column]] = {name: [] for name in names}
        for low, high in runs or ((self._start, self._start),):
            arrays = self._tree.arrays(
                filter_name=list(names), entry_start=low, entry_stop=high, array_cache=None
            )
            first, last = np.searchsorted(self.at, (low, high))
            inside = self.at[first:last] - low
            for name in names:
                column = _column(arrays[name])
                if len(arrays) != high - low:
                    raise InputError(
                        f"{self._tree.file.file_path}: {len(arrays)} events between entries {low}"
                        f" and {high}, expected {high - low}; the file is damaged, copy it again"
                    )
                whole = len(inside) == high - low
                parts[name].append(column if whole else _taken(column, inside))
        return {name: _joined(columns) for name, columns in parts.items()}


@contextmanager
def open_baskets(metadata: Mapping[str, Any]) -> Iterator[Baskets]:
    """Open the entries of a chunk, as its metadata name them."""
    start, stop = int(metadata["entrystart"]), int(metadata["entrystop"])
    with uproot.open({str(metadata["filename"]): None}, timeout=TIMEOUT_S) as file:
        tree = file[metadata.get("treename") or TREE]
        names = frozenset(tree.keys(recursive=False))
        yield Baskets(tree, start, stop, np.arange(start, stop), names, {})


def _edges(tree: Any, name: str, start: int, stop: int) -> IntArray:
    """Return the boundaries of the baskets of a branch within a chunk."""
    if isinstance(tree, uproot.behaviors.TBranch.HasBranches):
        edges = np.asarray(tree[name].entry_offsets, dtype=np.int64)
    else:
        edges = np.array([c.num_first_entry for c in tree.cluster_summaries], dtype=np.int64)
    inner = np.unique(edges[(edges > start) & (edges < stop)])
    return np.concatenate([[start], inner, [stop]])


def _column(array: ak.Array) -> Column:
    layout = ak.to_layout(array)
    if layout.purelist_depth == 1:
        return None, np.asarray(ak.to_numpy(layout))
    layout = layout.to_ListOffsetArray64(True)
    offsets = np.asarray(layout.offsets)
    return offsets, np.asarray(ak.to_numpy(layout.content))[: offsets[-1]]


def _taken(column: Column, kept: IntArray) -> Column:
    offsets, content = column
    if offsets is None:
        return None, content[kept]
    count = np.diff(offsets)[kept]
    new = np.concatenate([[0], np.cumsum(count)])
    # position of each element: those of an event stay beside each other
    at = np.repeat(offsets[kept] - new[:-1], count) + np.arange(new[-1])
    return new, content[at]


def _joined(columns: Sequence[Column]) -> Column:
    if len(columns) == 1:
        return columns[0]
    content = np.concatenate([c for _, c in columns])
    if columns[0][0] is None:
        return None, content
    count = np.concatenate([np.diff(o) for o, _ in columns if o is not None])
    return np.concatenate([[0], np.cumsum(count)]), content
