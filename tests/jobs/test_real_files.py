"""`calib run` on real files that this project did not make, from the command line to the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

import calib
from jobs.cli import app
from tests.small_run import untrue

PREDICTED = [
    {"abs_eta": [0.0, 0.9], "a": 0.008, "c": 1.0e-4},
    {"abs_eta": [0.9, 1.8], "a": 0.012, "c": 1.5e-4},
    {"abs_eta": [1.8, 2.4], "a": 0.018, "c": 2.5e-4},
]


def run(folder: Path, samples: list[dict], settings: dict | None = None):
    values = {
        "name": "real",
        "calibration": "mass_resolution",
        "samples": [{"resonance": "z", **sample} for sample in samples],
        "settings": {"compare": [], **(settings or {})},
        "cluster": {"kind": "inline"},
    }
    config = folder / "config.yaml"
    config.write_text(yaml.safe_dump(values))
    return CliRunner().invoke(app, ["run", str(config), "--out", str(folder / "out"), "-q"])


def events(folder: Path) -> dict[str, dict]:
    found = json.loads((folder / "out" / "accounting.json").read_text())
    totals = {name: sample["totals"] for name, sample in found["samples"].items()}
    for total in totals.values():
        assert total["events"] == total["read"]
        assert total["read"] == total["selected"] + sum(total["rejected"].values())
    return totals


def test_forty_events_are_too_few_everywhere(tmp_path, shared_data):
    data = shared_data / "cms2018_dimuon.nanoaod.root"
    simulated = shared_data / "cms2018_dy_simulation.nanoaod.root"
    found = run(
        tmp_path,
        [
            {"name": "data", "format": "nanoaod", "files": [str(data)]},
            {"name": "mc", "format": "nanoaod", "files": [str(simulated)], "simulation": True},
        ],
    )
    assert found.exit_code == 3, found.output
    assert untrue(json.loads((tmp_path / "out" / "verdict.json").read_text())["checks"]) == []
    factors = pd.read_csv(tmp_path / "out" / "factors.csv")
    assert len(factors) == 36 and set(factors["status"]) == {"too_few_events"}
    assert [t["events"] for t in events(tmp_path).values()] == [40, 40]
    page = (tmp_path / "out" / "report.html").read_text()
    assert "Not passed" in page and "too few events" in page


@pytest.mark.parametrize(
    ("name", "kind"),
    [
        ("cms2011_zmumu.stage1.parquet", "stage1"),
        ("cms2012_doublemuparked.rntuple.root", "nanoaod"),
    ],
)
def test_without_pt_err_it_is_refused_and_says_what_to_do(tmp_path, shared_data, name, kind):
    path = shared_data / name
    found = run(tmp_path, [{"name": "data", "format": kind, "files": [str(path)]}])
    assert found.exit_code == 2
    assert "ptErr" in found.stderr and "predicted_resolution" in found.stderr
    assert name in found.stderr and found.stderr.count("\n") == 1


def test_real_z_of_2011_with_a_predicted_resolution(tmp_path, shared_data):
    path = shared_data / "cms2011_zmumu.stage1.parquet"
    found = run(
        tmp_path,
        [{"name": "data", "format": "stage1", "files": [str(path)]}],
        {"predicted_resolution": PREDICTED},
    )
    assert found.exit_code in (0, 3), found.output
    total = events(tmp_path)["data"]
    assert total["events"] == 10_583 and total["rejected"]["same_sign"] > 0
    factors = pd.read_csv(tmp_path / "out" / "factors.csv")
    assert (factors["status"] == "merged").any()
    usable = factors["status"].isin(["ok", "merged", "held"])
    assert factors.loc[usable, "factor"].between(0.5, 2).all()
    # so few events do not know all of them, and say so
    assert factors.loc[~usable, "factor"].isna().all()
    rings = pd.read_csv(tmp_path / "out" / "rings.csv").set_index("name")
    assert rings.loc[["ring_B", "ring_O", "ring_E"], "value"].between(0.5, 2).all()
    assert abs(_mean_mass(tmp_path) - 91.188) < 0.5
    with np.load(tmp_path / "out" / "covariance.npz", allow_pickle=False) as file:
        assert list(file["names"]) == list(factors["category"])
        assert file["covariance"].shape == (36, 36)


def test_rntuple_without_identity_and_identification(tmp_path, shared_data):
    path = shared_data / "cms2012_doublemuparked.rntuple.root"
    found = run(
        tmp_path,
        [{"name": "data", "format": "nanoaod", "files": [str(path)]}],
        {"predicted_resolution": PREDICTED, "gates": {"min_events": 60}},
    )
    assert found.exit_code in (0, 3), found.output
    assert events(tmp_path)["data"]["events"] == 1000
    notes = json.loads((tmp_path / "out" / "accounting.json").read_text())["notes"]
    assert any("Muon_mediumId" in note for note in notes)
    assert abs(_mean_mass(tmp_path) - 91.188) < 1.0


def _mean_mass(folder) -> float:
    """Return the mean mass of the pairs under the peak, 86 to 96 GeV."""
    mass = calib.open_result(folder / "out").histograms()["data"]["mass"]
    mass = mass[{"half": sum, "category": sum}]
    middle = mass.axes[0].centers
    near = (middle > 86) & (middle < 96)
    return float(np.average(middle[near], weights=mass.values()[near]))
