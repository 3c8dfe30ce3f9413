"""Files whole or not at all, tables that come back to the bit, one writer at a time."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pandas as pd
import pytest

from calib.errors import InputError
from calib.results import Pass, Status
from jobs.storage.files import RunDirectory, whole, write_csv, write_json, write_parquet


def test_whole_or_not_at_all(tmp_path: Path) -> None:
    path = tmp_path / "a" / "file.txt"
    with whole(path) as temporary:
        temporary.write_text("one")
        assert not path.exists()
    with pytest.raises(RuntimeError), whole(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError
    assert path.read_text() == "one" and [p.name for p in path.parent.iterdir()] == ["file.txt"]
    with pytest.raises(ValueError, match="JSON"):
        write_json(path, {"x": float("nan")})
    assert path.read_text() == "one"


def test_tables_come_back_to_the_bit(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(size=200) * 10.0 ** np.arange(-100, 100)
    table = pd.DataFrame({"x": values, "status": [Status.OK, Status.HELD] * 100})
    write_csv(tmp_path / "t.csv", table)
    write_parquet(tmp_path / "t.parquet", table)
    lines = (tmp_path / "t.csv").read_text().splitlines()
    assert [float(line.split(",")[0]) for line in lines[1:]] == list(values)
    assert [line.split(",")[1] for line in lines[:3]] == ["status", "ok", "held"]
    assert list(pd.read_parquet(tmp_path / "t.parquet")["status"][:2]) == ["ok", "held"]


def test_one_writer_at_a_time(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path / "run")
    with directory.lock("calib first"):
        assert "calib first" in directory.holder()
        with pytest.raises(InputError, match="calib first"), directory.lock("calib second"):
            pass
    assert directory.holder() == ""
    with directory.lock("calib second"):
        pass


def test_passes_come_back(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    walk = Pass("1", {"a": np.arange(3.0), "b": np.asarray(2)})
    directory.keep_pass(walk)
    back = directory.load_pass("1")
    assert back.name == "1" and set(back.values) == {"a", "b"}
    np.testing.assert_array_equal(back.values["a"], walk.values["a"])
    assert directory.load_pass("main") == Pass("main", {})


def test_broken_edits_are_refused(tmp_path: Path) -> None:
    directory = RunDirectory(tmp_path)
    for text in ("[1, 2]", "E: 3", "{"):
        (tmp_path / "edits.yaml").write_text(text)
        with pytest.raises(InputError, match=r"edits\.yaml"):
            directory.edits()
