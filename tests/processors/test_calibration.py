"""The processor in coffea's own hands: a plain fileset, coffea's chunks and its accumulation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from coffea.nanoevents import BaseSchema
from coffea.processor import IterativeExecutor, Runner

from calib.results import Pass
from calib.toys.generation import generate
from jobs.events.files import inspect
from jobs.events.toys import write_toys
from processors.calibration import CalibrationProcessor
from tests.processors.peak import Peak, Settings, collect, configured


@pytest.mark.parametrize("format", ["nanoaod", "stage1"])
def test_runner_with_a_fileset(tmp_path: Path, format: str) -> None:
    files = write_toys(tmp_path / "toys", generate("z", 3000, seed=4), format, 2)
    config = configured(format, files, mass_window=(80.0, 100.0))
    calibration = Peak(Settings(beyond=95.0, lists=False), config.samples, 1)
    selections = inspect(config, calibration, tmp_path).selections
    processor = CalibrationProcessor(
        calibration, {s.name: s for s in config.samples}, selections, Pass()
    )
    before = vars(processor).copy()
    kind, tree = ("root", "Events") if format == "nanoaod" else ("parquet", None)
    runner = Runner(IterativeExecutor(status=False), schema=BaseSchema, chunksize=400, format=kind)
    result = runner.run({"s": {"files": {str(f): tree for f in files}}}, processor)
    found = result.get("out", result)["s"]
    assert vars(processor) == before
    expected = collect(config, tmp_path, chunk_size=400, settings=Settings(beyond=95.0))
    assert set(expected.counts["rejected"]) == {"mass_window", "too_heavy"}
    assert found["counts"] == expected.counts
    assert np.array_equal(found["sums"]["peak/counts"], expected.sums["peak/counts"])
