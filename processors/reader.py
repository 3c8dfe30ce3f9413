"""Files to flat columns in double precision: NanoAOD (TTree, RNTuple) and stage1.

NanoAOD is read through coffea's virtual arrays, so only columns that are used are read. Stage1
columns are read by row group here: coffea's own reader reads the whole file again for every
chunk, and takes an empty cell (null) for a number.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Protocol

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calib.arrays import AnyArray, Array, BoolArray, UIntArray
from calib.calibrations.base import Needs
from calib.config import Sample
from calib.errors import InputError
from processors import columns as names
from processors.selection import Candidates, ResolvedSelection

UNSIGNED = "run", "luminosityBlock", "event"


@dataclass(frozen=True)
class Events:
    """One chunk of events before any cut: muons, and what belongs to the whole event.

    ``gen_mass`` and the ``gen`` columns of the muons (flat, like the candidates) are None in
    collision data; ``fired`` is None where no trigger is asked for.
    """

    muons: Candidates
    weight: Array
    run: UIntArray
    luminosityBlock: UIntArray
    event: UIntArray
    fired: BoolArray | None
    gen: Mapping[str, Array] | None = None
    gen_mass: Array | None = None
    extra: Mapping[str, AnyArray] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(self.run)


class Columns(Protocol):
    """Columns of one chunk, by name."""

    names: frozenset[str]
    length: int

    def flat(self, name: str) -> AnyArray:
        """Return a column of one number an event."""


def read(
    events: Any, sample: Sample, needs: Needs, selection: ResolvedSelection
) -> Events:
    """Return what a calibration and the selection need of one chunk of events.

    Parameters
    ----------
    events : coffea NanoEvents
        Flat schema; ``metadata`` says the file, its uuid and the entries.
    sample : Sample
    needs : Needs
    selection : ResolvedSelection

    Raises
    ------
    InputError
        If a column cannot be read as numbers.
    """
    if sample.format == "nanoaod":
        return _read_nanoaod(_Branches(events), events.metadata, sample, needs, selection)
    wanted = names.read(sample, needs, selection)
    with _table(events, wanted) as table:
        return _read_stage1(table, sample, needs, selection)


# NanoAOD ---------------------------------------------------------------------------------------
class _Branches:
    """Branches of NanoAOD as plain arrays."""

    def __init__(self, events: Any) -> None:
        self._events = events
        self.names = frozenset(events.fields)
        self.length = len(events)

    def flat(self, name: str) -> AnyArray:
        return np.asarray(ak.to_numpy(self._events[name]))

    def jagged(self, name: str) -> tuple[AnyArray, AnyArray]:
        """Return (offsets, content), offsets from 0."""
        layout = ak.materialize(self._events[name]).layout.to_ListOffsetArray64(True)
        offsets = np.asarray(layout.offsets)
        return offsets, np.asarray(ak.to_numpy(layout.content))[: offsets[-1]]


def _read_nanoaod(
    branches: _Branches,
    metadata: Mapping[str, Any],
    sample: Sample,
    needs: Needs,
    selection: ResolvedSelection,
) -> Events:
    offsets, _ = branches.jagged("Muon_pt")

    def muon(name: str) -> AnyArray:
        own, content = branches.jagged(f"Muon_{name}")
        if len(content) != offsets[-1] or not np.array_equal(own, offsets):
            raise InputError(
                f"{metadata.get('filename')}: Muon_{name} has other numbers of muons per event than"
                " Muon_pt; the file is damaged, write it again"
            )
        return _wide(content)

    first, count = offsets[:-1], np.diff(offsets)
    muons, extra = _candidates(muon, first, count, 1, branches.names, "Muon_{}", needs, selection)
    gen = _matched(branches, muon("genPartIdx"), count) if sample.simulation else None
    identity = _identity(branches, metadata)
    return Events(
        muons=muons,
        weight=_weight(branches, "genWeight" if sample.simulation else ""),
        run=identity["run"],
        luminosityBlock=identity["luminosityBlock"],
        event=identity["event"],
        fired=_fired(branches, selection),
        gen=gen,
        extra=extra,
    )


def _matched(branches: _Branches, index: AnyArray, count: AnyArray) -> dict[str, Array]:
    """Return gen_pt, gen_eta, gen_phi of each muon: of a final-state muon, else not a number."""
    offsets, pdg_id = branches.jagged("GenPart_pdgId")
    is_muon = (np.abs(pdg_id) == 13) & (branches.jagged("GenPart_status")[1] == 1)
    inside = (index >= 0) & (index < np.repeat(np.diff(offsets), count))
    position = np.where(inside, np.repeat(offsets[:-1], count) + index, 0).astype(np.int64)
    if len(is_muon):
        inside &= is_muon[position]
    out = {}
    for name in ("pt", "eta", "phi"):
        out[f"gen_{name}"] = np.full(len(index), np.nan)
        out[f"gen_{name}"][inside] = branches.jagged(f"GenPart_{name}")[1][position[inside]]
    return out


def _identity(columns: Columns, metadata: Mapping[str, Any]) -> dict[str, UIntArray]:
    """Return run, luminosityBlock and event; a file without them is told apart by its uuid."""
    missing = {
        "run": run_of(str(metadata.get("fileuuid") or metadata.get("filename", ""))),
        "luminosityBlock": 0,
    }
    out: dict[str, UIntArray] = {}
    for name in names.IDENTITY:
        if name in columns.names:
            out[name] = columns.flat(name).astype(np.uint64)
        elif name == "event":
            start = int(metadata.get("entrystart", 0))
            out[name] = np.arange(start, start + columns.length, dtype=np.uint64)
        else:
            out[name] = np.full(columns.length, missing[name], dtype=np.uint64)
    return out


def run_of(uuid: str) -> int:
    """Return a stable number of 32 bits in place of the run of a file that has none."""
    return int.from_bytes(hashlib.blake2b(uuid.encode(), digest_size=4).digest(), "big")


# stage1 ----------------------------------------------------------------------------------------
class _Table:
    """Columns of a stage1 chunk; an empty cell is not a number."""

    def __init__(self, table: pa.Table, where: str) -> None:
        self._table, self._where = table, where
        self.names = frozenset(table.column_names)
        self.length = table.num_rows

    def flat(self, name: str) -> AnyArray:
        column = self._table.column(name)
        whole = name in UNSIGNED or pa.types.is_integer(column.type)
        if column.null_count and (whole or pa.types.is_boolean(column.type)):
            raise InputError(
                f"{self._where}: column {name!r} has {column.null_count} empty cells (nulls),"
                " expected a number in each row; fill or drop those rows"
            )
        values = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        return np.asarray(values.to_numpy(zero_copy_only=False))


@contextmanager
def _table(events: Any, wanted: tuple[str, ...]) -> Iterator[_Table]:
    metadata = events.metadata
    start, stop = int(metadata["entrystart"]), int(metadata["entrystop"])
    with open_parquet(str(metadata["filename"])) as file:
        have = [name for name in wanted if name in file.schema_arrow.names]
        yield _Table(read_rows(file, have, start, stop), str(metadata["filename"]))


@contextmanager
def open_parquet(path: str) -> Iterator[pq.ParquetFile]:
    """Open a parquet file at a path or an address."""
    if "://" in path:
        import fsspec

        with fsspec.open(path, "rb") as remote, pq.ParquetFile(remote) as file:
            yield file
    else:
        with pq.ParquetFile(path, memory_map=True) as file:
            yield file


def read_rows(file: pq.ParquetFile, columns: list[str], start: int, stop: int) -> pa.Table:
    """Return rows start to stop, reading only the row groups that hold them."""
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    edges = np.concatenate([[0], np.cumsum(sizes)])
    groups = [i for i in range(len(sizes)) if edges[i] < stop and edges[i + 1] > start]
    before = int(edges[groups[0]]) if groups else 0
    # one thread: the cluster counts the cores
    table = file.read_row_groups(groups, columns=columns, use_threads=False)
    return table.slice(start - before, stop - start)


def _read_stage1(
    table: _Table, sample: Sample, needs: Needs, selection: ResolvedSelection
) -> Events:
    def both(name: str) -> AnyArray:
        """Return a column of the first muons, then of the second ones."""
        parts = [table.flat(column) for column in names.muon_columns("stage1", name)]
        kind = np.result_type(*parts)
        return np.concatenate(parts, dtype=np.float64 if kind.kind == "f" else kind)

    n = table.length
    first, count = np.arange(n), np.full(n, 2)
    muons, extra = _candidates(both, first, count, n, table.names, "mu1_{}", needs, selection)
    identity = _identity(table, {})
    gen = gen_mass = None
    if sample.simulation and set(names.gen_kinematics()) <= table.names:
        gen = {name: _double(both(name)) for name in names.GEN_KINEMATICS}
        gen["gen_pt"] = _positive(gen["gen_pt"])
    if sample.simulation and names.GEN_MASS in table.names:
        gen_mass = _positive(_double(table.flat(names.GEN_MASS)))
    return Events(
        muons=muons,
        weight=_weight(table, names.GEN_WEIGHT["stage1"]),
        run=identity["run"],
        luminosityBlock=identity["luminosityBlock"],
        event=identity["event"],
        fired=_fired(table, selection),
        gen=gen,
        gen_mass=gen_mass,
        extra=extra,
    )


# both --------------------------------------------------------------------------------------------
def _candidates(
    muon: Any,
    first: AnyArray,
    count: AnyArray,
    stride: int,
    have: frozenset[str],
    pattern: str,
    needs: Needs,
    selection: ResolvedSelection,
) -> tuple[Candidates, dict[str, AnyArray]]:
    """Return the candidates and the columns that only the calibration knows."""
    optional = [name for name in needs.optional if pattern.format(name) in have]
    asked = dict.fromkeys([*needs.muon, *optional])
    level = selection.identification
    identified = None if level is None else muon(names.identification_column(level)) != 0
    muons = Candidates(
        first=first.astype(np.int64),
        count=count.astype(np.int64),
        stride=stride,
        pt=_double(muon("pt")),
        eta=_double(muon("eta")),
        phi=_double(muon("phi")),
        charge=_charge(muon("charge")),
        identified=identified,
        isolation=None if selection.isolation is None else _double(muon(names.ISOLATION)),
        pt_err=_double(muon("ptErr")) if "ptErr" in asked else None,
    )
    known = {*names.KINEMATICS, "ptErr"}
    return muons, {name: muon(name) for name in asked if name not in known}


def _charge(values: AnyArray) -> AnyArray:
    """Return +1, -1, or 0 for anything that is no charge of a muon."""
    charge: AnyArray = (values == 1).astype(np.int8)
    charge -= (values == -1).astype(np.int8)
    return charge


def _weight(columns: Columns, name: str) -> Array:
    return _double(columns.flat(name)) if name in columns.names else np.ones(columns.length)


def _fired(columns: Columns, selection: ResolvedSelection) -> BoolArray | None:
    if not selection.triggers:
        return None
    fired: BoolArray = np.zeros(columns.length, dtype=np.bool_)
    for name in selection.triggers:
        fired |= columns.flat(name) != 0
    return fired


def _double(values: AnyArray) -> Array:
    return np.asarray(values, dtype=np.float64)


def _wide(values: AnyArray) -> AnyArray:
    """Return the values, floating-point numbers in double precision."""
    return _double(values) if values.dtype.kind == "f" else values


def _positive(values: Array) -> Array:
    """Return the values, not a number where there is no partner (0, -1 and the like)."""
    return np.where(values > 0, values, np.nan)
