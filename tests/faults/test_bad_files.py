"""Files that are damaged, doubled, of another schema or resonance; and those left out."""

from __future__ import annotations

import json
import os
import signal
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from calib.errors import CalibError, InputError
from calib.events.duplicates import GROUPS
from calib.events.peak_check import contrast, spectrum
from calib.physics.constants import RESONANCES
from calib.results import Pass
from calib.toys.generation import generate
from calib.toys.truth import SLOPES, Truth
from jobs.cli import app
from jobs.clusters import Workers
from jobs.event_loop import collection
from jobs.events.guard import crashing
from jobs.events.toys import write_stage1
from jobs.progress import silent

from .conftest import LONG, Make
from .damage import CHECKED, KINDS, collect, run, write

MEAN = {"calibration": "mean_mass:MeanMass"}


def toys(path: Path, n: int = 1500, seed: int = 1, resonance: str = "z", first: int = 1) -> Path:
    made = generate(resonance, n, seed=seed, first_event=first)
    write_stage1(path, made.pairs, simulation=False)
    return path


def samples(*files: Path, resonance: str = "z") -> list[dict[str, Any]]:
    return [
        {
            "name": "data",
            "resonance": resonance,
            "format": "stage1",
            "files": [str(f) for f in files],
        }
    ]


def checks(out: Path) -> dict[str, Any]:
    return {c["name"]: c for c in json.loads((out / "verdict.json").read_text())["checks"]}


# damaged -----------------------------------------------------------------------------------------
def test_damaged_files_do_no_harm() -> None:
    kinds = KINDS if LONG else ("stage1", "root-zlib", "rntuple-checked")
    for kind, counts in run(504 if LONG else 45, kinds).items():
        bad = [
            k
            for k in counts
            if k.startswith(("crash", "hang", "process died", "no sentence", "lost"))
        ]
        assert not bad, (kind, bad)
        others = [k for k in counts if k.startswith("other numbers")]
        assert not (kind in CHECKED and others), (kind, counts)
        assert counts["refused"] > sum(counts.values()) / 2


PROTECTED = {
    "stage1": "pages",
    "stage1-plain": "none",
    "root-lz4": "none",
    "root-zlib": "compression",
    "root-zstd": "none",
    "rntuple-checked": "pages",
    "rntuple": "none",
}
"""LZ4 leaves these columns as they are: what does not shrink is stored without a checksum."""


@pytest.mark.parametrize("kind", KINDS)
def test_the_accounting_says_what_is_protected(kind: str, tmp_path: Path) -> None:
    _, found = collect(write(kind, tmp_path), tmp_path)
    assert found["samples"]["data"]["files"][0]["checksums"] == PROTECTED[kind]
    assert ("1 of 1 files have no checksums" in str(found["notes"])) == (PROTECTED[kind] == "none")


def test_a_reader_that_crashes_is_survived(tmp_path: Path) -> None:
    def look(path: str) -> None:
        if path == "b":
            os.kill(os.getpid(), signal.SIGABRT)
        raise ValueError("an exception is no crash")

    assert crashing(["a", "b", "c", "b"], look) == {"b": "signal 6"}
    assert crashing([], look) == {}


# left out ----------------------------------------------------------------------------------------
@pytest.fixture
def some_bad(tmp_path: Path) -> list[Path]:
    """Eight good files, one truncated, one without a column."""
    files = [toys(tmp_path / f"{i}.parquet", 600, seed=i, first=1 + 600 * i) for i in range(10)]
    files[3].write_bytes(files[3].read_bytes()[:5000])
    pq.write_table(pq.read_table(files[7]).drop_columns(["mu2_pt"]), files[7])
    return files


def test_bad_files_are_left_out_and_told(make: Make, some_bad: list[Path]) -> None:
    work = make(samples=samples(*some_bad), bad_files={"skip_up_to": 0.25}, **MEAN)
    decided = work.execute()
    found = work.accounting()
    assert [Path(b["path"]).name for b in found["bad_files"]] == ["3.parquet", "7.parquet"]
    assert "truncated" in found["bad_files"][0]["error"]
    assert "'mu2_pt'" in found["bad_files"][1]["error"]
    totals = found["samples"]["data"]["totals"]
    assert totals["events"] == totals["read"] == 8 * 600
    check = checks(work.directory.path)["bad_files"]
    assert check["passed"] and "3.parquet" in check["text"]
    # 600 events in the one that lacks a column; of the truncated one, what its bytes tell
    assert 600 / 5400 < check["value"] < 0.2
    assert decided["passed"] == all(c["passed"] for c in decided["checks"])
    assert "3.parquet" in (work.directory / "report.html").read_text()


def test_too_many_bad_files(make: Make, some_bad: list[Path]) -> None:
    work = make(samples=samples(*some_bad), bad_files={"skip_up_to": 0.1}, **MEAN)
    with pytest.raises(
        InputError, match="2 of 10 files cannot be used.*'bad_files.skip_up_to' 0.1"
    ):
        work.collect()
    work = make("other", samples=samples(*some_bad), **MEAN)
    with pytest.raises(InputError, match=r"3\.parquet: truncated"):
        work.collect()


