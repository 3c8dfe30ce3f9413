"""The demonstration, small: values beside the truth, and where the report lies."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from jobs.cli import app
from tests.small_run import untrue


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    arguments = ["demo", "--out", str(out), "--events", "40000", "--workers", "2"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code in (0, 3), found.output
    assert "truth" in found.stdout and "report.html" in found.stdout
    verdict = json.loads((out / "run" / "verdict.json").read_text())
    assert untrue(verdict["checks"]) == []
    table = pd.read_csv(out / "truth.csv")
    assert len(table) and table["pull"].abs().max() < 6
    truth = json.loads((out / "toys" / "truth.json").read_text())
    errors = truth["calibrations"]["mass_resolution"]["truth_err"]
    known = table[table["truth"].notna()].set_index("category")
    assert known["truth_err"].to_dict() == pytest.approx(errors)
    both = (known["error"] ** 2 + known["truth_err"] ** 2) ** 0.5
    assert ((known["value"] - known["truth"]) / both).to_dict() == pytest.approx(
        known["pull"].to_dict(), nan_ok=True
    )
    accounting = json.loads((out / "run" / "accounting.json").read_text())
    totals = [s["totals"]["events"] for s in accounting["samples"].values()]
    assert totals == [truth["events"]] * 2 == [40000, 40000]
    # again: what is there is used, another size is refused
    assert CliRunner().invoke(app, arguments).exit_code == found.exit_code
    other = CliRunner().invoke(app, ["demo", "--out", str(out), "--events", "50000"])
    assert other.exit_code == 2 and "40000" in other.stderr
