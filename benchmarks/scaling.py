"""How long collect takes on 10, 100 and 1 000 workers, and what limits it: measured, then computed.

Measured here: the overhead of handing out a chunk (thousands of small ones through the same code),
the size of a partial result, the time to write, read and add it, the start of the workers, and
the events a second of one core. Computed from these: seconds for 10^8 to 10^11 events::

    python benchmarks/scaling.py [--tasks 2000] [--network 1.0] > benchmarks/scaling.md

``--network`` is the bandwidth of whoever hands out the chunks, in GB/s: it is not measured here.
"""

from __future__ import annotations

import argparse
import math
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from coffea.processor.executor import WorkItem

from calib.calibrations import build
from calib.events import histograms
from calib.results import Pass
from calib.toys.generation import generate
from jobs.clusters import client as cluster_client
from jobs.config.schema import Cluster, Config
from jobs.event_loop import chunk_result
from jobs.event_loop.executor import ChunkExecutor
from jobs.event_loop.loop import work_item
from jobs.events.files import LARGEST, MOST_CHUNKS, chunks, inspect
from jobs.events.toys import write_toys
from processors.calibration import CalibrationProcessor
from processors.input_checks import Seen

WORKERS = (10, 100, 1000)
EVENTS = (10**8, 10**9, 10**10, 10**11)


@dataclass(frozen=True)
class Costs:
    """What was measured; seconds, bytes, events a second."""

    start: float
    task: float
    write: float
    read: float
    add: float
    sums: int
    keys: float
    rate: float


def small(item: WorkItem, content: bytes) -> dict[str, Any]:
    """Return a result of some bytes, without any work."""
    return {"out": content}


def best(function: Callable[[], Any], repeat: int = 5) -> float:
    """Return the shortest time in seconds."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        function()
        times.append(time.perf_counter() - start)
    return min(times)


def measured(folder: Path, events: int, tasks: int) -> Costs:
    """Return the costs on this machine: two workers, stage1, momentum_scale."""
    samples = []
    for name, n in (("data", events), ("mc", 1000)):  # a simulation makes the reference
        is_mc = name == "mc"
        write_toys(folder / name, generate("jpsi", n, seed=1, simulation=is_mc), "stage1", 1)
        samples.append(
            {
                "name": name,
                "resonance": "jpsi",
                "format": "stage1",
                "files": [str(folder / name)],
                "simulation": is_mc,
            }
        )
    config = Config.model_validate(
        {"name": "scaling", "calibration": "momentum_scale", "samples": samples}
    )
    calibration = build(config)
    inspection = inspect(config, calibration, folder)
    processor = CalibrationProcessor(
        Seen(calibration, want_keys=True),
        {s.name: s for s in config.samples},
        inspection.selections,
        Pass(),
    )
    [chunk] = [c for c in chunks(inspection, events) if c.sample == "data"]
    item = work_item(chunk)
    function = partial(chunk_result.work, processor=processor)
    function(item)
    took = best(lambda: function(item))
    result = function(item)["out"]["data"]
    path = folder / "sums.npz"
    write = best(lambda: path.write_bytes(result.sums))
    read = best(lambda: histograms.read(path))
    total = histograms.add([histograms.read(path)])
    add = best(lambda: histograms.add([total, histograms.read(path)])) - read
    begin = time.perf_counter()
    with cluster_client(Cluster(kind="local", workers=2)) as client:
        start = time.perf_counter() - begin
        items = [WorkItem("data", f"{i}", "", 0, 1, i.to_bytes(16, "big")) for i in range(tasks)]
        executor = ChunkExecutor(status=False, store=lambda *_: None, client=client)
        empty = partial(small, content=b"")
        executor(items[:50], empty, None)
        each = best(lambda: executor(items, empty, None), 1) / tasks
    assert result.keys is not None
    keys = len(result.keys) / events
    return Costs(start, each, write, read, add, len(result.sums), keys, events / took)


@dataclass(frozen=True)
class Prediction:
    """Seconds of each part, for a number of workers and events."""

    parts: dict[str, float]
    merge: float

    @property
    def seconds(self) -> float:
        """The longest of what goes on at the same time, and the merging after it."""
        return max(self.parts.values()) + self.merge

    @property
    def limit(self) -> str:
        """What takes longest."""
        return max({**self.parts, "adding": self.merge}.items(), key=lambda x: x[1])[0]


def predicted(
    costs: Costs, workers: int, events: int, network: float, *, keys: bool, tree: bool
) -> Prediction:
    """Return what a pass over the events takes."""
    size = max(LARGEST, min(events // MOST_CHUNKS, 4 * LARGEST))
    n = math.ceil(events / size)
    work = events / costs.rate / workers
    move = costs.sums / (network * 1e9)
    if tree:
        # each worker adds its own; then pairs of workers, and one result comes back
        depth = math.ceil(math.log2(workers))
        parts = {"events": work + n / workers * costs.add, "handing out": n * costs.task}
        return Prediction(parts, depth * (costs.add + move) + costs.write)
    moved = n * move + keys * events * costs.keys / (network * 1e9)
    parts = {"events": work, "handing out": n * (costs.task + costs.write), "network": moved}
    return Prediction(parts, n * (costs.read + costs.add))


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the page in Markdown to the standard output."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--tasks", type=int, default=2000)
    parser.add_argument("--events", type=int, default=1_000_000)
    parser.add_argument("--network", type=float, default=1.0, help="GB/s")
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        costs = measured(Path(temporary), options.events, options.tasks)
    out = sys.stdout.write
    out("# Toward thousands of workers\n\n")
    out(
        "Made by `python benchmarks/scaling.py`. Measured on two cores of one machine, the rest is"
        " computed.\n\n"
    )
    out("| measured | |\n|---|---:|\n")
    for name, value in (
        (
            f"overhead of a chunk, {options.tasks} small ones, 2 workers",
            f"{costs.task * 1e3:.2f} ms",
        ),
        ("sums of a chunk of J/psi, momentum_scale", f"{costs.sums / 1e6:.2f} MB"),
        ("keys of its events, by which doubles are found", f"{costs.keys:.1f} bytes an event"),
        ("to write one", f"{costs.write * 1e3:.1f} ms"),
        ("to read one", f"{costs.read * 1e3:.1f} ms"),
        ("to add one to another", f"{costs.add * 1e3:.1f} ms"),
        ("start of a local cluster", f"{costs.start:.1f} s"),
        ("events of one core, stage1, momentum_scale", f"{costs.rate / 1e6:.2f} M/s"),
    ):
        out(f"| {name} | {value} |\n")
    out(
        f"\nBandwidth of whoever hands out the chunks, assumed: {options.network:g} GB/s. Input is"
        " assumed to arrive as fast as it is read.\n"
    )
    for way, keys, tree in (
        (
            "As it is: results come one by one and are files, which are added at the end",
            True,
            False,
        ),
        (
            "The same without keys: `duplicates: ignore`, simulation, passes after the first",
            False,
            False,
        ),
        ("Added by the workers, in a tree, without keys (computed, not built)", False, True),
    ):
        out(f"\n## {way}\n\n| events | " + " | ".join(f"{w} workers" for w in WORKERS) + " |\n")
        out("|---|" + "---|" * len(WORKERS) + "\n")
        for events in EVENTS:
            cells = []
            for workers in WORKERS:
                found = predicted(costs, workers, events, options.network, keys=keys, tree=tree)
                cells.append(f"{found.seconds:.3g} s, {found.limit}")
            out(f"| 1e{round(math.log10(events))} | " + " | ".join(cells) + " |\n")


if __name__ == "__main__":
    main()
