"""Seconds and bytes: NanoAOD with 1 % of its events selected, in levels, at once, and skimmed.

Simulated events as in an unskimmed file: nought to three muons, 40 generated particles, lzma::

    python benchmarks/skim.py [--events 100000] [--repeat 2]

The events of interest stand in runs (a trigger that is on for a while), or evenly spread, which
is the worst case: then each basket holds one. The best of the repetitions counts.
"""

from __future__ import annotations

import argparse
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import awkward as ak
import numpy as np
import uproot
import yaml
from coffea.nanoevents import BaseSchema, NanoEventsFactory

from calib.calibrations.base import Needs
from calib.schema import Sample
from calib.types import BoolArray
from jobs.config.complete import complete
from jobs.events.files import chunks, inspect
from jobs.events.skim import skim
from processors import pairing
from processors.readers import chunk
from processors.readers.events import Selected
from processors.readers.given import GivenColumns
from processors.readers.nanoaod import read_nanoaod
from processors.selection import ResolvedSelection

CLUSTER = 5_000
GENERATED = 40
TRIGGER = "HLT_IsoMu24"
NEEDS = Needs(muon=("ptErr",))


def branches(n: int, signal: BoolArray, rng: np.random.Generator) -> dict[str, Any]:
    """Return events of a simulation; those of the signal have two good muons of a Z."""
    count = np.where(signal, 2, rng.choice(4, n, p=[0.3, 0.4, 0.2, 0.1]))
    of_signal = np.repeat(signal, count)
    m = len(of_signal)
    first = (np.cumsum(count) - count)[signal]
    charge = rng.choice([-1, 1], m)
    charge[first], charge[first + 1] = 1, -1
    phi = rng.uniform(-3.1, 3.1, m)
    phi[first + 1] = np.mod(phi[first] + 2 * np.pi, 2 * np.pi) - np.pi
    eta = np.where(of_signal, rng.uniform(-1.0, 1.0, m), rng.uniform(-2.4, 2.4, m))
    eta[first + 1] = eta[first] + rng.normal(0, 0.1, len(first))
    pt = np.where(of_signal, rng.normal(45.5, 1.0, m), rng.exponential(12.0, m) + 3)
    muon = {
        "pt": pt,
        "eta": eta,
        "phi": phi,
        "ptErr": rng.normal(0.5, 0.05, m),
        "pfRelIso04_all": np.where(of_signal, 0.02, rng.exponential(0.5, m)),
        "charge": charge,
        "genPartIdx": rng.integers(-1, GENERATED, m),
        "mediumId": of_signal | (rng.random(m) < 0.5),
    }
    g = n * GENERATED
    particles = {
        "pt": rng.exponential(20.0, g),
        "eta": rng.normal(0, 2, g),
        "phi": rng.uniform(-3, 3, g),
        "pdgId": rng.choice([13, -13, 11, 211], g),
        "status": rng.choice([1, 2, 62], g),
    }
    return {
        "run": np.ones(n, np.uint32),
        "luminosityBlock": (np.arange(n) // 1000).astype(np.uint32),
        "event": rng.permutation(n).astype(np.uint64),
        "genWeight": rng.normal(1, 0.1, n).astype(np.float32),
        TRIGGER: signal.copy(),
        "Muon": ak.unflatten(ak.zip(_narrow(muon)), count),
        "GenPart": ak.unflatten(ak.zip(_narrow(particles)), np.full(n, GENERATED)),
    }


def _narrow(columns: dict[str, Any]) -> dict[str, Any]:
    """Return numbers in 32 bits, as in NanoAOD."""
    kinds = {"f": np.float32, "i": np.int32, "b": np.bool_}
    return {name: v.astype(kinds[v.dtype.kind]) for name, v in columns.items()}


def write(path: Path, events: int, spread: bool, dense: bool = False) -> None:
    """Write clusters of events of which 1 % fire and are selected; all of them if ``dense``."""
    with uproot.recreate(path, compression=uproot.LZMA(1)) as file:
        tree = None
        for i in range(events // CLUSTER):
            rng = np.random.default_rng(i)
            in_run = i % 20 == 7  # one cluster in 20, a fifth of whose events fire
            signal = np.arange(CLUSTER) % 100 == 0
            if not spread:
                signal = np.full(CLUSTER, in_run) & (np.arange(CLUSTER) % 5 == 0)
            part = branches(CLUSTER, signal | dense, rng)
            if tree is None:
                types = {
                    k: v.type.content if isinstance(v, ak.Array) else v.dtype
                    for k, v in part.items()
                }
                tree = file.mktree("Events", types)
            tree.extend(part)


def best(repeat: int, function: Callable[[], Any]) -> tuple[float, Any]:
    """Return the shortest wall time in seconds, and what came out."""
    times = []
    for _ in range(repeat):
        start = time.perf_counter()
        found = function()
        times.append(time.perf_counter() - start)
    return min(times), found


def at_once(path: Path, n: int, sample: Sample, cuts: ResolvedSelection) -> tuple[Any, float]:
    """Return the selected pairs from all columns of all events, and bytes."""
    with uproot.open({path: None}) as file:
        where = {"filename": str(path), "entrystart": 0, "entrystop": n}
        events = NanoEventsFactory.from_root(
            file, treepath="Events", schemaclass=BaseSchema, mode="virtual", metadata=where
        ).events()
        pairs, _ = pairing.select(
            read_nanoaod(GivenColumns(events), where, sample, NEEDS, cuts), cuts
        )
        return pairs, file.file.source.num_requested_bytes


def in_levels(path: Path, n: int, sample: Sample, cuts: ResolvedSelection) -> Selected:
    """Return the selected pairs, read in levels."""
    where = {"filename": str(path), "entrystart": 0, "entrystop": n}
    return chunk.selected(chunk.FileEntries(where), sample, NEEDS, cuts)


def levels(folder: Path, events: int, repeat: int) -> Iterator[str]:
    """Return the lines of the first table."""
    sample = Sample(name="mc", resonance="z", format="nanoaod", files=("-",), simulation=True)
    plain = {
        "leading_pt": 26.0,
        "subleading_pt": 20.0,
        "abs_eta": 2.4,
        "isolation": 0.25,
        "identification": "medium",
        "mass_window": (75.0, 105.0),
    }
    yield "| events of interest | selection | way | selected | MB read | seconds | ratio MB, s |"
    yield "|---|---|---|---:|---:|---:|---:|"
    for spread in (False, True):
        path = folder / f"spread_{spread}.root"
        write(path, events, spread)
        for name, more in (("with trigger", {"triggers": (TRIGGER,)}), ("without", {})):
            cuts = ResolvedSelection(**plain, **more)
            slow, (pairs, asked) = best(repeat, lambda: at_once(path, events, sample, cuts))  # noqa: B023
            fast, found = best(repeat, lambda: in_levels(path, events, sample, cuts))  # noqa: B023
            read = sum(c["bytes"] for c in found.costs.values())
            assert np.array_equal(found.pairs.event, pairs.event)
            where = "evenly spread" if spread else "in runs"
            share = f"{len(pairs) / events:.2%}"
            yield f"| {where} | {name} | at once | {share} | {asked / 1e6:.1f} | {slow:.2f} | |"
            yield (
                f"| | | in levels | {share} | {read / 1e6:.1f} | {fast:.2f} |"
                f" {asked / read:.1f}, {slow / fast:.1f} |"
            )


def passes(folder: Path, events: int, repeat: int) -> Iterator[str]:
    """Return the lines of the second table: a pass over the input, and one over its skim."""
    yield "| input, lzma | what | seconds | million events/s | ratio |"
    yield "|---|---|---:|---:|---:|"
    for name, simulation in (("1 % selected, simulation", True), ("all selected, data", False)):
        own = folder / f"passes_{simulation}"
        own.mkdir()
        write(own / "a.root", events, spread=True, dense=not simulation)
        start = time.perf_counter()
        config = _configuration(own, simulation)
        skim(config, own / "skim", "benchmark", lambda text, done, total: None)
        made = time.perf_counter() - start
        slow, before = best(repeat, lambda: _pass(config))  # noqa: B023
        fast, after = best(repeat, lambda: _pass(own / "skim" / "skimmed.yaml"))  # noqa: B023
        assert np.array_equal(before, after)
        for what, seconds, ratio in (
            ("`calib skim`, once", made, ""),
            ("a pass over the NanoAOD", slow, "1"),
            ("a pass over the skim", fast, f"{slow / fast:.0f}"),
        ):
            yield f"| {name} | {what} | {seconds:.3f} | {events / seconds / 1e6:.2f} | {ratio} |"


def _configuration(folder: Path, simulation: bool) -> Path:
    values = {
        "name": "benchmark",
        "calibration": "mass_resolution",
        "samples": [
            {
                "name": "s",
                "resonance": "z",
                "format": "nanoaod",
                "files": ["a.root"],
                "simulation": simulation,
            }
        ],
        "selection": {"triggers": [TRIGGER]},
        "cluster": {"kind": "inline"},
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    return path


def _pass(config: Path) -> Any:
    """Read and select the events of a configuration; return the masses."""
    full, calibration = complete(config)
    inspection = inspect(full, calibration, config.parent)
    sample = full.samples[0]
    needs, cuts = calibration.needs(sample), inspection.selections[sample.name]
    return np.concatenate(
        [
            chunk.selected(
                chunk.FileEntries(
                    {"filename": c.file.path, "entrystart": c.start, "entrystop": c.stop}
                ),
                sample,
                needs,
                cuts,
            ).pairs.mass
            for c in chunks(inspection, full.chunk_size)
        ]
    )


def main(arguments: Sequence[str] | None = None) -> None:
    """Write the tables in Markdown to the standard output."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--repeat", type=int, default=2)
    options = parser.parse_args(arguments)
    with tempfile.TemporaryDirectory() as temporary:
        for line in levels(Path(temporary), options.events, options.repeat):
            sys.stdout.write(line + "\n")
        sys.stdout.write("\n")
        for line in passes(Path(temporary), options.events, options.repeat):
            sys.stdout.write(line + "\n")


if __name__ == "__main__":
    main()
