"""The demonstration, small: values beside the truth, and where the report lies."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest
from typer.testing import CliRunner

from jobs.cli import app


@pytest.mark.slow
def test_demo(tmp_path: Path) -> None:
    out = tmp_path / "demo"
    arguments = ["demo", "--out", str(out), "--events", "40000", "--workers", "2"]
    found = CliRunner().invoke(app, arguments)
    assert found.exit_code in (0, 3), found.output
    assert "truth" in found.stdout and "report.html" in found.stdout
    table = pd.read_csv(out / "truth.csv")
    assert len(table) and table["pull"].abs().max() < 6
    truth = json.loads((out / "toys" / "truth.json").read_text())
    accounting = json.loads((out / "run" / "accounting.json").read_text())
    totals = [s["totals"]["events"] for s in accounting["samples"].values()]
    assert totals == [truth["events"]] * 2 == [40000, 40000]
    # again: what is there is used, another size is refused
    assert CliRunner().invoke(app, arguments).exit_code == found.exit_code
    other = CliRunner().invoke(app, ["demo", "--out", str(out), "--events", "50000"])
    assert other.exit_code == 2 and "40000" in other.stderr
