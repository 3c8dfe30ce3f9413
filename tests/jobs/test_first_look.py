"""`calib init --files`: what files are is seen, and the configuration runs as it is."""

from __future__ import annotations

from pathlib import Path

import awkward as ak
import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import uproot
import yaml
from typer.testing import CliRunner, Result

from calib.toys.generation import generate
from jobs.cli import app
from jobs.config.first_look import first_look, seen
from jobs.events.toys import write_stage1, write_toys
from jobs.run.run import Run


def calib(*arguments: str | Path) -> Result:
    return CliRunner().invoke(app, [str(a) for a in arguments])


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Files of several kinds, in folders."""
    found = tmp_path_factory.mktemp("files")
    write_toys(found / "data", generate("z", 3000, seed=1), "nanoaod", 2)
    write_toys(found / "mc", generate("z", 3000, seed=2, simulation=True), "nanoaod")
    for name in ("jpsi", "upsilon", "h"):
        made = generate(name, 3000, seed=3, simulation=name == "h")
        write_stage1(found / f"{name}.parquet", made.pairs, simulation=name == "h")
    table = pq.read_table(found / "jpsi.parquet").drop_columns(["mu1_ptErr", "mu2_ptErr"])
    pq.write_table(table, found / "without.parquet")
    return found


def test_data_beside_simulation(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Globs are those of the working directory, the files of the configuration those of its own."""
    monkeypatch.chdir(folder)
    (folder / "conf").mkdir()
    made = calib("init", "conf/z.yaml", "--files", "data/*.root", "--files", "mc")
    assert made.exit_code == 0, made.output
    text = (folder / "conf" / "z.yaml").read_text()
    values = yaml.safe_load(text)
    assert values["calibration"] == "mass_resolution"
    assert [(s["name"], s["simulation"]) for s in values["samples"]] == [
        ("data", False),
        ("mc", True),
    ]
    assert values["samples"][0]["files"] == ["../data/*.root"]
    assert "a peak of z in" in text and "resonance: z" in text
    work = Run.prepare(folder / "conf" / "z.yaml", tmp_path / "out")
    assert {f.sample: f.n_events > 0 for f in work.inspect().files} == {"data": True, "mc": True}


@pytest.mark.parametrize(
    ("name", "calibration"),
    [
        ("jpsi", "momentum_scale"),
        ("upsilon", "momentum_scale"),
        ("h", "mass_resolution"),
        ("without", "momentum_scale"),
    ],
)
def test_each_resonance(folder: Path, tmp_path: Path, name: str, calibration: str) -> None:
    path = tmp_path / "config.yaml"
    made = calib("init", path, "--files", folder / f"{name}.parquet")
    assert made.exit_code == 0, made.output
    values = yaml.safe_load(path.read_text())
    [sample] = values["samples"]
    expected = "jpsi" if name == "without" else name
    assert (sample["resonance"], sample["format"]) == (expected, "stage1")
    assert sample["simulation"] is (name == "h") and values["calibration"] == calibration
    assert ("no ptErr" in path.read_text()) is (name == "without")
    Run.prepare(path, tmp_path / "out").inspect()


def test_triggers_under_the_peak(tmp_path: Path) -> None:
    """Those that fired for the pairs of the peak, not for those beside it."""
    rng, n = np.random.default_rng(4), 2000
    at_peak = np.arange(n) % 2 == 0
    half = np.where(at_peak, 91.2 / 2, rng.uniform(30, 42, n))[:, None]
    counts = np.full(n, 2)
    columns = {
        "pt": half * np.ones((1, 2)),
        "eta": np.zeros((n, 2)),
        "phi": np.tile([0.0, np.pi], (n, 1)),
        "charge": np.tile([1, -1], (n, 1)),
    }
    flat = {f"Muon_{k}": ak.unflatten(v.ravel(), counts) for k, v in columns.items()}
    with uproot.recreate(tmp_path / "file.root") as file:
        file["Events"] = flat | {
            "HLT_IsoMu24": at_peak | (rng.random(n) < 0.3),
            "HLT_Mu8": ~at_peak,
            "HLT_Ele32": np.ones(n, dtype=np.bool_),
        }
    found = first_look("file.root", tmp_path)
    assert found.resonance == "z" and list(found.triggers) == ["HLT_IsoMu24"]
    assert found.triggers["HLT_IsoMu24"] > 0.9 and not found.simulation


def test_no_peak_is_none() -> None:
    rng = np.random.default_rng(5)
    assert seen(rng.uniform(2, 140, 20_000)) == ""
    assert seen(np.concatenate([rng.uniform(2, 140, 20_000), rng.normal(91.2, 2, 2000)])) == "z"


def test_refused(folder: Path, tmp_path: Path) -> None:
    """One sentence that names the option and the file; nothing is written."""
    table = pa.table({"dimuon_mass": np.linspace(20, 60, 1000)})
    pq.write_table(table, tmp_path / "flat.parquet")
    pq.write_table(pa.table({"x": [1.0]}), tmp_path / "other.parquet")
    (tmp_path / "text.root").write_text("no file of ROOT")
    for name, words in {
        "flat.parquet": "--resonance",
        "other.parquet": "dimuon_mass",
        "text.root": "text.root",
        "nothing/*.root": "no file",
    }.items():
        made = calib("init", tmp_path / "c.yaml", "--files", tmp_path / name)
        assert made.exit_code == 2 and words in made.output, made.output
        assert not (tmp_path / "c.yaml").exists()
    named = ("--files", tmp_path / "flat.parquet", "--resonance", "z")
    assert calib("init", tmp_path / "c.yaml", *named).exit_code == 0


def test_ranges_that_have_no_peak_are_refused(folder: Path, tmp_path: Path) -> None:
    """The defaults are those of the Z; init has those of the Higgs boson."""
    made = calib("init", tmp_path / "h.yaml", "--resonance", "h")
    assert made.exit_code == 0
    values = yaml.safe_load((tmp_path / "h.yaml").read_text())
    assert values["settings"]["fit"]["range"] == [117.0, 133.0]
    values["settings"] = {}
    (tmp_path / "h.yaml").write_text(yaml.safe_dump(values))
    refused = calib("run", tmp_path / "h.yaml", "--out", tmp_path / "out")
    assert refused.exit_code == 2 and "settings.fit.range" in refused.output
    assert "calib init --resonance h" in refused.output
