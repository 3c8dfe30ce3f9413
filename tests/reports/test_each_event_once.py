"""Datasets that share events, and simulation whose numbers repeat."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from calib.events import histograms
from calib.events.duplicates import grouped, later_ones
from calib.results import MAIN, Pass
from calib.toys.generation import generate
from jobs.event_loop import collection
from jobs.events.toys import write_stage1
from jobs.progress import silent
from jobs.run.run import Run
from tests.small_run import write_configuration

MEAN = "mean_mass:MeanMass"


@given(st.lists(st.lists(st.integers(0, 12), max_size=20), max_size=5), st.integers(1, 40))
def test_later_ones(chunks: list[list[int]], at_once: int) -> None:
    spread = np.uint64(0x1F3D_5B79_0000_0001)
    keys = [np.array(c, dtype=np.uint64) * spread for c in chunks]
    found = later_ones([grouped(k) for k in keys], at_once)
    before: set[int] = set()
    for own, (earlier, again) in zip(keys, found, strict=True):
        values = own.tolist()
        assert earlier.tolist() == sorted(set(values) & before)
        assert again.tolist() == sorted({v for v in values if values.count(v) > 1} - before)
        before |= set(values)


@pytest.fixture(autouse=True)
def plugins(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent.parent / "jobs"))


def make(folder: Path, name: str, samples: list[dict[str, Any]], **changes: Any) -> Run:
    values = {"samples": samples, "calibration": MEAN, **changes}
    work = Run.prepare(
        write_configuration(folder / f"{name}.yaml", folder, **values), folder / name
    )
    work.adopt()
    return work


def stage1(name: str, *files: Path, **more: Any) -> dict[str, Any]:
    plain = {"name": name, "resonance": "z", "format": "stage1", "files": list(map(str, files))}
    return plain | more


def totals(work: Run, walk: Pass = MAIN) -> dict[str, histograms.Sums]:
    return dict(collection.sums(work, walk))


def require_same(found: Any, expected: Any, name: str) -> None:
    """Require counts to the bit; sums of other chunks are the same to 1e-12."""
    if name.endswith("counts"):
        np.testing.assert_array_equal(found, expected, err_msg=name)
    np.testing.assert_allclose(found, expected, rtol=1e-12, err_msg=name)


def shared(folder: Path) -> tuple[Path, Path, Path]:
    """Write two files that share events, some twice in the second; and each event once."""
    write_stage1(folder / "all.parquet", generate("z", 3000, seed=3).pairs, simulation=False)
    table = pq.read_table(folder / "all.parquet")
    pq.write_table(table.slice(0, 2000), folder / "one.parquet")
    other = [table.slice(1500), table.slice(1400, 40), table.slice(2900, 60)]
    pq.write_table(pa.concat_tables(other), folder / "other.parquet")
    pq.write_table(table.slice(2000), folder / "rest.parquet")
    return folder / "one.parquet", folder / "other.parquet", folder / "rest.parquet"


@pytest.mark.parametrize("chunk_size", [170, 1000])
def test_each_event_is_used_once(tmp_path: Path, chunk_size: int) -> None:
    one, other, rest = shared(tmp_path)
    size = {"chunk_size": chunk_size}
    work = make(tmp_path, "first", [stage1("data", one, other)], duplicates="first", **size)
    accounting = work.collect()
    plain = make(tmp_path, "plain", [stage1("data", one, rest)], **size)
    expected = plain.collect()
    own = accounting["samples"]["data"]["totals"]
    assert own["selected"] == expected["samples"]["data"]["totals"]["selected"]
    (checked,) = make(tmp_path, "check", [stage1("data", one, other)], **size).collect()[
        "duplicates"
    ]
    assert own["rejected"]["duplicate"] == checked["duplicates"] > 500
    assert accounting["duplicates"][0]["duplicates"] == 0
    first, second = accounting["samples"]["data"]["files"]
    assert "duplicate" not in first["rejected"]
    assert second["read"] == second["selected"] + sum(second["rejected"].values())
    for name, values in totals(plain)["data"].items():
        require_same(totals(work)["data"][name], values, name)
    # nothing is done again, and a later pass leaves out the same events
    before = {p: p.stat().st_mtime_ns for p in work.directory.path.rglob("*.npz")}
    work.collect()
    assert before == {p: p.stat().st_mtime_ns for p in work.directory.path.rglob("*.npz")}
    for each in (work, plain):
        walk_again(each)
    for name, values in totals(plain, Pass("2"))["data"].items():
        require_same(totals(work, Pass("2"))["data"][name], values, name)


def walk_again(work: Run) -> None:
    from jobs.clusters import Workers

    with Workers(work.config.cluster, work.calibration) as workers:
        collection.collect(work, work.inspect(), Pass("2"), workers, silent)


def test_the_order_of_the_samples_decides(tmp_path: Path) -> None:
    one, other, _ = shared(tmp_path)
    for i, order in enumerate(([one, other], [other, one])):
        samples = [stage1(path.stem, path) for path in order]
        work = make(tmp_path, f"run{i}", samples, duplicates="first")
        found = work.collect()["samples"]
        first, second = (found[path.stem]["totals"]["rejected"] for path in order)
        within = 60 if order[0] == other else 0  # at most: not all are selected
        assert first.get("duplicate", 0) <= within < 400 < second["duplicate"]


def test_a_run_can_change_its_mind(tmp_path: Path) -> None:
    one, other, _ = shared(tmp_path)
    samples = [stage1("data", one, other)]
    work = make(tmp_path, "run", samples)
    doubled = work.collect()["samples"]["data"]["totals"]["selected"]
    work = make(tmp_path, "run", samples, duplicates="first")
    once = work.collect()["samples"]["data"]["totals"]["selected"]
    work = make(tmp_path, "run", samples)
    assert once < doubled
    assert work.collect()["samples"]["data"]["totals"]["selected"] == doubled


# simulation --------------------------------------------------------------------------------------
@pytest.mark.parametrize("distinct", [100, 1500, 3000])
def test_simulation_whose_numbers_repeat_is_seen(tmp_path: Path, distinct: int) -> None:
    write_stage1(tmp_path / "data.parquet", generate("z", 1000, seed=3).pairs, simulation=False)
    made = generate("z", 3000, seed=4, simulation=True).pairs
    numbers = made.event % np.uint64(distinct) + np.uint64(1)
    one = np.ones(3000, dtype=np.uint64)
    made = replace(made, event=numbers, luminosityBlock=one)
    write_stage1(tmp_path / "mc.parquet", made, simulation=True)
    samples = [
        stage1("data", tmp_path / "data.parquet"),
        stage1("mc", tmp_path / "mc.parquet", simulation=True),
    ]
    work = make(tmp_path, "run", samples)
    work.execute()
    accounting = json.loads((work.directory / "accounting.json").read_text())
    (found,) = accounting["repeated"]
    check = {c["name"]: c for c in work.verdict()["checks"]}.get("repeated numbers mc")
    said = [note for note in accounting["notes"] if "random numbers" in note]
    if distinct == 3000:
        assert found["repeated"] == 0 and check is None and not said
        return
    assert found["repeated"] >= found["selected"] - distinct and said
    assert check is not None and check["passed"] == (distinct > 100)
