"""Stage1 (flat parquet, one row a pair) to the events of a chunk, by row group.

coffea's own parquet reader is not used for files: it reads the whole file for every chunk, takes an
empty cell (null) for a number, and refuses files that hold any column of text or time, whether it
is used or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, Protocol

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq

from calib.calibrations.base import Needs
from calib.errors import InputError
from calib.physics.kinematics import mass as pair_mass
from calib.schema import Sample
from calib.types import AnyArray, Array, IntArray
from processors.certified import is_certified, is_other_run
from processors.corrections import Corrections, corrected_events, corrected_rows
from processors.cuts import PASSED, first_failed
from processors.pairing import select_rows
from processors.readers import columns as names
from processors.readers.events import (
    Columns,
    Events,
    Selected,
    asked_of,
    candidates_of,
    double,
    has_fired,
    identity_of,
    is_vetoed,
    positive,
    pt_and_error,
    weight_of,
)
from processors.rows import Both, Rows
from processors.selection import ResolvedSelection


class RowTable:
    """Columns of rows of a file, of which the first is an entry; an empty cell is not a number."""

    def __init__(self, table: pa.Table, where: str, start: int = 0) -> None:
        self._table, self.where = table, where
        self.at = np.arange(start, start + table.num_rows)
        self.names = frozenset(table.column_names)
        self.length = table.num_rows

    def flat(self, name: str) -> AnyArray:
        """Return a column of one number a row.

        Raises
        ------
        InputError
            If a whole number is missing in it.
        """
        column = self._table.column(name)
        whole = name in names.IDENTITY or pa.types.is_integer(column.type)
        if column.null_count and (whole or pa.types.is_boolean(column.type)):
            raise InputError(
                f"{self.where}: column {name!r} has {column.null_count} empty cells (nulls),"
                " expected a number in each row; fill or drop those rows"
            )
        values = column.combine_chunks() if column.num_chunks != 1 else column.chunk(0)
        return np.asarray(values.to_numpy(zero_copy_only=False))

    def take(self, rows: IntArray) -> RowTable:
        """Return some rows.

        Parameters
        ----------
        rows : int array
            Positions.

        Returns
        -------
        RowTable
            Of these rows.
        """
        fewer = RowTable(self._table.take(pa.array(rows)), self.where)
        fewer.at = self.at[rows]
        return fewer


@contextmanager
def open_table(metadata: Mapping[str, Any], wanted: Iterable[str]) -> Iterator[RowTable]:
    """Open the wanted columns of the entries that metadata name.

    Parameters
    ----------
    metadata : mapping
        ``filename, entrystart, entrystop``, as of coffea's chunks.
    wanted : iterable of str
        Columns; those that are not there are left out.

    Yields
    ------
    RowTable
        Of the entries.
    """
    start, stop = int(metadata["entrystart"]), int(metadata["entrystop"])
    with open_parquet(str(metadata["filename"])) as file:
        have = file.schema_arrow.names
        rows = read_rows(file, list(names.in_file(wanted, have)), start, stop)
        made = [name for name in wanted if name in names.stand_ins(have)]
        yield RowTable(completed(rows, made), str(metadata["filename"]), start)


def completed(table: pa.Table, made: Sequence[str]) -> pa.Table:
    """Return a table with the columns that others make up for (`columns.stand_ins`).

    Parameters
    ----------
    table : pyarrow Table
        As read.
    made : sequence of str
        Columns that are to be made.

    Returns
    -------
    pyarrow Table
        With further columns.
    """
    errors = names.muon_columns("stage1", "ptErr")
    for name in made:
        if name in names.ALIASES:
            table = table.append_column(name, table.column(names.ALIASES[name]))
    if set(errors) & set(made):
        for name, values in zip(errors, _errors(table), strict=True):
            table = table.append_column(name, pa.array(values))
    return table


def _errors(table: pa.Table) -> tuple[Array, Array]:
    """Return ptErr of both muons: the predicted resolution of their mass in equal shares."""
    pt1, pt2, eta1, eta2, phi1, phi2 = (
        double(table.column(column).to_numpy())
        for name in ("pt", "eta", "phi")
        for column in names.muon_columns("stage1", name)
    )
    with np.errstate(invalid="ignore", divide="ignore", over="ignore"):
        mass = pair_mass(pt1, eta1, phi1, pt2, eta2, phi2)
        # sigma_m / m is half of the quadratic sum of sigma_pt / pt of both
        share = np.sqrt(2.0) * double(table.column(names.MASS_RESOLUTION).to_numpy()) / mass
        return share * pt1, share * pt2


@contextmanager
def open_parquet(path: str) -> Iterator[pq.ParquetFile]:
    """Open a parquet file at a path or an address."""
    if "://" in path:
        import fsspec

        with (
            fsspec.open(path, "rb") as remote,
            pq.ParquetFile(remote, page_checksum_verification=True) as file,
        ):
            yield file
    else:
        # no memory map: a file that shrinks under it would kill the process
        with pq.ParquetFile(path, page_checksum_verification=True) as file:
            yield file


def read_rows(file: pq.ParquetFile, columns: list[str], start: int, stop: int) -> pa.Table:
    """Return some rows, reading only the row groups that hold them.

    Parameters
    ----------
    file : ParquetFile
        Open.
    columns : list of str
        That are read.
    start, stop : int
        Rows, stop not included.

    Returns
    -------
    pyarrow Table
        stop - start rows.
    """
    sizes = [file.metadata.row_group(i).num_rows for i in range(file.metadata.num_row_groups)]
    edges = np.concatenate([[0], np.cumsum(sizes)])
    groups = [i for i in range(len(sizes)) if edges[i] < stop and edges[i + 1] > start]
    before = int(edges[groups[0]]) if groups else 0
    # one thread: the cluster counts the cores
    table = file.read_row_groups(groups, columns=columns, use_threads=False)
    return table.slice(start - before, stop - start)


class RowColumns(Columns, Protocol):
    """Columns of rows of two muons, of which some can be taken."""

    def take(self, rows: IntArray) -> RowColumns:
        """Return some rows.

        Parameters
        ----------
        rows : int array
            Positions.

        Returns
        -------
        RowColumns
            Of these rows.
        """


def read_stage1(
    columns: Columns,
    where: Mapping[str, Any],
    sample: Sample,
    needs: Needs,
    selection: ResolvedSelection,
) -> Events:
    """Return what is needed of all rows of a chunk.

    Parameters
    ----------
    columns : Columns
        Of n rows.
    where : mapping
        What the chunk is.
    sample : Sample
        What it is of.
    needs : Needs
        Columns that the calibration asks for.
    selection : ResolvedSelection
        Cuts, which need columns too.

    Returns
    -------
    Events
        n of them, before any cut.
    """
    n = columns.length

    def both(name: str) -> AnyArray:
        """Return a column of the first muons, then of the second ones."""
        parts = [columns.flat(column) for column in names.muon_columns("stage1", name)]
        kind = np.result_type(*parts)
        return np.concatenate(parts, dtype=np.float64 if kind.kind == "f" else kind)

    first, count = np.arange(n), np.full(n, 2)
    muons, extra = candidates_of(both, first, count, n, columns.names, "stage1", needs, selection)
    identity = identity_of(columns, where)
    gen, gen_mass = _generated(columns, sample)
    return Events(
        muons=muons,
        weight=weight_of(columns, names.GEN_WEIGHT["stage1"]),
        run=identity["run"],
        luminosityBlock=identity["luminosityBlock"],
        event=identity["event"],
        fired=has_fired(columns, selection),
        vetoed=is_vetoed(columns, selection),
        failed=first_failed(columns, selection.cuts) if selection.cuts else None,
        gen={name: np.concatenate(values) for name, values in gen.items()} or None,
        gen_mass=gen_mass,
        extra=extra,
    )


def select_stage1(
    columns: RowColumns,
    where: Mapping[str, Any],
    sample: Sample,
    needs: Needs,
    selection: ResolvedSelection,
    corrections: Corrections = (),
) -> Selected:
    """Return the selected pairs of a chunk of stage1, without making events of its rows.

    Parameters
    ----------
    columns : RowColumns
        Of n rows.
    where : mapping
        What the chunk is.
    sample : Sample
        What it is of.
    needs : Needs
        Columns that the calibration asks for.
    selection : ResolvedSelection
        Cuts.
    corrections : sequence of Correction
        Those of muons are applied before the cuts.

    Returns
    -------
    Selected
        Pairs, and the account of the others.
    """

    def events_of(rows: IntArray) -> Events:
        found = read_stage1(columns.take(rows), where, sample, needs, selection)
        return corrected_events(found, corrections, sample.simulation)

    rows = _rows(columns, sample, needs, selection, where)
    rows = corrected_rows(rows, corrections, sample.simulation)
    pairs, rejected = select_rows(rows, selection, events_of)
    return Selected(pairs, len(rows), rejected)


def _rows(
    table: Columns,
    sample: Sample,
    needs: Needs,
    selection: ResolvedSelection,
    where: Mapping[str, Any],
) -> Rows:
    def both(name: str) -> Both:
        first, second = names.muon_columns("stage1", name)
        return table.flat(first), table.flat(second)

    asked = asked_of(table.names, "stage1", needs)
    identity = identity_of(table, where)
    gen, gen_mass = _generated(table, sample)
    level = selection.identification
    conditions = [has_fired(table, selection)]
    vetoed = is_vetoed(table, selection)
    if vetoed is not None:
        conditions.append(~vetoed)
    if selection.runs is not None:
        conditions.append(~is_other_run(identity["run"], selection.runs))
    if selection.certified is not None:
        run, block = identity["run"], identity["luminosityBlock"]
        conditions.append(is_certified(run, block, selection.certified))
    if selection.cuts:
        conditions.append(first_failed(table, selection.cuts) == PASSED)
    if level is not None:
        conditions += [x != 0 for x in both(names.identification_column(level))]
    if selection.isolation is not None:
        conditions += [double(x) <= selection.isolation for x in both(names.ISOLATION)]
    (pt1, err1), (pt2, err2) = (
        pt_and_error(
            lambda name, i=i: table.flat(names.muon_columns("stage1", name)[i]),
            "ptErr" in asked,
            table.names,
            "stage1",
            selection,
        )
        for i in (0, 1)
    )
    asked_for = [c for c in conditions if c is not None]
    return Rows(
        pt=(pt1, pt2),
        **{name: both(name) for name in names.KINEMATICS if name != "pt"},
        weight=weight_of(table, names.GEN_WEIGHT["stage1"]),
        pt_err=None if err1 is None or err2 is None else (err1, err2),
        usable=np.logical_and.reduce(asked_for) if asked_for else None,
        gen=gen,
        gen_mass=gen_mass,
        extra={n: both(n) for n in asked if n not in names.KNOWN},
        **identity,
    )


def _generated(table: Columns, sample: Sample) -> tuple[dict[str, Both], Array | None]:
    """Return the generated muons and the generated mass, where a simulation has them."""
    if not sample.simulation:
        return {}, None
    gen: dict[str, Both] = {}
    if set(names.gen_kinematics()) <= table.names:
        for name in names.GEN_KINEMATICS:
            first, second = (double(table.flat(c)) for c in names.muon_columns("stage1", name))
            gen[name] = (first, second)
        gen["gen_pt"] = positive(gen["gen_pt"][0]), positive(gen["gen_pt"][1])
    has_mass = names.GEN_MASS in table.names
    return gen, positive(double(table.flat(names.GEN_MASS))) if has_mass else None
