"""A small run whose undisturbed result is known, and the means to disturb it."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from jobs.run.run import Run
from tests.small_run import started, write_configuration, write_events

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
JOBS = HERE.parent / "jobs"

sys.path[:0] = [str(HERE), str(JOBS)]
# workers and commands are processes of their own
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(ROOT), str(HERE), str(JOBS), os.environ.get("PYTHONPATH", "")]
)

N_EVENTS, CHUNK = 12_000, 1_000
"""Twelve chunks in two files."""

LONG = bool(os.environ.get("DIMUCAL_LONG"))
"""Whether to inject many more faults than CI has time for."""

Make = Callable[..., Run]


@pytest.fixture(scope="session")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Two files of 6 000 pairs."""
    return write_events(tmp_path_factory.mktemp("events"))


def configuration(folder: Path, events: Path, name: str = "config.yaml", **changes: Any) -> Path:
    """Write a configuration; return its path."""
    values = {"calibration": "trouble:Trouble", "chunk_size": CHUNK} | changes
    return write_configuration(folder / name, events, **values)


@pytest.fixture
def make(tmp_path: Path, events: Path) -> Make:
    """Return the work of a configuration: ``make(cluster={...}, settings={...})``."""

    def work(out: str = "out", **changes: Any) -> Run:
        found = Run.prepare(configuration(tmp_path, events, **changes), tmp_path / out)
        found.adopt()
        return found

    return work


@pytest.fixture
def command() -> Callable[..., subprocess.Popen[str]]:
    """Start ``calib`` in a process group of its own."""
    return started
