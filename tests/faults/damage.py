"""Damaged input files through `collect`: refused, or without any effect; else it is counted here.

``python -m tests.faults.damage 500`` from the root of the repository. Each batch runs in a
process of its own, so that a crash is seen and not shared.
"""

from __future__ import annotations

import json
import signal
import struct
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, nullcontext
from pathlib import Path
from typing import Any
from unittest import mock

import numpy as np
import xxhash

from calib.errors import CalibError
from calib.events import histograms
from jobs.run.accounting import checks

KINDS = (
    "stage1",
    "stage1-plain",
    "root-lz4",
    "root-zlib",
    "root-zstd",
    "rntuple-checked",
    "rntuple",
)
"""Parquet and RNTuple with and without page checksums, TTree with those of its compression."""

CHECKED = ("stage1", "root-zlib", "rntuple-checked")
"""Kinds of which all content has checksums; LZ4 leaves what does not shrink without."""

HANG_S = 60


def damaged(raw: bytes, rng: np.random.Generator) -> bytes:
    """Return the bytes with some flipped, cut off, cut out, zeroed or spliced."""
    data = bytearray(raw)
    n, kind = len(data), int(rng.integers(0, 6))
    at = int(rng.integers(0, n))
    size = int(rng.integers(1, 2000))
    if kind in (0, 1):
        for place in rng.integers(0, n, 1 if kind == 0 else 20):
            data[place] ^= int(rng.integers(1, 256))
    elif kind == 2:
        del data[at:]
    elif kind == 3:
        del data[at : at + size]
    elif kind == 4:
        data[at : at + size] = bytes(len(data[at : at + size]))
    else:
        other = int(rng.integers(0, n))
        data[at : at + size] = data[other : other + len(data[at : at + size])]
    return bytes(data)


def write(kind: str, folder: Path) -> Path:
    """Write an undamaged file of a kind; return its path."""
    import pyarrow.parquet as pq
    import uproot

    from calib.toys.generation import generate
    from jobs.events.toys import _branches, _type, write_stage1

    made = generate("z", 2000, seed=11)
    if kind.startswith("stage1"):
        path = folder / f"{kind}.parquet"
        write_stage1(path, made.pairs, simulation=False)
        if kind.endswith("plain"):
            pq.write_table(pq.read_table(path), path, compression="lz4", use_dictionary=False)
        return path
    path = folder / f"{kind}.root"
    how = {"root-lz4": uproot.LZ4(1), "root-zlib": uproot.ZLIB(1)}.get(kind, uproot.ZSTD(1))
    branches = _branches(made.pairs, False)
    checksums = _page_checksums() if kind == "rntuple-checked" else nullcontext()
    with checksums, uproot.recreate(path, compression=how) as file:
        if kind.startswith("rntuple"):
            muons = branches.pop("Muon")
            columns = {f"Muon_{name}": muons[name] for name in muons.fields}
            file.mkrntuple("Events", branches | columns)
        else:
            file.mktree("Events", {k: _type(v) for k, v in branches.items()}).extend(branches)
    return path


@contextmanager
def _page_checksums() -> Iterator[None]:
    """Let uproot write a checksum after each page and say so, as ROOT does."""
    from uproot.writing import _cascadentuple as writing

    class Described(writing.NTuple_PageDescription):  # type: ignore[misc,name-defined]
        def serialize(self) -> bytes:
            return struct.pack("<i", -self.num_entries) + bytes(self.locator.serialize())

    class WithChecksums(writing.NTuple):  # type: ignore[misc,name-defined]
        def add_rblob(self, sink: Any, raw: Any, size: int) -> Any:
            raw = bytes(raw)
            content = raw + struct.pack("<Q", xxhash.xxh3_64_intdigest(raw))
            return super().add_rblob(sink, content, size)

    with (
        mock.patch.object(writing, "NTuple_PageDescription", Described),
        mock.patch.object(writing, "NTuple", WithChecksums),
    ):
        yield


