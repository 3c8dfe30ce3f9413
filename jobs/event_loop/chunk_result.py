"""The result of a chunk as the bytes of its files, made where the chunk is.

Whoever hands out the chunks only writes them down: it has the results of all workers to take.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from coffea.processor import ProcessorABC
from coffea.processor.executor import WorkItem

from calib.events import histograms
from calib.events.histograms import Sums
from jobs.run import input_checks, selection_levels
from jobs.run.accounting import Counts
from processors.input_checks import taken_out
from processors.readers import chunk


@dataclass(frozen=True)
class Parcel:
    """Where the events of a chunk went, its sums, and the keys of its events if they are kept."""

    counts: Counts
    sums: bytes
    keys: bytes | None = None


def work(item: WorkItem, processor: ProcessorABC) -> dict[str, Any]:
    """Return the result of one chunk as the bytes of its files.

    Parameters
    ----------
    item : WorkItem
        Entries of a file.
    processor : CalibrationProcessor
        What is done with them.

    Returns
    -------
    dict
        ``out``, a Parcel for the sample, and ``processed``, the item.
    """
    done = chunk.work(item, processor)
    return {**done, "out": {name: packed(found) for name, found in done["out"].items()}}


def packed(result: dict[str, Any]) -> Parcel:
    """Return what the processor hands out for a sample as the bytes of its files."""
    counts = Counts.of(result["counts"])
    keys, spectrum = taken_out(result["sums"])
    flat: Sums = {
        **selection_levels.counts_as_sums(counts),
        **{f"sums/{k}": np.asarray(v) for k, v in result["sums"].items()},
        **selection_levels.as_sums(result["costs"]),
    }
    if spectrum is not None:
        flat["events/spectrum"] = spectrum
    return Parcel(
        counts, histograms.packed(flat), None if keys is None else input_checks.packed(keys)
    )
