"""A run from configuration to report: the same numbers anywhere, and on it goes."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from calib.events import histograms
from jobs.cli import app

NUMBERS = (
    "fits.csv",
    "means.csv",
    "closure.csv",
    "payload.json",
    "verdict.json",
    "accounting.json",
    "histograms/main.data.npz",
    "histograms/closure.data.npz",
    "curves.npz",
    "covariance.npz",
)


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def as_json(*arguments: Any) -> Any:
    return json.loads(run(*arguments, "--json").stdout)


def chunk_files(out: Path) -> dict[Path, int]:
    return {p: p.stat().st_mtime_ns for p in out.glob("histograms/*/chunks/*.npz")}


def same_numbers(one: Path, other: Path) -> bool:
    return all((one / name).read_bytes() == (other / name).read_bytes() for name in NUMBERS)


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, events: Path) -> Path:
    """A finished run, not to be changed."""
    folder = tmp_path_factory.mktemp("done")
    config = folder / "config.yaml"
    config.write_text(
        yaml.safe_dump(
            {
                "name": "test",
                "calibration": "mean_mass:MeanMass",
                "chunk_size": 1500,
                "samples": [
                    {
                        "name": "data",
                        "resonance": "z",
                        "format": "stage1",
                        "files": [str(events / "*.parquet")],
                    }
                ],
                "cluster": {"kind": "inline"},
            }
        ),
        encoding="utf-8",
    )
    assert run("run", config, "--out", folder / "out").exit_code == 0
    return folder / "out"


@pytest.fixture
def copy(done: Path, tmp_path: Path) -> Path:
    """A copy of the finished run, to be changed."""
    return Path(shutil.copytree(done, tmp_path / "copy"))


def test_every_file_of_the_contract_is_there(done: Path) -> None:
    names = {p.name for p in done.iterdir()}
    assert names >= {
        "config.yaml",
        "histograms",
        "accounting.json",
        "fits.parquet",
        "fits.csv",
        "means.csv",
        "covariance.npz",
        "closure.csv",
        "payload.json",
        "verdict.json",
        "provenance.json",
        "report.html",
        "curves.npz",
    }
    config = yaml.safe_load((done / "config.yaml").read_text())
    assert config["settings"]["limit"] == 2.0 and config["selection"]["leading_pt"] == 26.0
    pd.testing.assert_frame_equal(
        pd.read_parquet(done / "fits.parquet"), pd.read_csv(done / "fits.csv"), check_dtype=False
    )
    provenance = json.loads((done / "provenance.json").read_text())
    assert [i["events"] for i in provenance["inputs"]] == [6000, 6000]
    assert set(provenance["steps"]) >= {"collect main", "collect closure", "reduce", "closure"}
    assert provenance["packages"]["dask"] and provenance["code_version"]
    assert not [p for p in done.rglob("*.part")]


def test_accounting_adds_up(done: Path) -> None:
    found = json.loads((done / "accounting.json").read_text())
    totals = found["samples"]["data"]["totals"]
    assert totals["events"] == totals["read"] == 12000
    assert totals["read"] == totals["selected"] + sum(totals["rejected"].values())
    counts = histograms.read(done / "histograms" / "main.data.npz")["mass/counts"]
    assert counts.sum() == totals["selected"]


def test_curves_are_plain_arrays(done: Path) -> None:
    with np.load(done / "curves.npz", allow_pickle=False) as curves:
        assert list(curves["names"]) == ["data B", "data O", "data E"]
        assert len(curves["counts"]) == curves["n_bins"].sum()
        assert len(curves["edges"]) == (curves["n_bins"] + 1).sum()


def test_any_splitting_gives_the_same_counts(done: Path, write: Any, tmp_path: Path) -> None:
    assert run("run", write(chunk_size=700), "--out", tmp_path / "out").exit_code == 0
    one, other = (
        histograms.read(p / "histograms" / "main.data.npz") for p in (done, tmp_path / "out")
    )
    np.testing.assert_array_equal(one["mass/counts"], other["mass/counts"])
    np.testing.assert_allclose(one["mass/sumw"], other["mass/sumw"], rtol=1e-12)


def test_what_is_done_is_not_done_again(copy: Path) -> None:
    before = chunk_files(copy)
    report = (copy / "report.html").stat().st_mtime_ns
    assert run("run", copy).exit_code == 0
    assert chunk_files(copy) == before
    assert (copy / "report.html").stat().st_mtime_ns == report


def test_lost_chunks_alone_are_done_again(done: Path, copy: Path) -> None:
    before = chunk_files(copy)
    lost = sorted(p for p in before if p.parts[-3] == "main")[:3]
    for path in lost:
        path.unlink()
    shutil.rmtree(copy / ".calib" / "steps")
    assert run("run", copy).exit_code == 0
    after = chunk_files(copy)
    assert set(after) == set(before)
    assert {p for p in after if after[p] != before[p]} == set(lost)
    assert same_numbers(done, copy)


def test_damaged_chunk_is_done_again(done: Path, copy: Path) -> None:
    path = sorted((copy / "histograms" / "main" / "chunks").glob("*.npz"))[0]
    path.write_bytes(path.read_bytes()[:200])
    (copy / ".calib" / "steps" / "collect.main.json").unlink()
    assert run("run", copy).exit_code == 0
    assert same_numbers(done, copy)


def test_step_by_step_gives_the_same(done: Path, write: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("collect", write(), "--out", out).exit_code == 0
    assert not (out / "fits.csv").exists()
    # without its events the closure cannot have passed
    assert run("reduce", out).exit_code == 3
    assert run("closure", out).exit_code == 0
    assert run("report", out).exit_code == 0
    assert same_numbers(done, out)
    assert run("status", out).exit_code == 0


def test_passes_of_an_iteration(write: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    assert run("run", write(settings={"passes": 3}), "--out", out).exit_code == 0
    assert {p.name for p in (out / "histograms").glob("*.npz")} == {
        "main.data.npz",
        "1.data.npz",
        "2.data.npz",
        "closure.data.npz",
    }
    fits = (out / "fits.csv").read_bytes()
    assert run("reduce", out).exit_code == 0
    assert (out / "fits.csv").read_bytes() == fits


@pytest.mark.parametrize("name", ["fits.csv", "report.html"])
def test_a_missing_file_is_made_again(done: Path, copy: Path, name: str) -> None:
    (copy / name).unlink()
    assert run("run", copy).exit_code == 0
    assert (copy / name).is_file() and same_numbers(done, copy)


# one category ------------------------------------------------------------------------------------
def test_edit_changes_one_row_and_stays_recorded(done: Path, copy: Path) -> None:
    events = chunk_files(copy)
    found = run("reduce", copy, "--category", "E", "--set", "low=85", "--set", "high=97.5")
    assert found.exit_code == 0, found.output
    before = (done / "fits.csv").read_text().splitlines()
    after = (copy / "fits.csv").read_text().splitlines()
    changed = [new.split(",")[1] for old, new in zip(before, after, strict=True) if old != new]
    assert changed == ["E"]
    assert (copy / "payload.json").read_bytes() != (done / "payload.json").read_bytes()
    assert yaml.safe_load((copy / "edits.yaml").read_text()) == {"E": {"low": 85, "high": 97.5}}
    assert chunk_files(copy) == events
    assert run("reduce", copy, "--category", "E", "--reset").exit_code == 0
    assert not (copy / "edits.yaml").exists() and same_numbers(done, copy)


def test_edit_survives_the_next_run(copy: Path) -> None:
    run("reduce", copy, "--category", "E", "--set", "low=85", "--set", "high=97.5")
    fits = (copy / "fits.csv").read_bytes()
    (copy / "fits.csv").unlink()
    assert run("run", copy).exit_code == 0
    assert (copy / "fits.csv").read_bytes() == fits


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--category", "X", "--set", "low=1"], "category 'X'"),
        (["--category", "E", "--set", "lwo=1"], "'lwo'"),
        (["--category", "E", "--set", "low"], "key=value"),
        (["--category", "E", "--set", "low=[1"], "not YAML"),
        (["--set", "low=1"], "--category"),
    ],
)
def test_refused_edit_changes_nothing(
    done: Path, copy: Path, arguments: list[str], said: str
) -> None:
    found = run("reduce", copy, *arguments)
    assert found.exit_code == 2 and said in found.stderr
    assert not (copy / "edits.yaml").exists() and same_numbers(done, copy)


# verdict, status, machines -------------------------------------------------------------------
def test_verdict_that_is_not_passed(write: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = run("run", write(settings={"limit": 0.01}), "--out", out)
    assert found.exit_code == 3 and "not passed" in found.stdout
    verdict = json.loads((out / "verdict.json").read_text())
    assert not verdict["passed"]
    assert [c["name"] for c in verdict["checks"] if not c["passed"]] == ["mean"]
    assert run("status", out).exit_code == 3
    assert run("run", out).exit_code == 3


def test_status_in_ten_lines(done: Path) -> None:
    found = run("status", done)
    assert found.exit_code == 0
    assert len(found.stdout.splitlines()) <= 10
    assert "verdict: passed" in found.stdout and "report.html" in found.stdout
    assert as_json("status", done)["samples"]["data"]["events"] == 12000


def test_status_of_an_unfinished_run(write: Any, tmp_path: Path) -> None:
    run("collect", write(), "--out", tmp_path / "out")
    found = run("status", tmp_path / "out")
    assert found.exit_code == 1 and "not finished" in found.stdout


def test_json_is_one_object(write: Any, tmp_path: Path) -> None:
    out = tmp_path / "out"
    found = as_json("run", write(), "--out", out)
    assert found["passed"] and found["samples"]["data"]["read"] == 12000
    bad = run("status", tmp_path / "nothing", "--json")
    assert bad.exit_code == json.loads(bad.stdout)["exit_code"] == 2


def test_earlier_payload_is_kept_for_the_report(done: Path, copy: Path) -> None:
    assert run("report", copy, "--earlier", done / "payload.json").exit_code == 0
    kept = json.loads((copy / ".calib" / "earlier.json").read_text())
    assert kept == json.loads((done / "payload.json").read_text())
    (copy / "bad.json").write_text("{}")
    found = run("report", copy, "--earlier", copy / "bad.json")
    assert found.exit_code == 2 and "bad.json" in found.stderr
