"""Stage1 by row groups, without coffea's parquet reader: the same result from any file."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pyarrow as pa
from coffea.processor.executor import WorkItem

from calib.results import Pass
from jobs.events.files import chunks, inspect
from processors.calibration import CalibrationProcessor
from processors.readers import chunk as reader
from tests.processors import writing
from tests.processors.peak import Peak, Settings, collect, configured


def test_columns_that_are_not_numbers_do_not_matter(tmp_path: Path) -> None:
    columns = writing.stage1_columns([writing.pair({"pt": 40.0 + i}) for i in range(50)])
    writing.stage1(tmp_path / "plain.parquet", columns, row_group_size=20)
    plain = collect(configured("stage1", ["plain.parquet"]), tmp_path, chunk_size=20)
    more = {
        "era": pa.array(["B"] * 50).dictionary_encode(),
        "file": pa.array(["a"] * 50),
        "when": pa.array(np.arange(50), pa.timestamp("us")),
        "jets": pa.array([[1.0, 2.0]] * 50),
        "tree": pa.array([{"pt": 1.0}] * 50),
        "none": pa.nulls(50),
    }
    # before the columns that are read, so that their places in the file differ
    writing.stage1(tmp_path / "rich.parquet", {**more, **columns}, row_group_size=20)
    config = configured("stage1", ["rich.parquet"])
    calibration = Peak(Settings(), config.samples, 1)
    found = inspect(config, calibration, tmp_path)
    samples = {s.name: s for s in config.samples}
    processor = CalibrationProcessor(calibration, samples, found.selections, Pass())
    results = []
    for chunk in chunks(found, 20):
        item = WorkItem("s", chunk.file.path, "", chunk.start, chunk.stop, b"")
        result = reader.work(item, processor)
        assert result["processed"] == {item}
        results.append(result["out"]["s"])
    assert [r["counts"]["read"] for r in results] == [20, 20, 10]
    total = sum(r["sums"]["peak/counts"] for r in results)
    assert np.array_equal(total, plain.sums["peak/counts"])
    assert np.array_equal(
        np.concatenate([r["sums"]["list/pt"] for r in results]), plain.events["pt"]
    )


def test_generated_columns(tmp_path: Path) -> None:
    columns = writing.stage1_columns([writing.pair()] * 3)
    columns["gen_dimuon_mass"] = np.array([91.0, -1.0, np.nan])
    writing.stage1(tmp_path / "a.parquet", columns)
    config = configured("stage1", ["a.parquet"], simulation=True)
    found = collect(config, tmp_path)
    assert np.array_equal(found.events["gen_mass"], [91.0, -1.0, -1.0])
    assert "gen_pt" not in found.events
    assert any("no wgt_nominal, all weights are 1" in note for note in found.notes)
    del columns["gen_dimuon_mass"]
    for prefix in ("mu1", "mu2"):
        for name in ("pt", "eta", "phi"):
            columns[f"{prefix}_gen_{name}"] = columns[f"{prefix}_{name}"] * np.float32(1.0)
    columns["mu2_gen_pt"] = np.array([35.0, 0.0, 35.0])
    writing.stage1(tmp_path / "a.parquet", columns)
    found = collect(config, tmp_path)
    assert np.allclose(found.events["gen_mass"][[0, 2]], found.events["mass"][0])
    assert found.events["gen_mass"][1] == -1.0


def test_impact_parameters_by_their_names_in_stage1(tmp_path: Path) -> None:
    columns = writing.stage1_columns([writing.pair()] * 2)
    wanted = {"dxy": "d0", "dz": "z0", "dxyErr": "d0_err", "dzErr": "z0_err"}
    for i, name in enumerate(wanted.values()):
        columns[f"mu1_{name}"] = np.full(2, 1e-3 * (i + 1))
        columns[f"mu2_{name}"] = np.full(2, -1e-3 * (i + 1))
    writing.stage1(tmp_path / "a.parquet", columns)
    settings = Settings(muon=tuple(wanted))
    found = collect(configured("stage1", ["a.parquet"]), tmp_path, settings=settings).events
    for i, name in enumerate(wanted):
        assert np.allclose(np.abs(found[name]), 1e-3 * (i + 1)), name


def test_optional_column_of_one_muon_only(tmp_path: Path) -> None:
    columns = writing.stage1_columns([writing.pair()] * 3)
    columns["mu1_d0"] = np.ones(3)
    writing.stage1(tmp_path / "a.parquet", columns)
    config, settings = configured("stage1", ["a.parquet"]), Settings(optional=("dxy",))
    assert "dxy" not in collect(config, tmp_path, settings=settings).events
    columns["mu2_d0"] = np.ones(3)
    writing.stage1(tmp_path / "a.parquet", columns)
    assert collect(config, tmp_path, settings=settings).events["dxy"].tolist() == [1.0] * 3
