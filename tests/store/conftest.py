"""Finished runs to publish, and stores of both kinds: SQLite, and PostgreSQL."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml

from calib.toys.generation import generate
from jobs.events.toys import write_stage1
from jobs.run.run import Run
from jobs.storage.files import RunDirectory
from jobs.store import Store

from .postgresql import Server, started

HERE = Path(__file__).parent
JOBS = HERE.parent / "jobs"
sys.path[:0] = [str(JOBS), str(HERE)]  # the calibrations of the tests
os.environ["PYTHONPATH"] = os.pathsep.join(
    [str(JOBS.parents[1]), str(JOBS), str(HERE), os.environ.get("PYTHONPATH", "")]
)

N_RUNS = 4


def calibrated(folder: Path, name: str, kind: str = "data", **settings: float) -> Path:
    """Return the directory of a finished run, of data or of simulation."""
    file = "events" if kind == "data" else kind
    values = {
        "name": name,
        "calibration": "mean_mass:MeanMass",
        "cluster": {"kind": "inline"},
        "samples": [
            {
                "name": kind,
                "resonance": "z",
                "format": "stage1",
                "files": [str(folder / f"{file}.parquet")],
                "simulation": kind != "data",
            }
        ],
        "settings": settings,
    }
    path = folder / f"{name}.yaml"
    path.write_text(yaml.safe_dump(values), encoding="utf-8")
    work = Run.prepare(path, folder / name)
    work.adopt()
    work.execute()
    return folder / name


@pytest.fixture(scope="session")
def events(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a file of events."""
    folder = tmp_path_factory.mktemp("runs")
    write_stage1(folder / "events.parquet", generate("z", 6000, seed=1).pairs, simulation=False)
    return folder


@pytest.fixture(scope="session")
def done(events: Path) -> list[Path]:
    """Finished runs with payloads of their own, verdicts passed: one, another reduction of it,
    and two whose payload is moved by hand."""
    found = [calibrated(events, "run0")]
    for i in range(1, N_RUNS):
        found.append(events / f"run{i}")
        shutil.copytree(found[0], found[-1])
        if i == 1:
            Run.resume(found[1]).reduce({"B": {"low": 81.0}})
            continue
        payload = json.loads((found[-1] / "payload.json").read_text())
        node = payload["corrections"][0]["data"]
        node["content"] = [value + i for value in node["content"]]
        (found[-1] / "payload.json").write_text(json.dumps(payload))
        as_left(found[-1])
    return found


def as_left(path: Path) -> None:
    """Let the files of a run, moved by hand, be those that it has left."""
    directory = RunDirectory(path)
    directory.mark("report", {**directory.marker("report"), "digests": directory.digests()})


@pytest.fixture(scope="session")
def simulated(events: Path) -> Path:
    """A finished run of simulation."""
    made = generate("z", 6000, seed=2, simulation=True)
    write_stage1(events / "simulation.parquet", made.pairs, simulation=True)
    return calibrated(events, "simulated", "simulation")


@pytest.fixture(scope="session")
def failed(events: Path) -> Path:
    """A finished run whose verdict is not passed."""
    return calibrated(events, "failed", limit=1e-6)


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    """A PostgreSQL server on the loopback address, for as long as the tests last."""
    try:
        running = started()
    except (FileNotFoundError, subprocess.SubprocessError) as error:
        pytest.skip(f"no PostgreSQL server could be started ({error})")
    try:
        yield running
    finally:
        running.stop()


@pytest.fixture(params=["sqlite", "postgresql"])
def address(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Where a store will be; for a database its files are to be in ``tmp_path / "files"``."""
    if request.param == "sqlite":
        return str(tmp_path / "store")
    found: Server = request.getfixturevalue("server")
    return found.database()


@pytest.fixture
def store(address: str, tmp_path: Path) -> Store:
    """An empty store."""
    return Store.create(address, tmp_path / "files" if "://" in address else None)