def test_a_chunk_beyond_the_allowed_share_ends_the_run(make: Make) -> None:
    settings = {"break_event": 700}
    work = make(settings=settings, bad_files={"skip_up_to": 0.05}, **MEAN)
    with pytest.raises(CalibError, match=r"8\.3% of the events .*'bad_files.skip_up_to' 0.05"):
        work.collect()
    work = make("other", settings=settings, bad_files={"skip_up_to": 0.09}, **MEAN)
    work.execute()
    totals = work.accounting()["samples"]["data"]["totals"]
    assert totals["bad"] == 1000 and totals["read"] == 11_000 and totals["events"] == 12_000
    # not allowed any more: tried again
    again = make("other", settings=settings, **MEAN)
    with pytest.raises(CalibError, match="failed twice"):
        again.collect()


# twice -------------------------------------------------------------------------------------------
def test_events_that_are_there_twice(make: Make, tmp_path: Path) -> None:
    one = toys(tmp_path / "1.parquet", 2000)
    table = pq.read_table(one)
    # 300 events of the first file again in the second, 50 of them twice
    other = pq.read_table(toys(tmp_path / "2.parquet", 1000, seed=2, first=5001))
    pq.write_table(
        pa.concat_tables([table.slice(100, 300), other, table.slice(120, 50)]),
        tmp_path / "2.parquet",
    )
    work = make(samples=samples(one, tmp_path / "2.parquet"), **MEAN)
    decided = work.execute()
    [found] = work.accounting()["duplicates"]
    kept = [np.load(p)[GROUPS:] for p in work.directory.path.rglob("*.keys.npy")]
    again = sum(map(len, kept)) - len(np.unique(np.concatenate(kept)))
    assert found["duplicates"] == again and 330 <= found["duplicates"] <= 350
    check = checks(work.directory.path)["duplicates"]
    assert not check["passed"] and not decided["passed"]
    ignoring = make(
        "other", samples=samples(one, tmp_path / "2.parquet"), duplicates="ignore", **MEAN
    )
    ignoring.execute()
    assert "duplicates" not in checks(ignoring.directory.path)


# another resonance -------------------------------------------------------------------------------
def test_a_file_without_a_peak(make: Make, tmp_path: Path) -> None:
    good = toys(tmp_path / "good.parquet", 3000)
    nearly = replace(Truth(), background=0.99)
    made = generate("z", 3000, seed=4, first_event=10_001, truth=nearly)
    write_stage1(tmp_path / "flat.parquet", made.pairs, simulation=False)
    work = make(samples=samples(good, tmp_path / "flat.parquet"), **MEAN)
    work.execute()
    check = checks(work.directory.path)["peak data"]
    assert not check["passed"] and "flat.parquet" in check["text"] and check["value"] > 2


@pytest.mark.parametrize("resonance", ["jpsi", "upsilon", "z"])
def test_contrast_of_peaks_and_of_none(resonance: str) -> None:
    peak = contrast(spectrum(generate(resonance, 3000, seed=1).pairs.mass, resonance), resonance)
    assert peak[0] > 2 and peak[1] > 15
    rng = np.random.default_rng(1)
    low, high = RESONANCES[resonance].window
    falling = low + rng.exponential(1 / SLOPES[resonance], 600_000)
    falling = falling[falling < high]
    none = contrast(spectrum(falling, resonance), resonance)
    assert abs(none[0] - 1) < 0.05 and abs(none[1]) < 5
    assert np.isnan(contrast(np.zeros(240, int), resonance)[0])


# changed -----------------------------------------------------------------------------------------
def test_a_file_that_changes_while_it_is_read(make: Make, tmp_path: Path) -> None:
    mine = toys(tmp_path / "mine.parquet", 3000)
    work = make(samples=samples(mine), **MEAN)
    inspection = work.inspect()
    toys(mine, 2999, seed=9)
    with (
        Workers(work.config.cluster) as workers,
        pytest.raises(InputError, match=r"mine\.parquet: changed since this run began"),
    ):
        collection.collect(work, inspection, Pass(), workers, silent)
    assert not list(work.directory.path.rglob("chunks/*.npz"))


def test_a_file_that_changed_since_is_named_and_read_anew(make: Make, tmp_path: Path) -> None:
    mine = toys(tmp_path / "mine.parquet", 3000)
    work = make(samples=samples(mine), **MEAN)
    work.collect()
    toys(mine, 2500, seed=9)
    found = CliRunner().invoke(app, ["collect", str(work.directory.path)])
    assert found.exit_code == 0 and "mine.parquet: changed since it was read (3000" in found.stderr
    accounting = work.accounting()
    assert accounting["samples"]["data"]["totals"]["read"] == 2500
    assert "mine.parquet: changed since it was read (3000" in accounting["notes"][-1]
