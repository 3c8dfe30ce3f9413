"""Events per second of collect, against reading the same columns alone, in the same run.

One process and local Dask workers, both formats, toys in a temporary folder::

    python benchmarks/collect.py [--events 1000000] [--repeat 3] [--workers 2] [--only stage1]

The rows: reading the columns alone; the processor with one histogram (reading, selection,
accounting, filling); the processor with a calibration: ``data`` where a simulation is given, which
makes the reference, ``simulation`` that simulation with its four smeared copies, ``embedded`` data
whose reference or template is made from the data. The best of the repetitions counts; the workers
are there and warm, so that their start is no part of it. The result of a chunk is made the bytes of
its file, as `calib collect` does. NanoAOD is as `calib toys` writes it.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import uproot
from coffea.processor.executor import WorkItem

from calib.calibrations import build
from calib.calibrations.base import Calibration, Edits, Needs
from calib.events.histograms import Fill, Sums
from calib.events.pairs import Pairs
from calib.results import Pass, Reduction
from calib.schema import Sample, Strict
from calib.toys.generation import generate
from calib.types import AnyArray
from jobs.clusters import client as cluster_client
from jobs.config.schema import Cluster, Config
from jobs.event_loop import chunk_result
from jobs.event_loop.executor import ChunkExecutor
from jobs.events.files import Chunk, Inspection, chunks, inspect
from jobs.events.toys import write_toys
from processors.calibration import CalibrationProcessor
from processors.input_checks import Seen
from processors.readers import columns, stage1

CHUNK = 500_000
AGAIN = 5
"""How often workers are given every chunk."""


class OneHistogram(Calibration):
    """The mass in 180 bins for each ring of |eta|: what collect costs by itself."""

    name = "one_histogram"

    def needs(self, sample: Sample) -> Needs:
        """Return the same columns as a calibration of the resolution."""
        return Needs(muon=("ptErr",))

    def selection(self, sample: Sample) -> Mapping[str, Any]:
        """Return the usual cuts."""
        if sample.resonance == "jpsi":
            return {"subleading_pt": 3.6, "abs_eta": 2.4, "mass_window": (2.8, 3.4)}
        return {
            "leading_pt": 26.0,
            "subleading_pt": 20.0,
            "abs_eta": 2.4,
            "mass_window": (75.0, 105.0),
        }

    def collect(self, pairs: Pairs, sample: Sample, walk: Pass) -> Mapping[str, Fill | AnyArray]:
        """Return one histogram with one mean."""
        ring = np.searchsorted([0.9, 1.8], np.abs(pairs.leading.eta), side="right")
        edges = np.linspace(*((2.9, 3.3) if sample.resonance == "jpsi" else (75.0, 105.0)), 181)
        means = {"k": 1 / pairs.leading.pt}
        return {"mass": Fill(ring, 3, pairs.mass, edges, pairs.weight, means)}

    def reduce(self, sums: Mapping[str, Sums], edits: Edits) -> Reduction:
        """Not needed here."""
        raise NotImplementedError

    def publish(self, reduction: Reduction) -> Mapping[str, Any]:
        """Not needed here."""
        raise NotImplementedError


@dataclass(frozen=True)
class Row:
    """A line of the table: a calibration, and the sample that is timed."""

    name: str
    calibration: Calibration
    config: Config
    sample: str


def rows(folder: Path, format: str) -> Iterator[tuple[str, list[Row]]]:
    """Return the lines for each resonance."""
    for resonance, name in (("jpsi", "momentum_scale"), ("z", "mass_resolution")):
        data, mc = (
            {
                "name": kind,
                "resonance": resonance,
                "format": format,
                "simulation": kind == "mc",
                "files": [str(folder / f"{resonance}-{kind}-{format}")],
            }
            for kind in ("data", "mc")
        )
        values = {"name": "benchmark", "calibration": name}
        alone = Config.model_validate({**values, "samples": [data]})
        both = Config.model_validate({**values, "samples": [data, mc]})
        found = [
            Row("one histogram", OneHistogram(Strict(), alone.samples, 1), alone, "data"),
            Row(f"{name}, data", build(both), both, "data"),
            Row(f"{name}, simulation", build(both), both, "mc"),
            Row(f"{name}, embedded", build(alone), alone, "data"),
        ]
        yield resonance, found


def best(repeat: int, function: Callable[[], Any]) -> float:
    """Return the shortest wall time in seconds; one call before warms up."""
    function()
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def read_alone(item: WorkItem, names: Sequence[str]) -> dict[str, Any]:
    """Read the columns of a chunk and do nothing with them."""
    if item.treename:
        with uproot.open({item.filename: None}) as root:
            tree = root["Events"]
            wanted = [name for name in names if name in tree]
            tree.arrays(wanted, entry_start=item.entrystart, entry_stop=item.entrystop)
    else:
        with pq.ParquetFile(item.filename) as file:
            wanted = [name for name in names if name in file.schema_arrow.names]
            stage1.read_rows(file, wanted, item.entrystart, item.entrystop)
    return {"out": {}}


def work(inspection: Inspection, sample: str) -> list[WorkItem]:
    """Return the chunks of a sample."""

    def item(chunk: Chunk) -> WorkItem:
        file = chunk.file
        return WorkItem(
            chunk.sample,
            file.path,
            file.treename or "",
            chunk.start,
            chunk.stop,
            uuid.UUID(file.uuid).bytes,
        )

    return [item(c) for c in chunks(inspection, CHUNK) if c.sample == sample]


def measure(row: Row, options: argparse.Namespace, client: Any) -> tuple[int, float, float]:
    """Return the events, and the seconds of reading alone and of the processor.

    With workers these are differences between all chunks several times over and once: what is the
    same for any number of events (the first to be handed out, the last to be waited for) is out.
    """
    inspection = inspect(row.config, row.calibration, Path.cwd())
    samples = {s.name: s for s in row.config.samples}
    selections = inspection.selections
    walk = row.calibration.sized(Pass(), dict.fromkeys(samples, options.sized_for))
    seeing = Seen(row.calibration, want_keys=options.keys)
    processor = CalibrationProcessor(seeing, samples, selections, walk)
    sample = samples[row.sample]
    names = columns.read(sample, row.calibration.needs(sample), selections[row.sample])
    items = work(inspection, row.sample)
    executor = ChunkExecutor(status=False, store=lambda *_: None, client=client)
    if client is not None:
        items *= AGAIN
    few = items[: len(items) // AGAIN] if client is not None else []

    def through(function: Callable[[WorkItem], Any]) -> float:
        return best(options.repeat, lambda: executor(items, function, None)) - (
            best(options.repeat, lambda: executor(few, function, None)) if few else 0.0
        )

    alone = through(partial(read_alone, names=names))
    n = sum(map(len, items)) - sum(map(len, few))
    return n, alone, through(partial(chunk_result.work, processor=processor))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table in Markdown to the standard output."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--repeat", type=int, default=3)
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument(
        "--sized-for",
        type=int,
        default=20_000_000,
        help="events for which the number of made copies is chosen",
    )
    parser.add_argument("--keys", action="store_true", help="keep the events' keys, as data does")
    parser.add_argument("--only", choices=("nanoaod", "stage1"))
    options = parser.parse_args(arguments)
    formats = (options.only,) if options.only else ("nanoaod", "stage1")
    out = sys.stdout.write
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        for resonance in ("jpsi", "z"):
            for seed, kind in enumerate(("data", "mc")):
                toys = generate(resonance, options.events, seed=seed, simulation=kind == "mc")
                for format in formats:
                    write_toys(folder / f"{resonance}-{kind}-{format}", toys, format, 2)
        out("| format | events | what | where | million events/s | share of reading |\n")
        out("|---|---|---|---|---:|---:|\n")
        local = Cluster(kind="local", workers=options.workers)
        for where in (Cluster(kind="inline"), local):
            place = "1 process" if where.kind == "inline" else f"{where.workers} workers"
            with cluster_client(where) as client:
                for format in formats:
                    for resonance, found in rows(folder, format):
                        for row in found:
                            n, alone, took = measure(row, options, client)
                            lines = [(row.name, took)]
                            if row is found[0]:
                                lines.insert(0, ("columns alone", alone))
                            for name, seconds in lines:
                                figures = f"{n / seconds / 1e6:.2f} | {alone / seconds:.2f}"
                                out(f"| {format} | {resonance} | {name} | {place} | {figures} |\n")
                                sys.stdout.flush()


if __name__ == "__main__":
    main()
