"""Seconds and memory of collect and reduce on millions of J/psi, on local Dask workers.

The events are made once, in a cache folder, and read from then on::

    python benchmarks/end_to_end.py [--events 20] [--workers 2] [--cache DIR] [--awkward 2]

Data (in millions) and a quarter as many simulated events, which make the reference, with one
smeared copy each; momentum_scale, all its categories. Every step is a command of its own, its start
included. In the same run, on some of the same files, the lazy way to one histogram of the mass:
dask-awkward and hist.dask.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import shutil
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import psutil

from calib.toys.generation import generate
from jobs.clusters import client as cluster_client
from jobs.config.schema import Cluster
from jobs.events.toys import write_stage1

PER_FILE = 1_000_000


def events(cache: Path, kind: str, n_files: int) -> list[Path]:
    """Return files of a million J/psi each, made where they are not there yet."""
    cache.mkdir(parents=True, exist_ok=True)
    found = [cache / f"jpsi-{kind}-{i:03d}.parquet" for i in range(n_files)]
    for i, path in enumerate(found):
        if not path.exists():
            simulation, temporary = kind == "mc", path.with_suffix(".part")
            toys = generate(
                "jpsi",
                PER_FILE,
                seed=2 * i + simulation,
                simulation=simulation,
                first_event=1 + i * PER_FILE,
            )
            write_stage1(temporary, toys.pairs, simulation)
            temporary.replace(path)
    return found


@dataclass
class Cost:
    """What a command took."""

    wall_s: float = 0.0
    cpu_s: float = 0.0
    peak: dict[int, int] = field(default_factory=dict)
    curve: list[tuple[float, int]] = field(default_factory=list)

    def at_tenths(self) -> list[tuple[float, float]]:
        """Return the seconds and the largest process in GB at ten times, evenly spread."""
        last = len(self.curve) - 1
        return [(t, size / 1e9) for t, size in (self.curve[last * i // 10] for i in range(1, 11))]

    @property
    def worker_gb(self) -> float:
        """Most memory of any process below the command, in GB."""
        return max(self.peak.values(), default=0) / 1e9


@contextmanager
def watched(cost: Cost, root: psutil.Process, with_root: bool) -> Iterator[None]:
    """Note the memory of all processes below one, four times a second."""
    done, start = threading.Event(), time.perf_counter()

    def look() -> None:
        while not done.wait(0.25):
            largest = 0
            try:
                processes = root.children(recursive=True) + ([root] if with_root else [])
                for process in processes:
                    size = process.memory_info().rss
                    largest = max(largest, size)
                    cost.peak[process.pid] = max(size, cost.peak.get(process.pid, 0))
            except psutil.NoSuchProcess:
                continue
            cost.curve.append((time.perf_counter() - start, largest))

    thread = threading.Thread(target=look, daemon=True)
    thread.start()
    yield
    done.set()
    thread.join()


def _cpu_s() -> float:
    used = resource.getrusage(resource.RUSAGE_CHILDREN)
    return used.ru_utime + used.ru_stime


def command(*words: str) -> Cost:
    """Return what a command of ours took; the processes it starts are part of it."""
    cost, before, start = Cost(), _cpu_s(), time.perf_counter()
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    process = subprocess.Popen([sys.executable, "-m", "jobs.cli", *words, "-q"], env=environment)
    with watched(cost, psutil.Process(process.pid), with_root=True):
        code = process.wait()
    cost.wall_s, cost.cpu_s = time.perf_counter() - start, _cpu_s() - before
    if code not in (0, 3):
        raise RuntimeError(f"{words[0]} ended with {code}")
    return cost


def lazily(files: Sequence[Path], workers: int) -> float:
    """Return the seconds of one histogram of the mass with dask-awkward and hist.dask."""
    import dask_awkward as dak
    import hist
    import hist.dask
    import numpy as np

    names = [f"mu{i}_{name}" for i in (1, 2) for name in ("pt", "eta", "phi")]
    with cluster_client(Cluster(kind="local", workers=workers)) as client:
        assert client is not None
        client.run(_import_awkward)
        start = time.perf_counter()
        found = dak.from_parquet([str(f) for f in files], columns=names)
        angles = np.cosh(found.mu1_eta - found.mu2_eta) - np.cos(found.mu1_phi - found.mu2_phi)
        mass = np.sqrt(2 * found.mu1_pt * found.mu2_pt * angles)
        filled = hist.dask.Hist(hist.axis.Regular(100, 2.9, 3.3)).fill(mass)
        total = client.compute(filled).result().sum()
        seconds = time.perf_counter() - start
    assert total > 0
    return seconds


def _import_awkward() -> None:
    import dask_awkward  # noqa: F401
    import hist.dask  # noqa: F401


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the table in Markdown to the standard output."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=20, help="millions, of the data")
    parser.add_argument("--workers", type=int, default=2)
    parser.add_argument("--awkward", type=int, default=2, help="millions; 0: without")
    parser.add_argument(
        "--cache", type=Path, default=Path(tempfile.gettempdir()) / "dimucal-benchmark"
    )
    options = parser.parse_args(arguments)
    data = events(options.cache, "data", options.events)
    mc = events(options.cache, "mc", max(1, options.events // 4))
    out = options.cache / "run"
    shutil.rmtree(out, ignore_errors=True)
    samples = [
        {
            "name": kind,
            "resonance": "jpsi",
            "format": "stage1",
            "simulation": kind == "mc",
            "files": [str(f) for f in files],
        }
        for kind, files in (("data", data), ("mc", mc))
    ]
    values = {
        "name": "benchmark",
        "calibration": "momentum_scale",
        "samples": samples,
        "settings": {"copies": 1, "calibrate_simulation": False},
        "cluster": {"kind": "local", "workers": options.workers},
    }
    config = options.cache / "benchmark.yaml"
    config.write_text(json.dumps(values))  # JSON is YAML
    n = (len(data) + len(mc)) * PER_FILE
    costs = {
        "collect": command("collect", str(config), "--out", str(out)),
        "reduce": command("reduce", str(out)),
    }
    whole = sum(cost.wall_s for cost in costs.values())
    write = sys.stdout.write
    write(f"{len(data)} million J/psi, {len(mc)} million simulated, {options.workers} workers\n\n")
    write("| step | seconds | share | CPU efficiency | million events/s | largest process, GB |\n")
    write("|---|---:|---:|---:|---:|---:|\n")
    for name, cost in costs.items():
        efficiency = cost.cpu_s / cost.wall_s / options.workers
        rate = f"{n / cost.wall_s / 1e6:.2f}" if name == "collect" else ""
        write(
            f"| {name} | {cost.wall_s:.1f} | {cost.wall_s / whole:.2f} | {efficiency:.2f} |"
            f" {rate} | {cost.worker_gb:.2f} |\n"
        )
    write(
        "\n| seconds of collect | "
        + " | ".join(f"{t:.0f}" for t, _ in costs["collect"].at_tenths())
        + " |\n|---|"
        + "---:|" * 10
        + "\n"
    )
    write(
        "| largest process, GB | "
        + " | ".join(f"{size:.2f}" for _, size in costs["collect"].at_tenths())
        + " |\n\n"
    )
    if options.awkward:
        files = data[: options.awkward]
        seconds = lazily(files, options.workers)
        write(
            f"dask-awkward, mass alone, {len(files)} million: {seconds:.1f} s,"
            f" {len(files) * PER_FILE / seconds / 1e6:.2f} million events/s\n"
        )


if __name__ == "__main__":
    main()
