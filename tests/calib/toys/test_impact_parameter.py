"""Toys with d0 and z0: what was put in is there, and everything else is as it was."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
from typer.testing import CliRunner

from calib.errors import InputError
from calib.physics.kinematics import p_tilde
from calib.toys.generation import generate, named_truth
from calib.toys.impact_parameter import CM, ImpactTruth, impact_truth
from jobs.cli import app
from jobs.events.toys import write_toys
from tests.processors.peak import Settings, collect, configured

COLUMNS = ("dxy", "dz", "dxyErr", "dzErr")


def test_nothing_else_changes() -> None:
    default, own = (named_truth(name, "jpsi", False) for name in ("default", "impact-parameter"))
    one, other = (generate("jpsi", 2000, seed=3, truth=t) for t in (default, own))
    for a, b in (
        (one.pairs.leading, other.pairs.leading),
        (one.pairs.subleading, other.pairs.subleading),
    ):
        for name in ("pt", "eta", "phi", "charge", "pt_err"):
            assert np.array_equal(getattr(a, name), getattr(b, name))
        assert not a.extra and set(b.extra) == set(COLUMNS)
    assert "impact_parameter" not in one.truth and other.truth["impact_parameter"]["tail"] == 0.05


def test_resolution_is_the_one_put_in() -> None:
    truth = ImpactTruth(
        (-2.4, 0.0, 2.4),
        (12.0, 20.0),
        (60.0, 80.0),
        (30.0, 40.0),
        (65.0, 90.0),
        tail=0.1,
        tail_width=5.0,
    )
    default = named_truth("default", "jpsi", False)
    assert default is not None
    made = generate("jpsi", 40_000, seed=2, truth=replace(default, impact_parameter=truth))
    muons = made.pairs.subleading
    for name, column in (("d0", "dxy"), ("z0", "dz")):
        a, b = (np.where(muons.eta < 0, *getattr(truth, f"{name}_{p}")) for p in "ab")
        sigma = np.hypot(a, b / p_tilde(muons.pt, muons.eta, name))
        pull = muons.extra[column] / CM / sigma
        assert np.mean(pull**2) == pytest.approx(0.9 + 0.1 * 25, rel=0.05)
        assert np.quantile(np.abs(pull), 0.5) == pytest.approx(0.74, abs=0.02)
        assert np.allclose(muons.extra[f"{column}Err"] / CM * 1.1, sigma)


def test_p_tilde_is_its_definition() -> None:
    pt, eta = np.array([3.0, 40.0]), np.array([-1.7, 0.3])
    theta = 2 * np.arctan(np.exp(-eta))
    p = pt / np.sin(theta)
    beta = p / np.sqrt(p**2 + 0.1056583755**2)
    assert np.allclose(p_tilde(pt, eta, "d0"), p * beta * np.sin(theta) ** 1.5, rtol=1e-9)
    assert np.allclose(p_tilde(pt, eta, "z0"), p * beta * np.sin(theta) ** 2.5, rtol=1e-9)


@pytest.mark.parametrize("format", ["nanoaod", "stage1"])
def test_files_have_them(tmp_path: Path, format: str) -> None:
    made = generate("z", 500, seed=2, truth=named_truth("impact_parameter", "z", False))
    write_toys(tmp_path / "toys", made, format)
    settings = Settings(muon=("dxy", "dz"), optional=("dxyErr", "dzErr"))
    found = collect(configured(format, ["toys"]), tmp_path, settings=settings).events
    for name in COLUMNS:
        assert np.allclose(found[name], made.pairs.leading.extra[name], rtol=1e-6), name


def test_command_and_refusals(tmp_path: Path) -> None:
    def run(truth: object, out: str) -> Any:
        words = ["toys", tmp_path / out, "--resonance", "z", "--events", 50, "--format", "stage1"]
        return CliRunner().invoke(app, [str(word) for word in (*words, "--truth", truth)])

    assert run("impact-parameter", "a").exit_code == 0
    columns = pq.read_schema(tmp_path / "a" / "z_000.parquet").names
    assert {"mu1_d0", "mu2_z0", "mu1_d0_err", "mu2_z0_err"} <= set(columns)
    # a truth.json is a truth
    assert run(tmp_path / "a" / "truth.json", "b").exit_code == 0
    again = pq.read_table(tmp_path / "b" / "z_000.parquet")
    assert again.equals(pq.read_table(tmp_path / "a" / "z_000.parquet"))
    truth = json.loads((tmp_path / "a" / "truth.json").read_text())
    truth["impact_parameter"]["d0_a"] = [12.0]
    (tmp_path / "bad.json").write_text(json.dumps(truth))
    found = run(tmp_path / "bad.json", "c")
    assert found.exit_code == 2 and "impact_parameter.d0_a" in found.stderr
    with pytest.raises(InputError, match="tail"):
        ImpactTruth((0.0, 1.0), (1.0,), (1.0,), (1.0,), (1.0,), tail=1.5)
    assert impact_truth(simulation=True).d0_a[0] < impact_truth().d0_a[0]
