"""A chain from the command line: each step on the events that those before it have corrected."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import yaml
from mean_scale import install
from typer.testing import CliRunner

from calib.toys.generation import generate, momentum_truth
from jobs.cli import app
from jobs.events.toys import write_toys

ETA = [-2.4, 0.0, 2.4]
Values = dict[str, Any]


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def write(path: Path, found: Values) -> Path:
    path.write_text(yaml.safe_dump(found, sort_keys=False))
    return path


def outcomes(directory: Path) -> dict[str, str]:
    found = json.loads(run("status", directory, "--json").stdout)
    return {name: step["outcome"] for name, step in found["steps"].items()}


# three quick steps ---------------------------------------------------------------------------
@pytest.fixture(autouse=True, scope="module")
def plugin(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A calibration of another package that corrects muons."""
    with pytest.MonkeyPatch.context() as patch:
        patch.syspath_prepend(install(tmp_path_factory.mktemp("installed")))
        yield


def quick(events: Path, **changes: Any) -> Values:
    return {
        "name": "quick",
        "cluster": {"kind": "inline"},
        "chunk_size": 4000,
        "samples": [{"name": "data", "resonance": "z", "format": "stage1", "files": [str(events)]}],
        "chain": [
            {"name": "first", "calibration": "mean_scale", "settings": {"limit": 5.0}},
            {"name": "second", "calibration": "mean_scale", "settings": {"limit": 1.0}},
            {"name": "last", "calibration": "mean_mass:MeanMass"},
        ],
        **changes,
    }


