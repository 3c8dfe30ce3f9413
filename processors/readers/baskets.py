"""Columns of a chunk of NanoAOD (TTree or RNTuple), read only where events are left.

The unit of reading is the basket of a branch (TTree) or the cluster (RNTuple): one without an
event that is still wanted is neither read nor decompressed.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import awkward as ak
import numba
import numpy as np
import uproot

from calib.errors import InputError
from calib.types import AnyArray, BoolArray, IntArray
from processors.readers.checksums import require_pages

TREE = "Events"
TIMEOUT_S = 60
GAP = 2000
"""Events between two wanted baskets that are read along: cheaper than another call."""

_BITS = {1: np.uint8, 2: np.uint16, 4: np.uint32, 8: np.uint64}
"""Any number is copied as bits: one compiled function for each size."""

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
    paths : mapping of name to path
        The columns of the file, as `paths_of` finds them.
    more : (Baskets, int array), optional
        These events are some of others, at these positions: what was read of those is not
        read again.
    """

    def __init__(
        self,
        tree: Any,
        start: int,
        stop: int,
        at: IntArray,
        paths: Mapping[str, tuple[str, ...]],
        more: tuple[Baskets, IntArray] | None = None,
    ) -> None:
        self._tree, self._start, self._stop = tree, start, stop
        self.at, self.length, self.names = at, len(at), frozenset(paths)
        self._paths = paths
        self._more = more
        self._loaded: dict[str, Column] = {}

    advice = "the file is damaged, write it again"

    @property
    def where(self) -> str:
        """The name of the file."""
        return str(self._tree.file.file_path)

    @property
    def bytes(self) -> int:
        """Bytes that were asked of the file until now."""
        return int(self._tree.file.source.num_requested_bytes)

    def flat(self, name: str) -> AnyArray:
        """Return a column of one number an event."""
        return self._column(name)[1]

    def jagged(self, name: str) -> tuple[IntArray, AnyArray]:
        """Return (offsets, content), offsets from 0."""
        offsets, content = self._column(name)
        assert offsets is not None
        return offsets, content

    def take(self, kept: BoolArray | IntArray) -> Baskets:
        """Return fewer of the events, with what was read of them.

        Parameters
        ----------
        kept : bool array, shape (length,), or int array
            Mask or positions.

        Returns
        -------
        Baskets
            Of these events.
        """
        if kept.dtype == np.bool_:
            kept = np.flatnonzero(kept)
        if len(kept) == self.length:
            return self
        at = self.at[kept]
        return Baskets(self._tree, self._start, self._stop, at, self._paths, (self, kept))

    def load(self, names: Iterable[str]) -> None:
        """Read columns that are not read yet, those of the same baskets together."""
        groups: dict[Runs, list[str]] = {}
        for name in dict.fromkeys(names):
            if not self._is_loaded(name):
                groups.setdefault(self._runs(name), []).append(name)
        for runs, group in groups.items():
            self._loaded |= self._read(group, runs)

    def _is_loaded(self, name: str) -> bool:
        return name in self._loaded or (self._more is not None and self._more[0]._is_loaded(name))

    def _column(self, name: str) -> Column:
        self.load([name])
        if name not in self._loaded:
            assert self._more is not None
            others, kept = self._more
            self._loaded[name] = _taken(others._column(name), kept)
        return self._loaded[name]

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
        fields = [".".join(self._paths[name]) for name in names]
        for low, high in runs or ((self._start, self._start),):
            if not isinstance(self._tree, uproot.behaviors.TBranch.HasBranches):
                require_pages(self._tree, fields, low, high)
            arrays = self._tree.arrays(
                filter_name=fields, entry_start=low, entry_stop=high, array_cache=None
            )
            first, last = np.searchsorted(self.at, (low, high))
            inside = self.at[first:last] - low
            for name in names:
                column = column_of(arrays[self._paths[name]])
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
        yield Baskets(tree, start, stop, np.arange(start, stop), paths_of(tree))


def paths_of(tree: Any) -> dict[str, tuple[str, ...]]:
    """Return where the columns of a TTree or RNTuple are, by their names in a TTree of NanoAOD.

    CMSSW writes the muons of an RNTuple as one collection ``Muon`` of records: its field ``pt``,
    at ``("Muon", "pt")``, is ``Muon_pt``.
    """
    found: dict[str, tuple[str, ...]] = {name: (name,) for name in tree.keys(recursive=False)}
    if isinstance(tree, uproot.behaviors.TBranch.HasBranches):
        return found
    for key in tree.keys():
        path = tuple(key.split("."))
        if len(path) == 2 and path[0] in found:
            found.setdefault("_".join(path), path)
    return found


def _edges(tree: Any, name: str, start: int, stop: int) -> IntArray:
    """Return the boundaries of the baskets of a branch within a chunk."""
    if isinstance(tree, uproot.behaviors.TBranch.HasBranches):
        edges = np.asarray(tree[name].entry_offsets, dtype=np.int64)
    else:
        edges = np.array([c.num_first_entry for c in tree.cluster_summaries], dtype=np.int64)
    inner = np.unique(edges[(edges > start) & (edges < stop)])
    return np.concatenate([[start], inner, [stop]])


def column_of(array: ak.Array) -> Column:
    """Return offsets and content of lists of numbers.

    Parameters
    ----------
    array : awkward array
        Numbers, or lists of numbers.

    Returns
    -------
    int array, shape (n + 1,), or None
        Where the lists begin; None for numbers.
    array
        The numbers, flat.
    """
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
    new = np.zeros(len(kept) + 1, dtype=np.int64)
    np.cumsum((offsets[1:] - offsets[:-1])[kept], out=new[1:])
    out = np.empty(new[-1], dtype=content.dtype)
    _gather(
        content.view(_BITS[content.dtype.itemsize]),
        offsets,
        kept,
        new,
        out.view(_BITS[content.dtype.itemsize]),
    )
    return new, out


@numba.njit(cache=True, nogil=True)
def _gather(content, offsets, kept, new, out):  # type: ignore[no-untyped-def]
    for i in range(len(kept)):
        first = offsets[kept[i]]
        for j in range(new[i + 1] - new[i]):
            out[new[i] + j] = content[first + j]


def _joined(columns: Sequence[Column]) -> Column:
    if len(columns) == 1:
        return columns[0]
    content = np.concatenate([c for _, c in columns])
    if columns[0][0] is None:
        return None, content
    count = np.concatenate([np.diff(o) for o, _ in columns if o is not None])
    return np.concatenate([[0], np.cumsum(count)]), content