def collect(path: Path, folder: Path) -> tuple[Any, dict[str, Any]]:
    """Return the sums and the accounting of one file."""
    from jobs.run.run import Run

    from .conftest import configuration

    kind = "stage1" if path.suffix == ".parquet" else "nanoaod"
    sample = {"name": "data", "resonance": "z", "format": kind, "files": [str(path)]}
    config = configuration(
        folder, folder, calibration="mean_mass:MeanMass", samples=[sample], chunk_size=500
    )
    with tempfile.TemporaryDirectory(dir=folder) as out:
        work = Run.prepare(config, Path(out) / "run")
        work.adopt()
        accounting = work.collect()
        return histograms.read(work.directory / "histograms" / "main.data.npz"), accounting


def trial(good: Path, expected: Any, folder: Path, rng: np.random.Generator) -> str:
    """Return what became of a damaged copy: refused, no effect, other numbers, or a crash."""
    path = folder / f"bad{good.suffix}"
    path.write_bytes(damaged(good.read_bytes(), rng))
    try:
        sums, accounting = collect(path, folder)
    except CalibError as error:
        text = str(error)
        return "refused" if "\n" not in text and len(text) < 2000 else f"no sentence: {text[:200]}"
    except Exception as error:
        return f"crash: {type(error).__name__}: {error}"[:300]
    same = sums.keys() == expected[0].keys() and all(
        np.array_equal(sums[k], expected[0][k]) for k in sums
    )
    if not all(check.passed for check in checks(accounting)):
        return "lost: the totals do not add up"
    if same:
        return "no effect"
    totals = accounting["samples"]["data"]["totals"]
    if _notes(accounting) != _notes(expected[1]):
        return "other numbers, and a note"
    if totals["rejected"].keys() - expected[1]["samples"]["data"]["totals"]["rejected"].keys():
        return "other numbers, and new reasons of rejection"
    return "other numbers, and only the note that there are no checksums"


def _notes(accounting: dict[str, Any]) -> list[str]:
    return [note for note in accounting["notes"] if "have no checksums" not in note]


def batch(kind: str, start: int, stop: int) -> None:
    """Run some trials; a line of JSON before and after each."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        good = write(kind, folder)
        expected = collect(good, folder)
        for i in range(start, stop):
            sys.stdout.write(json.dumps([i, "begun"]) + "\n")
            sys.stdout.flush()
            signal.alarm(HANG_S)  # a hang ends the process
            found = trial(good, expected, folder, np.random.default_rng([7, i]))
            signal.alarm(0)
            sys.stdout.write(json.dumps([i, found]) + "\n")
            sys.stdout.flush()


def run(n: int, kinds: tuple[str, ...] = KINDS) -> dict[str, Counter[str]]:
    """Return what became of n damaged files of all kinds together."""
    found: dict[str, Counter[str]] = {}
    per_kind = -(-n // len(kinds))
    for kind in kinds:
        counts: Counter[str] = Counter()
        at = 0
        while at < per_kind:
            process = subprocess.run(
                [sys.executable, "-m", "tests.faults.damage", kind, str(at), str(per_kind)],
                capture_output=True,
                text=True,
                check=False,
            )
            lines = [json.loads(line) for line in process.stdout.splitlines()]
            ends = {i: text for i, text in lines if text != "begun"}
            counts.update(ends.values())
            begun = {i for i, _ in lines}
            if lost := begun - ends.keys():
                how = "hang" if process.returncode == -signal.SIGALRM else "process died"
                counts[f"{how}: {kind} {lost} {process.stderr[-200:]}"] += 1
            elif not begun:
                raise RuntimeError(process.stderr)
            at = max(begun) + 1
        found[kind] = counts
    return found


if __name__ == "__main__":
    if len(sys.argv) == 4:
        batch(sys.argv[1], int(sys.argv[2]), int(sys.argv[3]))
    else:
        for kind, counts in run(int(sys.argv[1])).items():
            sys.stdout.write(f"{kind}: {dict(counts)}\n")
