"""A package from another detector, installed into an environment of its own: events to store."""

from __future__ import annotations

import json
import os
import shutil
import site
import subprocess
import sys
import venv
from pathlib import Path

import correctionlib
import numpy as np
import pandas as pd
import pyarrow.parquet as pq
import pytest

HERE = Path(__file__).parent
ROOT = HERE.parent.parent
PACKAGE = HERE / "drift_chamber"


class Environment:
    """A fresh environment that sees the packages of this one, but for what it installs itself."""

    def __init__(self, folder: Path, package: Path | None = PACKAGE) -> None:
        self.folder = folder
        venv.create(folder, with_pip=False)
        self.python = str(folder / "bin" / "python")
        own = next(folder.glob("lib/python*/site-packages"))
        shared = [*site.getsitepackages(), str(ROOT)]
        (own / "shared.pth").write_text("\n".join(shared) + "\n")
        if package is None:
            return
        source = folder / "source"
        shutil.copytree(package, source, ignore=shutil.ignore_patterns("__pycache__"))
        subprocess.run(
            [
                sys.executable,
                "-m",
                "pip",
                "--python",
                self.python,
                "install",
                "-q",
                "--no-deps",
                "--no-build-isolation",
                "--no-index",
                "--disable-pip-version-check",
                str(source),
            ],
            check=True,
        )

    def __call__(self, *arguments: object, code: int = 0) -> str:
        """Run a command of `calib`, or ``-m module``; return what it says."""
        words = [str(a) for a in arguments]
        start = words if words[0] == "-m" else ["-m", "jobs.cli", *words]
        environment = {k: v for k, v in os.environ.items() if k != "PYTHONPATH"}
        found = subprocess.run(
            [self.python, *start],
            capture_output=True,
            text=True,
            cwd=self.folder,
            env={**environment, "OMP_NUM_THREADS": "1"},
            check=False,
        )
        assert found.returncode == code, found.stdout + found.stderr
        return found.stdout


@pytest.fixture(scope="module")
def calib(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    return Environment(tmp_path_factory.mktemp("elsewhere") / "env")


def write_toys(calib: Environment, folder: str, n: int, relation: str = "toys.truth") -> None:
    """Write toy tracks of the package's own making into two files."""
    code = f"""
import numpy as np, pyarrow as pa, pyarrow.parquet as pq
from pathlib import Path
from drift_chamber import chamber, toys
Path({folder!r}).mkdir()
for i in (0, 1):
    table = toys.tracks({n // 2}, 1 + i, {relation})
    table["event"] = np.arange({n // 2}, dtype=np.uint64) + i * {n // 2}
    path = f"{folder}/cosmics_{{i}}.parquet"
    pq.write_table(pa.table(table), path, write_page_checksum=True)
"""
    subprocess.run([calib.python, "-c", code], cwd=calib.folder, check=True)


@pytest.fixture(scope="module")
def done(calib: Environment) -> Path:
    write_toys(calib, "data", 100_000)
    calib("init", "xt.yaml", "--calibration", "drift_chamber")
    path = calib.folder / "xt.yaml"
    text = path.read_text()
    assert "target: 40.0  # um, largest mean residual" in text and "leading_pt" not in text
    path.write_text(text.replace("kind: local", "kind: inline"))
    calib("run", "xt.yaml", "--out", "xt", "-q")
    return calib.folder / "xt"


def test_it_is_listed_and_keeps_the_contract(calib: Environment) -> None:
    (found,) = json.loads(calib("plugins", "drift_chamber", "--json"))["plugins"]
    assert found["package"] == "drift-chamber-xt" and found["version"] == "0.3.1"
    assert found["keeps_contract"], found["checks"]
    assert [c["check"] for c in found["checks"]][-1] == "apply"


def test_it_iterates_until_the_mean_residual_is_small(done: Path) -> None:
    verdict = json.loads((done / "verdict.json").read_text())
    checks = {c["name"]: c for c in verdict["checks"]}
    assert verdict["passed"] and checks["mean_residual"]["value"] < 40
    assert checks["closure"]["value"] < 40
    passes = {p.name for p in (done / "histograms").iterdir() if p.is_dir()}
    assert passes >= {"main", "1", "2", "closure"}
    assert "Space-time relations" in (done / "report.html").read_text()
    accounting = json.loads((done / "accounting.json").read_text())
    totals = accounting["samples"]["data"]["totals"]
    assert totals["events"] == totals["selected"] + sum(totals["rejected"].values()) == 100_000


def test_published_relations_are_the_true_ones(calib: Environment, done: Path) -> None:
    calib("publish", "xt", "--store", "constants", "--since", 7, "-q")
    calib("store", "get", "constants", "--run", 11, "--out", "back.json", "-q")
    path = calib.folder / "back.json"
    assert path.read_bytes() == (done / "payload.json").read_bytes()
    sys.path.insert(0, str(PACKAGE))
    try:
        from drift_chamber import chamber, toys
    finally:
        sys.path.remove(str(PACKAGE))
    found = correctionlib.CorrectionSet.from_file(str(path))["drift_chamber_xt"]
    random = np.random.default_rng(4)
    shape = random.integers(0, 2, 5000)
    time = random.uniform(0.05, 0.95, 5000) * chamber.LONGEST[shape]
    edges = np.array(chamber.ANGLE.edges)
    centres = 0.5 * (edges[1:] + edges[:-1])
    angle = random.choice(centres, 5000)
    apart = 1e4 * (found.evaluate(shape, angle, time) - toys.truth(time, shape, angle))
    before = chamber.linear()[chamber.SETS.index(shape, angle)]
    start = np.einsum("nj,nj->n", chamber.basis(time, shape), before)
    assert (
        np.mean(np.abs(apart))
        < 50
        < 300
        < 1e4 * np.mean(np.abs(start - toys.truth(time, shape, angle)))
    )


def test_good_relations_are_left_alone(calib: Environment) -> None:
    """A chamber of constant velocity passes the quick test: no pass over all tracks."""
    relation = "lambda t, s, a: chamber.HALF_WIDTH[s] * t / chamber.LONGEST[s]"
    write_toys(calib, "linear", 40_000, relation)
    text = (calib.folder / "xt.yaml").read_text().replace("data/*", "linear/*")
    (calib.folder / "linear.yaml").write_text(text)
    calib("run", "linear.yaml", "--out", "linear-xt", "-q")
    passes = {p.name for p in (calib.folder / "linear-xt/histograms").iterdir() if p.is_dir()}
    assert passes == {"main", "closure"}
    table = pd.read_csv(calib.folder / "linear-xt" / "relations.csv")
    assert (table["c2"] == 0).all() and np.allclose(table["c0"], table["c1"])


def test_apply_adds_distances(calib: Environment, done: Path) -> None:
    calib("apply", "xt/payload.json", "data/cosmics_0.parquet", "with.parquet", "-q")
    table = pq.read_table(calib.folder / "with.parquet")
    assert table.num_rows == 50_000
    distance = np.asarray(table["distance_3"])
    wide = np.asarray(table["time_3"]) > 350
    assert 0.5 < np.median(distance[wide]) < 0.62
