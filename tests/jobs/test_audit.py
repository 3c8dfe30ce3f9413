"""An audit passes a right correction, and finds the ways in which one is applied wrongly."""

from __future__ import annotations

import copy
import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from typer.testing import CliRunner

from calib.calibrations.momentum_scale.payloads import export, payload
from calib.toys.generation import generate
from calib.toys.truth import momentum_truth
from jobs.cli import app
from jobs.events.toys import write_stage1
from jobs.run import payloads
from tests import scale_smearing as field
from tests.calib.calibrations.momentum_scale import synthetic
from tests.small_run import untrue

EVENTS = 120_000
N_ETA = 12
BETTER = 0.75
"""Resolution of the simulation over that of the data."""


def run(*arguments: Any) -> Any:
    return CliRunner().invoke(app, [str(a) for a in arguments])


def truths() -> dict[str, Any]:
    data = momentum_truth(N_ETA, resonance="z")
    data = replace(data, M=tuple(4 * x for x in data.M))
    mc = momentum_truth(N_ETA, simulation=True, resonance="z")
    a, c = (tuple(BETTER * x for x in values) for values in (data.a, data.c))
    return {"data": data, "mc": replace(mc, a=a, c=c)}


def payload_of(found: dict[str, Any]) -> Any:
    """Return a payload that says the truth."""
    made = synthetic.reduction(n_eta=N_ETA)
    state = dict(made.state)
    for prefix, own in (("", found["data"]), ("simulation_", found["mc"])):
        values = [own.A, own.e, own.M, np.square(own.a), np.square(own.c)]
        names = ("A", "e", "M", "a2", "c2")
        state |= {prefix + n: np.asarray(v) for n, v in zip(names, values, strict=True)}
    return payload.document(replace(made, state=state))


