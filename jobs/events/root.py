"""What a ROOT file says of itself: NanoAOD as TTree or RNTuple."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Any

import numpy as np
import uproot

from calib.errors import InputError
from jobs.events.addresses import is_remote
from jobs.events.checksums import of_ntuple, of_tree
from jobs.events.facts import Column, Facts, cannot_be_opened, expect_format, head, local_size
from jobs.events.marks import of_root
from processors.readers.baskets import paths_of
from processors.readers.columns import IDENTITY
from processors.readers.events import require_whole

TREE = "Events"


def inspect_root(path: str, wanted: Iterable[str]) -> Facts:
    """Return what a ROOT file says of itself.

    Parameters
    ----------
    path : str
        Path or address.
    wanted : iterable of str
        Branches whose clusters count.

    Returns
    -------
    Facts
        Entries, clusters, columns, protection.

    Raises
    ------
    InputError
        If it is not a whole ROOT file, or run, luminosityBlock or event are no whole numbers.
    """
    if not is_remote(path):
        _check_header(path)
    try:
        # one pair of braces: a colon in a name is no separator
        with uproot.open({path: None}) as file:
            return _facts(path, file, frozenset(wanted))
    except InputError:
        raise
    except Exception as error:
        raise cannot_be_opened(path, "a ROOT file", error) from error


def _check_header(path: str) -> None:
    """Raise InputError for a file that is not ROOT, or shorter than its own header says."""
    start = head(path)
    expect_format(path, start, "nanoaod")
    size = local_size(path)
    assert size is not None
    end = None
    if len(start) >= 20:
        (version,) = struct.unpack(">i", start[4:8])
        # fEND: 64 bits in large files
        end = struct.unpack(">i", start[12:16])[0]
        if version >= 1_000_000:
            end = struct.unpack(">q", start[12:20])[0]
    if end is None or size < end:
        says = "" if end is None else f" of {end} in its header"
        raise InputError(
            f"{path}: truncated, found {size} bytes{says}; copy it again or leave it out"
        )


def _facts(path: str, file: Any, wanted: frozenset[str]) -> Facts:
    names = {key.split(";")[0] for key in file.keys(recursive=False)}
    if TREE not in names:
        raise InputError(
            f"{path}: no {TREE!r} in the file (found {', '.join(sorted(names)) or 'nothing'}),"
            " expected NanoAOD; correct the key 'files'"
        )
    events = file[TREE]
    is_tree = isinstance(events, uproot.behaviors.TTree.TTree)
    if not is_tree and not isinstance(events, uproot.behaviors.RNTuple.HasFields):
        raise InputError(
            f"{path}: {TREE!r} is a {type(events).__name__}, expected a TTree or an RNTuple;"
            " correct the key 'files'"
        )
    n_events = int(events.num_entries)
    if is_tree and n_events:
        _require_equal_lengths(path, events, wanted, n_events)
    types = events.typenames(recursive=False) if is_tree else events.typenames()
    paths = paths_of(events)
    columns = {
        name: _column_of(str(types[".".join(path)]), len(path)) for name, path in paths.items()
    }
    there = [".".join(paths[name]) for name in sorted(wanted & columns.keys())]
    size = local_size(path)
    for name in wanted & columns.keys() & set(IDENTITY):
        if n_events and ("float" in columns[name].type or "double" in columns[name].type):
            require_whole(np.asarray(events[name].array(library="np")), name, path)
    protected = (of_tree if is_tree else of_ntuple) if n_events else _of_nothing
    return Facts(
        n_events=n_events,
        size=int(file.file.source.num_bytes) if size is None else size,
        uuid=str(file.file.uuid),
        boundaries=(
            _boundaries(events, n_events, wanted & columns.keys(), is_tree) if n_events else (0,)
        ),
        columns=columns,
        checksums=protected(events, there),
        marks=of_root(file, columns),
    )


def _of_nothing(events: Any, wanted: Iterable[str]) -> str:
    """Return what protects the events of a file that has none."""
    return ""


def _column_of(typename: str, depth: int) -> Column:
    """Return what a branch is; a field of the records of a collection is a list of numbers."""
    kind = _kind(typename)
    return Column("jagged" if depth == 2 and kind == "flat" else kind, typename)


def _require_equal_lengths(path: str, events: Any, wanted: frozenset[str], n_events: int) -> None:
    """Raise InputError where branches hold other numbers of entries than the tree says."""
    for branch in events.branches:
        if branch.name not in wanted:
            continue
        offsets = branch.entry_offsets
        if branch.num_entries != n_events or not _ascending(offsets, n_events):
            raise InputError(
                f"{path}: branch {branch.name!r} holds {branch.num_entries} entries, its baskets"
                f" {offsets[-1] if len(offsets) else 0}, the tree {n_events}; the file is damaged,"
                " copy it again or leave it out"
            )


def _ascending(offsets: Any, n_events: int) -> bool:
    steps = [int(b) - int(a) for a, b in zip(offsets[:-1], offsets[1:], strict=True)]
    return bool(len(offsets)) and offsets[0] == 0 and offsets[-1] == n_events and min(steps) >= 0


NUMBERS = ("bool", "char", "short", "int", "long", "float", "double", "real", "bit")


def _kind(typename: str) -> str:
    """Return whether a C++ type is one number an event, a list of numbers, or something else."""
    text = typename.replace("std::", "").replace("ROOT::", "").replace("VecOps::", "")
    inner = text
    if text.endswith("[]"):
        inner = text[:-2]
    elif "<" in text and text.split("<")[0].lower() in ("vector", "rvec"):
        inner = text[text.index("<") + 1 : text.rindex(">")]
    simple = inner.strip().lower().removeprefix("unsigned ").removeprefix("u")
    is_number = simple.startswith(NUMBERS) and not any(c in inner for c in "*<[")
    if not is_number:
        return "other"
    return "flat" if inner is text else "jagged"


def _boundaries(
    events: Any, n_events: int, wanted: frozenset[str], is_tree: bool
) -> tuple[int, ...]:
    if is_tree:
        found = events.common_entry_offsets(filter_branch=lambda b: b.name in wanted)
    else:
        found = [cluster.num_first_entry for cluster in events.cluster_summaries]
    return tuple(sorted({0, *(int(i) for i in found if 0 < i < n_events), n_events}))
