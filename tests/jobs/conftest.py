"""A small run: toys as stage1, and a calibration that is quick."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from calib.toys import generate
from jobs.toys import write_stage1

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

Write = Callable[..., Path]


@pytest.fixture(scope="session")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of 6 000 pairs."""
    folder = tmp_path_factory.mktemp("events")
    for i in range(2):
        made = generate("z", 6000, seed=i + 1, first_event=1 + i * 6000)
        write_stage1(folder / f"z_{i}.parquet", made.pairs, simulation=False)
    return folder


@pytest.fixture
def write(tmp_path: Path, events: Path) -> Write:
    """Write a configuration: ``write("name.yaml", settings={...}, cluster={...})``."""

    def make(name: str = "config.yaml", **changes: Any) -> Path:
        values: dict[str, Any] = {
            "name": "test",
            "calibration": "mean_mass:MeanMass",
            "samples": [
                {"name": "data", "resonance": "z", "format": "stage1",
                 "files": [str(events / "*.parquet")]}
            ],
            "cluster": {"kind": "inline"},
            "chunk_size": 1500,
        }  # fmt: skip
        path = tmp_path / name
        path.write_text(yaml.safe_dump(values | changes), encoding="utf-8")
        return path

    return make


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.Popen[str]]:
    """Start ``calib`` as a process of its own, in a process group of its own."""
    path = os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}

    def start(*arguments: str | Path) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", *map(str, arguments)],
            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True,
            env=environment, start_new_session=True, preexec_fn=_listen,
        )  # fmt: skip

    return start


def _listen() -> None:
    """Undo an ignored Ctrl-C, which tests that run in the background inherit and pass on."""
    signal.signal(signal.SIGINT, signal.SIG_DFL)
