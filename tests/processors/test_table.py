"""Tables: rows of columns of their own, for calibrations of what is no pair of muons."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from calib.calibrations.base import Needs
from calib.errors import InputError
from calib.schema import Sample, Selection, validated
from jobs.config.schema import Config
from processors.defaults import resolve
from processors.readers import chunk
from processors.selection import ResolvedSelection
from tests.processors import writing

SAMPLE = Sample.model_validate({"name": "s", "format": "table", "files": ["-"]})
NEEDS = Needs(columns=("time", "side"), optional=("angle", "absent"))


@pytest.fixture
def path(tmp_path: Path) -> Path:
    random = np.random.default_rng(3)
    time = random.uniform(0, 400, 1000)
    time[::100] = np.nan
    return writing.stage1(
        tmp_path / "hits.parquet",
        {
            "time": time,
            "side": random.choice([-1, 1], 1000).astype(np.int8),
            "angle": random.normal(0, 1, 1000).astype(np.float32),
            "run": np.repeat(np.arange(1, 11), 100).astype(np.uint32),
            "weight": np.where(np.arange(1000) == 5, np.inf, 2.0),
            "word": ["x"] * 1000,
        },
        row_group_size=300,
    )


def selected(path: Path, start: int, stop: int, **selection: Any) -> Any:
    where = {"filename": str(path), "entrystart": start, "entrystop": stop, "runs": None}
    where |= {"runs": selection.pop("runs", None)}
    return chunk.selected(chunk.FileEntries(where), SAMPLE, NEEDS, ResolvedSelection(**selection))


def test_rows_come_as_they_are_but_for_bad_ones(path: Path) -> None:
    found = selected(path, 0, 1000)
    assert found.n_read == 1000 and found.rejected == {"bad_value": 10, "bad_weight": 1}
    records = found.pairs
    assert len(records) == 989 and set(records.columns) == {"time", "side", "angle"}
    assert records["angle"].dtype == np.float64 and records["side"].dtype == np.int8
    assert np.all(records.weight == 2.0) and np.all(np.diff(records.run.astype(int)) >= 0)
    assert records.event[0] == 1  # entry 0 is a bad one
    assert len(records.take(records["side"] > 0)) == (records["side"] > 0).sum()
    double = records.with_columns({"time": 2 * records["time"]})
    np.testing.assert_array_equal(double["time"], 2 * records["time"])


def test_any_chunks_give_the_same_rows(path: Path) -> None:
    parts = [selected(path, i, min(i + 170, 1000)).pairs for i in range(0, 1000, 170)]
    whole = selected(path, 0, 1000).pairs
    for name in NEEDS.columns:
        np.testing.assert_array_equal(np.concatenate([p[name] for p in parts]), whole[name])
    np.testing.assert_array_equal(np.concatenate([p.event for p in parts]), whole.event)


def test_runs_and_certified_sections(path: Path) -> None:
    found = selected(path, 0, 1000, runs=(2, 3))
    assert found.rejected["other_run"] == 800 and set(found.pairs.run) == {2, 3}
    assert selected(path, 0, 1000, certified=((4, 0, 9),)).rejected["not_certified"] == 900


def test_what_a_table_does_not_have(path: Path) -> None:
    have = {str(path): frozenset({"time", "side"})}
    with pytest.raises(InputError, match="key 'selection.leading_pt': a table has no muons"):
        resolve(SAMPLE, Selection(leading_pt=20.0), {}, have, None)
    assert resolve(SAMPLE, Selection(prescale=2.0), {}, have, None)[0].prescale == 2.0
    with pytest.raises(InputError, match="key 'samples.0.resonance' is missing"):
        validated(
            Config,
            {
                "name": "x",
                "calibration": "y",
                "samples": [{"name": "s", "format": "stage1", "files": ["-"]}],
            },
            "here",
        )
