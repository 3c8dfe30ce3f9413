"""The page "Write your own calibration", followed word by word from an empty folder."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import pandas as pd
import yaml

from tests.plugins.test_drift_chamber import ROOT, Environment

PAGE = ROOT / "docs" / "write-a-calibration.md"
BLOCK = re.compile(r"^```(\w+)(?: title=(\S+))?\n(.*?)^```$", re.MULTILINE | re.DOTALL)
BUILDING = "--no-deps --no-build-isolation --no-index --disable-pip-version-check -q"


def shims(environment: Environment) -> Path:
    """Return a folder with `calib` and `pip` as a user has them, of a fresh environment."""
    folder = environment.folder / "shims"
    folder.mkdir()
    for name, line in {
        "calib": f'exec {environment.python} -m jobs.cli "$@"',
        "pip": f'exec {sys.executable} -m pip --python {environment.python} "$@" {BUILDING}',
    }.items():
        (folder / name).write_text(f"#!/bin/sh\n{line}\n")
        (folder / name).chmod(0o755)
    return folder


def test_every_block_works(tmp_path: Path) -> None:
    place = tmp_path / "empty"
    place.mkdir()
    path = f"{shims(Environment(tmp_path / 'env', package=None))}{os.pathsep}{os.environ['PATH']}"
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
    blocks = BLOCK.findall(PAGE.read_text(encoding="utf-8"))
    assert {language for language, _, _ in blocks} == {"sh", "python", "yaml", "toml"}
    for language, title, text in blocks:
        if language != "sh":
            assert title and not (place / title).exists()
            (place / title).write_text(text, encoding="utf-8")
            continue
        found = subprocess.run(
            ["sh", "-ec", text],
            cwd=place,
            capture_output=True,
            text=True,
            check=False,
            env={**environment, "PATH": path, "OMP_NUM_THREADS": "1"},
        )
        assert found.returncode == 0, text + found.stdout + found.stderr
    assert yaml.safe_load((place / "first" / "config.yaml").read_text())["settings"] == {
        "position": 91.1,
        "min_events": 500,
    }
    assert "position: 91.0  # GeV" in (place / "commented.yaml").read_text()
    assert json.loads((place / "both" / "verdict.json").read_text())["passed"]
    factors = pd.read_csv(place / "both" / "again" / "factors.csv")
    assert (factors["factor"] - 1).abs().max() < 2e-3
