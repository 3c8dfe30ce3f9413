"""A small run: toys as stage1, and a calibration that is quick."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.small_run import started, write_configuration, write_events

HERE = Path(__file__).parent
ROOT = HERE.parent.parent

Write = Callable[..., Path]


@pytest.fixture(scope="session")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of 6 000 pairs."""
    return write_events(tmp_path_factory.mktemp("events"))


@pytest.fixture
def write(tmp_path: Path, events: Path) -> Write:
    """Write a configuration: ``write("name.yaml", settings={...}, cluster={...})``."""

    def make(name: str = "config.yaml", **changes: Any) -> Path:
        values = {"calibration": "mean_mass:MeanMass", "chunk_size": 1500} | changes
        return write_configuration(tmp_path / name, events, **values)

    return make


@pytest.fixture(scope="session")
def command() -> Callable[..., subprocess.Popen[str]]:
    """Start ``calib`` as a process of its own, in a process group of its own."""
    path = os.pathsep.join([str(ROOT), str(HERE), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, "PYTHONPATH": path}

    def start(*arguments: str | Path) -> subprocess.Popen[str]:
        return started(*arguments, environment=environment)

    return start
