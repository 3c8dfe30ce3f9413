"""A chain from the command line: each step on the events that those before it have corrected."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from calib.toys import generate, momentum_truth
from jobs.cli import app
from jobs.toys import write_toys

ETA = [-2.4, -1.2, 0.0, 1.2, 2.4]
Values = dict[str, Any]


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """J/psi and Z with the same biased scale, without simulation."""
    folder = tmp_path_factory.mktemp("toys")
    for i, (resonance, n) in enumerate((("jpsi", 100_000), ("z", 60_000))):
        truth = momentum_truth(len(ETA) - 1, resonance=resonance)
        made = generate(resonance, n, seed=31 + i, truth=truth)
        write_toys(folder / resonance, made, "stage1", 1)
    return folder


def values(toys: Path) -> Values:
    return {
        "name": "both", "cluster": {"kind": "inline"},
        "samples": [
            {"name": r, "resonance": r, "format": "stage1", "files": [str(toys / r)]}
            for r in ("jpsi", "z")
        ],
        "chain": [
            {"name": "scale", "calibration": "momentum_scale",
             "settings": {"eta": ETA, "copies": 2}},
            {"name": "resolution", "calibration": "mass_resolution", "samples": ["z"],
             "settings": {"compare": []}},
        ],
    }  # fmt: skip


def write(path: Path, found: Values) -> Path:
    path.write_text(yaml.safe_dump(found, sort_keys=False))
    return path


@pytest.fixture(scope="module")
def done(toys: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    found = run("run", write(folder / "chain.yaml", values(toys)), "--out", folder / "out")
    (folder / "said.txt").write_text(found.output)
    assert found.exit_code in (0, 3), found.output
    return folder / "out"


def test_the_resolution_is_measured_on_the_scale_of_the_first_step(done: Path, toys: Path) -> None:
    made = json.loads((done / "resolution" / "provenance.json").read_text())
    (applied,) = made["payloads"]
    assert applied["calibration"] == "momentum_scale"
    assert Path(applied["path"]) == (done / "scale" / "payload.json").resolve()
    config = yaml.safe_load((done / "resolution" / "config.yaml").read_text())
    assert [s["name"] for s in config["samples"]] == ["z"] and config["name"] == "both.resolution"
