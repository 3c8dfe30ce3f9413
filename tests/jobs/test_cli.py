"""The command line: quick, each command with an example, an init that loads."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from calib import calibrations
from jobs.cli import app
from jobs.config.schema import load

COMMANDS = (
    "init",
    "toys",
    "run",
    "collect",
    "reduce",
    "closure",
    "report",
    "apply",
    "status",
    "demo",
)
HEAVY = ("numpy", "pandas", "coffea", "dask", "distributed", "awkward", "uproot", "matplotlib")


@pytest.mark.parametrize("name", COMMANDS)
def test_help_has_an_example(name: str) -> None:
    found = CliRunner().invoke(app, [name, "--help"], env={"COLUMNS": "200"})
    assert found.exit_code == 0
    assert f"Example: calib {name}" in found.stdout
    for option in ("--quiet", "-q", "--verbose", "-v", "--json"):
        assert option in found.stdout


def test_help_lists_every_command() -> None:
    found = CliRunner().invoke(app, ["--help"])
    assert found.exit_code == 0 and all(name in found.stdout for name in COMMANDS)


def test_help_loads_nothing_heavy() -> None:
    asked = (
        "import json, sys; from typer.testing import CliRunner;"
        "assert CliRunner().invoke(app, ['run', '--help']).exit_code == 0;"
        "print(json.dumps(sorted(sys.modules)))"
    )
    empty = (
        "import typer; app = typer.Typer(rich_markup_mode='rich');"
        "app.command('run')(lambda: None); app.command('other')(lambda: None);"
    )
    ours, theirs = (
        set(
            json.loads(
                subprocess.run(
                    [sys.executable, "-c", start + asked],
                    capture_output=True,
                    text=True,
                    check=True,
                    cwd=Path(__file__).parents[2],
                ).stdout
            )
        )
        for start in ("from jobs.cli import app;", empty)
    )
    assert not ours & set(HEAVY)
    # what it costs beside a command line that does nothing, counted and not timed
    assert len(ours - theirs) < 40


@pytest.mark.parametrize("resonance", ["z", "h"])
def test_init_writes_what_loads(tmp_path: Path, resonance: str) -> None:
    path = tmp_path / "new.yaml"
    assert CliRunner().invoke(app, ["init", str(path), "--resonance", resonance]).exit_code == 0
    config = load(path)
    built = calibrations.build(config)
    # every setting stands there, with its default
    assert config.settings == built.settings.model_dump(mode="json")
    assert config.samples[0].resonance == resonance
    assert all(len(line) <= 110 for line in path.read_text().splitlines())
    again = CliRunner().invoke(app, ["init", str(path)])
    assert again.exit_code == 2 and "exists already" in again.stderr


def test_init_of_any_calibration(tmp_path: Path) -> None:
    found = CliRunner().invoke(app, ["init", "--calibration", "mean_mass:MeanMass"])
    assert found.exit_code == 0
    values = yaml.safe_load(found.stdout)
    assert values["settings"]["limit"] == 2.0 and "largest distance" in found.stdout


def test_init_refuses(tmp_path: Path) -> None:
    for arguments in (["--resonance", "w"], ["--calibration", "nothing"]):
        assert CliRunner().invoke(app, ["init", *arguments]).exit_code == 2


def test_toys_know_the_truth(tmp_path: Path) -> None:
    out = tmp_path / "toys"
    arguments = ["toys", str(out), "--resonance", "z", "--events", "4000", "--format", "stage1"]
    assert CliRunner().invoke(app, arguments).exit_code == 0
    truth = yaml.safe_load((out / "truth.json").read_text())
    assert truth["events"] == 4000 and truth["calibrations"]
    for name, found in truth["calibrations"].items():
        assert name in calibrations.available() and found["truth"]
