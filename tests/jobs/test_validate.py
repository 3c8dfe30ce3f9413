"""A mass resolution is held against simulated Higgs bosons: right ones pass, wrong ones do not."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from calib.events.categories import Axis
from calib.fitting.models.crystalball import CrystalBallPeak
from calib.payload import nodes
from calib.toys.generation import generate
from calib.toys.truth import Truth
from jobs.cli import app
from jobs.events.toys import write_stage1
from jobs.run import payloads
from tests.small_run import untrue

EVENTS = 60_000
TRUE = 1.2


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def payload(path: Path, factor: float) -> Path:
    """Write a payload of one factor for all pairs, as analyses have it."""
    axes = [
        Axis("leading_mu_pt", (30.0, 200.0)),
        Axis("leading_mu_abseta", (0.0, 2.4)),
        Axis("subleading_mu_abseta", (0.0, 2.4)),
    ]
    made = nodes.correction(
        "BS_ebe_mass_res_calibration",
        "one factor",
        [(axis.name, "") for axis in axes],
        "correction_factor",
        nodes.over_bins(axes, [factor]),
    )
    payloads.write(path, nodes.document([made], "of simulation"))
    return path


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Simulated Higgs bosons whose ptErr is too small by a factor, everywhere."""
    folder = tmp_path_factory.mktemp("higgs")
    truth = Truth(pt_err_factor=(TRUE,) * 3)
    made = generate("h", EVENTS, seed=91, truth=truth, simulation=True, mass_window=(110.0, 150.0))
    write_stage1(folder / "h.parquet", made.pairs, simulation=True)
    sample = {"name": "higgs", "resonance": "h", "format": "stage1", "simulation": True}
    values = {
        "name": "h",
        "calibration": "mass_resolution",
        "samples": [{**sample, "files": ["h.parquet"]}],
        "cluster": {"kind": "inline"},
    }
    (folder / "h.yaml").write_text(yaml.safe_dump(values))
    return folder


def test_right_one(world: Path) -> None:
    right = payload(world / "right.json", TRUE)
    found = run("validate", right, "--samples", world / "h.yaml", "--out", world / "right")
    assert found.exit_code == 0, found.output
    table = pd.read_csv(world / "right" / "resolution.csv")
    response, mass = (table[table["kind"] == k].dropna() for k in ("response", "mass"))
    assert len(response) >= 5
    assert np.all(np.abs(response["ratio"] - 1) < 0.1)
    # photons make the core of the mass wider, those of the response they do not
    assert mass["ratio"].mean() > response["ratio"].mean()
    # hard photons take some per cent into the lower sideband
    regions = pd.read_csv(world / "right" / "regions.csv").set_index("region")
    assert regions.loc["signal", "n_events"] > 10 * regions.loc["sideband", "n_events"] > 0
    assert (world / "right" / "report.html").is_file()


@pytest.mark.parametrize("factor", [1.0, 1.35])
def test_wrong_one(world: Path, factor: float) -> None:
    wrong, out = payload(world / f"{factor}.json", factor), world / f"wrong{factor}"
    found = run("validate", wrong, "--samples", world / "h.yaml", "--out", out)
    assert found.exit_code == 3, found.output
    checks = json.loads((out / "verdict.json").read_text())["checks"]
    assert "resolution_on_average" in {c["name"] for c in checks if not c["passed"]}
    assert untrue(checks) == []


def test_refused(world: Path, tmp_path: Path) -> None:
    """Samples of a Z, data alone, a payload of something else: one sentence each."""
    right, out = payload(tmp_path / "right.json", TRUE), tmp_path / "out"
    values = yaml.safe_load((world / "h.yaml").read_text())
    for change, word in (({"resonance": "z"}, "'h'"), ({"simulation": False}, "simulation: true")):
        values["samples"][0] |= {"files": [str(world / "h.parquet")]} | change
        (tmp_path / "c.yaml").write_text(yaml.safe_dump(values))
        found = run("validate", right, "--samples", tmp_path / "c.yaml", "--out", out)
        assert found.exit_code == 2 and word in found.output
        values["samples"][0] |= {"resonance": "h"}
    other = tmp_path / "other.json"
    other.write_text('{"schema_version": 2, "corrections": []}')
    found = run("validate", other, "--samples", world / "h.yaml", "--out", out)
    assert found.exit_code == 2 and "corrections []" in found.output
    assert not out.exists()


def test_crystal_ball_in_bins() -> None:
    """The sum over parts of a bin is its integral, to (part / sigma)^2 / 24 of the top."""
    edges = np.linspace(115, 135, 101)
    parameters = (0.3, 1.5, 1.5, 3.0, 2.0, 4.0)
    coarse = CrystalBallPeak(edges, 125.2)(*parameters)
    fine = CrystalBallPeak(np.linspace(115, 135, 5001), 125.2)(*parameters)
    assert coarse.sum() == pytest.approx(1)
    limit = (0.05 / 1.5) ** 2 / 20 * coarse.max()
    np.testing.assert_allclose(coarse, fine.reshape(100, 50).sum(1), rtol=0, atol=limit)