@pytest.fixture(scope="module")
def done(events: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("chain")
    found = run("run", write(folder / "chain.yaml", quick(events)), "--out", folder / "out")
    assert found.exit_code == 0, found.output
    assert "verdict: passed, 3 checks" in found.output
    return folder / "out"


def test_each_step_reads_all_payloads_before_it(done: Path) -> None:
    reads = {}
    for name in ("first", "second", "last"):
        made = json.loads((done / name / "provenance.json").read_text())
        reads[name] = [Path(p["path"]).parent.name for p in made["payloads"]]
    assert reads == {"first": [], "second": ["first"], "last": ["first", "second"]}
    means = {n: pd.read_csv(done / n / "means.csv")["mean"].to_numpy() for n in reads}
    assert np.max(np.abs(means["first"] - 91.188)) > 0.15  # the toys' own mean
    assert np.max(np.abs(means["last"] - 91.188)) < np.max(np.abs(means["first"] - 91.188)) / 5


def test_the_directory_of_a_step_is_that_of_a_run(done: Path) -> None:
    found = run("status", done / "second")
    assert found.exit_code == 0 and "quick.second" in found.output
    assert run("status", done).exit_code == 0 and set(outcomes(done).values()) == {"passed"}


def test_files_of_the_chain(done: Path) -> None:
    verdict = json.loads((done / "verdict.json").read_text())
    assert verdict["passed"] and [c["name"] for c in verdict["checks"]] == [
        "first",
        "second",
        "last",
    ]
    made = json.loads((done / "provenance.json").read_text())["chain"]
    assert made["last"]["reads"] == ["first", "second"] and "collect main" in made["last"]["steps"]
    page = (done / "report.html").read_text()
    for name in ("first", "second", "last"):
        assert f'href="{name}/report.html"' in page
    config = yaml.safe_load((done / "config.yaml").read_text())
    assert config["chain"][1]["settings"]["high"] == 100.0 and config["on_failure"] == "stop"


def test_what_is_done_is_not_done_again_and_another_chain_is_refused(
    done: Path, events: Path, tmp_path: Path
) -> None:
    files = {p: p.stat().st_mtime_ns for p in done.glob("[!.]*/*") if p.is_file()}
    assert run("run", done, "-q").exit_code == 0
    config = write(tmp_path / "same.yaml", quick(events))
    assert run("run", config, "--out", done, "-q").exit_code == 0
    assert files == {p: p.stat().st_mtime_ns for p in done.glob("[!.]*/*") if p.is_file()}
    other = quick(events)
    other["chain"] = [*other["chain"][:2], {**other["chain"][2], "after": ["first"]}]
    found = run("run", write(tmp_path / "other.yaml", other), "--out", done, "-q")
    assert found.exit_code == 2 and "holds another chain: key 'chain'" in found.stderr
    # neither is a single run in there, nor the other way round
    single = {k: v for k, v in quick(events).items() if k != "chain"}
    single["calibration"] = "mean_mass:MeanMass"
    found = run("run", write(tmp_path / "single.yaml", single), "--out", done, "-q")
    assert found.exit_code == 2 and "a chain of calibrations, expected a single" in found.stderr
    found = run("run", config, "--out", done / "first", "-q")
    assert found.exit_code == 2 and "of a single run, not of a chain" in found.stderr
    found = run("closure", done, "-q")
    assert found.exit_code == 2 and "one of its steps (DIR/STEP)" in found.stderr


def test_an_edit_of_one_step_reaches_those_after_it(done: Path, tmp_path: Path) -> None:
    shutil.copytree(done, tmp_path / "out")
    out = tmp_path / "out"
    found = run("reduce", out, "--category", "B", "--set", "low=80.5", "-q")
    assert found.exit_code == 2 and "expected STEP/CATEGORY" in found.stderr
    before = (out / "last" / "means.csv").read_bytes()
    found = run("reduce", out, "--category", "first/B", "--set", "low=80.5", "-q")
    assert found.exit_code == 3, found.output
    assert outcomes(out) == {"first": "passed", "second": "outdated", "last": "outdated"}
    # it was moved as well: its steps read the payloads beside them
    chunks = {p.name for p in out.glob("last/histograms/main/chunks/*")}
    assert run("run", out, "-q").exit_code == 0
    assert set(outcomes(out).values()) == {"passed"}
    assert (out / "last" / "means.csv").read_bytes() != before
    assert chunks.isdisjoint(p.name for p in out.glob("last/histograms/main/chunks/*"))


def test_a_step_that_does_not_pass_stops_those_after_it(events: Path, tmp_path: Path) -> None:
    values, out = quick(events), tmp_path / "out"
    values["chain"][1]["settings"]["limit"] = 1e-9
    found = run("run", write(tmp_path / "chain.yaml", values), "--out", out)
    assert found.exit_code == 3, found.output
    assert "step last: not run, since second has not passed" in found.output
    assert outcomes(out) == {"first": "passed", "second": "not passed", "last": "not run"}
    assert not json.loads((out / "verdict.json").read_text())["passed"]
    assert run("status", out).exit_code == 3
    assert "waits for second" in (out / "report.html").read_text()
    values["on_failure"] = "continue"
    assert run("run", write(tmp_path / "c.yaml", values), "--out", out, "-q").exit_code == 3
    assert outcomes(out) == {"first": "passed", "second": "not passed", "last": "passed"}
    assert "on_failure: continue" in (out / "config.yaml").read_text()


def test_a_step_that_fails_leaves_what_was_done(events: Path, tmp_path: Path) -> None:
    values = quick(events)
    values["chain"][1] = {
        "name": "second",
        "calibration": "mean_mass:MeanMass",
        "settings": {"break_event": 17},
    }
    found = run("run", write(tmp_path / "chain.yaml", values), "--out", tmp_path / "out", "-q")
    assert found.exit_code == 1 and "this event breaks it" in found.output
    assert outcomes(tmp_path / "out")["first"] == "passed"
    assert outcomes(tmp_path / "out")["second"] == "not finished"
    assert run("status", tmp_path / "out").exit_code == 1
    assert "not finished" in (tmp_path / "out" / "report.html").read_text()


def test_what_is_wrong_with_a_later_step_is_said_before_the_first_one(
    events: Path, tmp_path: Path
) -> None:
    values = quick(events)
    values["chain"][2]["samples"] = [
        {"name": "x", "resonance": "z", "format": "stage1", "files": ["absent.parquet"]}
    ]
    found = run("run", write(tmp_path / "chain.yaml", values), "--out", tmp_path / "out", "-q")
    assert found.exit_code == 2 and "step 'last': " in found.stderr
    assert "absent.parquet" in found.stderr and not (tmp_path / "out" / "first").exists()
    values = quick(events)
    values["chain"][1]["settings"] = {"limits": 3}
    found = run("run", write(tmp_path / "chain.yaml", values), "--out", tmp_path / "new", "-q")
    assert found.exit_code == 2 and "step 'second': unknown key 'settings.limits'" in found.stderr
    assert not (tmp_path / "new").exists()


# the real ones -------------------------------------------------------------------------------
def test_the_resolution_is_measured_on_the_scale(tmp_path: Path) -> None:
    """J/psi give the scale, on which the Z give the resolution."""
    for i, (resonance, n) in enumerate((("jpsi", 60_000), ("z", 20_000))):
        truth = momentum_truth(len(ETA) - 1, resonance=resonance)
        made = generate(resonance, n, seed=31 + i, truth=truth)
        write_toys(tmp_path / resonance, made, "stage1", 1)
    config = write(
        tmp_path / "chain.yaml",
        {
            "name": "both",
            "cluster": {"kind": "inline"},
            "on_failure": "continue",
            "samples": [
                {"name": r, "resonance": r, "format": "stage1", "files": [r]} for r in ("jpsi", "z")
            ],
            "chain": [
                {
                    "name": "scale",
                    "calibration": "momentum_scale",
                    "samples": ["jpsi"],
                    "settings": {"eta": ETA, "copies": 1},
                },
                {
                    "name": "resolution",
                    "calibration": "mass_resolution",
                    "samples": ["z"],
                    "settings": {"compare": [], "copies": 4},
                },
            ],
        },
    )
    out = tmp_path / "out"
    found = run("run", config, "--out", out, "-q")
    assert found.exit_code in (0, 3), found.output  # the events are few
    made = json.loads((out / "resolution" / "provenance.json").read_text())
    assert [p["calibration"] for p in made["payloads"]] == ["momentum_scale"]
    factors = pd.read_csv(out / "resolution" / "factors.csv")
    assert len(factors) == 36 and factors["factor"].notna().sum() > 20
