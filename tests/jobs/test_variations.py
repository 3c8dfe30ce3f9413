"""Systematic variations: on the same sums where these serve, in covariance, table and payload."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml

from calib.errors import InputError
from calib.toys.generation import generate
from calib.toys.truth import named_truth
from jobs.events.toys import write_stage1
from jobs.run.run import Run
from tests.small_run import untrue

CASES: dict[str, dict[str, Any]] = {
    "impact_parameter": {
        "settings": {"eta": [-2.4, 0.0, 2.4]},
        "variations": {
            "fewer": {"gates.min_events": 2000},  # reduced again
            "coarse": {"bins": 100},  # collected again
        },
        "kind": "d0",
    },
    "momentum_scale": {
        "settings": {"eta": [-2.4, 0.0, 2.4], "max_passes": 3, "convergence": 5.0},
        "variations": {"chi2": {"method": "chi2"}, "narrow": {"jpsi": {"window": [2.92, 3.28]}}},
        "kind": "A",
    },
}


@pytest.fixture(scope="module")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """J/psi with an impact parameter."""
    folder = tmp_path_factory.mktemp("events")
    truth = named_truth("impact_parameter", "jpsi", False)
    made = generate("jpsi", 30_000, seed=41, truth=truth)
    write_stage1(folder / "data.parquet", made.pairs, simulation=False)
    return folder


def configuration(events: Path, calibration: str, **more: Any) -> Path:
    case = CASES[calibration]
    sample = {"name": "data", "resonance": "jpsi", "format": "stage1"}
    values = {
        "name": calibration,
        "calibration": calibration,
        "samples": [{**sample, "files": ["data.parquet"]}],
        "cluster": {"kind": "inline"},
        "settings": case["settings"],
        "variations": case["variations"],
        **more,
    }
    path = events / f"{calibration}.yaml"
    path.write_text(yaml.safe_dump(values))
    return path


@pytest.mark.parametrize("calibration", CASES)
def test_shifts_are_those_of_runs_of_their_own(events: Path, calibration: str) -> None:
    """What a variation shifts is what a run with its settings finds, and the error contains it."""
    work = Run.prepare(configuration(events, calibration), events / f"run-{calibration}")
    work.execute()
    found = np.load(work.directory / "covariance.npz")
    variations = CASES[calibration]["variations"]
    added = np.zeros_like(found["covariance"])
    for name, changed in variations.items():
        path = configuration(events, calibration, variations={})
        values = yaml.safe_load(path.read_text())
        for key, value in changed.items():
            first, _, rest = key.partition(".")
            values["settings"][first] = {rest: value} if rest else value
        path.write_text(yaml.safe_dump(values))
        alone = Run.prepare(path, events / f"alone-{calibration}-{name}")
        alone.execute()
        other = np.load(alone.directory / "covariance.npz")
        shift = np.nan_to_num(other["values"] - found["values"])
        if name in ("fewer", "coarse", "narrow"):
            np.testing.assert_array_equal(found[f"syst_{name}"], shift)
        assert np.any(found[f"syst_{name}"])
        added += np.outer(found[f"syst_{name}"], found[f"syst_{name}"])
    part = "covariance_stat" if "covariance_stat" in found else "statistical"
    assert np.all(np.diag(found["covariance"]) >= np.diag(found[part] + added) * (1 - 1e-12))
    # what needs sums of its own has them below, what does not has none
    below = {path.name for path in (work.directory.path / "variations").glob("*")}
    assert below == {list(variations)[1]}
    page = (work.directory / "report.html").read_text(encoding="utf-8")
    assert "Variations" in page and all(name in page for name in variations)


def test_table_and_payload_have_them(events: Path) -> None:
    directory = events / "run-momentum_scale"
    table = pd.read_csv(directory / "parameters.csv")
    shifts = table[["A_syst_chi2", "A_syst_narrow"]].to_numpy()
    assert np.all(table["A_err"] >= np.sqrt((shifts**2).sum(1)))
    assert "syst_narrow_up" in (directory / "payload.json").read_text()
    checks = json.loads((directory / "verdict.json").read_text())["checks"]
    assert len(checks) > 10 and untrue(checks) == []


def test_nothing_is_done_again(events: Path) -> None:
    """A finished run stays, and a reduction takes the variations along without events."""
    work = Run.resume(events / "run-impact_parameter")
    assert work.is_current
    before = np.load(work.directory / "covariance.npz")
    work.reduce()
    after = np.load(work.directory / "covariance.npz")
    for name in before.files:
        np.testing.assert_array_equal(before[name], after[name])


@pytest.mark.parametrize(
    ("variations", "words"),
    [
        ({"same": {"bins": 160}}, "settings of the run itself"),
        ({"wrong": {"binz": 100}}, "binz"),
        ({"other": {"eta": [-2.4, -1.0, 0.0, 2.4]}}, "bins of the result"),
        ({"A-B": {"bins": 100}}, "small letters"),
        ({"empty": {}}, "changes nothing"),
    ],
)
def test_refused(events: Path, tmp_path: Path, variations: dict[str, Any], words: str) -> None:
    path = configuration(events, "impact_parameter", variations=variations)
    with pytest.raises(InputError, match=words):
        Run.prepare(path, tmp_path / "out").execute()
    assert not (tmp_path / "out" / "verdict.json").exists()
