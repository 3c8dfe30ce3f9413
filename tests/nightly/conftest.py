"""A nightly with a quick calibration, which an outside package brings."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import yaml

from jobs.events.toys import write_stage1
from jobs.nightly.night import Night, nightly
from jobs.nightly.settings import load

from . import mean_scale

ROOT = Path(__file__).parents[2]
FIRST = 1001
EVENTS = 1600
ENTRIES = """[dimucal.calibrations]
mean_scale = tests.nightly.mean_scale:MeanScale
mean_second = tests.nightly.mean_scale:MeanSecond
"""


@pytest.fixture(autouse=True)
def package(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Put a package with entry points on the path, here and in processes that are started."""
    folder = tmp_path_factory.mktemp("package")
    info = folder / "mean_scale-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: mean-scale\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text(ENTRIES)
    monkeypatch.syspath_prepend(str(folder))
    path = os.pathsep.join([str(folder), str(ROOT), os.environ.get("PYTHONPATH", "")])
    monkeypatch.setenv("PYTHONPATH", path)
    return folder


def task(name: str = "scale", calibration: str = "mean_scale", **changes: Any) -> dict[str, Any]:
    """Return one of the calibrations of a nightly."""
    return {
        "name": name,
        "calibration": calibration,
        "test": {"limit": 4e-3, "false_alarm": 1e-4, "power": 0.5},
        "gate": {"cut": 2e-3, "max": 0.1, "error_max": 0.01},
        **changes,
    }


class Place:
    """A folder with a nightly: runs are written into it, nights are gone through."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.config = folder / "nightly.yaml"
        self.configure()

    def configure(self, **changes: Any) -> Path:
        values: dict[str, Any] = {
            "name": "prompt",
            "store": "store",
            "directory": "nightly",
            "samples": [
                {
                    "name": "data",
                    "resonance": "z",
                    "format": "stage1",
                    "watch": ["incoming/*.parquet"],
                }
            ],
            "complete": {"unchanged": 0},
            "buckets": {"minimum": EVENTS, "unit": "events"},
            "calibrations": [task()],
            "cluster": {"kind": "inline"},
        }
        self.config.write_text(yaml.safe_dump(values | changes), encoding="utf-8")
        return self.config

    def run(self, run: int, shift: float = 0.0, n: int = EVENTS, **how: Any) -> Path:
        """Write the events of a run, whole when it has its name."""
        made = mean_scale.pairs(run, n, shift, **how)
        path = self.folder / "incoming" / f"run_{run}_{how.get('first', 1)}.parquet"
        path.parent.mkdir(exist_ok=True)
        write_stage1(path.with_name(f".{path.name}"), made, False)
        path.with_name(f".{path.name}").replace(path)
        return path

    def night(self, **options: Any) -> Night:
        return nightly(load(self.config), "calib nightly", **options)

    @property
    def store(self) -> Any:
        from jobs.store.store import Store

        return Store.open(self.folder / "store")

    def published(self, calibration: str = "mean_scale") -> list[Any]:
        return [r for r in self.store.revisions(calibration) if r.action == "publish"]

    def intervals(self, calibration: str = "mean_scale") -> list[tuple[int, int | None]]:
        found = self.store.intervals(calibration)
        return [(i.validity.since, i.validity.until) for i in found]


@pytest.fixture
def place(tmp_path: Path) -> Place:
    return Place(tmp_path)


@pytest.fixture
def command() -> Callable[..., subprocess.Popen[str]]:
    """Start ``calib`` as a process of its own."""

    def start(*arguments: Any, **options: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            [sys.executable, "-m", "jobs.cli", *map(str, arguments)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            **options,
        )

    return start
