"""One chunk of events to selected pairs, or to flat columns of all events, in either format."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from calib.calibrations.base import Needs
from calib.quality.buckets import kept
from calib.schema import Sample
from processors.corrections import Corrections, corrected_pairs
from processors.levels import select_nanoaod
from processors.readers.events import Events, Selected
from processors.readers.nanoaod import read_nanoaod
from processors.readers.stage1 import read_stage1, select_stage1
from processors.readers.table import select_table
from processors.selection import ResolvedSelection, leave_out, of_chunk


def read(events: Any, sample: Sample, needs: Needs, selection: ResolvedSelection) -> Events:
    """Return what a calibration and the selection need of all events of one chunk.

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
    readers = {"nanoaod": read_nanoaod, "stage1": read_stage1}
    return readers[sample.format](events, sample, needs, selection)


def selected(
    events: Any,
    sample: Sample,
    needs: Needs,
    selection: ResolvedSelection,
    corrections: Corrections = (),
) -> Selected:
    """Return the selected pairs of one chunk of events; the arguments are those of `read`.

    Of ``events`` only ``metadata`` is used. ``corrections`` are payloads that are applied, in
    this order. Of a table, the records stand in place of pairs. What a prescale leaves out is
    ``prescaled`` in the accounting.
    """
    selection = of_chunk(selection, events.metadata)
    if sample.format == "table":
        found = select_table(events, sample, needs, selection)
    else:
        choose = {"nanoaod": select_nanoaod, "stage1": select_stage1}
        found = choose[sample.format](events, sample, needs, selection, corrections=corrections)
    pairs, left_out = found.pairs, {}
    if selection.prescale > 1:
        used = kept(pairs.run, pairs.luminosityBlock, pairs.event, selection.prescale)
        pairs, left_out = leave_out(pairs, {"prescaled": ~used})
    pairs = corrected_pairs(pairs, corrections)
    return replace(found, pairs=pairs, rejected={**found.rejected, **left_out})
