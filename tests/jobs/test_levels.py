"""Each level of the selection in the accounting, the provenance and the report."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from jobs.run import selection_levels
from jobs.run.accounting import Counts
from tests.jobs.test_skim import CUTS, write
from tests.processors import test_levels as events

TOTALS = {
    "events": 1000,
    "read": 1000,
    "selected": 300,
    "rejected": {
        "trigger": 400,
        "fewer_than_two_muons": 100,
        "isolation": 50,
        "bad_pt": 5,
        "pt": 95,
        "mass_window": 40,
        "own": 10,
    },
}


def test_events_in_and_out() -> None:
    assert selection_levels.flow(TOTALS) == {
        "trigger": (1000, 500),
        "identification": (500, 450),
        "kinematics": (450, 350),
        "mass": (350, 310),
        "calibration": (310, 300),
    }


@pytest.mark.parametrize("simulated", [False, True])
def test_table(simulated: bool) -> None:
    costs = {"trigger": {"bytes": 2e6, "seconds": 0.5}, "pairs": {"bytes": 1e6, "seconds": 0.1}}
    found = selection_levels.table(TOTALS, costs, simulated).set_index("level")
    assert found.loc["trigger", "rejected"] == 0.5
    assert found.loc["trigger", "read_MB"] == 2.0 and found.loc["trigger", "seconds"] == 0.5
    assert np.isnan(found.loc["mass", "seconds"])
    assert found.iloc[-1]["read_MB"] == 1.0
    assert ("efficiency" in found) == simulated
    if simulated:
        total = found["efficiency"].prod()
        assert total == pytest.approx(0.3)
    assert "seconds" not in selection_levels.table(TOTALS, {}, simulated)  # stage1


def test_costs_of_chunks_add(tmp_path: Path) -> None:
    counts = Counts(5, 3, {"pt": 2})
    for i in (1, 2):
        selection_levels.write_account(
            tmp_path / f"{i}.npz", counts, {"trigger": {"bytes": i, "seconds": 1}}
        )
    paths = [tmp_path / "1.npz", tmp_path / "2.npz"]
    assert selection_levels.costs_of(paths) == {"trigger": {"bytes": 3.0, "seconds": 2.0}}
    assert selection_levels.read_counts(paths[0]) == counts


def test_a_run_tells_of_its_levels(tmp_path: Path) -> None:
    rng = np.random.default_rng(5)
    parts = [events.branches(2000, rng, i == 1) for i in range(4)]
    events.write(tmp_path / "a.root", parts)
    config = write(
        tmp_path,
        [{"name": "s", "format": "nanoaod", "files": [str(tmp_path / "a.root")]}],
        calibration="mass_resolution",
        settings={"compare": []},
        selection={**CUTS, "triggers": ["HLT_IsoMu24"]},
    )
    out = tmp_path / "out"
    ran = CliRunner().invoke(app, ["run", str(config), "--out", str(out), "-q"])
    assert ran.exit_code in (0, 3), ran.output
    totals = json.loads((out / "accounting.json").read_text())["samples"]["s"]["totals"]
    costs = json.loads((out / "provenance.json").read_text())["levels"]["s"]
    assert totals["rejected"]["trigger"] == 6000
    assert set(costs) == {"trigger", "identification", "kinematics", "pairs"}
    assert all(cost["bytes"] > 0 for cost in costs.values())
    page = (out / "report.html").read_text(encoding="utf-8")
    assert "levels of the selection" in page and "other columns of the pairs" in page
