"""One chunk of events to selected pairs, or to flat columns of all events, in any format.

A chunk is either some entries of a file (`FileEntries`) or events that somebody holds. The ways
part in `open_columns` and nowhere else: the selection sees columns and does not know whose.
"""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import pyarrow as pa
from coffea.processor import ProcessorABC
from coffea.processor.executor import WorkItem

from calib.calibrations.base import Needs
from calib.errors import InputError
from calib.events.histograms import narrow
from calib.quality.buckets import kept
from calib.schema import Sample
from processors.corrections import Corrections, corrected_pairs, with_reads
from processors.levels import select_nanoaod
from processors.readers import columns as names
from processors.readers.baskets import open_baskets
from processors.readers.events import Events, Selected
from processors.readers.given import GivenColumns, metadata_of, require_no_lost_nulls
from processors.readers.mapping import branches_of, mapped, missing_branches, our_names, recipes_of
from processors.readers.nanoaod import read_nanoaod
from processors.readers.stage1 import RowTable, completed, open_table, read_stage1, select_stage1
from processors.readers.table import select_table
from processors.selection import ResolvedSelection, leave_out, of_chunk


@dataclass(frozen=True)
class FileEntries:
    """Entries of a file as they stand there: what is read of them is for the readers to choose.

    Parameters
    ----------
    metadata : mapping
        As of coffea's chunks: ``dataset, filename, treename, entrystart, entrystop, fileuuid``.
    """

    metadata: Mapping[str, Any]

    def __len__(self) -> int:
        return int(self.metadata["entrystop"] - self.metadata["entrystart"])


def entries_of(item: WorkItem) -> FileEntries:
    """Return the entries of a file that coffea names as a piece of work."""
    return FileEntries(
        {
            "dataset": item.dataset,
            "filename": item.filename,
            "treename": item.treename,
            "entrystart": item.entrystart,
            "entrystop": item.entrystop,
            "fileuuid": str(uuid.UUID(bytes=item.fileuuid)) if item.fileuuid else "",
            **(item.usermeta or {}),
        }
    )


def work(item: WorkItem, processor: ProcessorABC) -> dict[str, Any]:
    """Return the result of one chunk, as the function that coffea's Runner hands to executors.

    Parameters
    ----------
    item : WorkItem
        Entries of a file, which no one has changed: they are read the fast way.
    processor : CalibrationProcessor
        What is done with them.

    Returns
    -------
    dict
        ``out``, what the processor returns, and ``processed``, the item.
    """
    out = processor.process(entries_of(item))
    for found in out.values():
        found["sums"] = narrow(found["sums"])
    return {"out": out, "processed": {item}}


def where_of(events: Any) -> Mapping[str, Any]:
    """Return what a chunk says of itself: `FileEntries.metadata`, or coffea's of given events.

    Raises
    ------
    InputError
        If this is neither.
    """
    return events.metadata if isinstance(events, FileEntries) else metadata_of(events)


@contextmanager
def open_columns(
    events: Any, sample: Sample, needs: Needs, selection: ResolvedSelection
) -> Iterator[Any]:
    """Open the columns of a chunk: the fast way for entries of a file, else the events themselves.

    Entries of a file are read by our own readers, since coffea's make an array of every branch
    before any is read, read whole columns where a level of the selection needs a few baskets,
    take a null of parquet for a number and pass by checksums. Whoever holds events may have
    changed them, so nothing is taken from the file that they name.

    Parameters
    ----------
    events : FileEntries, NanoEvents or awkward array of records
    sample : Sample
        What the events are of.
    needs : Needs
        Columns that the calibration asks for.
    selection : ResolvedSelection
        Cuts, which need columns too.

    Yields
    ------
    EventColumns, RowColumns or Columns
        By the format of the sample.

    Raises
    ------
    InputError
        If given events lack a column that is needed.
    """
    recipes = recipes_of(sample)
    asked = branches_of(names.read(sample, needs, selection), recipes)
    if isinstance(events, FileEntries):
        if sample.format == "nanoaod":
            with open_baskets(events.metadata) as baskets:
                yield mapped(baskets, recipes)
        else:
            with open_table(events.metadata, asked) as table:
                yield mapped(table, recipes)
        return
    columns = GivenColumns(events)
    wanted = names.required(sample, needs, selection)
    made = names.stand_ins(columns.names) if sample.format == "stage1" else {}
    lacking = missing_branches(columns.names, recipes)
    missing = {(b,): f"key 'columns.{key}'" for b, key in lacking.items()}
    have = our_names({*columns.names, *made}, recipes)
    missing |= {(n,): by for n, by in wanted.items() if n not in have}
    groups = {group: by for by, group in names.any_of(sample, selection).items()}
    missing |= {g: by for g, by in groups.items() if not have & set(g)}
    for group, by in missing.items():
        raise InputError(
            f"{columns.where}: no column {' or '.join(map(repr, group))} (sample {sample.name!r}),"
            f" needed by {by}; give events that have it, as a column or in a record"
        )
    require_no_lost_nulls(events, asked)
    stood_in = set(made) & set(asked)
    yield mapped(_with_stand_ins(columns, asked) if stood_in else columns, recipes)