def with_columns(path: Path, seed: int) -> None:
    table, rng = pq.read_table(path), np.random.default_rng(seed)
    if "luminosityBlock" in table.column_names:
        table = table.drop_columns("luminosityBlock")
    table = table.append_column("luminosityBlock", pa.array(rng.integers(1, 99, table.num_rows)))
    for i in (1, 2):
        layers = rng.integers(6, 16, table.num_rows).astype(np.uint8)
        table = table.append_column(f"mu{i}_nTrackerLayers", pa.array(layers))
    pq.write_table(table, path)


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Events of data and simulation, and the file that is right for them."""
    folder, found = tmp_path_factory.mktemp("world"), truths()
    for seed, (kind, truth) in enumerate(found.items(), 81):
        made = generate("z", EVENTS, seed=seed, truth=truth, simulation=kind == "mc")
        write_stage1(folder / f"{kind}.parquet", made.pairs, simulation=kind == "mc")
        with_columns(folder / f"{kind}.parquet", seed)
    own = payload_of(found)
    payloads.write(folder / "payload.json", own)
    document = export.export(own, "muon_scalesmearing").document
    payloads.write(folder / "right.json.gz", document)
    return folder


def audit(out: Path, correction: Any, *events: Any) -> tuple[int, dict[str, bool], str]:
    """Return the exit code, whether each check has passed, and what was said."""
    done = run("audit", correction, *events, "--out", out, "--json")
    assert done.exit_code in (0, 3), done.output
    decided = json.loads((out / "verdict.json").read_text())
    assert untrue(decided["checks"]) == []
    return done.exit_code, {c["name"]: c["passed"] for c in decided["checks"]}, done.output


def failed(checks: dict[str, bool]) -> set[str]:
    return {name for name, passed in checks.items() if not passed}


def test_a_right_file_passes(world: Path, tmp_path: Path) -> None:
    code, checks, _ = audit(
        tmp_path / "a", world / "right.json.gz", world / "data.parquet", world / "mc.parquet"
    )
    assert code == 0 and not failed(checks)
    table = pd.read_csv(tmp_path / "a" / "residuals.csv")
    assert list(table.columns) == [
        "resonance",
        "kind",
        "axis",
        "bin",
        "quantity",
        "value",
        "error",
        "pull",
        "status",
    ]
    assert set(table["axis"]) == {"all", "eta", "phi", "pt", "pt_ratio", "run"}
    assert set(table["kind"]) == {"plus", "minus", "pair"}
    good = table[table["status"] == "ok"]
    assert len(good) > 0.9 * len(table) and 0.6 < good["pull"].std() < 1.4
    page = (tmp_path / "a" / "report.html").read_text(encoding="utf-8")
    assert "What is left" in page
    # without it they are apart, by scale and by width
    code, checks, _ = audit(tmp_path / "b", "none", world / "data.parquet", world / "mc.parquet")
    assert code == 3 and {"z_scale_eta", "z_width_all"} <= failed(checks)


def test_ours_and_a_configuration(world: Path, tmp_path: Path) -> None:
    samples = [
        {
            "name": name,
            "resonance": "z",
            "format": "stage1",
            "files": [str(world / f"{name}.parquet")],
            "simulation": name == "mc",
        }
        for name in ("data", "mc")
    ]
    config = {"name": "z", "calibration": "mass_resolution", "samples": samples}
    (tmp_path / "z.yaml").write_text(yaml.safe_dump(config | {"cluster": {"kind": "inline"}}))
    code, checks, _ = audit(tmp_path / "a", world / "payload.json", tmp_path / "z.yaml")
    assert code == 0 and not failed(checks)


def test_a_file_that_is_applied_twice(world: Path, tmp_path: Path) -> None:
    once = tmp_path / "once.parquet"
    right = world / "right.json.gz"
    assert run("apply", right, world / "data.parquet", once, "-q").exit_code == 0
    # a file that says so is refused; one that does not is found by its residuals
    done = run("audit", right, once, world / "mc.parquet", "--out", tmp_path / "no")
    assert done.exit_code == 2 and "have been corrected already" in done.stderr
    table = pq.read_table(once)
    pq.write_table(table.replace_schema_metadata(None), tmp_path / "unmarked.parquet")
    code, checks, _ = audit(
        tmp_path / "a", right, tmp_path / "unmarked.parquet", world / "mc.parquet"
    )
    assert code == 3 and {"z_scale_all", "z_scale_eta"} & failed(checks)


def changed(world: Path, path: Path, change: Any) -> Path:
    document = field.document_of(world / "right.json.gz")
    for correction in document["corrections"]:
        change(correction)
    payloads.write(path, document)
    return path


def flipped(correction: dict[str, Any]) -> None:
    """Change the sign of a."""
    if correction["name"] in ("a_data", "a_mc"):
        for of_eta in correction["data"]["content"]:
            for of_phi in of_eta["content"]:
                for item in of_phi["content"]:
                    item["value"] *= -1 if item["key"] == "nom" else 1


def test_the_other_sign_of_the_charge(world: Path, tmp_path: Path) -> None:
    wrong = changed(world, tmp_path / "wrong.json.gz", flipped)
    code, checks, said = audit(tmp_path / "a", wrong, world / "data.parquet", world / "mc.parquet")
    assert code == 3 and "z_scale_eta" in failed(checks)
    assert "z_muons_independent" not in failed(checks)


def test_a_file_of_another_campaign(world: Path, tmp_path: Path) -> None:
    other = export.export(payload.document(synthetic.reduction(seed=5)), "muon_scalesmearing")
    payloads.write(tmp_path / "other.json.gz", copy.deepcopy(dict(other.document)))
    code, checks, _ = audit(
        tmp_path / "a", tmp_path / "other.json.gz", world / "data.parquet", world / "mc.parquet"
    )
    assert code == 3 and any(name.startswith("z_scale") for name in failed(checks))


# columns of pt that somebody else has corrected --------------------------------------------------
def corrected(source: Path, out: Path, found: Any, kind: str, how: str) -> Path:
    """Write events with a column correctedPt: how is right, alike (one number for both muons), or
    smeared (data too)."""
    table = pq.read_table(source)
    value = {n: table.column(n).to_numpy().astype(float) for n in table.column_names}
    event, block = (
        table.column(n).to_numpy().astype(np.int64) for n in ("event", "luminosityBlock")
    )
    for i in (1, 2):
        pt, eta, phi, charge, layers = (
            value[f"mu{i}_{n}"] for n in ("pt", "eta", "phi", "charge", "nTrackerLayers")
        )
        new = field.scaled(found, kind, pt, eta, phi, charge)
        if kind == "mc" or how == "smeared":
            direction = value["mu1_phi"] if how == "alike" else phi
            number = found["RandomSmearing"].evaluate(event, block, direction)
            ball = [found["cb_params"].evaluate(np.abs(eta), layers, j) for j in range(4)]
            r = field.inverse_cumulative(number, *ball)
            k = field.residual_k(found, eta)
            new = field.filtered(new * (1 + k * field.width(found, eta, layers, new) * r), new, pt)
        table = table.append_column(f"mu{i}_correctedPt", pa.array(new))
    pq.write_table(table, out)
    return out


@pytest.mark.parametrize(
    "how, wrong",
    [("right", set()), ("alike", {"z_muons_independent"}), ("smeared", {"z_width_all"})],
)
def test_a_column_of_the_file(world: Path, tmp_path: Path, how: str, wrong: set[str]) -> None:
    """Both muons smeared by one number, and smearing on data, are found; a right column passes."""
    found = field.loaded(field.document_of(world / "right.json.gz"))
    events = [
        corrected(world / f"{kind}.parquet", tmp_path / f"{kind}.parquet", found, kind, how)
        for kind in ("data", "mc")
    ]
    code, checks, said = audit(tmp_path / "a", "correctedPt", *events)
    assert code == (3 if wrong else 0)
    assert wrong <= failed(checks)
    if how == "right":
        assert not failed(checks)


def test_refused_in_a_sentence(world: Path, tmp_path: Path) -> None:
    data, mc = world / "data.parquet", world / "mc.parquet"
    for arguments, said in (
        (("no.json.gz", data, mc), "there is no such file"),
        (("none", data), "there is no simulation of 'z'"),
        (("none", tmp_path / "x.txt"), "expected a configuration (.yaml), or files"),
        (("bestPt", data, mc), "bestPt"),
    ):
        done = run("audit", *arguments, "--out", tmp_path / "a")
        assert done.exit_code == 2 and said in done.stderr, done.output
        assert "Traceback" not in done.output
