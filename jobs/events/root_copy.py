"""The rest of a ROOT file, written again beside what was corrected: branches, trees, objects."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import awkward as ak
import numpy as np
import uproot

from jobs.events.marks import MARK
from processors.readers.baskets import paths_of

AT_ONCE = 200_000_000
"""Bytes of a tree in memory at a time, about."""

Column = ak.Array | np.ndarray[Any, Any]


class TreeCopy:
    """A TTree or RNTuple that is written again, some entries at a time.

    Columns have the names of a TTree of NanoAOD. ``left_out`` are those that cannot be written:
    text, objects, lists of lists.

    Parameters
    ----------
    source : uproot TTree or RNTuple
    most : int
        Entries at a time, at most.
    """

    def __init__(self, source: Any, most: int) -> None:
        self.source = source
        self.is_tree = isinstance(source, uproot.behaviors.TBranch.HasBranches)
        self.length = int(source.num_entries)
        self.paths = paths_of(source)
        if self.is_tree:
            self._collection, self.left_out = _of_branches(source)
        else:
            self._collection, self.left_out = _of_fields(source, self.paths)
        self.names = tuple(self._collection)
        self.step = max(1, min(most, int(AT_ONCE / max(self._bytes() / max(self.length, 1), 1))))
        self._made: Any = None

    def _bytes(self) -> int:
        if self.is_tree:
            return int(self.source.uncompressed_bytes)
        return 4 * int(self.source.file.source.num_bytes)

    def blocks(self) -> Iterator[tuple[int, int, dict[str, ak.Array]]]:
        """Yield first entry, end and columns of the entries, one block after the other."""
        fields = [".".join(self.paths[name]) for name in self.names]
        for start in range(0, self.length, self.step):
            stop = min(start + self.step, self.length)
            found = self.source.arrays(
                filter_name=fields, entry_start=start, entry_stop=stop, array_cache=None
            )
            yield start, stop, {name: found[self.paths[name]] for name in self.names}

    def write(self, made: Any, name: str, columns: Mapping[str, Column]) -> None:
        """Write entries; new columns ``Muon_...`` go with the muons.

        Parameters
        ----------
        made : uproot writable file
            Open.
        name : str
            Of the tree.
        columns : mapping of str to (offsets, content)
            New ones, of the entries that were read last.
        """
        parts = self._together(columns)
        if self._made is not None:
            self._made.extend(parts)
        elif self.is_tree:
            types = {k: _type(v) for k, v in parts.items()}
            self._made = made.mktree(name, types, title=self.source.title)
            self._made.extend(parts)
        else:
            self._made = made.mkrntuple(name, parts)

    def _together(self, columns: Mapping[str, Column]) -> dict[str, Column]:
        """Return the columns of a collection as one list of records for each entry."""
        found: dict[str, Column] = {}
        groups: dict[str, dict[str, Column]] = {}
        muons = self._collection.get("Muon_pt", "")
        for name, values in columns.items():
            own = self._collection.get(name, muons if name.startswith("Muon_") else "")
            if own:
                groups.setdefault(own, {})[name.removeprefix(f"{own}_")] = values
            else:
                found[name] = values if isinstance(values, np.ndarray) else _plain(values)
        for name, fields in groups.items():
            found[name] = ak.zip(fields, depth_limit=2)
        return found


def _plain(values: ak.Array) -> Column:
    """Return numbers as a NumPy array, lists as they are."""
    layout = ak.to_layout(values)
    is_list = layout.is_list and not layout.is_regular
    return values if is_list else np.asarray(ak.to_numpy(values))


def _type(values: Column) -> Any:
    if isinstance(values, np.ndarray):
        return np.dtype((values.dtype, values.shape[1:]))
    return values.type.content


def _of_branches(tree: Any) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the collection of each branch that can be written (or ""), and the others."""
    counters = {b.count_branch.name for b in tree.branches if b.count_branch is not None}
    found: dict[str, str] = {}
    left_out = []
    for branch in tree.branches:
        if branch.name in counters:
            continue
        if not _is_plain(branch.interpretation):
            left_out.append(branch.name)
            continue
        counter = "" if branch.count_branch is None else branch.count_branch.name
        own = counter.removeprefix("n")
        is_of_it = counter.startswith("n") and branch.name.startswith(f"{own}_")
        found[branch.name] = own if is_of_it else ""
    return found, tuple(left_out)


def _is_plain(interpretation: Any) -> bool:
    """Return whether a branch holds numbers, or a list of numbers for each entry."""
    if isinstance(interpretation, uproot.AsJagged):
        inner = interpretation.content
        return isinstance(inner, uproot.AsDtype) and _is_number(inner) and not inner.inner_shape
    return isinstance(interpretation, uproot.AsDtype) and _is_number(interpretation)


def _is_number(interpretation: Any) -> bool:
    return interpretation.to_dtype.names is None and interpretation.to_dtype.base.kind in "biuf"


def _of_fields(ntuple: Any, paths: Mapping[str, Any]) -> tuple[dict[str, str], tuple[str, ...]]:
    """Return the same of an RNTuple."""
    form, inside = ntuple.arrays(entry_stop=0), {path[0] for path in paths.values() if path[1:]}
    found: dict[str, str] = {}
    left_out = []
    for name, path in paths.items():
        if name in inside:
            continue
        kind = ak.to_layout(form[path])
        kind = kind.content if kind.is_list else kind
        if kind.is_numpy and kind.purelist_parameter("__array__") is None:
            found[name] = path[0] if path[1:] else ""
        else:
            left_out.append(name)
    return found, tuple(left_out)


def copy_others(source: Any, made: Any, but: str) -> list[str]:
    """Write all that is in a ROOT file beside one tree; return what cannot be written.

    Parameters
    ----------
    source : uproot file
        Open for reading.
    made : uproot writable file
        Open.
    but : str
        Name of the tree that is left out.

    Returns
    -------
    list of str
        What cannot be written.
    """
    left_out = []
    for name, kind in source.classnames(cycle=False).items():
        if name in (but, MARK) or kind.startswith("TDirectory"):
            continue
        try:
            if kind == "TTree" or kind.split("::")[-1] == "RNTuple":
                left_out += _copy_tree(source[name], made, name)
            else:
                made.copy_from(source, filter_name=lambda key, own=name: key == own)
        except Exception:  # of the formats of others, uproot has errors of any kind
            left_out.append(name)
    return left_out


def _copy_tree(tree: Any, made: Any, name: str) -> list[str]:
    copy = TreeCopy(tree, most=1_000_000)
    if not copy.names or not copy.length:
        return [name]
    for _, _, columns in copy.blocks():
        copy.write(made, name, columns)
    return [f"{name}/{branch}" for branch in copy.left_out]