def _with_stand_ins(columns: GivenColumns, asked: Iterable[str]) -> RowTable:
    """Return the columns of rows with those that others make up for."""
    read = names.in_file(asked, columns.names)
    rows = pa.table({name: pa.array(columns.flat(name)) for name in read})
    made = [name for name in asked if name in names.stand_ins(columns.names)]
    table = RowTable(completed(rows, made), columns.where)
    if "event" not in columns.names:
        table.at = columns.at
    return table


def read(events: Any, sample: Sample, needs: Needs, selection: ResolvedSelection) -> Events:
    """Return what a calibration and the selection need of all events of one chunk.

    Parameters
    ----------
    events : FileEntries, NanoEvents or awkward array of records
    sample : Sample
        What the events are of.
    needs : Needs
        Columns that the calibration asks for.
    selection : ResolvedSelection
        Cuts, which need columns too.

    Returns
    -------
    Events
        All of them, before any cut.

    Raises
    ------
    InputError
        If a column cannot be read as numbers.
    """
    readers = {"nanoaod": read_nanoaod, "stage1": read_stage1}
    with open_columns(events, sample, needs, selection) as columns:
        return readers[sample.format](columns, where_of(events), sample, needs, selection)


def selected(
    events: Any,
    sample: Sample,
    needs: Needs,
    selection: ResolvedSelection,
    corrections: Corrections = (),
) -> Selected:
    """Return the selected pairs of one chunk of events.

    What a prescale leaves out is ``prescaled`` in the accounting. What reading costs is known of
    files alone.

    Parameters
    ----------
    events : FileEntries, NanoEvents or awkward array of records
        One chunk.
    sample : Sample
        What the events are of.
    needs : Needs
        Columns that the calibration asks for.
    selection : ResolvedSelection
        Cuts.
    corrections : sequence of Correction
        Payloads that are applied, in this order.

    Returns
    -------
    Selected
        Pairs, or the records of a table, and the account of the others.

    Raises
    ------
    InputError
        If a column cannot be read as numbers.
    """
    where = where_of(events)
    selection = of_chunk(selection, where)
    needs = with_reads(needs, corrections, sample.simulation)
    with open_columns(events, sample, needs, selection) as columns:
        if sample.format == "table":
            found = select_table(columns, where, sample, needs, selection)
        else:
            choose = {"nanoaod": select_nanoaod, "stage1": select_stage1}
            found = choose[sample.format](
                columns, where, sample, needs, selection, corrections=corrections
            )
    pairs, left_out = found.pairs, {}
    if selection.prescale > 1:
        used = kept(pairs.run, pairs.luminosityBlock, pairs.event, selection.prescale)
        pairs, left_out = leave_out(pairs, {"prescaled": ~used})
    pairs = corrected_pairs(pairs, corrections)
    costs = found.costs if isinstance(events, FileEntries) else {}
    return replace(found, pairs=pairs, rejected={**found.rejected, **left_out}, costs=costs)
