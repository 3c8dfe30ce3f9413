"""The momentum scale from the command line: events to payload, and corrected events again."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from typer.testing import CliRunner

from calib.toys.generation import generate, momentum_truth
from jobs.cli import app
from jobs.events.toys import write_toys
from tests import scale_smearing as field
from tests.small_run import untrue

ETA = [-2.4, -1.2, 0.0, 1.2, 2.4]
REAL = Path(__file__).parents[3] / "shared" / "data" / "cms2011_zmumu.stage1.parquet"


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def write(path: Path, samples: list[dict[str, Any]], **changes: Any) -> Path:
    values = {
        "name": "scale",
        "calibration": "momentum_scale",
        "samples": [{"resonance": "jpsi", "format": "stage1", **s} for s in samples],
        "settings": {"eta": ETA, "copies": 2},
        "cluster": {"kind": "inline"},
    }
    path.write_text(yaml.safe_dump(values | changes), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def toys(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Data and simulation, 120 000 pairs each."""
    folder = tmp_path_factory.mktemp("toys")
    for seed, simulation in ((71, False), (72, True)):
        truth = momentum_truth(n_eta=len(ETA) - 1, simulation=simulation)
        made = generate("jpsi", 120_000, seed=seed, truth=truth, simulation=simulation)
        write_toys(folder / ("mc" if simulation else "data"), made, "stage1", 2)
    return folder


@pytest.fixture(scope="module")
def samples(toys: Path) -> list[dict[str, Any]]:
    return [
        {"name": "data", "files": [str(toys / "data")]},
        {"name": "mc", "files": [str(toys / "mc")], "simulation": True},
    ]


@pytest.fixture(scope="module")
def done(tmp_path_factory: pytest.TempPathFactory, samples: list[dict[str, Any]]) -> Path:
    folder = tmp_path_factory.mktemp("done")
    found = run("run", write(folder / "config.yaml", samples), "--out", folder / "out", "-q")
    assert found.exit_code == 0, found.stdout
    return folder / "out"


def test_every_file_of_the_contract_is_there(done: Path) -> None:
    names = {p.name for p in done.iterdir()}
    assert names >= {
        "parameters.csv",
        "covariance.npz",
        "fits.parquet",
        "fits.csv",
        "closure.csv",
        "payload.json",
        "verdict.json",
        "provenance.json",
        "report.html",
        "accounting.json",
    }
    table = pd.read_csv(done / "parameters.csv")
    assert list(table.columns[:12]) == [
        "eta_low",
        "eta_high",
        "A",
        "A_err",
        "e",
        "e_err",
        "M",
        "M_err",
        "a",
        "a_err",
        "c",
        "c_err",
    ]
    with np.load(done / "covariance.npz", allow_pickle=False) as file:
        named = {"names", "values", "covariance", "covariance_stat", "syst_fsr", "simulation_share"}
        assert set(file.files) == named
        n = len(ETA) - 1
        errors = np.sqrt(np.diagonal(file["covariance"]))
        np.testing.assert_allclose(errors[:n], table["A_err"], rtol=1e-9)
        np.testing.assert_allclose(file["values"][n : 2 * n], table["e"], rtol=1e-9)


def test_workers_and_a_second_start_change_nothing(
    done: Path, samples: list[dict[str, Any]], tmp_path: Path
) -> None:
    config = write(tmp_path / "config.yaml", samples, cluster={"kind": "local", "workers": 2})
    found = run("run", config, "--out", tmp_path / "out", "-q")
    assert found.exit_code == 0, found.output
    for name in ("parameters.csv", "payload.json", "closure.csv", "fits.csv", "covariance.npz"):
        assert (tmp_path / "out" / name).read_bytes() == (done / name).read_bytes(), name
    before = {p: p.stat().st_mtime_ns for p in tmp_path.glob("out/histograms/*/chunks/*")}
    assert run("run", tmp_path / "out", "-q").exit_code == 0
    assert before == {p: p.stat().st_mtime_ns for p in tmp_path.glob("out/histograms/*/chunks/*")}


