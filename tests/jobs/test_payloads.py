"""The key payloads: events corrected by an earlier calibration on their way into another one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from calib.calibrations.momentum_scale.payloads import payload
from calib.toys.generation import generate
from jobs.cli import app
from jobs.events.toys import write_stage1
from jobs.run import payloads
from tests.calib.calibrations.momentum_scale import synthetic

KINDS = (("data", False), ("mc", True))


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and simulation, pt in double precision, and a payload that moves them."""
    folder = tmp_path_factory.mktemp("toys")
    for i, (name, simulation) in enumerate(KINDS):
        (folder / name).mkdir()
        path = folder / name / "z.parquet"
        made = generate("z", 6000, seed=i + 1, simulation=simulation)
        write_stage1(path, made.pairs, simulation=simulation)
        table = pq.read_table(path)
        for column in ("mu1_pt", "mu2_pt", "mu1_ptErr", "mu2_ptErr"):
            at = table.column_names.index(column)
            table = table.set_column(at, column, table.column(column).cast(pa.float64()))
        pq.write_table(table, path)
    payloads.write(folder / "payload.json", payload.document(synthetic.reduction()))
    return folder


def write(path: Path, toys: Path, **changes: Any) -> Path:
    values: dict[str, Any] = {
        "name": "test",
        "calibration": "mean_mass:MeanMass",
        "cluster": {"kind": "inline"},
        "samples": [
            {
                "name": n,
                "resonance": "z",
                "format": "stage1",
                "files": [str(toys / n)],
                "simulation": s,
            }
            for n, s in KINDS
        ],
        "chunk_size": 1500,
    }
    path.write_text(yaml.safe_dump(values | changes))
    return path


@pytest.fixture(scope="module")
def done(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("done")
    config = write(folder / "config.yaml", toys, payloads=[str(toys / "payload.json")])
    found = run("run", config, "--out", folder / "out", "-q")
    assert found.exit_code == 0, found.output
    return folder / "out"


def test_as_events_written_by_apply(toys: Path, done: Path, tmp_path: Path) -> None:
    for name, _ in KINDS:
        (tmp_path / name).mkdir()
        out = tmp_path / name / "z.parquet"
        found = run("apply", toys / "payload.json", toys / name / "z.parquet", out, "-q")
        assert found.exit_code == 0, found.output
    plain = tmp_path / "out"
    assert run("run", write(tmp_path / "c.yaml", tmp_path), "--out", plain, "-q").exit_code == 0
    for name in ("fits.csv", "payload.json", "closure.csv", "means.csv"):
        assert (plain / name).read_bytes() == (done / name).read_bytes(), name
    other = tmp_path / "uncorrected"
    assert run("run", write(tmp_path / "d.yaml", toys), "--out", other, "-q").exit_code == 0
    assert (other / "means.csv").read_bytes() != (done / "means.csv").read_bytes()


def test_chunks_and_workers_change_nothing(toys: Path, done: Path, tmp_path: Path) -> None:
    config = write(
        tmp_path / "c.yaml",
        toys,
        payloads=[str(toys / "payload.json")],
        chunk_size=777,
        cluster={"kind": "local", "workers": 2},
    )
    found = run("run", config, "--out", tmp_path / "out", "-q")
    assert found.exit_code == 0, found.output
    mine, theirs = (pd.read_csv(d / "fits.csv") for d in (tmp_path / "out", done))
    np.testing.assert_array_equal(mine["n_events"], theirs["n_events"])
    np.testing.assert_allclose(mine["mean"], theirs["mean"], rtol=1e-12)


def test_it_is_written_down_what_was_applied(toys: Path, done: Path) -> None:
    config = yaml.safe_load((done / "config.yaml").read_text())
    assert config["payloads"] == [str(toys / "payload.json")]
    (entry,) = json.loads((done / "provenance.json").read_text())["payloads"]
    assert entry["path"] == str(toys / "payload.json") and entry["samples"] == ["data", "mc"]
    assert entry["calibration"] == "momentum_scale" and len(entry["sha256"]) == 64
    assert entry["sha256"][:12] in (done / "report.html").read_text()


def test_another_content_is_noticed_and_the_events_read_again(toys: Path, tmp_path: Path) -> None:
    mine = tmp_path / "payload.json"
    mine.write_bytes((toys / "payload.json").read_bytes())
    values = yaml.safe_load(write(tmp_path / "c.yaml", toys).read_text())
    values["samples"][0]["payloads"] = ["payload.json"]  # of the data alone, beside the file
    (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
    out = tmp_path / "out"
    assert run("run", tmp_path / "c.yaml", "--out", out, "-q").exit_code == 0
    first = (out / "means.csv").read_bytes()
    before = {p: p.stat().st_mtime_ns for p in out.glob("histograms/main/chunks/*.npz")}
    payloads.write(mine, payload.document(synthetic.reduction(seed=9)))
    found = run("run", out)
    assert found.exit_code == 0 and "another payload than before" in found.output
    assert (out / "means.csv").read_bytes() != first
    after = {p: p.stat().st_mtime_ns for p in out.glob("histograms/main/chunks/*.npz")}
    # the simulation is not corrected here: its chunks stay
    assert len(before) == len(after) == 8 and len(set(before.items()) & set(after.items())) == 4


def test_what_is_no_payload_is_one_sentence(toys: Path, tmp_path: Path) -> None:
    bare = payload.document(synthetic.reduction(simulation=False))
    payloads.write(tmp_path / "bare.json", bare)
    (tmp_path / "text.json").write_text("{}")
    for c in bare["corrections"]:
        c["name"] = "of_others_" + c["name"]
    payloads.write(tmp_path / "others.json", bare)
    for name, words in {
        "absent.json": "there is no such file",
        "text.json": "not a correctionlib payload",
        "others.json": "belong to no calibration known here",
        "bare.json": "without a simulated sample",
        "https://me:secret@host/payload.json": "a password or a token in it",
    }.items():
        config = write(tmp_path / "c.yaml", toys, payloads=[name])
        found = run("run", config, "--out", tmp_path / "out", "-q")
        assert found.exit_code == 2, found.output
        assert "key 'payloads" in found.stderr and words in found.stderr, found.stderr
        assert not (tmp_path / "out" / "histograms").exists()


def test_a_skim_of_corrected_events_is_refused(toys: Path, tmp_path: Path) -> None:
    config = write(tmp_path / "c.yaml", toys, payloads=[str(toys / "payload.json")])
    found = run("skim", config, "--out", tmp_path / "skim", "-q")
    assert found.exit_code == 2 and "key 'payloads'" in found.stderr
    assert not (tmp_path / "skim").exists()
