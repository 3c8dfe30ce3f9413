"""The result of a chunk as the bytes of its files, made where the chunk is.

Whoever hands out the chunks only writes them down: it has the results of all workers to take.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any

import numpy as np
from coffea.processor.executor import WorkItem

from calib.events import histograms
from calib.events.histograms import Sums
from jobs import compiling
from jobs.run import input_checks, selection_levels
from jobs.run.accounting import Counts
from processors.calibration import CalibrationProcessor
from processors.input_checks import Seen, taken_out
from processors.readers import chunk


@dataclass(frozen=True)
class Parcel:
    """Where the events of a chunk went, its sums, and the keys of its events if they are kept."""

    counts: Counts
    sums: bytes
    keys: bytes | None = None


def work(item: WorkItem, processor: CalibrationProcessor) -> dict[str, Any]:
    """Return the result of one chunk, a `Parcel` for its sample."""
    with _alone_at_first(item, processor):
        done = chunk.work(item, processor)
    return {**done, "out": {name: packed(found) for name, found in done["out"].items()}}


def _alone_at_first(
    item: WorkItem, processor: CalibrationProcessor
) -> AbstractContextManager[None]:
    """Return what lets workers wait for the one that compiles the functions of a chunk."""
    calibration, sample = processor.calibration, processor.samples[item.dataset]
    if isinstance(calibration, Seen):
        calibration = calibration.calibration
    module = type(calibration).__module__
    if not module.startswith("calib."):  # nobody waits for what may hang
        return nullcontext()
    columns = (sample.format, sample.simulation, sample.resonance)
    kind = (module, calibration.collect_settings(), processor.walk.name, columns)
    return compiling.alone_at_first(*kind)


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
