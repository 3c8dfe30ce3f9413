"""One small run of a real calibration, made from Python."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

import calib
from calib.toys.generation import generate
from jobs.events.toys import write_stage1

N = 15_000


@pytest.fixture(scope="session")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of Z."""
    folder = tmp_path_factory.mktemp("events")
    for i in range(2):
        made = generate("z", N, seed=i + 1, first_event=1 + i * N)
        write_stage1(folder / f"z_{i}.parquet", made.pairs, simulation=False)
    return folder


@pytest.fixture(scope="session")
def values(events: Path) -> dict[str, Any]:
    """A configuration as a dictionary: two rings and two ranges of pt, the quick model."""
    return {
        "name": "from-python",
        "calibration": "mass_resolution",
        "samples": [
            {
                "name": "data",
                "resonance": "z",
                "format": "stage1",
                "files": [str(events / "*.parquet")],
            }
        ],
        "settings": {
            "leading_pt": [30, 45, 200],
            "abs_eta": [0, 1.2, 2.4],
            "line_shape": "embedded",
            "compare": [],
            "copies": 4,
        },
        "cluster": {"kind": "inline"},
        "chunk_size": 4000,
    }


@pytest.fixture(scope="session")
def result(values: dict[str, Any], tmp_path_factory: pytest.TempPathFactory) -> Any:
    """The result of the run; nobody may change its directory."""
    return calib.run(values, tmp_path_factory.mktemp("run") / "z", progress=False)
