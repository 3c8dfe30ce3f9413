"""A chain is published as a whole, or not at all."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import yaml
from typer.testing import CliRunner

from jobs.cli import app
from jobs.store import Store


def calib(*arguments: str | Path, code: int = 0) -> Any:
    found = CliRunner().invoke(app, [*map(str, arguments), "--json"])
    assert found.exit_code == code, found.output
    return json.loads(found.stdout)


@pytest.fixture
def chain(events: Path, tmp_path: Path) -> Path:
    """The directory of a chain of two calibrations, the second not passed."""
    values = {
        "name": "both",
        "cluster": {"kind": "inline"},
        "samples": [
            {
                "name": "data",
                "resonance": "z",
                "format": "stage1",
                "files": [str(events / "events.parquet")],
            }
        ],
        "chain": [
            {"name": "first", "calibration": "mean_mass:MeanMass"},
            {
                "name": "second",
                "calibration": "other_mass:OtherMass",
                "after": ["first"],
                "settings": {"limit": 1e-6},
            },
        ],
    }
    path = tmp_path / "chain.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    calib("run", path, "--out", tmp_path / "chain", code=3)
    return tmp_path / "chain"


def test_a_chain_is_published_as_a_whole(chain: Path, tmp_path: Path) -> None:
    place = tmp_path / "constants"
    found = calib("publish", chain, "--store", place, "--since", "10", code=3)
    assert "so nothing of the chain was published" in found["error"]
    assert Store.open(place).revisions() == ()
    arguments = ("publish", chain, "--store", place, "--since", "10", "--force", "--why", "a trial")
    found = calib(*arguments)["revisions"]
    assert [(r["calibration"], r["since"], r["forced"]) for r in found] == [
        ("mean_mass", 10, False),
        ("other_mass", 10, True),
    ]
    assert calib(*arguments)["revisions"] == found  # again: nothing is doubled
    kept = Store.open(place)
    assert kept.calibrations() == ("mean_mass", "other_mass")
    for step in ("first", "second"):
        made = kept.at(10, {"first": "mean_mass", "second": "other_mass"}[step])
        assert kept.payload(made) == (chain / step / "payload.json").read_bytes()
    found = calib("store", "get", place, "--run", "10", code=2)
    assert "--calibration is missing: the store has mean_mass, other_mass" in found["error"]
    (chain / "second" / "report.html").unlink()
    found = calib("publish", chain, "--store", place, "--since", "20", code=2)
    assert "step 'second' is not finished" in found["error"]
