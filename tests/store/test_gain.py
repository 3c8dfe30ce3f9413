"""`calib gain`: what is said beforehand is what more events then bring."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import yaml

from jobs.nightly.constants import gain_of_run
from jobs.run.run import Run

from .test_commands import calib, told

SIMULATED, MEASURED = 60_000, (30_000, 60_000)


@pytest.fixture(scope="module")
def runs(tmp_path_factory: pytest.TempPathFactory) -> list[Path]:
    """Two runs of the momentum scale, the second with twice the data and the same simulation."""
    folder = tmp_path_factory.mktemp("gain")
    made = ("--resonance", "jpsi", "--format", "stage1", "--events")
    calib("toys", folder / "mc", *made, str(SIMULATED), "--simulation", "--seed", "1")
    found = []
    for seed, n in enumerate(MEASURED, 2):
        calib("toys", folder / str(n), *made, str(n), "--seed", str(seed))
        sample = {"resonance": "jpsi", "format": "stage1"}
        values = {
            "name": "gain",
            "calibration": "momentum_scale",
            "cluster": {"kind": "inline"},
            "samples": [
                {"name": "data", "files": [str(folder / str(n))], **sample},
                {"name": "mc", "files": [str(folder / "mc")], "simulation": True, **sample},
            ],
            "settings": {"eta": [-2.4, -1.2, 0.0, 1.2, 2.4]},
        }
        path = folder / f"{n}.yaml"
        path.write_text(yaml.safe_dump(values), encoding="utf-8")
        work = Run.prepare(path, folder / f"run{n}")
        work.adopt()
        work.execute()
        found.append(folder / f"run{n}")
    return found


def test_errors_of_twice_the_data(runs: list[Path]) -> None:
    """The error of each parameter within 15 %, their mean within 5 %."""
    before, after = (gain_of_run(path, 2.0)["parameters"] for path in runs)
    said = np.array([p["error_then"] for p in before])
    found = np.array([p["error"] for p in after])
    assert len(found) == 20
    assert np.all(np.abs(said / found - 1) < 0.15), said / found
    assert abs(np.mean(said / found) - 1) < 0.05
    # half as many simulated events as there are data then: they stay
    least = np.array([p["error_least"] for p in before])
    assert np.all(least > 0.2 * said)


def test_of_a_run_in_words(runs: list[Path]) -> None:
    shown = calib("gain", runs[0], "--times", "4").stdout
    assert "momentum_scale" in shown and "with 4 times" in shown
    kinds = told("gain", runs[0])["kinds"]
    assert [k["kind"] for k in kinds] == ["A", "e", "M", "a2", "c2"]


def test_of_a_store(tmp_path: Path, runs: list[Path], done: list[Path]) -> None:
    """The calibration with most to gain first; one without a covariance says so."""
    for path in (done[0], runs[0]):
        calib("publish", path, "--store", tmp_path / "s", "--since", "1", "--force", "--why", "try")
    found = told("gain", tmp_path / "s", "--times", "2", "--least", "0.1")["calibrations"]
    assert [one["gain"] for one in found] == sorted((one["gain"] for one in found), reverse=True)
    by_name = {one["calibration"]: one for one in found}
    assert by_name["momentum_scale"]["worth"]
    assert not by_name["mean_mass"]["worth"]
    calib("gain", tmp_path / "s", "--tag", "nowhere", code=2)


def test_of_no_run(tmp_path: Path) -> None:
    assert str(tmp_path) in calib("gain", tmp_path, code=2).output