def test_corrected_events_give_zero(done: Path, toys: Path, tmp_path: Path) -> None:
    """Apply the payload to the events of both samples, and calibrate them again."""
    for kind in ("data", "mc"):
        (tmp_path / kind).mkdir()
        for file in sorted((toys / kind).glob("*.parquet")):
            found = run("apply", done / "payload.json", file, tmp_path / kind / file.name, "-q")
            assert found.exit_code == 0, found.stdout
    config = write(
        tmp_path / "config.yaml",
        [
            {"name": "data", "files": [str(tmp_path / "data")]},
            {"name": "mc", "files": [str(tmp_path / "mc")], "simulation": True},
        ],
        settings={"eta": ETA, "copies": 2, "max_passes": 4},
    )
    run("run", config, "--out", tmp_path / "out", "-q")
    # simulated muons are smeared on top, with random numbers of their own
    for name, most in (("parameters", 0.5), ("parameters_simulation", 3.0)):
        table = pd.read_csv(tmp_path / "out" / f"{name}.csv")
        for kind in ("A", "e", "M"):
            assert (table[kind] / table[f"{kind}_err"]).abs().max() < most, (name, kind)
    # the simulation has been smeared to the resolution of the data
    data, simulated = (
        pd.read_csv(tmp_path / "out" / f"{n}.csv") for n in ("parameters", "parameters_simulation")
    )
    pull = (simulated["a2"] - data["a2"]) / np.hypot(simulated["a2_err"], data["a2_err"])
    assert pull.abs().max() < 4


def test_a_run_is_exported_as_the_file_of_analyses(done: Path, tmp_path: Path) -> None:
    out = tmp_path / "muon_scalesmearing.json.gz"
    made = run("export", done, "--layout", "muon_scalesmearing", out, "--json")
    assert made.exit_code == 0, made.output
    said = json.loads(made.stdout)
    assert sorted(said["corrections"]) == sorted(field.CORRECTIONS)
    assert any("simulated muons beside their generated" in text for text in said["lost"])
    found = field.loaded(field.document_of(out))
    n, rng = 1000, np.random.default_rng(9)
    eta, phi = rng.uniform(-2.4, 2.4, n), rng.uniform(-3.1, 3.1, n)
    pt, layers = rng.uniform(27, 190, n), rng.integers(5, 17, n).astype(float)
    moved = field.scaled(found, "mc", pt, eta, phi, rng.choice([-1.0, 1.0], n))
    event = np.arange(n)
    smeared = field.smeared(found, moved, eta, phi, layers, event, event, pt)
    assert 1e-4 < np.abs(moved / pt - 1).max() < 0.02
    assert 1e-4 < np.std(smeared / moved - 1) < 0.05
    # a payload alone has no simulated muons beside generated ones, and says so
    alone = run(
        "export",
        done / "payload.json",
        tmp_path / "alone.json",
        "--layout",
        "muon_scalesmearing",
        "--json",
    )
    assert any("export the directory" in text for text in json.loads(alone.stdout)["lost"])


def test_a_category_can_be_left_out_and_a_wrong_name_is_refused(done: Path) -> None:
    found = run("reduce", done, "--category", "jpsi_e0_e9_r0_a0", "--set", "use=false", "-q")
    assert found.exit_code == 2
    assert "does not exist; did you mean" in found.stderr
    found = run("reduce", done, "--category", "jpsi_e1_e1_r2_a3", "--set", "color=red", "-q")
    assert found.exit_code == 2
    assert "key 'color' cannot be set" in found.stderr


def test_cut_on_the_measured_pt_is_refused(samples: list[dict[str, Any]], tmp_path: Path) -> None:
    config = write(tmp_path / "config.yaml", samples, selection={"subleading_pt": 5.0})
    found = run("run", config, "--out", tmp_path / "out", "-q")
    assert found.exit_code == 2
    assert "set settings.jpsi.subleading_pt instead" in found.stderr


@pytest.mark.skipif(not REAL.is_file(), reason="the real files are not here (../shared/data)")
def test_real_z_without_simulation_say_what_they_do_not_know(tmp_path: Path) -> None:
    config = write(
        tmp_path / "config.yaml",
        [{"name": "data", "resonance": "z", "files": [str(REAL)]}],
        settings={"eta": ETA},
    )
    found = run("run", config, "--out", tmp_path / "out", "-q")
    assert found.exit_code == 3, found.output
    table = pd.read_csv(tmp_path / "out" / "parameters.csv")
    assert table[["A", "A_err", "M", "M_err"]].notna().all().all()
    verdict = json.loads((tmp_path / "out" / "verdict.json").read_text())
    assert untrue(verdict["checks"]) == []
    check = next(c for c in verdict["checks"] if c["name"] == "eta_bins_not_determined")
    assert "condition number" in check["text"]
    assert "combinations that the data do not fix" in check["text"]
    # what they do know: the scale at the mean pt of a Z
    scale = pd.read_csv(tmp_path / "out" / "decorrelated.csv")
    assert (scale["A_at_k_mean_err"] < 2e-3).all()
    assert (scale["A_at_k_mean"].abs() < 0.02).all()
