"""Events per second of collect, against reading the same columns alone, in the same run.

One process, both formats, toys in a temporary folder::

    python benchmarks/collect.py [--events 1000000] [--repeat 3]

The rows: reading the columns alone; the processor with one histogram (reading, selection,
accounting, filling); the processor with a calibration. The best of the repetitions counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import uproot
from coffea.nanoevents import BaseSchema
from coffea.processor import Runner
from coffea.processor.executor import WorkItem

from calib.arrays import AnyArray
from calib.calibrations import build
from calib.calibrations.base import Calibration, Edits, Needs
from calib.config import Config, Sample, Strict
from calib.histograms import Fill, Sums
from calib.pairs import Pairs
from calib.results import Pass, Reduction
from calib.toys import generate
from jobs.datasets import Inspection, chunks, inspect
from jobs.executor import ChunkExecutor
from jobs.toys import write_toys
from processors import columns, stage1
from processors.calibration import CalibrationProcessor

CHUNK = 500_000


class OneHistogram(Calibration):
    """The mass in 180 bins for each ring of |eta|: what collect costs by itself."""

    name = "one_histogram"

    def needs(self, sample: Sample) -> Needs:
        """Return the same columns as a calibration of the resolution."""
        return Needs(muon=("ptErr",))

    def selection(self, sample: Sample) -> Mapping[str, Any]:
        """Return the usual cuts."""
        return {"leading_pt": 26.0, "subleading_pt": 20.0, "abs_eta": 2.4,
                "mass_window": (75.0, 105.0)}  # fmt: skip

    def collect(self, pairs: Pairs, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        """Return one histogram with one mean."""
        ring = np.searchsorted([0.9, 1.8], np.abs(pairs.leading.eta), side="right")
        edges = np.linspace(75.0, 105.0, 181)
        means = {"k": 1 / pairs.leading.pt}
        return {"mass": Fill(ring, 3, pairs.mass, edges, pairs.weight, means)}

    def reduce(self, sums: Mapping[str, Sums], edits: Edits) -> Reduction:
        """Not needed here."""
        raise NotImplementedError

    def publish(self, reduction: Reduction) -> Mapping[str, Any]:
        """Not needed here."""
        raise NotImplementedError


def best(repeat: int, function: Callable[[], Any]) -> float:
    """Return the shortest wall time in seconds; one call before warms up."""
    function()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def read_alone(inspection: Inspection, names: Sequence[str]) -> None:
    """Read the columns and do nothing with them."""
    for file in inspection.files:
        wanted = [name for name in names if name in file.columns]
        if file.format == "stage1":
            with pq.ParquetFile(file.path) as parquet:
                parquet.read(wanted, use_threads=False)
        else:
            with uproot.open({file.path: None}) as root:
                root["Events"].arrays(wanted)


def run(inspection: Inspection, processor: CalibrationProcessor, format: str) -> None:
    """Run the processor over all chunks in this process."""
    items = [
        WorkItem(
            c.sample, c.file.path, c.file.treename or "", c.start, c.stop,
            uuid.UUID(c.file.uuid).bytes,
        )  # fmt: skip
        for c in chunks(inspection, CHUNK)
    ]
    executor = ChunkExecutor(status=False, store=lambda item, result, cpu_s: None)
    if format == "stage1":
        executor(items, partial(stage1.work, processor=processor), None)
    else:
        Runner(executor, schema=BaseSchema, format="root").run(items, processor)


def measure(format: str, folder: Path, calibration: str, repeat: int) -> list[tuple[str, float]]:
    """Return wall times in seconds by row of the table."""
    values = {
        "name": "benchmark",
        "calibration": calibration,
        "samples": [{"name": "data", "resonance": "z", "format": format, "files": [str(folder)]}],
    }
    config = Config.model_validate(values)
    samples = {s.name: s for s in config.samples}
    bare = OneHistogram(Strict(), config.samples, config.seed)
    full = build(config)
    rows = []
    for name, kind in (("one histogram", bare), (calibration, full)):
        inspection = inspect(config, kind, folder)
        processor = CalibrationProcessor(kind, samples, inspection.selections, Pass())
        if not rows:
            sample, selection = config.samples[0], inspection.selections["data"]
            names = columns.read(sample, kind.needs(sample), selection)
            rows.append(
                ("columns alone", best(repeat, lambda: read_alone(inspection, names)))  # noqa: B023
            )
        rows.append((name, best(repeat, lambda: run(inspection, processor, format))))  # noqa: B023
    return rows


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table in Markdown to the standard output."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--calibration", default="mass_resolution")
    options = parser.parse_args(arguments)
    toys = generate("z", options.events, seed=1)
    lines = [
        "| format | what | million events/s | share of reading |",
        "|---|---|---:|---:|",
    ]
    with tempfile.TemporaryDirectory() as temporary:
        for format in ("nanoaod", "stage1"):
            folder = Path(temporary) / format
            write_toys(folder, toys, format, 2)
            rows = measure(format, folder, options.calibration, options.repeat)
            alone = rows[0][1]
            for name, seconds in rows:
                rate = options.events / seconds / 1e6
                lines.append(f"| {format} | {name} | {rate:.2f} | {alone / seconds:.2f} |")
    sys.stdout.write("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
